"""A corpus: the documents of one file, and all that was decided while reading them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from nertune.data.formats import conll, jsonl
from nertune.data.formats.conll import ConllStyle, Join, Misfit, SchemeChoice, Spans, TagRepair
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.recognition import kind_of_content, kind_of_name
from nertune.data.statistics import content_hash
from nertune.errors import ConfigError, DataError
from nertune.labels.schemes import Scheme
from nertune.storage.files import open_for_writing, read_text
from nertune.types import Document

__all__ = [
    "Corpus",
    "ReadFormat",
    "Reading",
    "WriteFormat",
    "load_alike",
    "load_corpus",
    "save_corpus",
    "save_documents",
    "write_documents",
]

ReadFormat = Literal["auto", "conll", "jsonl"]
WriteFormat = Literal["conll", "jsonl", "predictions"]

_HEAD = 1 << 16  # characters that decide the format


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file was read, so that another one is read alike; `auto` where it does not say.

    Attributes:
        scheme: the tag scheme of a two-column file.
        join: what joins its tokens.
        offsets: what the offsets of a JSONL file count.
    """

    scheme: SchemeChoice = "auto"
    join: Join = "auto"
    offsets: Offsets = "auto"

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Reading:
        """What a run's record says of a data file; older ones do not say all of it."""
        known = {"scheme": get_args(Scheme), "join": get_args(Join), "offsets": get_args(Offsets)}
        return cls(**{k: values[k] for k, choices in known.items() if values.get(k) in choices})


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of one file.

    Attributes:
        path: the file.
        documents: its documents, in order; at least one.
        format: `conll` or `jsonl`.
        style: the layout of a two-column file; `None` for JSONL.
        join: what joins the tokens of a text: nothing or a space.
        repairs: tags that broke the scheme and were mended.
        notices: what was recognised, skipped, dropped or mended, for the user to read.
        sha256: hash over texts and entities, see `content_hash`.
        offsets: what the offsets of JSONL count; `auto` where nothing in the file decides.
    """

    path: Path
    documents: tuple[Document, ...]
    format: Literal["conll", "jsonl"]
    style: ConllStyle | None
    join: str
    repairs: tuple[TagRepair, ...]
    notices: tuple[str, ...]
    sha256: str
    offsets: Offsets = "auto"

    @classmethod
    def from_documents(cls, documents: Iterable[Document], *, name: str = "<documents>") -> Corpus:
        """A corpus of documents in memory; `name` stands for the file in messages and records.

        Raises:
            DataError: there are none.
        """
        held = tuple(documents)
        if not held:
            raise DataError("no documents were given; expected at least one", path=Path(name))
        return cls(Path(name), held, "jsonl", None, "", (), (), content_hash(held), "codepoint")

    @property
    def reading(self) -> Reading:
        """How the file was read."""
        return Reading(self.scheme or "auto", self.joined, self.offsets)

    @property
    def scheme(self) -> Scheme | None:
        """The tag scheme of a two-column file."""
        return None if self.style is None else self.style.scheme

    @property
    def joined(self) -> Join:
        """How the tokens were joined, as `load_corpus` takes it; `auto` for JSONL."""
        if self.format == "jsonl":
            return "auto"
        return "space" if self.join else "none"

    @property
    def num_entities(self) -> int:
        return sum(len(document.entities) for document in self.documents)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
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
        documents = tuple(self.documents[i] for i in chosen)
        return replace(self, documents=documents, sha256=content_hash(documents))


def load_corpus(
    path: str | Path,
    *,
    format: ReadFormat = "auto",
    scheme: SchemeChoice = "auto",
    join: Join = "auto",
    offsets: Offsets = "auto",
    strict: bool = False,
    ignore_tags: bool = False,
) -> Corpus:
    """Read a file of documents: two-column CoNLL or JSONL spans, packed with gzip or not.

    Args:
        path: the file; `.gz` is unpacked.
        format: `auto` goes by the name (`.jsonl`), then by the first line.
        scheme: the tag scheme of a two-column file; `auto` recognises it.
        join: what joins tokens to a text: `none`, a `space`, or `auto`.
        offsets: what the offsets of JSONL count: `codepoint`, `utf16`, `byte`, or `auto`.
        strict: refuse tags that break their scheme instead of mending them.
        ignore_tags: the texts alone (of a two-column file, the tokens), whatever they are labelled.

    Raises:
        DataError: the file or a line of it cannot be used; the message names both.
        ConfigError: `format`, `scheme`, `join` or `offsets` is unknown.

    Example:
        >>> corpus = load_corpus("train.conll")     # doctest: +SKIP
        >>> print(*corpus.notices, sep="\\n")       # doctest: +SKIP
    """
    asked = Reading(scheme, join, offsets)
    return _load(Path(path), format, asked, Reading(), strict=strict, ignore_tags=ignore_tags)


def load_alike(
    path: str | Path,
    like: Reading,
    *,
    format: ReadFormat = "auto",
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
    asked = Reading(scheme, like.join if join == "auto" else join, offsets)
    return _load(Path(path), format, asked, like, strict=strict, ignore_tags=False)


def _load(
    path: Path,
    format: ReadFormat,
    asked: Reading,
    like: Reading,
    *,
    strict: bool,
    ignore_tags: bool,
) -> Corpus:
    for name, value, known in (
        ("format", format, get_args(ReadFormat)),
        ("offsets", asked.offsets, get_args(Offsets)),
    ):
        if value not in known:
            choices = ", ".join(known[:-1])
            raise ConfigError(f"{name}={value!r} is unknown, expected {choices} or {known[-1]}")
    text = read_text(path)
    if format == "jsonl" or (format == "auto" and _is_json(path, text)):
        file = jsonl.read(text, path, offsets=asked.offsets, prefer=like.offsets,
                          ignore_tags=ignore_tags)  # fmt: skip
        sha256 = content_hash(file.documents)
        return Corpus(path, file.documents, "jsonl", None, "", (), file.notices, sha256,
                      file.offsets)  # fmt: skip
    table = conll.read(text, path, scheme=asked.scheme, join=asked.join, strict=strict,
                       ignore_tags=ignore_tags, prefer=like.scheme)  # fmt: skip
    return Corpus(
        path=path,
        documents=table.documents,
        format="conll",
        style=table.style,
        join=table.join,
        repairs=table.repairs,
        notices=table.notices,
        sha256=content_hash(table.documents),
    )


def _is_json(path: Path, text: str) -> bool:
    head = text[:_HEAD]
    return "jsonl" in (kind_of_name(path), kind_of_content(head, is_whole=len(text) <= _HEAD))


def write_documents(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    format: WriteFormat,
    scheme: Scheme = "BIO",
    separator: Literal[" ", "\t"] = "\t",
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write documents to a stream.

    Args:
        stream: where to; opened so that it does not translate line ends.
        documents: what to write.
        format: `conll`, `jsonl` (entities as `[start, end, label]`), or `predictions` (JSONL with
            entities as objects, with text and score).
        scheme: the tag scheme (`conll` only, as all that follows).
        separator: what stands between token and tag.
        misfit: an entity that begins or ends inside a token is an `error`, or made to `widen`.
        tokenize: gives the token spans of a text, for documents that have none of their own.

    Raises:
        DataError: the format cannot hold a document.
        ConfigError: `format` is unknown.
    """
    if format == "conll":
        style = ConllStyle(scheme=scheme, separator=separator)
        conll.write(stream, documents, style=style, misfit=misfit, tokenize=tokenize)
    elif format in get_args(WriteFormat):
        jsonl.write(stream, documents, predictions=format == "predictions")
    else:
        raise ConfigError(f"format={format!r} is unknown, expected conll, jsonl or predictions")


def save_documents(
    path: str | Path,
    documents: Iterable[Document],
    *,
    format: WriteFormat | None = None,
    scheme: Scheme = "BIO",
    separator: Literal[" ", "\t"] = "\t",
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write documents to a file, which appears (or replaces an older one) only when complete.

    Args:
        path: the file; `.gz` is packed.
        documents, scheme, separator, misfit, tokenize: as for `write_documents`.
        format: `None` goes by the name: `jsonl` for `.jsonl`, else `conll`.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
    """
    path = Path(path)
    with open_for_writing(path) as stream:
        write_documents(
            stream,
            documents,
            format=format or _written_format(path),
            scheme=scheme,
            separator=separator,
            misfit=misfit,
            tokenize=tokenize,
        )


def save_corpus(path: str | Path, corpus: Corpus) -> None:
    """Write a corpus as it was laid out when read, or as JSONL where `path` says so.

    A two-column file comes back byte for byte, but for mended tags, `-DOCSTART-` lines, and
    surplus blank lines.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
    """
    path = Path(path)
    with open_for_writing(path) as stream:
        if _written_format(path) == "jsonl":
            jsonl.write(stream, corpus.documents)
        else:
            conll.write(stream, corpus.documents, style=corpus.style)


def _written_format(path: Path) -> WriteFormat:
    return "jsonl" if kind_of_name(path) == "jsonl" else "conll"
