"""The greedy cover against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from nertune.semisupervised.selection.coverage import farthest_first
from nertune.semisupervised.selection.pool import Budget


def brute(points: np.ndarray, centres: list[int], there: int) -> int:
    """The candidate that is farthest from the nearest of all before; the first of equals."""
    before = [*range(there), *(there + c for c in centres)]
    gaps = [
        -1.0 if i - there in centres else min(np.linalg.norm(points[i] - points[j]) for j in before)
        for i in range(there, len(points))
    ]
    return int(np.argmax(np.round(gaps, 5)))


@pytest.mark.parametrize("there", [0, 3])
def test_each_is_the_farthest_from_those_before(there: int) -> None:
    vectors = np.random.default_rng(5).normal(size=(15 + there, 4)).astype(np.float32)
    points = vectors - vectors.mean(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = farthest_first(vectors[there:], [1] * 15, Budget(6), vectors[:there] if there else None)
    centres: list[int] = [] if there else [0]
    while len(centres) < 6:
        centres.append(brute(points, centres, there))
    assert [i for i, _ in found] == centres
    distances = [d for _, d in found[0 if there else 1 :]]
    assert distances == sorted(distances, reverse=True)


def test_what_is_too_dear_is_passed_over() -> None:
    vectors = np.eye(5, dtype=np.float32)
    found = farthest_first(vectors, [3, 8, 3, 3, 9], Budget(9))
    assert sorted(i for i, _ in found) == [0, 2, 3]
    assert len(farthest_first(vectors, [3, 8, 3, 3, 9], Budget(units=100, documents=2))) == 2


def test_copies_and_nothing() -> None:
    assert len(farthest_first(np.ones((4, 3), np.float32), [1] * 4, Budget(9))) == 4
    assert farthest_first(np.zeros((0, 3), np.float32), [], Budget(9)) == []
