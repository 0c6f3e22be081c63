"""A page to look through a corpus: texts with marked entities, counts, a search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nertune.data.statistics import has_overlap
from nertune.reports.content import Browser, LabelCount, Page, Paragraph, Section, Table
from nertune.types import Document, Entity

__all__ = ["MOST_LEVELS", "corpus_page", "mark_parts"]

MOST_LEVELS = 12
"""So many marks may lie in each other; what is deeper is named below the text."""
_MAX_META = 200  # characters of metadata that are shown of a document
_MAX_MORE = 10  # entities that are named below a text
_GOLDEN_ANGLE = 137.508  # degrees: neighbours in a list of any length get unlike hues


def corpus_page(
    documents: Sequence[Document],
    *,
    name: str,
    page_size: int = 50,
    about: str = "",
    notices: Sequence[str] = (),
) -> Page:
    """A page of documents and counts by label.

    Args:
        documents: any number; each has an entry in the page's script.
        name: of the corpus.
        page_size: documents that are shown at a time.
        about: a sentence on where they come from.
        notices: what was said while reading.
    """
    counts = Counter(entity.label for document in documents for entity in document.entities)
    holders = Counter(label for d in documents for label in {e.label for e in d.entities})
    order = sorted(counts, key=lambda label: (-counts[label], label))
    labels = [
        LabelCount(label, round(place * _GOLDEN_ANGLE) % 360, counts[label], holders[label])
        for place, label in enumerate(order)
    ]
    numbers = {label: place for place, label in enumerate(order)}
    num_without = sum(not document.entities for document in documents)
    browser = Browser(labels, [_show(d, numbers) for d in documents], page_size, num_without)
    summary = (
        f"Documents: {len(documents):,}, without entities: {num_without:,}, with overlapping "
        f"entities: {sum(map(has_overlap, documents)):,}. Entities: {counts.total():,}, labels: "
        f"{len(order):,}. {about}"
    )
    opening = Section("", [Paragraph(summary), *(Paragraph(n, "notice") for n in notices)])
    return Page(name, [opening, *_counts(labels, documents)], browser=browser)


def _counts(labels: Sequence[LabelCount], documents: Sequence[Document]) -> list[Section]:
    """Of each label, how often it stands there and what it most often is."""
    if not labels:
        return []
    surfaces: dict[str, Counter[str]] = {label.label: Counter() for label in labels}
    for document in documents:
        for entity in document.entities:
            surfaces[entity.label][document.surface(entity)] += 1
    rows = [
        [
            label.label,
            f"{label.entities:,}",
            f"{label.documents:,}",
            f"{len(surfaces[label.label]):,}",
            ", ".join(_clip(text, 30) for text, _ in surfaces[label.label].most_common(3)),
        ]
        for label in labels
    ]
    headings = ("label", "entities", "documents", "different texts", "most frequent")
    return [Section("Labels", [Table(headings, [rows], align="lrrrl")])]


def _show(document: Document, numbers: dict[str, int]) -> dict[str, Any]:
    """A document as the page's script takes it; what is empty is left out."""
    parts, deeper = mark_parts(document)
    shown: dict[str, Any] = {
        "id": document.id,
        "parts": parts,
        "entities": [_describe(document, entity, numbers) for entity in document.entities],
    }
    meta = {key: value for key, value in document.meta.items() if key != "id"}
    if meta:
        pairs = (f"{k} = {v if isinstance(v, str) else _dump(v)}" for k, v in meta.items())
        shown["meta"] = _clip(", ".join(pairs), _MAX_META)
    if deeper:
        named = [f"{e.label} {_clip(document.surface(e), 30)}" for e in deeper[:_MAX_MORE]]
        rest = len(deeper) - len(named)
        shown["more"] = ", ".join(named) + (f" and {rest:,} more" if rest else "")
    return shown


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _describe(document: Document, entity: Entity, numbers: dict[str, int]) -> list[Any]:
    """Label, title, and the number of fragments where there are several."""
    score = "" if entity.score is None else f", score {entity.score:.3g}"
    surface = _clip(document.surface(entity), 80)
    title = f"{entity.label} [{entity.start}, {entity.end}){score}: {surface}"
    described: list[Any] = [numbers[entity.label], title]
    return [*described, len(entity.fragments)] if entity.fragments else described


def mark_parts(document: Document) -> tuple[list[str | int], list[Entity]]:
    """A text in parts, with marks that lie in each other as those of HTML have to.

    Of two entities that cross, the later one is cut where the earlier one ends. A fragment of a
    discontinuous entity is a mark of its own.

    Returns:
        Parts of the text, and between them numbers: `3n` opens entity `n`, `3n + 1` closes it,
        `3n + 2` closes a part of it that is not the last; and the entities (or fragments of them)
        that are nested too deep to be marked.
    """
    spans = sorted(
        (
            (start, end, number)
            for number, e in enumerate(document.entities)
            for start, end in e.spans
        ),
        key=lambda span: (span[0], -span[1], span[2]),
    )
    bounds = sorted({place for start, end, _ in spans for place in (start, end)})
    parts: list[str | int] = []
    deeper: list[Entity] = []
    open_: list[tuple[int, int]] = []  # end and entity
    position = upcoming = 0
    for bound in bounds:
        if bound > position:
            parts.append(document.text[position:bound])
            position = bound
        parts += _close(open_, bound, document)
        while upcoming < len(spans) and spans[upcoming][0] == bound:
            _, end, number = spans[upcoming]
            upcoming += 1
            if len(open_) == MOST_LEVELS:
                deeper.append(document.entities[number])
                continue
            parts.append(3 * number)
            open_.append((end, number))
    if position < len(document.text):
        parts.append(document.text[position:])
    return parts, deeper


def _close(open_: list[tuple[int, int]], bound: int, document: Document) -> list[int]:
    """Close the marks that end here; those that lie in them and go on are opened again."""
    marks: list[int] = []
    again = []
    while any(end == bound for end, _ in open_):
        end, number = open_.pop()
        if end == bound:
            marks.append(3 * number + (1 if document.entities[number].end == end else 2))
        else:
            marks.append(3 * number + 2)
            again.append((end, number))
    for end, number in reversed(again):
        open_.append((end, number))
        marks.append(3 * number)
    return marks
