"""PubTator: a title and an abstract, then an annotation a line; a blank line between documents.

    7|t|王明在京
    7|a|他很好。
    7<TAB>0<TAB>2<TAB>王明<TAB>PER<TAB>-

The text is the title, a line end and the abstract, so that an abstract's offsets begin one behind
the title's length. An empty abstract is none. Offsets are half-open and count code points;
documents of tools that count UTF-16 units are known by the mentions. The format has no
discontinuous entities. Relations, identifiers and the parts of composite mentions are skipped and
counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.data.formats.offsets import MisplacedSpan, Offsets, Span, place
from nertune.data.formats.values import Loss, Reading, say_counts
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["PubTator"]

_ID = r"[^|\t\r\n]+"
_TEXT = re.compile(rf"({_ID})\|([ta])\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,18}")
_BLANK = re.compile(r"[\t\r\n]")  # written as a space in a mention
_NO_IDENTIFIER = ("", "-", "-1", "None")
_EXPECTED = "ID, start, end, mention and type, with TABs between"


@dataclass(slots=True)
class _Draft:
    """A document as far as it has been read; spans stand with their lines."""

    id: str
    title: str
    abstract: str | None = None
    spans: list[tuple[int, Span]] = field(default_factory=list)
    has_more: bool = False


class PubTator(Format):
    """Titles and abstracts with entities."""

    name = "pubtator"
    title = "PubTator"
    suffixes = (".pubtator", ".pubtator.txt")
    holds = Holds(overlap=True, ids=True, text="title")

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it begins with the title of a document and goes on with that document."""
        first = _TEXT.fullmatch(seen.first)
        if first is None or first[2] != "t":
            return None
        if any(not line.startswith((f"{first[1]}|", f"{first[1]}\t")) for line in seen.lines[1:2]):
            return None
        return f"it begins with the title of a document, {shorten(first[1])}|t|"

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents, each as soon as it is read."""
        seen: Counter[str] = Counter()
        findings.reading = Reading(
            offsets="codepoint" if options.offsets == "auto" else options.offsets
        )
        for draft in _drafts(source, seen, ignore_tags=options.ignore_tags):
            yield _document(draft, source.path, options, seen)
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A block each; documents without an id are numbered."""
        for number, document in enumerate(documents, 1):
            name = document.meta.get("id", number)
            title, _, abstract = document.text.partition("\n")
            # A reader takes one leading U+FEFF for a byte order mark.
            mark = "\ufeff" if number == 1 and str(name).startswith("\ufeff") else ""
            lines = [f"{mark}{name}|t|{title}", f"{name}|a|{abstract}"]
            lines += (
                f"{name}\t{e.start}\t{e.end}\t{_flat(document.surface(e))}\t{e.label}\t-"
                for e in document.entities
            )
            target.write("\n".join(lines) + "\n\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """In two lines at most: other line ends become spaces, so that offsets stay."""
        if "\0" in document.text:
            return lose(document, "its text holds a NUL")
        losses: list[Loss] = []
        if (text := _two_lines(document.text)) != document.text:
            told = "its line ends but the first, which become spaces"
            losses.append(Loss(document.id, "text", told))
            document = replace(document, text=text)
        given = document.meta.get("id")
        if given is not None and not _is_id(given):
            told = f"its id {shorten(str(given))} cannot stand in this format"
            losses.append(Loss(document.id, "id", told))
            meta = {key: value for key, value in document.meta.items() if key != "id"}
            document = replace(document, meta=meta)
        document, dropped = keep_entities(document, _refuse_label)
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *dropped, *fitted.losses))


def _is_id(value: Any) -> bool:
    is_plain = isinstance(value, str) or type(value) is int
    return is_plain and re.fullmatch(_ID, str(value)) is not None and "\0" not in str(value)


def _two_lines(text: str) -> str:
    """A text of a title and an abstract, which is not empty; as long as before."""
    title, end, abstract = text.partition("\n")
    title, abstract = title.replace("\r", " "), re.sub("[\r\n]", " ", abstract)
    return title + (end if abstract else " " * len(end)) + abstract


def _refuse_label(entity: Entity) -> str:
    if re.search("[\t\n\r\0]", entity.label):
        return "its label holds a TAB, a line end or a NUL"
    return ""


def _flat(surface: str) -> str:
    return _BLANK.sub(" ", surface)


def _drafts(source: Source, seen: Counter[str], *, ignore_tags: bool) -> Iterator[_Draft]:
    path = source.path
    draft: _Draft | None = None
    for number, line in source.text_lines():
        text = _TEXT.fullmatch(line)
        if text is not None and text[2] == "t":
            if draft is not None:
                yield draft
            draft = _Draft(text[1], text[3])
        elif not line.strip():
            if draft is not None:
                yield draft
            draft = None
        elif draft is None:
            told = f"expected the title of a document, ID|t|TITLE, got {shorten(line)}"
            raise DataError(told, path=path, line=number)
        elif text is not None:
            if text[1] != draft.id or draft.abstract is not None or draft.has_more:
                told = f"expected one abstract of {shorten(draft.id)}, got {shorten(line)}"
                raise DataError(f"{told}, behind its title", path=path, line=number)
            draft.abstract = text[3]
        else:
            draft.has_more = True
            if not ignore_tags and (span := _span(line, draft.id, path, number, seen)) is not None:
                draft.spans.append((number, span))
    if draft is not None:
        yield draft


def _span(line: str, id: str, path: Path, number: int, seen: Counter[str]) -> Span | None:
    """The entity of a line; `None` for a relation."""
    fields = line.split("\t")
    if fields[0] != id or len(fields) < 4:
        told = f"expected {_EXPECTED}, of document {shorten(id)}, got {shorten(line)}"
        raise DataError(told, path=path, line=number)
    if not _NUMBER.fullmatch(fields[1]):
        if re.match("[-+0-9]", fields[1]):
            told = f"offset {shorten(fields[1])} is no count of characters: expected {_EXPECTED}"
            raise DataError(told, path=path, line=number)
        seen["relations, which are not read"] += 1
        return None
    if len(fields) < 5 or not _NUMBER.fullmatch(fields[2]) or not fields[4]:
        told = f"expected {_EXPECTED}, got {shorten(line)}"
        raise DataError(told, path=path, line=number)
    start, end, surface, label = int(fields[1]), int(fields[2]), fields[3], fields[4]
    if start >= end:
        told = f"the span [{start}, {end}] is empty or negative (the end is excluded)"
        raise DataError(told, path=path, line=number)
    seen["identifiers of entities, which are not read"] += any(
        field not in _NO_IDENTIFIER for field in fields[5:6]
    )
    seen["composite mentions, whose parts are not read"] += any(fields[6:])
    shown = f"{label} [{start}, {end}]"
    return Span(start, end, label, None, _flat(surface), shown)


def _document(draft: _Draft, path: Path, options: ReadOptions, seen: Counter[str]) -> Document:
    text = f"{draft.title}\n{draft.abstract}" if draft.abstract else draft.title
    entities, unit = _place(draft.spans, text, path, options)
    if unit == "utf16" and options.offsets == "auto":
        seen["documents whose offsets count UTF-16 units, since only so the mentions fit"] += 1
    unique = {entity.key: entity for entity in entities}
    seen["identical entities dropped"] += len(entities) - len(unique)
    for what in [what for what, count in seen.items() if not count]:
        del seen[what]
    return Document(text, tuple(unique.values()), draft.id, meta={"id": draft.id})


def _place(
    spans: list[tuple[int, Span]], text: str, path: Path, options: ReadOptions
) -> tuple[list[Entity], Offsets]:
    """The entities, and what offsets count."""
    flat = _flat(text)
    units: tuple[Offsets, ...] = (options.offsets,)
    if options.offsets == "auto":
        units = ("codepoint",) if text.isascii() else ("codepoint", "utf16")
    first: DataError | None = None
    for unit in units:
        entities = []
        for line, span in spans:
            try:
                entities.append(place(span, flat, unit))
            except MisplacedSpan as error:
                first = first or DataError(str(error), path=path, line=line)
                break
        else:
            return entities, unit
    assert first is not None
    raise first
