"""ZIP archives: what Python raises for damaged and for encrypted ones."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

__all__ = ["UNPACKING_ERRORS"]

UNPACKING_ERRORS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""Errors of `zipfile` when an archive, or a file in it, cannot be unpacked."""
