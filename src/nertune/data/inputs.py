"""Texts to predict on: arguments, stdin, or files of any format."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

from nertune.data.formats.base import Findings, Format, ReadOptions, Source, check_options
from nertune.data.formats.lines import documents_of_lines
from nertune.data.formats.recognition import recognise
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Join
from nertune.data.samples import resolve_data
from nertune.data.several import files_of_folder, files_of_pattern, is_pattern, sources_of
from nertune.errors import ConfigError, DataError, NertuneError
from nertune.storage.files import is_pipe_or_device
from nertune.storage.hashing import hash_once
from nertune.types import Document

__all__ = [
    "Input",
    "expand_files",
    "hash_inputs",
    "in_batches",
    "input_format",
    "read_files",
    "read_inputs",
    "read_stdin",
    "refuse_pipes",
]

_OPTION = "--input-format "
_DEFAULT = "lines"  # what a file without any sign of a format holds
_BLOCK = 1 << 16  # bytes of stdin at a time


@dataclass(frozen=True, slots=True)
class Input:
    """A file that is read, and what it holds."""

    path: str
    bytes: int
    sha256: str


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
        file: a text file with one text a line, or one of any format that can be read.
        input_format: `auto` goes by content and suffix; a format's name (`lines`, `conll`, …).
        join: what joins the source tokens of a file; `auto` recognises it.

    Raises:
        DataError: the file or a line of it cannot be read.
        ConfigError: the format is unknown.
    """
    if input_format != "auto":
        find_format(input_format, reads=True, option=_OPTION, also=("auto",))
    if texts:
        return [Document(_checked(text), id=f"text {i}") for i, text in enumerate(texts, 1)]
    if file is None:
        return documents_of_lines(sys.stdin.buffer, "stdin")
    source = Source(resolve_data(str(file)))
    format = _input_format(source, input_format)
    return format.read(source, ReadOptions(join=join, ignore_tags=True), Findings())


def read_files(
    paths: Sequence[Path],
    input_format: str = "auto",
    *,
    join: Join = "auto",
    whole: bool = False,
    options: Mapping[str, str] | None = None,
    reject: Callable[[DataError], None] | None = None,
    with_ids: bool = False,
) -> Iterator[Document]:
    """The documents of files, one file after the other.

    Of several files, each document says in its `meta` which `id` it has, where the source gave it
    none: the file and the line.

    Args:
        paths: files.
        input_format, join: as for `read_inputs`.
        whole: a text file is one document, not one a line.
        options: the format's own.
        reject: is told of what cannot be read, a line where the format allows (`ReadOptions`), else
            the rest of a file; and reading goes on. `None`: the error is raised.
        with_ids: documents of a single file say their `id`, too.

    Raises:
        DataError: a file or a line of it cannot be read.
        ConfigError: the format or an option is unknown, or `whole` is asked for of a labelled file.
    """
    sources = [source for path in paths for source in sources_of(resolve_data(str(path)))[0]]
    for source in sources:
        path = source.path
        how = ReadOptions(join=join, ignore_tags=True, more=options or {}, reject=reject)
        try:
            for document in _read_source(source, input_format, how, whole=whole):
                if (with_ids or len(sources) > 1) and "id" not in document.meta:
                    own = document.id.startswith(f"{path.name}:")
                    name = f"{path}{document.id[len(path.name) :]}" if own else document.id
                    document = replace(document, id=name, meta={"id": name, **document.meta})
                yield document
        except DataError as error:
            if reject is None:
                raise
            reject(error)


def _read_source(
    source: Source, input_format: str, how: ReadOptions, *, whole: bool
) -> Iterator[Document]:
    format = _input_format(source, input_format)
    if whole and format.holds.entities:
        raise ConfigError(f"{source.path} is read as {format.name}: --whole is for text files")
    if whole:
        yield Document(source.read_text(), id=str(source.path))
        return
    check_options(format, how.more)
    yield from format.read(source, how, Findings())


def expand_files(names: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Files, with those of folders and patterns (`texts/*.txt`) in their order.

    Returns:
        The files; and those of folders that are left out, since they are of no format.

    Raises:
        DataError: a folder or a pattern holds no such file.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    for name in names:
        if name.is_dir() and recognise(Source(name)) is not None:
            found = [name]  # one corpus of several files
        elif name.is_dir():
            found, others = files_of_folder(name)
            left_out += others
        elif is_pattern(name):
            found = files_of_pattern(name)
        else:
            found = [name]
        files += found
    return files, left_out


def refuse_pipes(paths: Iterable[Path]) -> None:
    """See that all can be read more than once.

    Raises:
        DataError: one is a named pipe, the output of a command, or a device.
    """
    for path in paths:
        if is_pipe_or_device(path):
            raise DataError(
                "is no file but a pipe or device, and the text is read several times: write it to "
                "a file",
                path=path,
            )


def hash_inputs(files: Sequence[Path]) -> list[Input]:
    """Every file of the input, with those in a folder that is one corpus.

    Raises:
        DataError: one is no regular file, or cannot be read.
    """
    found = []
    for path in files:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            refuse_pipes([file])
            try:
                found.append(Input(str(file), file.stat().st_size, hash_once(file)))
            except FileNotFoundError as error:
                raise DataError("no such file", path=file) from error
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror}", path=file) from error
    return found


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
        texts = [
            document.text for document in documents_of_lines(io.BytesIO(data), "stdin")
        ]  # checks it
        text = data.decode("utf-8-sig")
        yield [Document(text, id="stdin")] if texts else []
        return
    number = 0
    rest = b""
    while True:
        # At most one read of the system: it waits for something, not for a full buffer.
        data = stream.read1(_BLOCK)
        complete, newline, rest = (rest + data).rpartition(b"\n")
        if not data and rest:
            complete, newline, rest = rest, b"", b""
        block = complete + newline
        yield from in_batches(documents_of_lines(io.BytesIO(block), "stdin", behind=number))
        number += block.count(b"\n")
        if not data:
            return


def input_format(path: Path) -> Format:
    """The format of a file: by its content, else by its suffix; text in lines where none fits.

    Raises:
        DataError: two formats recognise it.
    """
    return _input_format(Source(path), "auto")


def _input_format(source: Source, name: str) -> Format:
    if name != "auto":
        return find_format(name, reads=True, option=_OPTION, also=("auto",))
    found = recognise(source)
    return find_format(_DEFAULT) if found is None else found.format


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the text is not UTF-8 at character {error.start + 1}") from error
    return text
