"""What is written is on the disk before what it replaces goes.

A folder is replaced whole: at every moment the old one or the new one is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    "flush",
    "flush_folder",
    "recover_folder",
    "replace_folder",
    "write_json",
    "write_text",
    "write_whole",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


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


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, the whole of it or nothing."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, content: str) -> Path:
    """Write a text file, the whole of it or nothing; returns the path."""
    return write_whole(path, lambda part: part.write_text(content, encoding="utf-8", newline="\n"))


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let something write a file under a temporary name, then rename it; returns the path.

    It is on the disk when this returns, so that what it makes superfluous may go.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)
    return path


def replace_folder(draft: Path, folder: Path) -> None:
    """Put a folder in the place of another, or of none.

    Linux swaps the two in one step. Elsewhere the older one is renamed first; if the process ends
    just then, `recover_folder` brings it back. All of it is on the disk when this returns.

    Args:
        draft: on the same file system.
        folder: an older one is removed once the new one is there.

    Raises:
        OSError: it cannot be done; the older folder is in its place then.
    """
    recover_folder(folder)
    flush_folder(draft)
    if not folder.exists():
        draft.rename(folder)
        flush(folder.parent)
    elif _swap(draft, folder):
        flush(folder.parent)
        shutil.rmtree(draft, ignore_errors=True)
    else:
        older = _older(folder)
        shutil.rmtree(older, ignore_errors=True)
        folder.rename(older)
        try:
            draft.rename(folder)
        except OSError:
            older.rename(folder)
            raise
        flush(folder.parent)
        shutil.rmtree(older, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Bring back the older folder if a process ended while it was being replaced."""
    older = _older(folder)
    if older.is_dir() and not folder.exists():
        older.rename(folder)


def _older(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _swap(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; `False` where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = (os.fsencode(first), os.fsencode(second))
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
