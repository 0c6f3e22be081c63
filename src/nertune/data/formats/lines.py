"""Plain text, a document a line, to be tagged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nertune.data.formats.base import Findings, Format, Holds, ReadOptions, Source
from nertune.errors import DataError
from nertune.storage.files import explain_encoding, refuse_foreign
from nertune.types import Document

__all__ = ["Lines", "documents_of_lines"]


class Lines(Format):
    """UTF-8 text, one text a line; what no other format recognises is read as this."""

    name = "lines"
    title = "Plain text, one text a line"
    suffixes = (".txt", ".text", ".md")
    holds = Holds(entities=False, text="line", offsets="none")
    writes = False

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """One document a line, empty lines included, so that output lines match input lines.

        Raises:
            DataError: a line is not UTF-8 text.
        """
        lines, name = source.stream_lines(), str(source.path)
        return documents_of_lines(lines, name, reject=options.reject)


def documents_of_lines(
    lines: Iterable[bytes],
    name: str,
    *,
    behind: int = 0,
    reject: Callable[[DataError], None] | None = None,
) -> Iterator[Document]:
    """The same of lines that come from anywhere.

    Args:
        lines: with their line ends.
        name: where they come from, for ids and messages.
        behind: the number of the line before the first one.
        reject: is told of a line that is not text, and the next one is read; see `ReadOptions`.

    Raises:
        DataError: a line is not UTF-8 text.
    """
    for number, line in enumerate(lines, behind + 1):
        try:
            text = _decode(line, name, number)
        except DataError as error:
            if reject is None or error.line is None:  # without a line: of the whole file
                raise
            reject(error)
        else:
            yield Document(text.removesuffix("\n").rstrip("\r"), id=f"{name}:{number}")


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        if number == 1:
            refuse_foreign(line, name)
        raise DataError(
            f"not UTF-8: byte {line[error.start]:#04x} at position {error.start + 1} of the "
            f"line: {explain_encoding(line, error.start, name)}",
            path=name,
            line=number,
        ) from error
    if "\x00" in text:
        raise DataError("holds a NUL byte: not a text file", path=name, line=number)
    return text
