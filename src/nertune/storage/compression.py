"""Files that are packed by the suffix of their name: gzip, xz, and Zstandard (extra `zstd`)."""

from __future__ import annotations

import gzip
import importlib
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from nertune.errors import MissingDependencyError

__all__ = ["PACKINGS", "describe_damage", "open_unpacked", "pack", "packing", "unpacked_name",
           "unpacking_errors"]  # fmt: skip

PACKINGS = {".gz": "gzip", ".xz": "xz", ".zst": "Zstandard"}
"""What a file's suffix means."""


def packing(path: Path | str) -> str:
    """The suffix that says how a file is packed; empty for one that is not."""
    suffix = Path(path).suffix
    return suffix if suffix.lower() in PACKINGS else ""


def unpacked_name(name: str) -> str:
    """A file's name without the suffix that says how it is packed."""
    return name.removesuffix(packing(name))


def open_unpacked(path: Path) -> BinaryIO:
    """A file as a stream of bytes, unpacked as its suffix says.

    Raises:
        MissingDependencyError: the suffix is `.zst`, and Python has no Zstandard.
        OSError: the file cannot be opened.
    """
    kind = packing(path).lower()
    if kind == ".gz":
        return cast("BinaryIO", gzip.open(path))
    if kind == ".xz":
        return cast("BinaryIO", lzma.open(path))
    if kind == ".zst":
        return cast("BinaryIO", _zstd().open(path))
    return path.open("rb")


@contextmanager
def pack(raw: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """A stream that packs into another as a name's suffix says; the same bytes for the same data.

    Args:
        raw: where the packed bytes go; it stays open.
        path: its suffix decides.

    Raises:
        MissingDependencyError: the suffix is `.zst`, and Python has no Zstandard.
    """
    kind = packing(path).lower()
    if not kind:
        yield raw
        return
    packed: Any
    if kind == ".gz":
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
    elif kind == ".xz":
        packed = lzma.LZMAFile(raw, "wb")  # noqa: SIM115 (`with` below closes it)
    else:
        packed = _zstd().ZstdFile(raw, "wb")
    with packed:
        yield cast("BinaryIO", packed)


def unpacking_errors() -> tuple[type[Exception], ...]:
    """What is raised while a file is unpacked that is damaged, cut short or not packed so."""
    own = (_zstd().ZstdError,) if _find_zstd() else ()
    return (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, *own)


def describe_damage(path: Path) -> str:
    """What to say of a file whose unpacking failed."""
    suffix = packing(path)
    name = PACKINGS.get(suffix.lower(), "packed")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_longest_magic()))
    except OSError:
        head = b""
    if not head.startswith(_MAGIC.get(suffix.lower(), b"")):
        return f"its name ends in {suffix}, but it is not {name} data"
    return f"the {name} data is cut short or damaged"


_MAGIC = {".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd"}


def _longest_magic() -> bytes:
    return max(_MAGIC.values(), key=len)


@cache
def _find_zstd() -> Any:
    """Python's own module (3.14), or the same for older versions; `None` where there is none."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _zstd() -> Any:
    module = _find_zstd()
    if module is None:
        raise MissingDependencyError("backports.zstd", extra="zstd", purpose="a .zst file")
    return module
