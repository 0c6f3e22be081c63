"""JSON values and bytes from one process to another, through a pipe."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

__all__ = ["read_frame", "write_frame"]

_LENGTHS = struct.Struct("<QQ")


def write_frame(stream: IO[bytes], value: Any, data: bytes = b"") -> None:
    """Write a JSON value and bytes, behind their lengths."""
    head = json.dumps(value).encode()
    stream.write(_LENGTHS.pack(len(head), len(data)) + head)
    stream.write(data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Any, bytes]:
    """Read a JSON value and bytes.

    Raises:
        EOFError: the other process has ended.
    """
    lengths = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
    head, data = (_read(stream, length) for length in lengths)
    return json.loads(head), data


def _read(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found
