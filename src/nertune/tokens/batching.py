"""Batches by token budget, from length buckets that stay random enough.

Tensors are named by their axes: B windows, L tokens, U units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.tokens.windows import Window

__all__ = [
    "Batch",
    "SoftBatch",
    "WindowBatches",
    "collate",
    "epoch_batches",
    "sorted_batches",
]

_POOL_BATCHES = 32  # windows are sorted by length within pools of about so many batches


@dataclass(frozen=True, slots=True)
class SoftBatch:
    """What a teacher says of some windows of a batch, R of them, which have no gold.

    Attributes:
        rows_R: int64, which rows of the batch these are; the others have gold.
        gold_rows_G: int64, the others.
        tags_RUK: float32, the probability of each unit's tags; zeros at padding.
        pairs_RUKK: float32 `[r, u, j, k]`, that unit u−1 has tag j and unit u has tag k; zeros at
            u = 0 and at padding; `None` where the head learns from tags alone.
        piece_tags_RLK: float32, the same as `tags_RUK` for all tokens of the units (strategy
            `all`), zeros elsewhere.
        weight_R: float32, factor of each window's loss.
        temperature: that by which the teacher was softened.
    """

    rows_R: Tensor
    gold_rows_G: Tensor
    tags_RUK: Tensor
    weight_R: Tensor
    pairs_RUKK: Tensor | None = None
    piece_tags_RLK: Tensor | None = None
    temperature: float = 1.0

    def to(self, device: torch.device, *, non_blocking: bool = False) -> SoftBatch:
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name in self.__slots__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows, padded.

    Attributes:
        piece_ids_BL: int64 token ids.
        attention_BL: int64, 1 at tokens and 0 at padding.
        positions_BU: int64 index of each owned unit's first token, 0 at padding.
        mask_BU: bool, whether there is a unit; every row begins with a unit.
        first_B, last_B: bool, whether the owned units begin or end their document.
        tags_BU: int64 what the head learns (`Head.targets`), e.g. tag ids; `[B, U, …]` where
            that is several numbers a unit; `UNKNOWN` where the gold does not say it, numbers below
            it where it says several tags (`heads.allowed`), `IGNORED` at padding; `None` when there
            is no gold.
        piece_tags_BL: the same of all tokens of labelled units (strategy `all`), `IGNORED`
            elsewhere.
        states_BLD: what an encoder's frozen layers give for the tokens; `None` computes it.
        soft: what a teacher says of windows without gold; their units are `UNKNOWN` in `tags_BU`.
    """

    piece_ids_BL: Tensor
    attention_BL: Tensor
    positions_BU: Tensor
    mask_BU: Tensor
    first_B: Tensor
    last_B: Tensor
    tags_BU: Tensor | None = None
    piece_tags_BL: Tensor | None = None
    states_BLD: Tensor | None = None
    soft: SoftBatch | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        # Elsewhere than on CUDA the copy might read memory that was given back meanwhile.
        later = device.type == "cuda"
        moved = {
            name: value.to(device, non_blocking=later)
            for name in self.__slots__
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    @property
    def num_units(self) -> int:
        return int(self.mask_BU.sum())

    def take_gold(self, rows_G: Tensor) -> Batch:
        """The rows that have gold."""
        rows: dict[str, Any] = {
            name: value[rows_G]
            for name in self.__slots__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, soft=None, **rows)


def collate(
    windows: Sequence[Window],
    *,
    pad_id: int,
    tags: Sequence[Sequence[Any]] | None = None,
    continuation: Sequence[int] | Mapping[int, int] | None = None,
) -> Batch:
    """Pad windows to a batch.

    Args:
        windows: at least one.
        pad_id: fills `piece_ids_BL`.
        tags: what each window's owned units are to learn, e.g. tag ids.
        continuation: what a unit's later tokens learn, by what its first does
            (`align.continuation_ids`, `AllowedTags.continuations`); gives `piece_tags_BL`.
    """
    piece_ids_BL = _pad([w.piece_ids for w in windows], pad_id)
    attention_BL = _pad([[1] * len(w.piece_ids) for w in windows], 0)
    positions_BU = _pad([w.positions for w in windows], 0)
    mask_BU = _pad([[1] * w.num_units for w in windows], 0).bool()
    tags_BU = None if tags is None else _pad(tags, IGNORED)
    piece_tags_BL = None
    if tags is not None and continuation is not None:
        rows = [
            _spread(window, row, continuation) for window, row in zip(windows, tags, strict=True)
        ]
        piece_tags_BL = _pad(rows, IGNORED)
    return Batch(
        piece_ids_BL=piece_ids_BL,
        attention_BL=attention_BL,
        positions_BU=positions_BU,
        mask_BU=mask_BU,
        first_B=torch.tensor([w.is_first for w in windows]),
        last_B=torch.tensor([w.is_last for w in windows]),
        tags_BU=tags_BU,
        piece_tags_BL=piece_tags_BL,
    )


def _pad(rows: Sequence[Sequence[Any]], value: int) -> Tensor:
    width = max(map(len, rows))
    padded = np.full((len(rows), width, *np.shape(rows[0])[1:]), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


def _spread(
    window: Window, tags: Sequence[int], continuation: Sequence[int] | Mapping[int, int]
) -> list[int]:
    """The tag of every token of the owned units whose tag is known."""
    row = [IGNORED] * len(window.piece_ids)
    ends = [*window.positions[1:], window.owned_end]
    for start, end, tag in zip(window.positions, ends, tags, strict=True):
        if tag != UNKNOWN:
            row[start:end] = [tag] + [continuation[tag]] * (end - start - 1)
    return row


class WindowBatches(Sequence[list[int]]):
    """Batches of window indices in some bytes each: there may be millions of windows.

    Args:
        windows_N: int32, those of all batches, one behind the other.
        ends: where each batch ends.
        order: of the batches.
    """

    def __init__(self, windows_N: NDArray[np.int32], ends: Sequence[int], order: Sequence[int]):
        self._windows_N = windows_N
        self._ends = np.asarray([0, *ends], dtype=np.int64)
        self._order = np.asarray(order, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        batch = self._order[index]
        found: list[int] = self._windows_N[self._ends[batch] : self._ends[batch + 1]].tolist()
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def epoch_batches(
    lengths: Sequence[int], *, budget_tokens: int, seed: int, epoch: int
) -> WindowBatches:
    """One epoch's batches of window indices: shuffled, bucketed by length, shuffled again.

    The order depends on nothing but the arguments, so a resumed run sees the same batches.

    Args:
        lengths: tokens of each window.
        budget_tokens: the padded size of a batch, in tokens, at most; a single window may be
            longer.
        seed, epoch: seed the order.
    """
    order_N = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    mean_length = max(1.0, float(np.mean(lengths))) if len(lengths) else 1.0
    pool_size = max(1, int(_POOL_BATCHES * budget_tokens / mean_length))
    windows_N = np.empty(len(order_N), dtype=np.int32)
    ends: list[int] = []
    for start in range(0, len(order_N), pool_size):
        pool = sorted(order_N[start : start + pool_size].tolist(), key=lambda i: lengths[i])
        windows_N[start : start + len(pool)] = pool
        begin = start
        for batch in _fill(pool, lengths, budget_tokens):
            begin += len(batch)
            ends.append(begin)
    order = list(range(len(ends)))
    np.random.default_rng([seed, epoch, 1]).shuffle(order)
    return WindowBatches(windows_N, ends, order)


def sorted_batches(lengths: Sequence[int], *, budget_tokens: int) -> list[list[int]]:
    """Batches for prediction: by length, nothing random."""
    return _fill(sorted(range(len(lengths)), key=lambda i: lengths[i]), lengths, budget_tokens)


def _fill(order: Sequence[int], lengths: Sequence[int], budget_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        if batches and (len(batches[-1]) + 1) * longest <= budget_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
            longest = lengths[i]
    return batches
