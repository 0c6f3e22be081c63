"""Where the gold is suspicious: what it reads, what models read that were not trained on it.

Two readings of one place are compared, that of the gold and that of the models. With the
probabilities of spans (`Candidates`), a suspicion has the value

    an entity of U units in the gold:                          1 − p(its span)^(1/U)
    no entity in the gold, one of U units in another reading:  1 − (Π p(unit is in none))^(1/U)

The probability of a reading is a product over its units, so that of a long one is low even where
the models doubt each of its units but a little; the geometric mean over units makes readings of
any length comparable. All probabilities are out of fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nertune.semisupervised.audit.candidates import Candidates
from nertune.semisupervised.audit.copies import Copy
from nertune.types import Document, Entity

__all__ = ["KINDS", "Kind", "Suspicion", "find_suspicions", "kind_of",
           "weigh_copy"]  # fmt: skip

_RIGHT = 0.9  # how often a copy is labelled right: decides how much one outweighs a model

Kind: TypeAlias = Literal["missed", "spurious", "boundary", "type", "copy"]
KINDS: tuple[Kind, ...] = ("missed", "spurious", "boundary", "type", "copy")
"""An entity is missing; is none; has other ends; another label; copies of a text differ."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A place where the gold may be wrong.

    Attributes:
        index: of the document in the corpus.
        document: its id.
        kind: what seems to be wrong.
        probability: how probable an error of the gold is there, in [0, 1]; ranks suspicions.
        gold: the entities that the gold has there; none if one is missed.
        suggested: what should stand there instead, with probabilities; none if gold is spurious.
        gold_probability: of the gold's reading, in [0, 1].
        suggested_probability: of the other reading, in [0, 1].
        reason: in words.
        other: id of the copy that is labelled otherwise; empty for other kinds.
        is_judged: whether the models can express the gold; of a copy whose gold they cannot, both
            readings have the probability .5, and only the other copies decide.
    """

    index: int
    document: str
    kind: Kind
    probability: float
    gold: tuple[Entity, ...]
    suggested: tuple[Entity, ...]
    gold_probability: float
    suggested_probability: float
    reason: str = ""
    other: str = ""
    is_judged: bool = True

    @property
    def span(self) -> tuple[int, int]:
        """The part of the text that it is about."""
        found = (*self.gold, *self.suggested)
        return min(e.start for e in found), max(e.end for e in found)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that gold and suggestion have, sorted."""
        return tuple(sorted({e.label for e in (*self.gold, *self.suggested)}))


def find_suspicions(
    index: int,
    document: Document,
    candidates: Candidates,
    *,
    least: float = 0.0,
) -> list[Suspicion]:
    """The suspicious places of a document, no two for one gold entity.

    Args:
        index: of the document in the corpus.
        document: with gold.
        candidates: what the models say of it.
        least: of suspicions less probable none is made, nor one of a missed entity where all spans
            that the gold lacks have less in sum (units beside a gold entity may be doubtful only
            since it could be longer).
    """
    found = _of_gold(index, document, candidates)
    found += _missed(index, document, candidates, least)
    return [s for s in found if s.probability >= least]


def kind_of(gold: Sequence[Entity], suggested: Sequence[Entity]) -> Kind:
    """What the kind of error is, by both readings of a place."""
    if not gold:
        return "missed"
    if not suggested:
        return "spurious"
    spans = [(e.start, e.end) for e in gold]
    return "type" if spans == [(e.start, e.end) for e in suggested] else "boundary"


def _of_gold(index: int, document: Document, candidates: Candidates) -> list[Suspicion]:
    """For each gold entity the best other reading; those that share it are one suspicion."""
    by_reading: dict[tuple[Any, ...], list[tuple[Entity, tuple[Entity, ...], float]]] = {}
    sizes = {e.key: size for e, size in zip(candidates.gold, candidates.sizes, strict=False)}
    for gold in candidates.gold:
        rivals = [e for e in candidates.others if _overlap(e, gold)]
        nothing = max(0.0, 1.0 - _score(gold) - _mass(rivals))
        reading = _reading(rivals)
        chance = max((_score(e) for e in reading), default=0.0)
        if nothing >= chance:
            reading, chance = (), nothing
        key: tuple[Any, ...] = tuple(e.key for e in reading) or ("no entity", *gold.key)
        by_reading.setdefault(key, []).append((gold, reading, chance))
    found = []
    for places in by_reading.values():
        golds = tuple(gold for gold, _, _ in places)
        _, reading, chance = places[0]
        least = min(map(_score, golds))
        wrong = 1.0 - min(_score(g) ** (1 / sizes.get(g.key, 1)) for g in golds)
        found.append(
            Suspicion(
                index,
                document.id,
                kind_of(golds, reading),
                wrong,
                golds,
                reading,
                least,
                chance,
            )
        )
    return found


def _reading(rivals: Sequence[Entity]) -> tuple[Entity, ...]:
    """The likeliest of some spans, with others that are likely and lie beside it."""
    chosen: list[Entity] = []
    for entity in sorted(rivals, key=lambda e: (-_score(e), e.key)):
        if chosen and _score(entity) < 0.5:
            break
        if not any(_overlap(entity, other) for other in chosen):
            chosen.append(entity)
    return tuple(sorted(chosen, key=lambda e: e.key))


def _missed(
    index: int, document: Document, candidates: Candidates, least: float
) -> list[Suspicion]:
    """Spans where the gold has nothing; of those that overlap the likeliest."""
    taken = [*candidates.gold, *(entity for entity, _ in candidates.not_judged)]
    free = [e for e in candidates.others if not any(_overlap(e, other) for other in taken)]
    free = [e for e in free if not document.scope.leaves_open(e)]
    outside = {
        e.key: value for e, value in zip(candidates.others, candidates.outside, strict=False)
    }
    found, chosen = [], list[Entity]()
    for entity in sorted(free, key=lambda e: (-_score(e), e.key)):
        if any(_overlap(entity, other) for other in chosen):
            continue
        chosen.append(entity)
        any_there = min(1.0, _mass([e for e in free if _overlap(e, entity)]))
        if any_there < least:
            continue
        found.append(
            Suspicion(
                index,
                document.id,
                "missed",
                1.0 - outside.get(entity.key, 1.0 - any_there),
                (),
                (entity,),
                1.0 - any_there,
                _score(entity),
            )
        )
    return found


def _mass(entities: Iterable[Entity]) -> float:
    return sum(map(_score, entities))


def _score(entity: Entity) -> float:
    return entity.score or 0.0


def _overlap(one: Entity, other: Entity) -> bool:
    return one.start < other.end and other.start < one.end


def weigh_copy(document: Document, copy: Copy, candidates: Candidates, other: str) -> Suspicion:
    """A passage that is labelled otherwise elsewhere, with the probability that this place errs.

    Every copy is a vote that is right with probability .9, on top of what the models say: a
    reading r with v copies has the weight p(r) · (.9 / .1)^v. Where the models cannot express the
    gold of this place, the votes alone decide.

    Args:
        document: that of the copy.
        copy: the passage.
        candidates: what the models say of the document.
        other: the id of the document that has the passage otherwise.
    """
    not_judged = {entity.key for entity, _ in candidates.not_judged}
    is_judged = not any(entity.key in not_judged for entity in copy.gold)
    gold = suggested = 0.5
    if is_judged:
        gold = _reading_probability(copy.gold, copy.suggested, candidates)
        suggested = _reading_probability(copy.suggested, copy.gold, candidates)
    odds = _RIGHT / (1 - _RIGHT)
    most = max(copy.num_same, copy.num_other)  # powers of differences: no overflow
    weights = [
        gold * odds ** (copy.num_same - most),
        suggested * odds ** (copy.num_other - most),
        max(0.0, 1.0 - gold - suggested) * odds**-most,
    ]
    total = sum(weights)
    wrong = 0.5 if total == 0 else 1.0 - weights[0] / total
    return Suspicion(
        copy.index, document.id, "copy", wrong, copy.gold, copy.suggested, gold, suggested,
        other=other, is_judged=is_judged,
    )  # fmt: skip


def _reading_probability(
    reading: Sequence[Entity], against: Sequence[Entity], candidates: Candidates
) -> float:
    """Of all its entities (the least likely decides), or of none where the other has some."""
    every = (*candidates.gold, *candidates.others)
    if reading:
        scores = {e.key: _score(e) for e in every}
        return min(scores.get(e.key, 0.0) for e in reading)
    there = [e for e in every if any(_overlap(e, other) for other in against)]
    return max(0.0, 1.0 - _mass(there))
