"""Runs that are part of something larger, and say nothing themselves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["keep_quiet"]


@contextlib.contextmanager
def keep_quiet() -> Iterator[None]:
    """Drop what nertune logs inside, errors excepted."""
    log = logging.getLogger("nertune")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
