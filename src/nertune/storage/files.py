"""Bytes on disk to text and back: encodings, gzip, line ends, replacing a file at once."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, TextIO

from nertune.errors import DataError
from nertune.storage.atomic import flush
from nertune.storage.compression import (
    describe_damage,
    open_unpacked,
    pack,
    packing,
    unpacked_name,
    unpacking_errors,
)

__all__ = [
    "decode_text",
    "explain_encoding",
    "hash_file",
    "is_pipe_or_device",
    "open_binary_for_writing",
    "open_for_writing",
    "read_bytes",
    "read_text",
    "reading_errors",
    "refuse_foreign",
    "shell_command",
    "shorten",
    "split_lines",
]

# A file that begins so is no UTF-8 text. The first that fits is named, with what makes text of it.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32 text: convert it", "iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text: convert it", "iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16 text: convert it", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it", "iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "gzip data: give it a name that ends in .gz", ""),
    (b"\xfd7zXZ\x00", "xz data: give it a name that ends in .xz", ""),
    (b"BZh91AY&SY", "bzip2 data: unpack it", "bzip2 -dc"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data: give it a name that ends in .zst", ""),
    (b"PK\x03\x04", "a ZIP archive (or an .xlsx or .docx file): unpack or export it first", ""),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # of a binary file
_PROGRAMS = {".gz": "gzip -cd", ".xz": "xz -dc", ".zst": "zstd -dc"}
_CHINESE = re.compile("[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, unpacked as its suffix says (`storage.compression`), without a BOM.

    Line ends are left as they are.

    Raises:
        DataError: the file is missing, a directory, empty, damaged, binary, or not UTF-8.
    """
    return decode_text(read_bytes(path), path)


def decode_text(data: bytes, path: Path, *, first_line: int = 1) -> str:
    """The same of bytes that were read already.

    Args:
        data: the bytes.
        path: for messages.
        first_line: the line of the file at which they begin.

    Raises:
        DataError: they are none, binary, or not UTF-8.
    """
    if not data:
        raise DataError("the file is empty: it holds no sentence", path=path)
    if first_line == 1:
        refuse_foreign(data, path)
    try:
        text = data.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line, column = _locate(data, error.start)
        raise DataError(
            f"byte {column} of this line (0x{data[error.start]:02X}) is not UTF-8: "
            f"{explain_encoding(data, error.start, path)}",
            path=path,
            line=first_line + line - 1,
        ) from error
    nul = data.find(0)
    if nul >= 0:
        line, column = _locate(data, nul)
        what = "binary"
        if data[:4000].count(0) * 4 > len(data[:4000]):
            order = "BE" if nul % 2 == 0 else "LE"
            convert = shell_command(path, f"iconv -f UTF-16{order} -t UTF-8")
            what = f"binary, or UTF-16 text without a mark: convert that with {convert}"
        raise DataError(
            f"byte {column} of this line is NUL: expected UTF-8 text, this file is {what}",
            path=path,
            line=first_line + line - 1,
        )
    return text


def explain_encoding(data: bytes, offset: int, path: Path | str) -> str:
    """What may be the matter with bytes that are not UTF-8, and what to do about it.

    Chinese is named only with what it then reads, since nearly any bytes make some Chinese text.
    """
    first = data.rfind(b"\n", 0, offset) + 1
    line = data[first:].split(b"\n", 1)[0]
    try:
        is_text = not _CONTROL.search(data.decode("gb18030"))
        read = line.decode("gb18030").strip()
    except UnicodeDecodeError:
        is_text, read = False, ""
    if is_text and _CHINESE.search(read):
        return (
            f"if the line should read {shorten(read)}, the file is in GB18030, convert it: "
            f"{shell_command(path, 'iconv -f GB18030 -t UTF-8')}"
        )
    return (
        "is the file binary, or in another encoding? Then convert it (iconv -l lists encodings): "
        f"{shell_command(path, 'iconv -f ENCODING -t UTF-8')}"
    )


def shell_command(path: Path | str, program: str) -> str:
    """A command that puts a file through a program; what comes out goes to a new file.

    Of `stdin` the program alone.
    """
    if path == "stdin":
        return program
    name = unpacked_name(Path(path).name).removesuffix(".bz2")
    source, target = shlex.quote(str(path)), shlex.quote(f"fixed-{name}")
    if unpack := _PROGRAMS.get(packing(path).lower()):
        return f"{unpack} {source} | {program} > {target}"
    return f"{program} < {source} > {target}"


def refuse_foreign(head: bytes, path: Path | str) -> None:
    """Name what a file is that begins as no UTF-8 text does.

    Raises:
        DataError: its first bytes are those of another encoding, or of packed data.
    """
    for signature, name, program in _SIGNATURES:
        if head.startswith(signature):
            how = f" with {shell_command(path, program)}" if program else ""
            raise DataError(f"expected UTF-8 text, got {name}{how}", path=path)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked as its suffix says (`storage.compression`).

    Raises:
        DataError: the file is missing, a directory, or damaged.
        MissingDependencyError: what unpacks it is not installed.
    """
    with reading_errors(path):
        is_empty = path.is_file() and not path.stat().st_size
        if not packing(path) or is_empty:
            return path.read_bytes()
        with open_unpacked(path) as stream:
            return stream.read()


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn what may happen while a file is read or unpacked into one line for the user.

    Raises:
        DataError: in the place of the operating system's or the unpacker's error.
    """
    try:
        yield
    except IsADirectoryError as error:
        raise DataError("this is a directory: expected a file", path=path) from error
    except FileNotFoundError as error:
        raise DataError(f"no such file{_suggestion(path)}", path=path) from error
    except unpacking_errors() as error:
        raise DataError(describe_damage(path), path=path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read: {reason}", path=path) from error


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
    r"""The lines of a text, which end at `\n`, with any `\r` before it, and nowhere else.

    Text that was converted to Windows line ends twice has `\r\r\n`.

    `str.splitlines` would also cut at U+2028, U+0085, form feeds and others, which may be tokens.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if "\r" in text:
        lines = [line.rstrip("\r") for line in lines]
    return lines


def shorten(text: str, limit: int = 40) -> str:
    """A text as it can stand in a message: quoted, escaped, cut at `limit` characters."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}…"


@contextmanager
def open_for_writing(path: Path) -> Iterator[TextIO]:
    r"""A UTF-8 stream to a file, which replaces an older one only when all has been written.

    The stream translates no line ends. It is packed as the suffix says (`storage.compression`),
    always to the same bytes.

    Raises:
        DataError: the file cannot be written.
    """
    with (
        open_binary_for_writing(path) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="") as stream,
    ):
        yield stream


def is_pipe_or_device(path: Path) -> bool:
    """Whether what is written there is read as it comes, e.g. /dev/stdout; a file appears whole."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def open_binary_for_writing(path: Path) -> Iterator[BinaryIO]:
    """The same for bytes.

    Raises:
        DataError: the file cannot be written.
    """
    in_place = is_pipe_or_device(path)
    target = path if in_place else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with target.open("wb") as raw, pack(raw, path) as packed:
            yield packed
        if not in_place:
            flush(target)
            target.replace(path)
            flush(path.parent)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        if not in_place:
            target.unlink(missing_ok=True)
