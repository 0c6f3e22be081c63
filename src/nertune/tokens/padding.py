"""Windows as padded arrays. Axes: B windows, L tokens, U units."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nertune.tokens.windows import Window

__all__ = ["PaddedWindows", "pad_rows", "pad_windows"]


class PaddedWindows(NamedTuple):
    """What a tagger reads of windows (`batching.Batch` has the same as tensors).

    Attributes:
        piece_ids_BL: int64 token ids.
        attention_BL: int64, 1 at tokens and 0 at padding.
        positions_BU: int64 index of each owned unit's first token, 0 at padding.
        mask_BU: bool, whether there is a unit.
    """

    piece_ids_BL: NDArray[np.int64]
    attention_BL: NDArray[np.int64]
    positions_BU: NDArray[np.int64]
    mask_BU: NDArray[np.bool_]


def pad_windows(windows: Sequence[Window], *, pad_id: int) -> PaddedWindows:
    """Pad windows to the longest of them.

    Args:
        windows: at least one.
        pad_id: fills `piece_ids_BL`.
    """
    piece_ids_BL, is_token_BL = _pad([window.piece_ids for window in windows], pad_id)
    positions_BU, mask_BU = _pad([window.positions for window in windows], 0)
    return PaddedWindows(piece_ids_BL, is_token_BL.astype(np.int64), positions_BU, mask_BU)


def _pad(rows: Sequence[Sequence[int]], value: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of integers as an array, and where they stand in it."""
    lengths_B = np.fromiter(map(len, rows), np.int64, len(rows))
    inside_BL = np.arange(lengths_B.max()) < lengths_B[:, None]
    padded_BL = np.full(inside_BL.shape, value, dtype=np.int64)
    padded_BL[inside_BL] = np.fromiter(chain.from_iterable(rows), np.int64, lengths_B.sum())
    return padded_BL, inside_BL


def pad_rows(rows: Sequence[Sequence[Any]], value: int) -> NDArray[np.int64]:
    """Rows of integers, or of rows of integers, as an array; `value` fills the shorter ones."""
    width = max(map(len, rows))
    padded = np.full((len(rows), width, *np.shape(rows[0])[1:]), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
