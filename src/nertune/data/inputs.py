"""Texts to predict on: arguments, stdin, text lines, CoNLL or JSONL."""

from __future__ import annotations

import glob
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

from nertune.data.corpus import load_corpus
from nertune.data.formats.conll import Join
from nertune.data.formats.recognition import Kind, kind_of_content, kind_of_name
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError, DataError, NertuneError
from nertune.storage.files import explain_encoding, read_text, refuse_foreign
from nertune.types import Document

__all__ = ["expand_files", "in_batches", "input_kind", "read_files", "read_inputs", "read_stdin"]

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


def read_files(
    paths: Sequence[Path], input_format: str = "auto", *, join: Join = "auto", whole: bool = False
) -> Iterator[Document]:
    """The documents of files, one file after the other.

    Of several files, each document says in its `meta` which `id` it has, where the source gave it
    none: the file and the line.

    Args:
        paths: files.
        input_format, join: as for `read_inputs`.
        whole: a text file is one document, not one a line.

    Raises:
        DataError: a file or a line of it cannot be read.
        ConfigError: the format is unknown, or `whole` is asked for of a labelled file.
    """
    for path in paths:
        kind = input_kind(resolve_data(str(path))) if input_format == "auto" else input_format
        if whole and kind != "lines":
            raise ConfigError(f"{path} is read as {kind}: --whole is for text files")
        documents: Iterable[Document]
        if whole:
            documents = [Document(read_text(resolve_data(str(path))), id=str(path))]
        else:
            documents = read_inputs([], path, kind, join=join)
        for document in documents:
            if len(paths) > 1 and "id" not in document.meta:
                own = document.id.startswith(f"{path.name}:")
                name = f"{path}{document.id[len(path.name) :]}" if own else document.id
                document = replace(document, id=name, meta={"id": name, **document.meta})
            yield document


def expand_files(names: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Files, with those of folders and patterns (`texts/*.txt`) in their order.

    Returns:
        The files; and those of folders that are left out, since their names are of no text format.

    Raises:
        DataError: a folder or a pattern holds no such file.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    for name in names:
        if name.is_dir():
            inside = sorted(p for p in name.rglob("*") if p.is_file() and not _is_hidden(p, name))
            found = [path for path in inside if _is_text(path)]
            left_out += (path for path in inside if not _is_text(path))
            if not found:
                raise DataError(
                    "this folder holds no text: expected .txt, .conll, .jsonl or the like, or name "
                    "the files",
                    path=name,
                )
        elif not name.exists() and re.search(r"[*?\[]", str(name)):
            # `Path.glob` takes no absolute pattern.
            named = map(Path, glob.glob(str(name), recursive=True))  # noqa: PTH207
            found = sorted(path for path in named if path.is_file())
            if not found:
                raise DataError("no file is named so", path=name)
        else:
            found = [name]
        files += found
    return files, left_out


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_text(path: Path) -> bool:
    bare = path.with_suffix("") if path.suffix == ".gz" else path
    return kind_of_name(path) is not None or bare.suffix.lower() in ("", ".txt", ".text", ".md")


def in_batches(documents: Iterable[Document], size: int = 512) -> Iterator[list[Document]]:
    """Documents, some at a time; what came before an error is given before it is raised."""
    iterator = iter(documents)
    while True:
        batch: list[Document] = []
        failure: NertuneError | None = None
        try:
            for document in islice(iterator, size):
                batch.append(document)  # noqa: PERF402 (what came before an error stays)
        except NertuneError as error:
            failure = error
        if batch:
            yield batch
        if failure is not None:
            raise failure
        if len(batch) < size:
            return


def read_stdin(*, whole: bool = False) -> Iterator[list[Document]]:
    """Texts on stdin, one a line, in batches of what has come by now, so that none has to wait.

    Args:
        whole: all of stdin is one document, whose line ends stay.

    Raises:
        DataError: a line is not UTF-8; what came before it is given first.
    """
    stream = cast("io.BufferedReader", sys.stdin.buffer)
    if whole:
        data = stream.read()
        texts = [document.text for document in _lines(io.BytesIO(data), "stdin")]  # checks it
        text = data.decode("utf-8-sig")
        yield [Document(text, id="stdin")] if texts else []
        return
    number = 0
    rest = b""
    while True:
        # At most one read of the system: it waits for something, not for a full buffer.
        data = stream.read1(_HEAD_BYTES)
        complete, newline, rest = (rest + data).rpartition(b"\n")
        if not data and rest:
            complete, newline, rest = rest, b"", b""
        block = complete + newline
        yield from in_batches(_lines(io.BytesIO(block), "stdin", behind=number))
        number += block.count(b"\n")
        if not data:
            return


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


def _lines(stream: BinaryIO, name: str, *, behind: int = 0) -> Iterator[Document]:
    """One document a line, empty lines included, so that output lines match input lines.

    `behind` is the line before the first one.
    """
    for number, line in enumerate(stream, behind + 1):
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
