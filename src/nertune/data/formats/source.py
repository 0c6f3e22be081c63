"""Where documents come from: a file, packed or not, a folder, or what a pipe gives."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from nertune.errors import DataError, NertuneError
from nertune.storage.compression import open_unpacked, unpacked_name, unpacking_errors
from nertune.storage.files import (
    decode_text,
    explain_encoding,
    read_bytes,
    reading_errors,
    refuse_foreign,
    split_lines,
)

__all__ = ["HEAD_BYTES", "Glimpse", "Part", "Source"]

HEAD_BYTES = 1 << 16
"""So much of a file decides what its format is."""
_HEAD_LINES = 50
_BLANK_LINE = re.compile(rb"\n[ \t]*\r*\n")
_ASTRAL = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")
_ASTRAL_BYTES = 4  # of the longest that it finds


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text file.

    Attributes:
        text: of it.
        first: its first line, counted from 1.
        is_last: whether the file ends with it.
    """

    text: str
    first: int
    is_last: bool

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return self.first == 1 and self.is_last


@dataclass(frozen=True)
class Glimpse:
    """What is looked at to recognise a format.

    Attributes:
        name: the file's or folder's name.
        head: the first `HEAD_BYTES` of it, unpacked; of a folder, those of the first file with the
            suffix that most of its files have.
        is_whole: whether that is all.
        files: of a folder, the names of the files in it and in folders inside, sorted.
    """

    name: str
    head: bytes = b""
    is_whole: bool = True
    files: tuple[str, ...] = field(default=())

    @cached_property
    def text(self) -> str:
        """The head as UTF-8 text, without a byte order mark."""
        return self.head.decode("utf-8-sig", "replace")

    @cached_property
    def lines(self) -> list[str]:
        """Of the first 50 lines those that are not blank; one that is cut off is left out."""
        lines = self.text.split("\n")
        if not self.is_whole:
            lines = lines[:-1]
        return [line.rstrip("\r") for line in lines[:_HEAD_LINES] if line.strip()]

    @cached_property
    def first(self) -> str:
        """The first line that is not blank, even if it is cut off."""
        lines = (line.rstrip("\r") for line in self.text.split("\n"))
        return next((line for line in lines if line.strip()), "")

    def holds_only(self, *suffixes: str) -> bool:
        """Whether a folder has files with these suffixes, and no others but READMEs and the like.

        Those have no suffix, or `.md` or `.conf`.
        """
        found = {Path(unpacked_name(name)).suffix for name in self.files}
        return found <= {"", ".md", ".conf", *suffixes} and bool(found & {*suffixes})

    @property
    def is_first_cut(self) -> bool:
        """Whether the end of the first line is not in the head."""
        return not self.is_whole and not self.lines


class Source:
    """A file or folder that a format reads.

    Args:
        path: of it.
        data: its content, where that is in memory already.

    Attributes:
        part_bytes: of a text file that is read in parts, the size of one.
    """

    part_bytes = 4 << 20

    def __init__(self, path: Path, data: bytes | None = None):
        self.path = path
        self._data = data

    def read_bytes(self) -> bytes:
        """All of a file, unpacked as its suffix says (`storage.compression`).

        Raises:
            DataError: it is missing, a directory, or damaged.
        """
        return read_bytes(self.path) if self._data is None else self._data

    def read_text(self) -> str:
        """All of a UTF-8 file, without a byte order mark; line ends are left as they are.

        Raises:
            DataError: it is missing, a directory, empty, damaged, binary, or not UTF-8.
        """
        return decode_text(self.read_bytes(), self.path)

    def lines(self) -> list[str]:
        r"""The same in lines, which end at `\n` or `\r\n` and nowhere else."""
        return split_lines(self.read_text())

    def open(self) -> BinaryIO:
        """A file as a stream of bytes, unpacked; for files that are larger than memory.

        Raises:
            DataError: it cannot be read.
        """
        if self._data is not None:
            return io.BytesIO(self._data)
        with reading_errors(self.path):
            return open_unpacked(self.path)

    def reopenable(self) -> Source:
        """The same source, which can be opened again and again from now on: a pipe is read whole.

        Raises:
            DataError: it is missing or a directory.
        """
        if self._data is None and not self.path.is_file():
            self._data = self.read_bytes()
        return self

    def glimpse(self) -> Glimpse:
        """What recognises the format. A file that cannot be read is left for its reader to refuse.

        A pipe is read whole, since nothing can be read from it twice.
        """
        failures: tuple[type[Exception], ...] = (
            NertuneError,
            OSError,
            ValueError,
            *unpacking_errors(),
        )
        try:
            if self.path.is_dir():
                return self._glimpse_folder()
            if self._data is None and self.path.exists() and not self.path.is_file():
                self._data = self.read_bytes()
            with self.open() as stream:
                head = stream.read(HEAD_BYTES)
        except failures:
            head = b""
        return Glimpse(self.path.name, head, len(head) < HEAD_BYTES)

    def _glimpse_folder(self) -> Glimpse:
        found = [
            (p.relative_to(self.path), p)
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and not any(n.startswith(".") for n in p.relative_to(self.path).parts)
        ]
        counts = Counter(p.suffix for _, p in found if p.suffix)
        most = counts.most_common(1)[0][0] if counts else ""
        first = next((Source(p).glimpse() for _, p in found if p.suffix == most), Glimpse(""))
        names = tuple(name.as_posix() for name, _ in found)
        return Glimpse(self.path.name, first.head, first.is_whole, names)

    def text_lines(self) -> Iterator[tuple[int, str]]:
        r"""The lines of a UTF-8 file with their numbers from 1, without holding all of it.

        They end at `\n` or `\r\n` and come without it; a byte order mark is left out.

        Raises:
            DataError: it cannot be read, or a line is binary or not UTF-8.
        """
        for number, line in enumerate(self.stream_lines(), 1):
            if number == 1:
                refuse_foreign(line, self.path)
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                told = explain_encoding(line, error.start, self.path)
                column = f"byte {error.start + 1} of this line (0x{line[error.start]:02X})"
                raise DataError(
                    f"{column} is not UTF-8: {told}", path=self.path, line=number
                ) from error
            if "\0" in text:
                told = "a NUL stands in this line: expected UTF-8 text, this file is binary"
                raise DataError(told, path=self.path, line=number)
            yield number, text.rstrip("\r\n") if text.endswith("\n") else text

    def stream_lines(self) -> Iterator[bytes]:
        """The lines of a file as bytes, without holding all of it.

        Raises:
            DataError: it cannot be read.
        """
        with self.open() as stream, reading_errors(self.path):
            yield from stream

    def text_parts(self, *, by_line: bool = False) -> Iterator[Part]:
        """The text of a UTF-8 file in parts of some megabytes, without holding all of it.

        A part ends behind a blank line, so that no sentence of a file of columns is cut; line ends
        are left as they are.

        Args:
            by_line: a part may end behind any line.

        Raises:
            DataError: the file is missing, a directory, empty, damaged, binary, or not UTF-8.
        """
        held, first = bytearray(), 1
        for block in self._blocks():
            searched = max(0, len(held) - 1)
            held += block
            if len(block) < self.part_bytes:  # the last one
                continue
            border = held.rfind(b"\n") + 1 if by_line else _behind_blank_line(held, searched)
            if border and border < len(held):
                text = decode_text(bytes(held[:border]), self.path, first_line=first)
                yield Part(text, first, is_last=False)
                del held[:border]
                first += text.count("\n")
        yield Part(decode_text(bytes(held), self.path, first_line=first), first, is_last=True)

    def may_hold_astral(self) -> bool:
        """Whether any character beyond U+FFFF stands in a UTF-8 file, or is escaped in its JSON.

        Where none does, code points and UTF-16 units are the same.

        Raises:
            DataError: the file cannot be read.
        """
        return any(_ASTRAL.search(block) for block in self._blocks(overlap=_ASTRAL_BYTES - 1))

    def _blocks(self, *, overlap: int = 0) -> Iterator[bytes]:
        """A file in blocks of one size; each begins with the last bytes of what was before."""
        before = b""
        with self.open() as stream:
            while True:
                with reading_errors(self.path):
                    block = stream.read(self.part_bytes)
                if not block:
                    return
                block = before + block
                yield block
                before = block[-overlap:] if overlap else b""


def _behind_blank_line(data: bytearray, start: int) -> int:
    """Where the line behind the last blank one begins; 0 where there is no blank line."""
    end = data.rfind(b"\n\n", start)
    if end >= 0:
        return end + 2
    return max((found.end() for found in _BLANK_LINE.finditer(data, start)), default=0)
