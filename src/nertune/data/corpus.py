"""A corpus: the documents of one file, and all that was decided while reading them."""

from __future__ import annotations

import gc
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from nertune.data.formats.base import (
    Format,
    ReadOptions,
    WriteOptions,
    check_options,
)
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.recognition import format_of_name
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Join, Misfit, Reading, SchemeChoice, Spans, TagRepair
from nertune.data.reading import DEFAULT_FORMAT, CorpusReader
from nertune.data.statistics import content_hash
from nertune.errors import ConfigError, DataError
from nertune.labels.schemes import Scheme
from nertune.storage.atomic import replace_folder
from nertune.storage.files import open_binary_for_writing, open_for_writing
from nertune.types import Document

__all__ = [
    "Corpus",
    "CorpusFacts",
    "Reading",
    "load_alike",
    "load_corpus",
    "load_with",
    "save_corpus",
    "save_documents",
    "save_fitting",
    "save_with",
    "write_documents",
    "written_format",
]


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """What is known of documents without reading them.

    Attributes:
        num_entities: in all of them.
        labels: those that occur, sorted.
        is_full: whether none of them is partially labelled.
    """

    num_entities: int
    labels: tuple[str, ...]
    is_full: bool


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of one file.

    Attributes:
        path: the file.
        documents: its documents, in order; at least one. A tuple, or on the disk
            (`document_store`).
        format: the format's name, e.g. `conll` or `jsonl`.
        reading: how the file was read: what was asked for, or decided where that was `auto`.
        style: the layout, as the format's reader left it; `None` where it has none.
        repairs: tags that broke the scheme and were repaired.
        notices: what was recognised, skipped, dropped or repaired, for the user to read.
        sha256: hash over texts and entities, see `content_hash`.
        reason: why it was read as this format.
        files: of a corpus of several files, what a record says of each.
        facts: of documents on the disk.
    """

    path: Path
    documents: Sequence[Document]
    format: str
    reading: Reading
    style: Any
    repairs: tuple[TagRepair, ...]
    notices: tuple[str, ...]
    sha256: str
    reason: str = ""
    files: tuple[Mapping[str, Any], ...] = ()
    facts: CorpusFacts | None = None

    @classmethod
    def from_documents(cls, documents: Iterable[Document], *, name: str = "<documents>") -> Corpus:
        """A corpus of documents in memory; `name` stands for the file in messages and records.

        Raises:
            DataError: there are none.
        """
        held = tuple(documents)
        if not held:
            raise DataError("no documents were given; expected at least one", path=Path(name))
        reading = Reading(offsets="codepoint")
        return cls(Path(name), held, "jsonl", reading, None, (), (), content_hash(held))

    def __iter__(self) -> Iterator[Document]:
        """The documents, in order."""
        return iter(self.documents)

    @property
    def scheme(self) -> Scheme | None:
        """The tag scheme of a file of tags."""
        return None if self.reading.scheme == "auto" else self.reading.scheme

    @property
    def joined(self) -> Join:
        """How source tokens were joined, as `load_corpus` takes it; `auto` where there are none."""
        return self.reading.join

    @property
    def join(self) -> str:
        """What joins the source tokens of a text: nothing or a space."""
        return " " if self.joined == "space" else ""

    @property
    def offsets(self) -> Offsets:
        """What the offsets of a file of spans count; `auto` where nothing in the file decides."""
        return self.reading.offsets

    @property
    def num_entities(self) -> int:
        if self.facts is not None:
            return self.facts.num_entities
        return sum(len(document.entities) for document in self.documents)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        if self.facts is not None:
            return self.facts.labels
        return tuple(sorted({e.label for document in self.documents for e in document.entities}))

    def take_share(self, share: float, seed: int) -> Corpus:
        """Some of the documents, in their order; a smaller share is part of a larger one.

        Args:
            share: in (0, 1]; at least one document is taken.
            seed: draws them.
        """
        if share >= 1:
            return self
        order = list(range(len(self.documents)))
        random.Random(seed).shuffle(order)
        chosen = sorted(order[: max(1, round(share * len(order)))])
        take = getattr(self.documents, "take", None)
        documents = take(chosen) if take else tuple(self.documents[i] for i in chosen)
        return replace(self, documents=documents, sha256=content_hash(documents), facts=None)


def load_corpus(
    path: str | Path,
    *,
    format: str = "auto",
    scheme: SchemeChoice = "auto",
    join: Join = "auto",
    offsets: Offsets = "auto",
    strict: bool = False,
    ignore_tags: bool = False,
) -> Corpus:
    """Read a file of documents in any format that holds entities, packed or not.

    Args:
        path: the file; `.gz`, `.xz` and `.zst` are unpacked.
        format: a format's name (`nertune.data.formats.format_names`); `auto` goes by the content,
            then by the name.
        scheme: the tag scheme of a file of tags; `auto` recognises it.
        join: what joins source tokens to a text: `none`, a `space`, or `auto`.
        offsets: what the offsets of a file of spans count: `codepoint`, `utf16`, `byte`,
            `grapheme`, or `auto`.
        strict: refuse tags that break their scheme instead of repairing them.
        ignore_tags: the texts alone (of a two-column file, the tokens), whatever they are labelled.

    Raises:
        DataError: the file or a line of it cannot be used; the message names both.
        ConfigError: `format`, `scheme`, `join` or `offsets` is unknown.

    Example:
        >>> corpus = load_corpus("train.conll")     # doctest: +SKIP
        >>> print(*corpus.notices, sep="\\n")       # doctest: +SKIP
    """
    options = ReadOptions(scheme, join, offsets, strict, ignore_tags)
    return load_with(path, options, format=format)


def load_alike(
    path: str | Path,
    like: Reading,
    *,
    format: str = "auto",
    scheme: SchemeChoice = "auto",
    join: Join = "auto",
    offsets: Offsets = "auto",
    strict: bool = False,
) -> Corpus:
    """Read a file as another one was read, wherever `auto` leaves the choice and it fits.

    Args:
        path: the file.
        like: how the other one was read.
        format, scheme, join, offsets, strict: as for `load_corpus`.

    Raises:
        DataError: the file or a line of it cannot be used; the message names both.
        ConfigError: `format`, `scheme`, `join` or `offsets` is unknown.
    """
    return load_with(path, ReadOptions(scheme, join, offsets, strict, like=like), format=format)


def load_with(path: str | Path, options: ReadOptions, *, format: str = "auto") -> Corpus:
    """Read a file of documents; the functions above with their arguments in one object.

    Raises:
        DataError: the file or a line of it cannot be used; the message names both.
        ConfigError: `format` or an option is unknown.
    """
    reader = CorpusReader(path, options, format=format)
    with _without_garbage_collection():
        documents = tuple(reader)
    return Corpus(
        path=reader.path,
        documents=documents,
        format=reader.format,
        reading=reader.reading,
        style=reader.style,
        repairs=tuple(reader.repairs),
        notices=tuple(reader.notices),
        sha256=content_hash(documents),
        reason=reader.reason,
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Reading makes millions of objects and no circles; looking for them takes a third of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def write_documents(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    format: str,
    scheme: Scheme = "BIO",
    separator: Literal[" ", "\t"] = "\t",
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write documents to a stream.

    Args:
        stream: where to; opened so that it does not translate line ends.
        documents: what to write.
        format: a format's name, e.g. `conll`, `jsonl` (entities as `[start, end, label]`), or
            `predictions` (JSONL with entities as objects, with text and score).
        scheme: the tag scheme (of files of tags only, as all that follows).
        separator: what stands between token and tag.
        misfit: an entity that begins or ends inside a token is an `error`, or made to `widen`.
        tokenize: gives the token spans of a text, for documents that have none of their own.

    Raises:
        DataError: the format cannot hold a document.
        ConfigError: `format` is unknown, or no format of text.
    """
    chosen = find_format(format, writes=True)
    if chosen.container != "text":
        raise ConfigError(f"format {format} is no text: write it with save_documents")
    chosen.write(documents, stream, WriteOptions(scheme, separator, misfit, tokenize))


def save_documents(
    path: str | Path,
    documents: Iterable[Document],
    *,
    format: str | None = None,
    scheme: Scheme = "BIO",
    separator: Literal[" ", "\t"] = "\t",
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write documents to a file, which appears (or replaces an older one) only when complete.

    Args:
        path: the file; `.gz`, `.xz` and `.zst` are packed.
        documents, scheme, separator, misfit, tokenize: as for `write_documents`.
        format: `None` goes by the name: that of the suffix, else `conll`.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
        ConfigError: `format` is unknown.
    """
    options = WriteOptions(scheme, separator, misfit, tokenize)
    save_with(path, documents, options, format=format)


def save_with(
    path: str | Path, documents: Iterable[Document], options: WriteOptions, *, format: str | None
) -> None:
    """Write a file or folder; `save_documents` with its arguments in one object.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
        ConfigError: `format` or an option is unknown.
    """
    path = Path(path)
    chosen = written_format(path) if format is None else find_format(format, writes=True)
    check_options(chosen, options.more)
    if chosen.container == "text":
        with open_for_writing(path) as stream:
            chosen.write(documents, stream, options)
    elif chosen.container == "binary":
        with open_binary_for_writing(path) as binary:
            chosen.write(documents, binary, options)
    else:
        _save_folder(path, documents, chosen, options)


def _save_folder(
    path: Path, documents: Iterable[Document], format: Format, options: WriteOptions
) -> None:
    if path.exists() and not path.is_dir():
        raise DataError(f"{format.name} is a folder of files, and this is a file", path=path)
    if path.is_dir() and any(path.iterdir()):
        raise DataError(f"{format.name} needs a new or empty folder", path=path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        format.write(documents, draft, options)
        replace_folder(draft, path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_fitting(path: str | Path, documents: Iterable[Document], *, format: str) -> None:
    """Write documents so that they can be read again, without metadata that the format cannot hold.

    Files of nertune's own are written so, e.g. a run's predictions. Keys of the source that mean
    something else in the format are left out.

    Args:
        path: the file.
        documents: what to write.
        format: one of JSON lines, which holds everything else.

    Raises:
        DataError: the file cannot be written.
        ConfigError: `format` is unknown.
    """
    options = WriteOptions()
    chosen = find_format(format, writes=True)
    fitted = (chosen.fit(document, options).document or document for document in documents)
    save_with(path, fitted, options, format=format)


def save_corpus(path: str | Path, corpus: Corpus) -> None:
    """Write a corpus as it was laid out when read, or in the format that `path` says.

    A two-column file comes back byte for byte, but for repaired tags, comments, and surplus blank
    lines.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
    """
    save_with(path, corpus.documents, WriteOptions(style=corpus.style), format=None)


def written_format(path: Path) -> Format:
    """The format of a file that is to be written, by its suffix; else two columns."""
    named = format_of_name(path)
    return named if named is not None and named.writes else find_format(DEFAULT_FORMAT)
