"""Learning curves over the amount of training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nertune.comparison.compare import compare
from nertune.comparison.results import Comparison, SizePoint, say_silent
from nertune.config.run import load_settings
from nertune.errors import ConfigError

__all__ = ["compare_sizes"]


def compare_sizes(
    recipes: Sequence[Path],
    shares: Sequence[float],
    *,
    output: Path,
    overrides: Sequence[str] = (),
    on_progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Comparison:
    """The comparison with all training documents, and with some of them before it.

    A seed draws the same documents for all arms, and a smaller share is part of a larger one. With
    a share s of them every recipe trains for s^(-2/3) times its epochs, so that it gets enough
    steps: half of the data 1.6 times, a tenth 4.6 times.

    Args:
        recipes: one per arm.
        shares: of the training documents, in (0, 1]; 1 is always among them. Without a smaller
            one this is `compare`.
        output: the folder of the runs; those with fewer documents lie in `share-N` below it.
        overrides: `section.key=value` for every run.
        on_progress: is told what is trained, resumed or reused.
        options: as for `compare`.

    Raises:
        ConfigError: a share is out of range, something else sets the amount of training data, or
            arms have different training data; or as `compare`.
        DataError, ModelError, TrainingError: as `compare`.
    """
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"sizes: {share:.4g}: expected shares above 0 and up to 1 (100 %)")
    fewer = sorted({*shares} - {1.0})
    if fewer:
        _refuse_other_amounts(recipes, overrides, options)
    points, notices = [], []
    for share in fewer:
        if on_progress is not None:
            on_progress(f"with {share:.4g} of the training documents:")
        part = compare(
            recipes,
            output=output / f"share-{share:.4g}",
            overrides=[*overrides, f"data.train_share={share}"],
            longer=float(share ** (-2 / 3)),
            on_progress=on_progress,
            **options,
        )
        points.append(_point(part, share))
        notices += [f"With {100 * share:.3g} % of the training documents: {notice}"
                    for notice in say_silent(part.arms, part.split)]  # fmt: skip
    whole = compare(recipes, output=output, overrides=overrides, on_progress=on_progress, **options)
    if not points:
        return whole  # a single amount is no curve
    return replace(whole, sizes=(*points, _point(whole, 1.0)), notices=(*whole.notices, *notices))


def _refuse_other_amounts(
    recipes: Sequence[Path], overrides: Sequence[str], options: Mapping[str, Any]
) -> None:
    """A share would not be one of what its row says."""
    for override in overrides:
        if override.partition("=")[0].strip() == "data.train_share":
            raise ConfigError(
                f"sizes sets data.train_share of each run itself: leave out --set {override}"
            )
    for recipe in recipes:
        if (share := load_settings(recipe, overrides).data.train_share) != 1:
            raise ConfigError(
                f"{recipe}: data.train_share = {share:g}, but sizes sets it of each run itself: "
                "leave it out, or leave out --sizes"
            )
    if options.get("other_training_data"):
        raise ConfigError(
            "--sizes and --other-training-data exclude each other: a share of other data is "
            "another number of documents"
        )


def _point(comparison: Comparison, share: float) -> SizePoint:
    arms = comparison.arms
    return SizePoint(
        share=share,
        documents=int(arms[0].records[0]["data"]["train"]["documents"]),
        f1={arm.name: arm.score("micro").f1 for arm in arms},
        differences={arm.name: arm.difference for arm in arms if arm.difference is not None},
    )
