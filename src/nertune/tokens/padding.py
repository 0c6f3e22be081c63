"""Windows as padded arrays. Axes: B windows, L tokens, U units."""

from __future__ import annotations

from collections.abc import Sequence
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
    return PaddedWindows(
        pad_rows([window.piece_ids for window in windows], pad_id),
        pad_rows([[1] * len(window.piece_ids) for window in windows], 0),
        pad_rows([window.positions for window in windows], 0),
        pad_rows([[1] * window.num_units for window in windows], 0).astype(bool),
    )


def pad_rows(rows: Sequence[Sequence[Any]], value: int) -> NDArray[np.int64]:
    """Rows of integers, or of rows of integers, as an array; `value` fills the shorter ones."""
    width = max(map(len, rows))
    padded = np.full((len(rows), width, *np.shape(rows[0])[1:]), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
