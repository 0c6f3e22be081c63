"""The folder for what can be computed again: prepared training data."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from nertune.errors import DataError
from nertune.storage.atomic import replace_folder

__all__ = ["cache_folder", "make_once"]

_VARIABLE = "NERTUNE_CACHE"
_UNUSED_DAYS = 30


def cache_folder() -> Path:
    """`NERTUNE_CACHE`, else `nertune` in `XDG_CACHE_HOME` or `~/.cache`; it need not exist."""
    if own := os.environ.get(_VARIABLE, "").strip():
        return Path(own).expanduser()
    home = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".cache") / "nertune"


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is there whole or not at all, whoever asks for it first.

    Where one is made, those beside it that nobody asked for in 30 days are removed. (Whoever has
    opened their files may read on.)

    Args:
        folder: whose name says what is in it.
        make: fills a draft of it; other processes wait meanwhile.

    Raises:
        DataError: it cannot be written.
    """
    if folder.is_dir():
        return _used(folder)
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return _used(folder)
            shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
            draft.mkdir()
            try:
                make(draft)
                replace_folder(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}; set {_VARIABLE} to a folder with "
            'room, or data.storage = "memory"',
            path=error.filename or folder,
        ) from error
    _remove_unused(folder.parent)
    return folder


def _used(folder: Path) -> Path:
    with suppress(OSError):  # of another user
        os.utime(folder)
    return folder


def _remove_unused(parent: Path) -> None:
    oldest = time.time() - _UNUSED_DAYS * 24 * 60 * 60
    for folder in parent.iterdir():
        with suppress(OSError):
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
