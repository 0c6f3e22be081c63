"""Raw text a line at a time, packed or not, never held whole; or a labelled file's texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nertune.data.corpus import load_corpus
from nertune.data.inputs import input_format
from nertune.errors import DataError
from nertune.storage.compression import describe_damage, open_unpacked, unpacking_errors
from nertune.storage.files import refuse_foreign

__all__ = ["Line", "is_labelled", "raw_lines", "read_lines"]


class Line(NamedTuple):
    r"""A line of text and its place.

    Attributes:
        file: number of its file, from 0.
        number: its number in the file, from 1.
        text: the line without white space around it.
        before: characters of white space that were removed at its start.
        after: the same at its end. The line's end (`\n` or `\r\n`) and a byte-order mark are no
            characters of a line.
    """

    file: int
    number: int
    text: str
    before: int = 0
    after: int = 0


def read_lines(paths: Sequence[Path], *, skip: tuple[int, int] = (0, 0)) -> Iterator[Line]:
    """The lines of UTF-8 text files, one after the other; blank ones are left out.

    A file with labels (CoNLL, JSONL) gives the texts of its documents.

    Args:
        paths: those packed (`storage.compression`) are unpacked while they are read.
        skip: begin behind this line (file number, line number).

    Raises:
        DataError: a file is missing, damaged, or not UTF-8; names the line.
    """
    for file in range(skip[0], len(paths)):
        behind = skip[1] if file == skip[0] else 0
        for number, raw in _lines_of(paths[file]):
            text = raw.strip()
            if number > behind and text:
                before = len(raw) - len(raw.lstrip())
                yield Line(file, number, text, before, len(raw) - before - len(text))


def is_labelled(path: Path) -> bool:
    """Whether a file holds documents with labels (CoNLL, JSONL) and not text line by line.

    Raises:
        DataError: the file cannot be read.
    """
    return input_format(path).holds.entities


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    if not is_labelled(path):
        yield from raw_lines(path)
        return
    for number, document in enumerate(load_corpus(path, ignore_tags=True).documents, 1):
        yield number, " ".join(document.text.split())


def raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number (from 1) and the text of every line of a UTF-8 file, blank ones included.

    White space around a line is kept; its end and a byte-order mark are not part of it.

    Raises:
        DataError: the file is missing, damaged, or not UTF-8; names the line.
    """
    number = 0
    try:
        with open_unpacked(path) as stream:
            for number, data in enumerate(stream, 1):
                text = data.decode("utf-8-sig" if number == 1 else "utf-8")
                if "\0" in text:
                    raise DataError("a NUL byte: expected UTF-8 text", path=path, line=number)
                yield number, text.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        if number == 1:
            refuse_foreign(error.object, path)
        raise DataError(
            f"byte {error.start + 1} of this line (0x{error.object[error.start]:02X}) is not UTF-8:"
            " is the file in another encoding (then e.g. iconv -f GB18030 -t UTF-8)?",
            path=path,
            line=number,
        ) from error
    except unpacking_errors() as error:
        told = f"{describe_damage(path)}, behind line {number} ({error})"
        raise DataError(told, path=path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error
