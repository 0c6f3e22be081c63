"""Texts to predict on: arguments, stdin, text lines, CoNLL or JSONL."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from nertune.data.corpus import load_corpus
from nertune.data.files import explain_encoding, refuse_foreign
from nertune.data.formats.conll import Join
from nertune.data.formats.recognition import Kind, kind_of_content, kind_of_name
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError, DataError
from nertune.types import Document

__all__ = ["input_kind", "read_inputs"]

_HEAD_BYTES = 1 << 16  # that decide what a file holds


def read_inputs(
    texts: Sequence[str],
    file: Path | None,
    input_format: str = "auto",
    *,
    join: Join = "auto",
) -> Iterable[Document]:
    """The documents to predict on.

    Args:
        texts: given texts; if none and no file, stdin is read, one text a line.
        file: a text file with one text a line, or CoNLL (`.conll`, `.bio`, …) or JSONL.
        input_format: `auto` goes by the suffix; `lines`, `conll` or `jsonl` say it.
        join: what joins the tokens of a CoNLL file; `auto` recognises it.

    Raises:
        DataError: the file or a line of it cannot be read.
        ConfigError: the format is unknown.
    """
    if input_format not in ("auto", "lines", "conll", "jsonl"):
        raise ConfigError(f"--input-format {input_format!r}: expected auto, lines, conll or jsonl")
    if texts:
        return [Document(_checked(text), id=f"text {i}") for i, text in enumerate(texts, 1)]
    if file is None:
        return _lines(sys.stdin.buffer, "stdin")
    path = resolve_data(str(file))
    kind = input_kind(path) if input_format == "auto" else input_format
    if kind == "lines":
        return _file_lines(path)
    format: Literal["jsonl", "conll"] = "jsonl" if kind == "jsonl" else "conll"
    return load_corpus(path, format=format, join=join, ignore_tags=True).documents


def input_kind(path: Path) -> Kind:
    """`conll`, `jsonl` or `lines`: by the suffix, else by the first lines.

    Raises:
        DataError: the file cannot be read.
    """
    if kind := kind_of_name(path):
        return kind
    with _open(path) as stream:
        head = _read(stream, path, _HEAD_BYTES)
    return kind_of_content(head.decode("utf-8-sig", "replace"), is_whole=len(head) < _HEAD_BYTES)


def _open(path: Path) -> BinaryIO:
    try:
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def _read(stream: BinaryIO, path: Path, size: int) -> bytes:
    try:
        return stream.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"is not a whole gzip file ({error})", path=path) from error


def _file_lines(path: Path) -> Iterator[Document]:
    with _open(path) as stream:
        try:
            yield from _lines(stream, str(path))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"is not a whole gzip file ({error})", path=path) from error


def _lines(stream: BinaryIO, name: str) -> Iterator[Document]:
    """One document a line, empty lines included, so that output lines match input lines."""
    for number, line in enumerate(stream, 1):
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
        yield Document(text.removesuffix("\n").rstrip("\r"), id=f"{name}:{number}")


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the text is not UTF-8 at character {error.start + 1}") from error
    return text
