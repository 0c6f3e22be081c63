"""Rows of tokens and tags to documents, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from nertune.data.formats.base import Findings, Fitted, ReadOptions, WriteOptions, check_choice
from nertune.data.formats.conll.joining import JoinVote
from nertune.data.formats.conll.lines import Sentence
from nertune.data.formats.conll.tags import (
    Settled,
    TagFacts,
    decode,
    say_repairs,
    settle_scheme,
)
from nertune.data.formats.fitting import keep_entities
from nertune.data.formats.tables.tokens import TokenText, in_tokens
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
        tags: their scheme and spelling.
        join: what joins tokens.
    """

    tags: Settled
    join: Join


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
    settled = _settle(rows, options, findings, path)
    scheme, spelling = settled.tags.scheme, settled.tags.spelling
    findings.reading = Reading(scheme, settled.join)
    seen: Counter[str] = Counter()
    for row in rows():
        text = TokenText(row.tokens, settled.join, seen)
        spans: Sequence[TokenSpan] = ()
        if row.tags.count("O") != len(row.tags):
            tags = [spelling.get(tag, tag) for tag in row.tags]
            spans = _decode(row, tags, scheme, findings, path)
            if options.strict and findings.repairs:
                say_repairs(findings.repairs, scheme, path, strict=True)
        yield text.document(spans, row.name, row.meta)
    if findings.repairs:
        told = say_repairs(findings.repairs, scheme, path, strict=False)
        findings.notices.append(told)
    findings.notices += say_counts(seen)


def _settle(
    rows: Callable[[], Iterator[Row]], options: ReadOptions, findings: Findings, path: Path
) -> _Settled:
    """How the rows are to be read."""
    check_choice("scheme", options.scheme, ("auto", *SCHEMES))
    vote, facts = JoinVote(options.join), TagFacts()
    for row in rows():
        vote.add(row.tokens)
        if len(row.tags) != len(row.tokens) and not options.ignore_tags:
            told = f"{len(row.tokens)} tokens, but {len(row.tags)} tags: expected as many"
            raise DataError(told, path=path, line=row.line)
        facts.add(row.tags)
    settled = settle_scheme(_Rows(rows), facts, path, options.scheme, options.like.scheme)
    if not options.ignore_tags:
        findings.notices += settled.notices
    return _Settled(settled, vote.settle(findings.notices))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows as sentences."""

    rows: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Sentence]:
        for row in self.rows():
            yield Sentence((row.line,) * len(row.tags), row.tokens, row.tags)


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
