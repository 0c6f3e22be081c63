"""What kinds of errors there are, and whether names are recognised that training never showed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, get_args

from nertune.evaluation.metrics import judged_entities
from nertune.types import Document, Entity

__all__ = [
    "ERROR_KINDS",
    "NOTHING",
    "NOVELTIES",
    "Analysis",
    "ErrorKind",
    "Novelty",
    "analyse",
    "known_names",
]

NOTHING = ""
"""In the place of a type, in `Analysis.confusions`: of a gold entity that no prediction meets, and
of a prediction that meets no gold entity."""

ErrorKind = Literal["correct", "boundary", "type", "both", "missed", "spurious"]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
"""Of a gold entity: found; with another boundary; with another type; with both; not at all. Of a
predicted one: where there is none."""

Novelty = Literal["seen", "other type", "unseen"]
NOVELTIES: tuple[Novelty, ...] = get_args(Novelty)
"""Whether a gold entity's surface form stands in the training data with its type, with other types
only, or not at all (Augenstein et al., 2017)."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Counts over a scored corpus.

    Attributes:
        kinds: entities of each error kind.
        gold: gold entities by novelty.
        found: those of them that were found exactly.
        confusions: entities by (gold type, predicted type), either of which may be `NOTHING`. The
            gold entities of a type add up to its support.
    """

    kinds: Mapping[ErrorKind, int]
    gold: Mapping[Novelty, int]
    found: Mapping[Novelty, int]
    confusions: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def recall(self, novelty: Novelty) -> float | None:
        """Share of a novelty's gold entities that were found, in [0, 1]; `None` without any."""
        return self.found[novelty] / self.gold[novelty] if self.gold[novelty] else None


def known_names(documents: Iterable[Document]) -> dict[str, set[str]]:
    """The types with which each surface form stands in a corpus."""
    names: dict[str, set[str]] = {}
    for document in documents:
        for entity in document.entities:
            names.setdefault(document.surface(entity), set()).add(entity.label)
    return names


def analyse(
    gold: Sequence[Document], predicted: Sequence[Document], names: Mapping[str, set[str]]
) -> Analysis:
    """Count error kinds and novelties.

    A gold entity is judged by the best prediction that shares a character with it; a predicted one
    is spurious if it shares none with any gold entity. The best one has the gold's start and end,
    or else its type, or else the longest shared part.

    Args:
        gold, predicted: the same documents in the same order.
        names: of the training data (`known_names`).
    """
    kinds: Counter[ErrorKind] = Counter()
    totals: Counter[Novelty] = Counter()
    found: Counter[Novelty] = Counter()
    confusions: Counter[tuple[str, str]] = Counter()
    for reference, answer in zip(gold, predicted, strict=True):
        judged = judged_entities(reference, answer)
        answers, references = _Touching(judged), _Touching(reference.entities)
        for entity in reference.entities:
            touching = answers.of(entity)
            kind = _kind(entity, touching)
            confusions[entity.label, _best_label(entity, touching)] += 1
            novelty = _novelty(reference.surface(entity), entity.label, names)
            kinds[kind] += 1
            totals[novelty] += 1
            found[novelty] += kind == "correct"
        spurious = [entity for entity in judged if not references.of(entity)]
        kinds["spurious"] += len(spurious)
        confusions.update((NOTHING, entity.label) for entity in spurious)
    return Analysis(
        {kind: kinds[kind] for kind in ERROR_KINDS},
        {novelty: totals[novelty] for novelty in NOVELTIES},
        {novelty: found[novelty] for novelty in NOVELTIES},
        dict(confusions),
    )


class _Touching:
    """A document's entities, asked for those that share a character with one."""

    def __init__(self, entities: Iterable[Entity]):
        self._entities = sorted(entities, key=lambda entity: entity.start)
        self._starts = [entity.start for entity in self._entities]
        self._reach = list(accumulate((entity.end for entity in self._entities), max))

    def of(self, one: Entity) -> list[Entity]:
        first, last = bisect_right(self._reach, one.start), bisect_left(self._starts, one.end)
        return [other for other in self._entities[first:last] if other.end > one.start]


def _kind(entity: Entity, touching: Sequence[Entity]) -> ErrorKind:
    if any(other.key == entity.key for other in touching):
        return "correct"
    if any(other.spans == entity.spans for other in touching):
        return "type"
    if any(other.label == entity.label for other in touching):
        return "boundary"
    return "both" if touching else "missed"


def _best_label(entity: Entity, touching: Sequence[Entity]) -> str:
    """The type of the prediction that a gold entity is judged by, in agreement with `_kind`."""

    def merit(other: Entity) -> tuple[bool, bool, bool, int]:
        same_span = (other.start, other.end) == (entity.start, entity.end)
        same_label = other.label == entity.label
        shared = min(other.end, entity.end) - max(other.start, entity.start)
        return same_span and same_label, same_span, same_label, shared

    return max(touching, key=merit).label if touching else NOTHING


def _novelty(surface: str, label: str, names: Mapping[str, set[str]]) -> Novelty:
    labels = names.get(surface)
    if not labels:
        return "unseen"
    return "seen" if label in labels else "other type"
