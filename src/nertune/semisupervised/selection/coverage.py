"""Texts that are far from each other. Axes: N candidates, M texts that are there, D width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nertune.semisupervised.selection.pool import Budget

__all__ = ["farthest_first"]


def farthest_first(
    vectors_ND: NDArray[np.float32],
    sizes_N: Sequence[int],
    budget: Budget,
    there_MD: NDArray[np.float32] | None = None,
) -> list[tuple[int, float]]:
    """The greedy cover of k centres (Sener & Savarese, 2018): each is the farthest from all before.

    Distances are those of centred vectors of unit length, so in [0, 2].

    Args:
        vectors_ND: the candidates; the first is chosen first where nothing is there.
        sizes_N: what each costs.
        budget: what can be paid; a candidate that is too dear for what is left is passed over.
        there_MD: texts that are labelled already.

    Returns:
        The chosen candidates in order, each with its distance to those before; of the very first
        the largest one that there is.
    """
    num_there = 0 if there_MD is None else len(there_MD)
    stacked = vectors_ND if there_MD is None else np.concatenate([there_MD, vectors_ND])
    stacked = stacked - stacked.mean(axis=0)
    stacked /= np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)
    points_ND = stacked[num_there:]
    distance_N = np.full(len(points_ND), 2.0, dtype=np.float32)
    for centre_D in stacked[:num_there]:
        np.minimum(distance_N, _distances(points_ND, centre_D), out=distance_N)
    sizes = np.array(sizes_N)
    open_N = np.ones(len(points_ND), dtype=bool)
    chosen: list[tuple[int, float]] = []
    units = 0
    while True:
        if budget.units:
            open_N &= sizes <= budget.units - units
        if not open_N.any() or budget.is_spent(units, len(chosen)):
            return chosen
        best = int(np.where(open_N, distance_N, -1.0).argmax())
        chosen.append((best, float(distance_N[best])))
        units += int(sizes[best])
        open_N[best] = False
        np.minimum(distance_N, _distances(points_ND, points_ND[best]), out=distance_N)


def _distances(
    points_ND: NDArray[np.float32], centre_D: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Euclidean, of vectors of unit length."""
    squared: NDArray[np.float32] = np.maximum(2.0 - 2.0 * (points_ND @ centre_D), 0.0)
    return np.sqrt(squared)
