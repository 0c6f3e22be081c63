"""Hashes of large files, each read once while it stays as it is."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nertune.storage.files import hash_file

__all__ = ["hash_once"]


def hash_once(path: Path) -> str:
    """The sha256 of a file's bytes; of a file that did not change since, without reading it again.

    For weights, which a run asks for several times. What may have been damaged in between is
    checked with `hash_file`.

    Raises:
        OSError: it cannot be read.
    """
    real = path.resolve()
    state = real.stat()
    return _hash(real, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=256)
def _hash(path: Path, *state: int) -> str:
    return hash_file(path)
