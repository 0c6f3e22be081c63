"""What kinds of errors there are, and whether names are recognised that training never showed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from nertune.types import Document, Entity

__all__ = ["ERROR_KINDS", "NOVELTIES", "Analysis", "ErrorKind", "Novelty", "analyse", "known_names"]

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
    """

    kinds: Mapping[ErrorKind, int]
    gold: Mapping[Novelty, int]
    found: Mapping[Novelty, int]

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
    is spurious if it shares none with any gold entity.

    Args:
        gold, predicted: the same documents in the same order.
        names: of the training data (`known_names`).
    """
    kinds: Counter[ErrorKind] = Counter()
    totals: Counter[Novelty] = Counter()
    found: Counter[Novelty] = Counter()
    for reference, answer in zip(gold, predicted, strict=True):
        answers, references = _Touching(answer.entities), _Touching(reference.entities)
        for entity in reference.entities:
            kind = _kind(entity, answers.of(entity))
            novelty = _novelty(reference.surface(entity), entity.label, names)
            kinds[kind] += 1
            totals[novelty] += 1
            found[novelty] += kind == "correct"
        kinds["spurious"] += sum(not references.of(entity) for entity in answer.entities)
    return Analysis(
        {kind: kinds[kind] for kind in ERROR_KINDS},
        {novelty: totals[novelty] for novelty in NOVELTIES},
        {novelty: found[novelty] for novelty in NOVELTIES},
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
    if any((other.start, other.end) == (entity.start, entity.end) for other in touching):
        return "type"
    if any(other.label == entity.label for other in touching):
        return "boundary"
    return "both" if touching else "missed"


def _novelty(surface: str, label: str, names: Mapping[str, set[str]]) -> Novelty:
    labels = names.get(surface)
    if not labels:
        return "unseen"
    return "seen" if label in labels else "other type"
