"""Which of a teacher's labels are learned from: by probability, by document, in balance.

Axes: U units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nertune.evaluation.metrics import judged_entities
from nertune.training.noise import PSEUDO
from nertune.types import Document, Entity, Fragments, Scope

__all__ = [
    "Judged",
    "Thresholds",
    "balance",
    "choose_thresholds",
    "mark_pseudo",
    "mark_unknown",
    "unknown_share",
]

_FEWEST = 30
"""Predicted entities of a label on dev from which on it has a threshold of its own."""
_FEWEST_KEPT = 5
"""Entities on dev at or above a threshold, fewer of which say nothing about its precision."""
_EXCESSES = (1.25, 1.5, 2.0, 3.0)
"""A label's share of the pseudo entities over its share of the labelled ones, at most."""
_LEAST_EMPTY = 0.1
"""The share of documents without entities that is always allowed: text holds such sentences."""
_SLACK = 5.0
"""Entities by which a label may exceed that while there are few of all."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A text, and what a teacher says of it.

    Attributes:
        document: with the predicted entities and their probabilities.
        units: the spans that the teacher labels.
        outside_U: of each unit the probability that it belongs to no entity.
    """

    document: Document
    units: Sequence[tuple[int, int]]
    outside_U: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which probability on a predicted entity is taken for one.

    Attributes:
        pooled: for labels of which dev shows too few.
        by_label: for the others.
        precision: of the entities on dev that are at or above them, in [0, 1]; `None` if none is.
        kept: the share of dev's predicted entities that are.
    """

    pooled: float
    by_label: Mapping[str, float]
    precision: float | None
    kept: float

    def of(self, label: str) -> float:
        """That of a label."""
        return self.by_label.get(label, self.pooled)


def choose_thresholds(
    gold: Sequence[Document], predicted: Sequence[Document], *, precision: float
) -> Thresholds:
    """The lowest probability from which on a share `precision` of dev's predictions is right.

    Each label with 30 predictions on dev has its own, so that a label that the teacher finds hard
    is held to the same precision as an easy one; the others share one that is chosen on all
    predictions. Predictions that partially labelled gold cannot judge do not count. Where no
    threshold reaches the precision, the one that comes nearest counts. A threshold that keeps fewer
    than 5 entities is not considered.

    Args:
        gold, predicted: documents of dev, in the same order; predictions have scores.
        precision: wanted, in (0, 1].
    """
    found: dict[str, list[tuple[float, bool]]] = {}
    for right, guess in zip(gold, predicted, strict=True):
        keys = {entity.key for entity in right.entities}
        for entity in judged_entities(right, guess):
            found.setdefault(entity.label, []).append((entity.score or 0.0, entity.key in keys))
    every = [pair for pairs in found.values() for pair in pairs]
    pooled = _lowest(every, precision)
    own = {
        label: _lowest(pairs, precision)
        for label, pairs in sorted(found.items())
        if len(pairs) >= _FEWEST
    }
    kept = [
        is_right
        for label, pairs in found.items()
        for score, is_right in pairs
        if score >= own.get(label, pooled)
    ]
    share = len(kept) / len(every) if every else 0.0
    return Thresholds(pooled, own, sum(kept) / len(kept) if kept else None, share)


def _lowest(pairs: Sequence[tuple[float, bool]], precision: float) -> float:
    """The lowest score from which on enough are right; else that of the highest precision."""
    if len(pairs) < _FEWEST_KEPT:
        return 1.0
    ordered = sorted(pairs, reverse=True)
    scores = np.array([score for score, _ in ordered])
    reached_N = np.cumsum([is_right for _, is_right in ordered]) / np.arange(1, len(ordered) + 1)
    # A threshold keeps all of its score, so it can only stand at the last of equal ones.
    is_last_N = np.append(scores[1:] != scores[:-1], True)
    is_last_N[: _FEWEST_KEPT - 1] = False
    candidates = np.flatnonzero(is_last_N)
    enough = candidates[reached_N[candidates] >= precision]
    if len(enough):
        return float(scores[enough[-1]])
    return float(scores[candidates[np.argmax(reached_N[candidates])]])


def mark_unknown(judged: Judged, thresholds: Thresholds, *, outside: float) -> Document:
    """A pseudo-labelled document: what the teacher is sure of, and the rest as unknown.

    An entity below its threshold is no entity of the document, and its text is unknown. So is a
    unit outside all predicted entities whose probability of being there is below `outside`: an
    entity that the teacher nearly found. All other text is known to hold nothing else.

    Args:
        judged: the text.
        thresholds: of entities.
        outside: the lowest probability of a unit that is taken to belong to no entity.
    """
    kept: list[Entity] = []
    unknown: list[tuple[int, int]] = []
    for entity in judged.document.entities:
        if (entity.score or 0.0) >= thresholds.of(entity.label):
            kept.append(entity)
        else:
            unknown.append((entity.start, entity.end))
    covered = [(entity.start, entity.end) for entity in judged.document.entities]
    for (start, end), probability in zip(judged.units, judged.outside_U, strict=True):
        if probability < outside and not any(a < end and start < b for a, b in covered):
            unknown.append((start, end))
    scope = Scope(unknown=_joined(unknown))
    return mark_pseudo(replace(judged.document, entities=tuple(kept), scope=scope))


def mark_pseudo(document: Document) -> Document:
    """The document, marked as labelled by a model."""
    return replace(document, meta={**document.meta, PSEUDO: True})


def _joined(spans: Iterable[tuple[int, int]]) -> Fragments:
    """Spans in order, those that touch or overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def unknown_share(document: Document) -> float:
    """The share of a document's characters of which nothing is known."""
    total = len(document.text)
    return sum(end - start for start, end in document.scope.unknown) / total if total else 0.0


def balance(labelled: Sequence[Document], pseudo: Sequence[Document]) -> tuple[list[int], float]:
    """Choose documents so that labels keep about the shares that they have in the labelled data.

    The documents are taken in their order. One is passed over as long as it would bring the share
    of one of its labels above 1.25 times that label's share in the labelled data; those passed over
    are tried again after each pass, until none fits. If less than half of the entities would be
    left, 1.5 times is allowed, then 2 and 3 times, in the end any share. Documents without entities
    are held in the same way to their share of the labelled documents, or to 10 % where that is
    less.

    Args:
        labelled: what a person has labelled.
        pseudo: pseudo-labelled documents, in an order that does not depend on their labels.

    Returns:
        Indices of the chosen documents, ascending; and how many times its share a label may have at
        most (infinity: any).
    """
    entities = Counter(e.label for d in labelled for e in d.entities)
    total = sum(entities.values())
    shares = {label: number / total for label, number in entities.items()} if total else {}
    share_empty = max(_LEAST_EMPTY, sum(not d.entities for d in labelled) / max(1, len(labelled)))
    num_entities = sum(len(d.entities) for d in pseudo)
    for excess in _EXCESSES if shares else ():
        chosen = _fill(pseudo, shares, share_empty, excess)
        if 2 * sum(len(pseudo[i].entities) for i in chosen) >= num_entities:
            return sorted(chosen), excess
    return list(range(len(pseudo))), float("inf")


def _fill(
    pseudo: Sequence[Document], shares: Mapping[str, float], share_empty: float, excess: float
) -> list[int]:
    """The documents that fit, over as many passes as bring more."""
    counts: Counter[str] = Counter()
    num_entities = num_empty = 0
    chosen: list[int] = []
    left = list(range(len(pseudo)))
    while True:
        passed_over: list[int] = []
        for i in left:
            own = Counter(entity.label for entity in pseudo[i].entities)
            if own:
                total = num_entities + own.total()
                fits = all(
                    counts[label] + number <= excess * shares.get(label, 0.0) * total + _SLACK
                    for label, number in own.items()
                )
            else:
                fits = num_empty + 1 <= excess * share_empty * (len(chosen) + 1) + _SLACK
            if not fits:
                passed_over.append(i)
                continue
            chosen.append(i)
            counts += own
            num_entities += own.total()
            num_empty += not own
        if len(passed_over) == len(left) or not passed_over:
            return chosen
        left = passed_over
