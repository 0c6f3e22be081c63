"""Bytes on disk to text and back: encodings, gzip, line ends, replacing a file at once."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from nertune.errors import DataError

__all__ = ["hash_file", "open_for_writing", "read_text", "refuse_foreign", "shorten", "split_lines"]

# A file that begins so is no UTF-8 text. The first that fits is named.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32 text: convert it with iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text: convert it with iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "gzip data: give it a name that ends in .gz"),
    (b"\xfd7zXZ\x00", "xz data: unpack it with xz -d, or pack it with gzip"),
    (b"BZh91AY&SY", "bzip2 data: unpack it with bunzip2, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd data: unpack it with unzstd, or pack it with gzip"),
    (b"PK\x03\x04", "a ZIP archive (or an .xlsx or .docx file): unpack or export it first"),
)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, unpacked where its name ends in `.gz`, without a BOM.

    Line ends are left as they are.

    Raises:
        DataError: the file is missing, a directory, empty, damaged, binary, or not UTF-8.
    """
    data = _read_bytes(path)
    if not data:
        raise DataError("the file is empty: it holds no sentence", path=path)
    refuse_foreign(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _locate(data, error.start)
        raise DataError(
            f"byte {column} of this line (0x{data[error.start]:02X}) is not UTF-8: is the file "
            "binary, or in another encoding (then e.g. iconv -f GB18030 -t UTF-8)?",
            path=path,
            line=line,
        ) from error
    nul = data.find(0)
    if nul >= 0:
        line, column = _locate(data, nul)
        utf16 = data[:4000].count(0) * 4 > len(data[:4000])
        what = "UTF-16 text without a mark, or binary" if utf16 else "binary"
        raise DataError(
            f"byte {column} of this line is NUL: expected UTF-8 text, this file is {what}",
            path=path,
            line=line,
        )
    return text


def refuse_foreign(head: bytes, path: Path | str) -> None:
    """Name what a file is that begins as no UTF-8 text does.

    Raises:
        DataError: its first bytes are those of another encoding, or of packed data.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            raise DataError(f"expected UTF-8 text, got {name}", path=path)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise DataError("this is a directory: expected a file", path=path) from error
    except FileNotFoundError as error:
        raise DataError(f"no such file{_suggestion(path)}", path=path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read: {reason}", path=path) from error
    if path.suffix != ".gz" or not data:
        return data
    try:
        return gzip.decompress(data)
    except gzip.BadGzipFile as error:
        raise DataError("its name ends in .gz, but it is not gzip data", path=path) from error
    except (EOFError, zlib.error) as error:
        raise DataError("the gzip data is cut short or damaged", path=path) from error


def _suggestion(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1)
    return f": did you mean {path.parent / near[0]}?" if near else ""


def _locate(data: bytes, offset: int) -> tuple[int, int]:
    """Line and byte within it, both counted from 1."""
    return data.count(b"\n", 0, offset) + 1, offset - data.rfind(b"\n", 0, offset)


def split_lines(text: str) -> list[str]:
    r"""The lines of a text, which end at `\n` or `\r\n` and nowhere else.

    `str.splitlines` would also cut at U+2028, U+0085, form feeds and others, which may be tokens.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def shorten(text: str, limit: int = 40) -> str:
    """A text as it can stand in a message: quoted, escaped, cut at `limit` characters."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}…"


@contextmanager
def open_for_writing(path: Path) -> Iterator[TextIO]:
    r"""A UTF-8 stream to a file, which replaces an older one only when all has been written.

    The stream translates no line ends. A name that ends in `.gz` is packed, always to the same
    bytes.

    Raises:
        DataError: the file cannot be written.
    """
    in_place = path.exists() and not path.is_file() and not path.is_dir()  # e.g. /dev/stdout
    target = path if in_place else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with target.open("wb") as raw:
            packed = path.suffix == ".gz"
            binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
            with io.TextIOWrapper(binary, encoding="utf-8", newline="") as stream:
                yield stream
        if not in_place:
            target.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        if not in_place:
            target.unlink(missing_ok=True)
