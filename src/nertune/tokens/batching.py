"""Windows as the tensors of a batch.

Tensors are named by their axes: B windows, L tokens, U units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.tokens.padding import pad_rows, pad_windows
from nertune.tokens.windows import Window

__all__ = ["Batch", "SoftBatch", "collate"]


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
    padded = pad_windows(windows, pad_id=pad_id)
    piece_tags_BL = None
    if tags is not None and continuation is not None:
        rows = [
            _spread(window, row, continuation) for window, row in zip(windows, tags, strict=True)
        ]
        piece_tags_BL = torch.from_numpy(pad_rows(rows, IGNORED))
    return Batch(
        piece_ids_BL=torch.from_numpy(padded.piece_ids_BL),
        attention_BL=torch.from_numpy(padded.attention_BL),
        positions_BU=torch.from_numpy(padded.positions_BU),
        mask_BU=torch.from_numpy(padded.mask_BU),
        first_B=torch.tensor([w.is_first for w in windows]),
        last_B=torch.tensor([w.is_last for w in windows]),
        tags_BU=None if tags is None else torch.from_numpy(pad_rows(tags, IGNORED)),
        piece_tags_BL=piece_tags_BL,
    )


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
