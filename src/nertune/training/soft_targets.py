"""Training on what a teacher says of unlabelled text, beside or instead of gold.

A `SoftSource` stands for the text and its teacher. `experiments.train.train(…, soft=source)` asks
it for a `SoftStore` in the student's units and tags, and mixes its windows with those that have
gold: `Examples.soft`.

Axes: R windows, U units, L tokens, K tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nertune.models.heads.base import Head
from nertune.tokens.batching import Batch, SoftBatch
from nertune.tokens.windows import Segmenter, Window
from nertune.training.stores.soft_store import SoftStore, StoredWindows
from nertune.types import Document

__all__ = ["SoftSource", "SoftTargets"]


class SoftSource(Protocol):
    """Unlabelled text with a teacher. What trains on it asks in this order."""

    @property
    def key(self) -> str:
        """A hash over what decides the targets: text, teachers, temperature, weights, ….

        A checkpoint of another key is not resumed.
        """
        ...

    @property
    def labels(self) -> Sequence[str]:
        """Those that the student is to know, beside those of its labelled documents."""
        ...

    def documents(self) -> Iterator[Document]:
        """The text, for the unit and for a BiLSTM's vocabulary; may be asked more than once."""
        ...

    def prepare(self, segmenter: Segmenter, head: Head, folder: Path) -> SoftTargets:
        """What the student learns.

        Args:
            segmenter: how the student reads text.
            head: of the student: its tags, and what its loss needs.
            folder: where the store lies; one of the same key may be there already.

        Raises:
            NertuneError: teacher, text and student do not fit each other.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """For the record of the run, as JSON values."""
        ...


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """What a student learns from a teacher.

    Attributes:
        store: windows and probabilities.
        weight: factor of the loss of all of them; that of gold has 1.
        temperature: that by which the teacher was softened.
    """

    store: SoftStore
    weight: float = 1.0
    temperature: float = 1.0

    @property
    def windows(self) -> StoredWindows:
        """The student's, read from the disk one at a time."""
        return self.store.windows

    def add_to(
        self,
        batch: Batch,
        chosen: Mapping[int, int],
        *,
        continuation: Sequence[int] | Mapping[int, int] | None = None,
    ) -> Batch:
        """The batch with what some of its rows learn from the teacher.

        Args:
            batch: as `collate` gives it.
            chosen: row of the batch -> the window's number; the other rows have gold.
            continuation: with `model.pieces = "all"`, the tag that goes on with each.
        """
        (num_rows, num_pieces), num_units = batch.piece_ids_BL.shape, batch.mask_BU.shape[1]
        numbers = list(chosen.values())
        tags = [self.store.tags(i) for i in numbers]
        pieces = pairs = None
        if continuation is not None:
            rows = zip(map(self.windows.__getitem__, numbers), tags, strict=True)
            pieces = _pad([_spread(window, row, continuation) for window, row in rows], num_pieces)
        if self.store.with_pairs:
            pairs = _pad([self.store.pairs(i) for i in numbers], num_units)
        gold = [row for row in range(num_rows) if row not in chosen]
        weights = [self.weight * self.store.weight(i) for i in numbers]
        soft = SoftBatch(
            rows_R=torch.tensor(list(chosen)),
            gold_rows_G=torch.tensor(gold, dtype=torch.int64),
            tags_RUK=_pad(tags, num_units),
            weight_R=torch.tensor(weights, dtype=torch.float32),
            pairs_RUKK=pairs,
            piece_tags_RLK=pieces,
            temperature=self.temperature,
        )
        return replace(batch, soft=soft)


def _pad(rows: Sequence[NDArray[np.float32]], width: int) -> torch.Tensor:
    padded = np.zeros((len(rows), width, *rows[0].shape[1:]), np.float32)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


def _spread(
    window: Window,
    tags_UK: NDArray[np.float32],
    continuation: Sequence[int] | Mapping[int, int],
) -> NDArray[np.float32]:
    """`[L, K]`: the first token of a unit has its tags, the others those that go on with them."""
    later_UK = np.zeros_like(tags_UK)
    for tag in range(tags_UK.shape[1]):
        later = continuation[tag]
        later_UK[:, later] += tags_UK[:, tag]
    spread_LK = np.zeros((len(window.piece_ids), tags_UK.shape[1]), np.float32)
    ends = [*window.positions[1:], window.owned_end]
    for unit, (start, end) in enumerate(zip(window.positions, ends, strict=True)):
        spread_LK[start] = tags_UK[unit]
        spread_LK[start + 1 : end] = later_UK[unit]
    return spread_LK
