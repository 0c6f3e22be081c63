"""Entities to units and back: the one place that decides which token carries a tag.

A tag belongs to a unit. With the strategy `first` the unit's first token carries it and the others
are ignored; with `all` the other tokens carry the tag's continuation (`B-X` becomes `I-X`) while
training. Decoding always reads the first token of each unit.

Gold that tags cannot say is no reason to teach the opposite: an entity is trained on without the
white space at its ends, and the units of one that cannot be said at all have no tag.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from nertune.labels.schemes import TokenSpan, encode_tags
from nertune.types import Document, Entity, Scope

__all__ = [
    "IGNORED",
    "UNKNOWN",
    "Alignment",
    "LostEntity",
    "Unmarked",
    "align_entities",
    "continuation_ids",
    "spans_to_entities",
]

IGNORED = -100
"""The tag id of positions that hold no unit (padding): they never enter a loss or a CRF."""
UNKNOWN = -101
"""The tag id of a unit whose tag the gold does not say: no loss, and a CRF sums over its tags."""


@dataclass(frozen=True, slots=True)
class LostEntity:
    """A gold entity that no sequence of tags over these units can express as it is.

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


class Unmarked(NamedTuple):
    """What the gold says of a unit that no entity covers where it does not say `O`.

    Attributes:
        absent: the labels of which there is no entity; `None` where nothing is known.
        begins: whether an entity that it is in must begin with it: an entity ends right before it,
            or nothing is there, or the document begins.
    """

    absent: tuple[str, ...] | None
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Alignment:
    """A document's gold in units.

    Attributes:
        spans: the entities that units can express, those of `trimmed` without their ends.
        tags: their BIO2 tags, one per unit; `None` where the gold does not say one: in the units of
            lost entities that no kept one covers, and where the document's scope leaves it open.
        lost: the entities that units cannot express; they stay in the Document and are scored
            as missed.
        trimmed: the entities that are trained on without the white space, or the characters that
            the tokenizer drops, at their ends; they, too, stay in the Document as they are.
        unmarked: by unit what is known of those that the scope leaves open; empty where the scope
            is full.
    """

    spans: list[TokenSpan]
    tags: list[str | None]
    lost: list[LostEntity]
    trimmed: list[LostEntity]
    unmarked: Mapping[int, Unmarked] = field(default_factory=dict)


def align_entities(
    document: Document,
    units: Sequence[tuple[int, int]],
    labels: Collection[str] | None = None,
) -> Alignment:
    """Express a document's entities in units.

    Where entities overlap, the longer is kept, then the earlier (a flat tagger cannot say both).

    Args:
        document: a text with entities.
        units: the spans that the model labels, in order (`Encoding.units`).
        labels: all that the model knows, if that is known: a unit outside of all entities is `O`
            where the document's scope has all of them.
    """
    cut = _Cut(document, units)
    kept: list[TokenSpan] = []
    lost: list[LostEntity] = []
    trimmed: list[LostEntity] = []
    taken: dict[int, Entity] = {}
    unknown: set[int] = set()
    found = [(entity, *cut.trim(entity)) for entity in document.entities]
    for entity, first, last in sorted(found, key=cut.priority):
        reason = cut.misfit(entity, first, last)
        if not reason and (
            other := next((taken[i] for i in range(first, last) if i in taken), None)
        ):
            reason = f"it overlaps {other.label} {document.surface(other)!r}, which was kept"
        if reason:
            unknown.update(range(*cut.touched(entity)))
            lost.append(LostEntity(document.id, entity, document.surface(entity), reason))
            continue
        kept.append(TokenSpan(first, last, entity.label))
        taken.update(dict.fromkeys(range(first, last), entity))
        if reason := cut.trimming(entity, first, last):
            trimmed.append(LostEntity(document.id, entity, document.surface(entity), reason))
    kept.sort()
    for items in (lost, trimmed):
        items.sort(key=lambda item: item.entity.key)
    tags: list[str | None] = [*encode_tags(kept, len(units))]
    unknown -= taken.keys()
    absent = {
        i: labels
        for i, labels in cut.find_absent(document.scope, labels)
        if i not in taken and i not in unknown
    }
    for i in unknown | absent.keys():
        tags[i] = None
    unmarked = {
        i: Unmarked(labels, begins=i - 1 not in absent and i - 1 not in unknown)
        for i, labels in absent.items()
    }
    return Alignment(kept, tags, lost, trimmed, unmarked)


class _Cut:
    """A document's text as units cut it."""

    def __init__(self, document: Document, units: Sequence[tuple[int, int]]):
        self._text = document.text
        self._units = units
        self._starts = [start for start, _ in units]
        self._ends = [end for _, end in units]

    def touched(self, entity: Entity) -> tuple[int, int]:
        """The units that share a character with an entity: a half-open range of their indices."""
        return self._within(entity.start, entity.end)

    def _within(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._ends, start)
        return first, max(first, bisect_left(self._starts, end))

    def find_absent(
        self, scope: Scope, labels: Collection[str] | None
    ) -> Iterator[tuple[int, tuple[str, ...] | None]]:
        """Units that a scope leaves open, with the labels of which nothing is there."""
        open_units: set[int] = set()
        for span in scope.unknown:
            open_units.update(range(*self._within(*span)))
        whole = replace(scope, unknown=())
        if whole.is_full or (labels is not None and whole.is_full_for(labels)):
            yield from ((i, None) for i in sorted(open_units))
            return
        absent = scope.labels if scope.complete else None
        for i in range(len(self._units)):
            yield i, None if i in open_units else absent

    def trim(self, entity: Entity) -> tuple[int, int]:
        """The same without white space at the ends; empty if nothing else is left."""
        first, last = self.touched(entity)
        while first < last and self._is_blank(first):
            first += 1
        while first < last and self._is_blank(last - 1):
            last -= 1
        return first, last

    def _is_blank(self, unit: int) -> bool:
        return self._surface(unit).isspace()

    def priority(self, found: tuple[Entity, int, int]) -> tuple[int, int, str, int]:
        """What comes first is kept; the length is that without trimmed ends."""
        entity, first, last = found
        if first == last:
            return entity.start - entity.end, entity.start, entity.label, entity.end
        start = max(entity.start, self._starts[first])
        end = min(entity.end, self._ends[last - 1])
        return start - end, start, entity.label, entity.end

    def misfit(self, entity: Entity, first: int, last: int) -> str:
        """Why no units begin and end with the entity; empty if some do."""
        if entity.fragments:
            return f"it is discontinuous: {len(entity.fragments)} fragments"
        if first == last:
            return "it holds nothing but white space and what the tokenizer drops"
        if self._starts[first] < entity.start:
            return f"it begins inside the unit {self._surface(first)!r}"
        if self._ends[last - 1] > entity.end:
            return f"it ends inside the unit {self._surface(last - 1)!r}"
        return ""

    def _surface(self, unit: int) -> str:
        return self._text[self._starts[unit] : self._ends[unit]]

    def trimming(self, entity: Entity, first: int, last: int) -> str:
        """What was cut off the entity's ends; empty if nothing was."""
        if self._starts[first] != entity.start:
            return self._cut_off("begins", self._text[entity.start])
        if self._ends[last - 1] != entity.end:
            return self._cut_off("ends", self._text[entity.end - 1])
        return ""

    def _cut_off(self, side: str, character: str) -> str:
        code = f"U+{ord(character):04X}"
        if character.isspace():
            return f"it {side} in white space ({code})"
        return f"it {side} with {code}, which the tokenizer drops"


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
    """For each tag the id that a unit's later tokens carry under the `all` strategy.

    `B-X` is continued by `I-X`; every other tag by itself.
    """
    ids = {tag: i for i, tag in enumerate(tags)}
    return [ids.get("I-" + tag[2:], i) if tag.startswith("B-") else i for i, tag in enumerate(tags)]
