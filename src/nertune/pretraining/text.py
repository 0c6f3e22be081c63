"""Raw text a line at a time: plain, gzip or xz, never held whole; or a labelled file's texts."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from nertune.data.corpus import load_corpus
from nertune.data.files import refuse_foreign
from nertune.data.formats.recognition import kind_of_name
from nertune.errors import DataError
from nertune.inference.reading import input_kind

__all__ = ["Line", "read_lines"]

Line = tuple[int, int, str]
"""File number (from 0), line number (from 1), text without white space around it."""


def read_lines(paths: Sequence[Path], *, skip: tuple[int, int] = (0, 0)) -> Iterator[Line]:
    """The lines of UTF-8 text files, one after the other; blank ones are left out.

    A file with labels (CoNLL, JSONL) gives the texts of its documents.

    Args:
        paths: names that end in `.gz` or `.xz` are unpacked while they are read.
        skip: go on behind this line (file number, line number).

    Raises:
        DataError: a file is missing, damaged, or not UTF-8; names the line.
    """
    for number in range(skip[0], len(paths)):
        behind = skip[1] if number == skip[0] else 0
        for line, text in _lines_of(paths[number]):
            if line > behind and text:
                yield number, line, text


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    line = 0
    try:
        if path.suffix == ".xz" and kind_of_name(path.with_suffix("")):
            raise DataError("a labelled file packed with xz: unpack it with xz -d", path=path)
        if path.suffix != ".xz" and input_kind(path) != "lines":
            for line, document in enumerate(load_corpus(path, ignore_tags=True).documents, 1):
                yield line, " ".join(document.text.split())
            return
        with _open(path) as stream:
            for line, raw in enumerate(stream, 1):
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
                if "\0" in text:
                    raise DataError("a NUL byte: expected UTF-8 text", path=path, line=line)
                yield line, text.strip()
    except UnicodeDecodeError as error:
        if line == 1:
            refuse_foreign(error.object, path)
        raise DataError(
            f"byte {error.start + 1} of this line (0x{error.object[error.start]:02X}) is not UTF-8:"
            " is the file in another encoding (then e.g. iconv -f GB18030 -t UTF-8)?",
            path=path,
            line=line,
        ) from error
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        kind = path.suffix.removeprefix(".")
        raise DataError(
            f"the {kind} data is damaged or cut short behind line {line} ({error})", path=path
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    return path.open("rb")
