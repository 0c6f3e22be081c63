"""Chunks of draws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nertune.evaluation.resampling import chunk_sizes

CELLS = 4_000_000


@given(st.integers(1, 10**5), st.integers(0, 10**7))
def test_the_draws_add_up_and_every_chunk_fits(num_draws: int, num_columns: int) -> None:
    sizes = chunk_sizes(num_draws, num_columns)
    assert sum(sizes) == num_draws
    assert min(sizes) >= 1
    assert max(sizes) == 1 or max(sizes) * num_columns <= CELLS


def test_chunks_are_as_large_as_they_may_be() -> None:
    assert chunk_sizes(10_000, 400) == [10_000]
    assert chunk_sizes(10_000, 1000) == [4000, 4000, 2000]
    assert chunk_sizes(3, 10**7) == [1, 1, 1]
