"""Names of heads, so that a recipe with a wrong one is refused before anything is loaded.

The heads themselves, and how one is added, are in `models/heads/base.py`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["HEAD_ENTRY_POINTS", "HEAD_NAMES", "HeadName", "head_names"]

HEAD_ENTRY_POINTS = "nertune.heads"
"""The entry point group in which installed packages name heads of their own."""
HEAD_NAMES = {"softmax", "crf"}
"""Those of nertune, and those that `register_head` added."""


def head_names() -> set[str]:
    """All heads that a recipe may name, those of installed packages included."""
    return HEAD_NAMES | {point.name for point in entry_points(group=HEAD_ENTRY_POINTS)}


def _check(name: str) -> str:
    if name not in (known := head_names()):
        *first, last = (f"'{known_name}'" for known_name in sorted(known, reverse=True))
        raise ValueError(f"Input should be {', '.join(first)} or {last}")
    return name


HeadName = Annotated[str, AfterValidator(_check)]
