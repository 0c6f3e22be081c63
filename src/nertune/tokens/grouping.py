"""Which windows make a batch: by token budget, from length buckets that stay random enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["WindowBatches", "epoch_batches", "sorted_batches"]

_POOL_BATCHES = 32  # windows are sorted by length within pools of about so many batches


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
