"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["user_path"]


def user_path(name: str | Path) -> Path:
    """A path with `~` as the home folder; as it stands where that names nobody (`~$a.jsonl`)."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path
