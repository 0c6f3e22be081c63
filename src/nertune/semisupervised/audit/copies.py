"""Copies of a passage that are labelled otherwise: one of them has to be wrong.

A passage is an entity with the characters around it. Equal texts are copies of each other in all
of their passages, since the ends of a text count as characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nertune.tokens.units import choose_unit
from nertune.types import Document, Entity

__all__ = ["Copy", "find_copies"]

_CONTEXT = {"char": 6, "word": 24}  # characters on either side that have to be equal, by unit
_BEFORE, _BEHIND = "\x02", "\x03"  # stand before and behind a text

Reading: TypeAlias = tuple[tuple[int, int, str], ...]
"""The entities of a passage: start and end counted from where it begins, and label."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A passage that the gold of this document reads otherwise than that of another place.

    Attributes:
        index: of the document.
        gold: its entities there; perhaps none.
        suggested: those of the other copies, in this document; perhaps none.
        num_same: places where the passage is labelled as here, this one counted.
        num_other: places where it is labelled as `suggested`.
        other: index of the first document that is labelled so.
    """

    index: int
    gold: tuple[Entity, ...]
    suggested: tuple[Entity, ...]
    num_same: int
    num_other: int
    other: int


def find_copies(documents: Sequence[Document]) -> list[Copy]:
    """Passages that are labelled otherwise than their copies, each once for each way.

    Of several other ways to label a passage the most frequent is taken. Partially labelled
    documents are left out.
    """
    context = _CONTEXT[choose_unit(documents)]
    padded = [_BEFORE * context + d.text + _BEHIND * context for d in documents]
    usable = [i for i, document in enumerate(documents) if document.scope.is_full]
    places = _find_places(documents, padded, usable, context)
    found: dict[tuple[object, ...], Copy] = {}
    for passage, spots in places.items():
        size = len(passage) - 2 * context
        readings = [_reading(documents[i], start, size) for i, start in spots]
        votes = Counter(readings)
        if len(votes) < 2:
            continue
        for (index, start), own in zip(spots, readings, strict=True):
            other = max((r for r in votes if r != own), key=lambda r: (votes[r], r))
            if not _is_there(other, documents, spots[readings.index(other)], (index, start)):
                continue
            copy = Copy(
                index,
                _entities(own, start),
                _entities(other, start),
                votes[own],
                votes[other],
                spots[readings.index(other)][0],
            )
            found.setdefault((index, copy.gold, copy.suggested), copy)
    return list(found.values())


def _find_places(
    documents: Sequence[Document], padded: Sequence[str], usable: Sequence[int], context: int
) -> Mapping[str, list[tuple[int, int]]]:
    """By passage with an entity, where it stands: document and start of the passage's middle."""
    by_anchor: dict[str, set[str]] = {}
    size = 2 * context + 1  # of the shortest passage: how all of them are looked up
    for index in usable:
        for entity in documents[index].entities:
            passage = padded[index][entity.start : entity.end + 2 * context]
            by_anchor.setdefault(passage[:size], set()).add(passage)
    places: dict[str, list[tuple[int, int]]] = {}
    for index in usable:
        text = padded[index]
        for start in range(len(text) - size + 1):
            for passage in by_anchor.get(text[start : start + size], ()):
                if text.startswith(passage, start):
                    places.setdefault(passage, []).append((index, start))
    return {passage: spots for passage, spots in places.items() if len(spots) > 1}


def _reading(document: Document, start: int, size: int) -> Reading:
    return tuple(
        (e.start - start, e.end - start, e.label)
        for e in document.entities
        if e.start < start + size and start < e.end and not e.fragments
    )


def _entities(reading: Reading, start: int) -> tuple[Entity, ...]:
    return tuple(Entity(start + first, start + last, label) for first, last, label in reading)


def _is_there(
    reading: Reading,
    documents: Sequence[Document],
    source: tuple[int, int],
    target: tuple[int, int],
) -> bool:
    """Whether what a reading covers in one document has the same characters in another."""

    def surfaces() -> Iterator[bool]:
        for first, last, _ in reading:
            one, other = (
                documents[i].text[max(0, start + first) : start + last]
                for i, start in (source, target)
            )
            yield start_fits(first) and one == other

    def start_fits(first: int) -> bool:
        return target[1] + first >= 0

    return all(surfaces())
