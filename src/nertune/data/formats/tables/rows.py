"""Rows of tokens and tags to documents, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from nertune.data.formats.base import Findings, Fitted, ReadOptions, WriteOptions, check_choice
from nertune.data.formats.conll.lines import Sentence
from nertune.data.formats.conll.tags import decode, say_repairs, settle_scheme
from nertune.data.formats.fitting import keep_entities
from nertune.data.formats.tables.tokens import JoinVote, TokenText, in_tokens
from nertune.data.formats.values import Join, Reading, TagRepair, say_counts
from nertune.errors import DataError
from nertune.labels.schemes import SCHEMES, Scheme, TokenSpan, encode_tags
from nertune.types import Document

__all__ = ["Row", "documents_of_rows", "part_io_neighbours", "to_row"]


@dataclass(frozen=True, slots=True)
class Row:
    """A sentence of a table.

    Attributes:
        line: where it stands, counted from 1: the line of a text file, the row of a parquet file.
        tokens: its tokens.
        tags: of each token, by name; none where tags are ignored.
        name: its id.
        meta: the other columns.
    """

    line: int
    tokens: list[str]
    tags: list[str]
    name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Settled:
    """How the rows of a file are read.

    Attributes:
        scheme: the tag scheme.
        join: what joins tokens.
        spelling: tags in another spelling, and what they are read as.
    """

    scheme: Scheme
    join: Join
    spelling: Mapping[str, str]


def documents_of_rows(
    rows: Callable[[], Iterator[Row]], options: ReadOptions, findings: Findings, path: Path
) -> Iterator[Document]:
    """The documents of a table. It is read twice: what tags and tokens mean is decided first.

    Args:
        rows: gives all rows, each time it is called.
        options: what the user asked for.
        findings: gets what was decided and repaired.
        path: the file, for messages.

    Raises:
        DataError: a row cannot be used.
        ConfigError: `scheme` or `join` is unknown.
    """
    settled = _settle(rows(), options, findings, path)
    findings.reading = Reading(settled.scheme, settled.join)
    seen: Counter[str] = Counter()
    for row in rows():
        text = TokenText(row.tokens, settled.join, seen)
        spans: Sequence[TokenSpan] = ()
        if row.tags.count("O") != len(row.tags):
            tags = [settled.spelling.get(tag, tag) for tag in row.tags]
            spans = _decode(row, tags, settled.scheme, findings, path)
            if options.strict and findings.repairs:
                say_repairs(findings.repairs, settled.scheme, path, strict=True)
        yield text.document(spans, row.name, row.meta)
    if findings.repairs:
        told = say_repairs(findings.repairs, settled.scheme, path, strict=False)
        findings.notices.append(told)
    findings.notices += say_counts(seen)


def _settle(rows: Iterable[Row], options: ReadOptions, findings: Findings, path: Path) -> _Settled:
    """How the rows are to be read.

    Which scheme tags are in depends on which tag follows which: rows that show nothing new of that
    are not kept, so that a large file needs no more memory than a small one.
    """
    check_choice("scheme", options.scheme, ("auto", *SCHEMES))
    vote, pairs = JoinVote(), set[tuple[str, str]]()
    kept: list[Sentence] = []
    for row in rows:
        vote.add(row.tokens)
        if len(row.tags) != len(row.tokens) and not options.ignore_tags:
            told = f"{len(row.tokens)} tokens, but {len(row.tags)} tags: expected as many"
            raise DataError(told, path=path, line=row.line)
        new = set(pairwise(("", *row.tags, ""))) - pairs
        if new and row.tags:
            pairs |= new
            kept.append(Sentence((row.line,) * len(row.tags), row.tokens, row.tags))
    spelled, scheme, said = settle_scheme(kept, options.scheme, options.like.scheme, path)
    if not options.ignore_tags:
        findings.notices += said
    spelling = {
        tag: usual
        for before, after in zip(kept, spelled, strict=True)
        for tag, usual in zip(before.tags, after.tags, strict=True)
        if tag != usual
    }
    return _Settled(scheme, vote.settle(options, findings.notices), spelling)


def _decode(
    row: Row, tags: list[str], scheme: Scheme, findings: Findings, path: Path
) -> list[TokenSpan]:
    lines = (row.line,) * len(tags)
    spans, repairs = decode(Sentence(lines, row.tokens, tags), scheme, path)
    findings.repairs += (TagRepair(row.line, r.tag, r.reason) for r in repairs)
    return spans


def to_row(document: Document, options: WriteOptions) -> tuple[list[str], list[str]]:
    """A document's tokens and their tags.

    Raises:
        DataError: tags cannot say what it holds; see `Format.fit`.
    """
    tokens, spans = in_tokens(document, options)
    told = ""
    if any(other.first < one.last for one, other in pairwise(spans)):
        told = "two entities overlap"
    elif options.scheme == "IO" and any(
        one.last == other.first and one.label == other.label for one, other in pairwise(spans)
    ):
        told = "scheme IO cannot keep two entities apart that touch: choose another scheme"
    elif options.scheme == "IO" and any(span.label == "O" for span in spans):
        told = "scheme IO cannot hold the label O"
    if told:
        raise DataError(f"document {document.id or document.text[:40]!r} cannot be written: {told}")
    return tokens, encode_tags(spans, len(tokens), options.scheme)


def part_io_neighbours(fitted: Fitted, options: WriteOptions) -> Fitted:
    """Without the second of two entities that scheme IO would make one, and without the label O."""
    document = fitted.document
    if document is None or options.scheme != "IO":
        return fitted
    document, losses = keep_entities(
        document, lambda e: "scheme IO cannot hold the label O" if e.label == "O" else ""
    )
    _, spans = in_tokens(document, options)
    merged = {
        entity
        for (one, other), entity in zip(pairwise(spans), document.entities[1:], strict=True)
        if one.label == other.label and one.last == other.first
    }
    document, dropped = keep_entities(
        document, lambda e: "scheme IO cannot keep it apart" if e in merged else ""
    )
    return Fitted(document, (*fitted.losses, *losses, *dropped))
