"""Why a place is suspicious, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from nertune.semisupervised.audit.suspicions import Suspicion
from nertune.types import Document, Entity

__all__ = ["Surfaces", "explain"]

_LEAST = 2  # places that make a habit


class Surfaces:
    """How often each string of a corpus stands there as which label, and how often unlabelled.

    Args:
        documents: with gold.
    """

    def __init__(self, documents: Sequence[Document]):
        self._labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for document in documents:
            for entity in document.entities:
                self._labels[document.surface(entity)][entity.label] += 1

    def labels(self, surface: str, *, without: Sequence[str] = ()) -> Counter[str]:
        """The number of places by label, without those of `without`."""
        found = Counter(self._labels.get(surface, ()))
        found.subtract(without)
        return +found


def explain(suspicion: Suspicion, document: Document, surfaces: Surfaces) -> Suspicion:
    """The same suspicion with its reason."""
    return replace(suspicion, reason=" ".join(_sentences(suspicion, document, surfaces)))


def _sentences(suspicion: Suspicion, document: Document, surfaces: Surfaces) -> list[str]:
    gold, suggested = suspicion.gold, suspicion.suggested
    own, other = (_name(entities, document) or "no entity there" for entities in (gold, suggested))
    chance, against = suspicion.suggested_probability, suspicion.gold_probability
    found = []
    if suspicion.other:
        told = f"labelled as {other}" if suggested else "not labelled"
        found.append(f"The same passage is {told} in {suspicion.other}.")
    if not suspicion.is_judged:
        found.append(f"The gold has {own}, which the models cannot judge.")
    elif chance > against:
        found.append(
            f"The gold has {own}; the models find {other} "
            f"(probability {chance:.2f}, gold {against:.2f})."
        )
    else:
        found.append(
            f"The gold has {own}, which the models find likelier (probability {against:.2f}) than "
            f"{other} ({chance:.2f})."
        )
    return [*found, *_habits(suspicion, document, surfaces)]


def _habits(suspicion: Suspicion, document: Document, surfaces: Surfaces) -> list[str]:
    """What strings are in other places, where that speaks against the gold."""
    gold = {e.key for e in suspicion.gold}
    found = []
    for entity in suspicion.suggested:
        surface = document.surface(entity)
        own = [
            e.label for e in document.entities if e.key in gold and document.surface(e) == surface
        ]
        counts = surfaces.labels(surface, without=own)
        if counts[entity.label] >= _LEAST:
            found.append(
                f"“{surface}” is {entity.label} in {counts[entity.label]} of "
                f"{counts.total()} other places where it is an entity."
            )
    if not suspicion.suggested:
        for entity in suspicion.gold:
            surface = document.surface(entity)
            if not surfaces.labels(surface, without=[entity.label]):
                found.append(f"“{surface}” is an entity nowhere else.")
    return found


def _name(entities: Sequence[Entity], document: Document) -> str:
    return " and ".join(f"{e.label} “{document.surface(e)}”" for e in entities)
