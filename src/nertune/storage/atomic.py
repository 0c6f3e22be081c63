"""What is written is on the disk before what it replaces goes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["flush", "flush_folder"]


def flush(path: Path) -> None:
    """Have the operating system put a file (or a folder's entries) on the disk.

    Of folders only where it can: Windows keeps their entries itself, some file systems refuse.

    Raises:
        OSError: a file cannot be put there, e.g. since the disk is full.
    """
    if path.is_dir():
        if os.name != "nt":
            with suppress(OSError):
                _flush(path)
        return
    _flush(path)


def _flush(path: Path) -> None:
    on_windows = os.name == "nt"  # which flushes only what is open for writing
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """The same for a folder with all that is in it."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)
