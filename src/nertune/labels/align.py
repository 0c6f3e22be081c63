"""Entities to units and back: the ONE place that decides which piece carries a tag.

A tag belongs to a unit. With the piece strategy `first` the unit's first piece carries it and
the others are ignored; with `all` the other pieces carry the tag's continuation (`B-X` becomes
`I-X`) while training. Decoding always reads the first piece of each unit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nertune.labels.scheme import TokenSpan, encode_tags
from nertune.types import Document, Entity

__all__ = [
    "IGNORED",
    "Alignment",
    "LostEntity",
    "PieceStrategy",
    "align_entities",
    "continuation_ids",
    "spans_to_entities",
]

IGNORED = -100
"""The tag id of positions that never enter a loss or a CRF."""

PieceStrategy = Literal["first", "all"]


@dataclass(frozen=True, slots=True)
class LostEntity:
    """A gold entity that no sequence of tags over these units can express.

    Attributes:
        document_id: `Document.id`.
        entity: the entity.
        text: its characters.
        reason: why, in words.
    """

    document_id: str
    entity: Entity
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """A document's gold in units.

    Attributes:
        spans: the entities that units can express.
        tags: their BIO2 tags, one per unit.
        lost: the entities that units cannot express; they stay in the Document and are scored
            as missed.
    """

    spans: list[TokenSpan]
    tags: list[str]
    lost: list[LostEntity]


def align_entities(document: Document, units: Sequence[tuple[int, int]]) -> Alignment:
    """Express a document's entities in units.

    Where entities overlap, the longer is kept, then the earlier (a flat tagger cannot say both).

    Args:
        document: a text with entities.
        units: the spans that the model labels, in order (`Encoding.units`).
    """
    starts = [start for start, _ in units]
    ends = [end for _, end in units]
    kept: list[TokenSpan] = []
    lost: list[LostEntity] = []
    taken: dict[int, Entity] = {}
    for entity in sorted(document.entities, key=lambda e: (e.start - e.end, e.start, e.label)):
        first = bisect_left(starts, entity.start)
        last = bisect_left(ends, entity.end)
        begins = first < len(units) and starts[first] == entity.start
        finishes = last < len(units) and ends[last] == entity.end
        if not begins or not finishes:
            reason = _misfit(document, entity, units, begins)
        elif other := next((taken[i] for i in range(first, last + 1) if i in taken), None):
            reason = f"it overlaps {other.label} {document.surface(other)!r}, which was kept"
        else:
            kept.append(TokenSpan(first, last + 1, entity.label))
            taken.update(dict.fromkeys(range(first, last + 1), entity))
            continue
        lost.append(LostEntity(document.id, entity, document.surface(entity), reason))
    kept.sort()
    lost.sort(key=lambda item: item.entity.key)
    return Alignment(kept, encode_tags(kept, len(units)), lost)


def _misfit(
    document: Document, entity: Entity, units: Sequence[tuple[int, int]], begins: bool
) -> str:
    """Why an entity's boundary is not a unit's."""
    edge = entity.end if begins else entity.start
    side = "ends" if begins else "begins"
    found = bisect_left(units, (edge,)) - 1  # the last unit that begins before it
    if found >= 0 and units[found][0] < edge < units[found][1]:
        start, end = units[found]
        return f"it {side} inside the unit {document.text[start:end]!r}"
    character = document.text[edge - 1 if begins else edge]
    return f"it {side} with U+{ord(character):04X}, which the tokenizer drops"


def spans_to_entities(
    spans: Iterable[TokenSpan],
    units: Sequence[tuple[int, int]],
    scores: Iterable[float] | None = None,
) -> list[Entity]:
    """Entities in characters from spans in units; the inverse of `align_entities`."""
    spans = list(spans)
    values: Iterable[float | None] = [None] * len(spans) if scores is None else scores
    return [
        Entity(units[span.first][0], units[span.last - 1][1], span.label, score)
        for span, score in zip(spans, values, strict=True)
    ]


def continuation_ids(tags: Sequence[str]) -> list[int]:
    """For each tag the id that a unit's later pieces carry under the `all` strategy.

    `B-X` is continued by `I-X`; every other tag by itself.
    """
    ids = {tag: i for i, tag in enumerate(tags)}
    return [ids.get("I-" + tag[2:], i) if tag.startswith("B-") else i for i, tag in enumerate(tags)]
