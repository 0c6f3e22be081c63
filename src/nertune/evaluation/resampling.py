"""What the resampling tests share."""

from __future__ import annotations

__all__ = ["chunk_sizes"]

_MAX_CELLS = 4_000_000  # of one matrix of draws: 32 MB


def chunk_sizes(num_draws: int, num_columns: int) -> list[int]:
    """Numbers of draws that add up to `num_draws`, each small enough for one matrix of draws."""
    size = max(1, min(num_draws, _MAX_CELLS // max(1, num_columns)))
    full, rest = divmod(num_draws, size)
    return [size] * full + ([rest] if rest else [])
