"""What makes a run say little or nothing, told before it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.models.tagger import Tagger
from nertune.training.batches import order_of_epoch
from nertune.training.examples import Examples

__all__ = ["find_data_warnings", "find_training_warnings"]

_FEW_STEPS = 20
_LONG_WARMUP = 0.5  # of all steps


def find_data_warnings(
    train: Corpus, dev: Corpus | None, test: Corpus | None, taught: Sequence[str] = ()
) -> list[str]:
    """Of the corpora: what cannot teach, choose or score.

    Args:
        train: with entities.
        dev: chooses the epoch, if there is one.
        test: is scored, if there is one.
        taught: labels that a teacher knows.
    """
    found = []
    first = train.documents[0].text if train.documents else ""
    if len(train.documents) > 1 and all(document.text == first for document in train.documents):
        found.append(f"train: all {len(train.documents):,} documents have the same text")
    if dev is not None and not dev.num_entities:
        found.append(
            "dev holds no entity: nothing chooses an epoch, so the last one is kept; its scores "
            "say nothing"
        )
    if test is not None and not test.num_entities:
        found.append("test holds no entity: its scores say nothing")
    known = {*train.labels, *taught}
    for split, corpus in (("dev", dev), ("test", test)):
        if corpus is not None and (unseen := sorted(set(corpus.labels) - known)):
            found.append(f"{split}: {', '.join(unseen)} never occurs in training: will be missed")
    return found


def find_training_warnings(
    settings: Settings, examples: Examples, tagger: Tagger, *, processes: int = 1
) -> list[str]:
    """Of the settings, held against the data and the tagger that they are for.

    Args:
        settings: of the run.
        examples: what it trains on.
        tagger: what it trains.
        processes: that train together.
    """
    return _step_warnings(settings, examples, processes) + _rank_warnings(tagger)


def _step_warnings(settings: Settings, examples: Examples, processes: int) -> list[str]:
    train = settings.train
    lengths = examples.lengths
    if not lengths:
        return []  # which is refused
    order = order_of_epoch(
        lengths,
        budget_tokens=train.batch_tokens,
        seed=settings.run.seed,
        epoch=1,
        num_batches=train.epoch_batches,
    )
    batches = len(order)
    steps = math.ceil(batches / (train.accumulate * processes))
    total = train.epochs * steps
    in_all = f"{total:,} optimizer step{'s' * (total != 1)} in the whole run"
    found = []
    if batches == 1 and len(lengths) > 1:
        found.append(
            f"train.batch_tokens = {train.batch_tokens} takes all training data at once: one step "
            f"an epoch, {in_all}; lower it"
        )
    elif train.accumulate > batches:
        found.append(
            f"train.accumulate = {train.accumulate}, but an epoch has {batches} batches: one step "
            f"an epoch, {in_all}; lower it"
        )
    elif total < _FEW_STEPS:
        found.append(
            f"{in_all} ({train.epochs} epoch{'s' * (train.epochs != 1)} of {steps}): too few to "
            "learn much; raise train.epochs, or lower train.batch_tokens"
        )
    if train.warmup >= _LONG_WARMUP:
        found.append(
            f"train.warmup = {train.warmup:g}: the learning rate still rises in "
            f"{math.ceil(train.warmup * total):,} of {total:,} steps; usual are 0 to 0.1"
        )
    return found


def _rank_warnings(tagger: Tagger) -> list[str]:
    """Low-rank matrices that are not of low rank."""
    wide: list[tuple[str, int, int, int]] = []
    for name, module in tagger.named_modules():
        a, b = getattr(module, "lora_A", None), getattr(module, "lora_B", None)
        for adapter in getattr(a, "keys", list)():
            shapes = [_shape(matrices, adapter) for matrices in (a, b)]
            if None in shapes:
                continue
            (rank, columns), (rows, _) = shapes  # type: ignore[misc]
            if rank > min(rows, columns):
                wide.append((name, rank, rows, columns))
    if not wide:
        return []
    name, rank, rows, columns = wide[0]
    return [
        f"lora: rank {rank} is above what a matrix of {rows} × {columns} can have "
        f"({name.rpartition('.model.')[2]}, and {len(wide) - 1} more): an adapter of rank "
        f"{min(rows, columns)} or less does the same with fewer parameters"
    ]


def _shape(matrices: Any, adapter: str) -> tuple[int, int] | None:
    """Of one adapter's linear layer; `None` for an embedding's or a convolution's."""
    weight = getattr(matrices[adapter], "weight", None) if adapter in matrices else None
    return tuple(weight.shape) if weight is not None and weight.ndim == 2 else None
