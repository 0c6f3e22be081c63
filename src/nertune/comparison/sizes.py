"""Learning curves over the amount of training data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nertune.comparison.compare import compare
from nertune.comparison.results import Comparison, SizePoint, say_silent
from nertune.comparison.runs import RunOptions
from nertune.config.run import load_settings
from nertune.errors import ConfigError

__all__ = ["compare_sizes"]

_LOG = logging.getLogger("nertune")


def compare_sizes(
    recipes: Sequence[Path],
    shares: Sequence[float],
    *,
    output: Path,
    seeds: int = 3,
    baseline: str | None = None,
    options: RunOptions | None = None,
) -> Comparison:
    """The comparison with all training documents, and with some of them before it.

    A seed draws the same documents for all configurations, and a smaller share is part of a larger
    one. With a share s of them every recipe trains for s^(-2/3) times its epochs, so that it gets
    enough steps: half of the data 1.6 times, a tenth 4.6 times.

    Args:
        recipes: one a configuration.
        shares: of the training documents, in (0, 1]; 1 is always among them. Without a smaller
            one this is `compare`.
        output: the folder of the runs; those with fewer documents lie in `share-N` below it.
        seeds, baseline, options: as for `compare`.

    Raises:
        ConfigError: a share is out of range, something else sets the amount of training data, or
            configurations have different training data; or as `compare`.
        DataError, ModelError, TrainingError: as `compare`.
    """
    options = options or RunOptions()
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"sizes: {share:.4g}: expected shares above 0 and up to 1 (100 %)")
    fewer = sorted({*shares} - {1.0})
    if fewer:
        _refuse_other_amounts(recipes, options)
    points, notices = [], []
    for share in fewer:
        _LOG.info("with %.4g of the training documents:", share)
        smaller = replace(
            options,
            overrides=[*options.overrides, f"data.train_share={share}"],
            longer=float(share ** (-2 / 3)),
        )
        part = compare(
            recipes, seeds=seeds, baseline=baseline, output=output / f"share-{share:.4g}",
            options=smaller,
        )  # fmt: skip
        points.append(_point(part, share))
        notices += [f"With {100 * share:.3g} % of the training documents: {notice}"
                    for notice in say_silent(part.configurations, part.split)]  # fmt: skip
    whole = compare(
        recipes, seeds=seeds, baseline=baseline, output=output, options=options,
    )  # fmt: skip
    if not points:
        return whole  # a single amount is no curve
    return replace(whole, sizes=(*points, _point(whole, 1.0)), notices=(*whole.notices, *notices))


def _refuse_other_amounts(recipes: Sequence[Path], options: RunOptions) -> None:
    """A share would not be one of what its row says."""
    for override in options.overrides:
        if override.partition("=")[0].strip() == "data.train_share":
            raise ConfigError(
                f"sizes sets data.train_share of each run itself: leave out --set {override}"
            )
    for recipe in recipes:
        if (share := load_settings(recipe, options.overrides).data.train_share) != 1:
            raise ConfigError(
                f"{recipe}: data.train_share = {share:g}, but sizes sets it of each run itself: "
                "leave it out, or leave out --sizes"
            )
    if options.other_training_data:
        raise ConfigError(
            "--sizes and --other-training-data exclude each other: a share of other data is "
            "another number of documents"
        )


def _point(comparison: Comparison, share: float) -> SizePoint:
    found = comparison.configurations
    return SizePoint(
        share=share,
        documents=int(found[0].records[0]["data"]["train"]["documents"]),
        f1={one.name: one.score("micro").f1 for one in found},
        differences={one.name: one.difference for one in found if one.difference is not None},
    )
