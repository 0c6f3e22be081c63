"""A pool of texts, read once, of which only the highest ranked stay in memory."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from nertune.data.editing.similarity import SimilarTexts, normalize
from nertune.types import Document

__all__ = ["Budget", "Candidate", "Pool", "RankedTexts", "draw", "drop_similar", "text_key"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is to be labelled; both limits hold where both are set.

    Attributes:
        units: characters or words without white space, at most; 0: no limit.
        documents: documents, at most; 0: no limit.
    """

    units: int = 0
    documents: int = 0

    def times(self, factor: int) -> Budget:
        """A larger one."""
        return Budget(self.units * factor, self.documents * factor)

    def allows(self, units: int, documents: int) -> bool:
        """Whether so much can be paid."""
        return (not self.units or units <= self.units) and (
            not self.documents or documents <= self.documents
        )

    def is_spent(self, units: int, documents: int) -> bool:
        """Whether nothing can be added to so much."""
        return (0 < self.units <= units) or (0 < self.documents <= documents)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be chosen.

    Attributes:
        document: the text.
        key: names its text, see `text_key`.
        num_units: what labelling it costs.
        score: how much it is wanted.
        lot: in [0, 1), drawn; decides between equal scores.
    """

    document: Document
    key: bytes
    num_units: int
    score: float
    lot: float

    @property
    def rank(self) -> tuple[float, float, bytes]:
        """What texts are sorted by, the most wanted last."""
        return self.score, self.lot, self.key


@dataclass(slots=True)
class Pool:
    """What became of the texts of a pool.

    Attributes:
        documents, units: all that were read.
        empty: documents without a unit that can be labelled.
        too_long: those that alone are more than the budget.
        labelled: those that are labelled already.
        repeated: those whose text stood there before, among the texts that were still in the race.
        scored: those that were ranked.
        units_scored: their units.
        total_score: the sum of their scores.
        shortest: units of the shortest one that is too long; 0 if none is.
    """

    documents: int = 0
    units: int = 0
    empty: int = 0
    too_long: int = 0
    labelled: int = 0
    repeated: int = 0
    scored: int = 0
    units_scored: int = 0
    total_score: float = 0.0
    shortest: int = 0

    @property
    def mean_score(self) -> float:
        """Of the texts that were ranked; 0 of none."""
        return self.total_score / self.scored if self.scored else 0.0


@dataclass(slots=True)
class RankedTexts:
    """The highest ranked texts that together cost at least a reserve, whatever order they come in.

    Attributes:
        reserve: what is kept at least, if there is as much.
        num_evicted: texts that were let go.
    """

    reserve: Budget
    num_evicted: int = 0
    _heap: list[tuple[tuple[float, float, bytes], int]] = field(default_factory=list)
    _held: dict[bytes, Candidate] = field(default_factory=dict)
    _units: int = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def add(self, candidate: Candidate) -> None:
        """Take a text in, and let go of the lowest that the reserve does not need."""
        heapq.heappush(self._heap, (candidate.rank, candidate.num_units))
        self._held[candidate.key] = candidate
        self._units += candidate.num_units
        while True:
            (_, _, key), units = self._heap[0]
            if not self.reserve.is_spent(self._units - units, len(self._heap) - 1):
                return
            heapq.heappop(self._heap)
            del self._held[key]
            self._units -= units
            self.num_evicted += 1

    def ranked(self) -> list[Candidate]:
        """The most wanted first."""
        return sorted(self._held.values(), key=lambda c: c.rank, reverse=True)


def text_key(text: str) -> bytes:
    """The same of texts that are equal but for white space, case and width."""
    return hashlib.blake2b(
        normalize(text).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def draw(key: bytes, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but a text and a seed."""
    salt = seed.to_bytes(16, "little", signed=True)
    drawn = hashlib.blake2b(key, digest_size=8, salt=salt).digest()
    return (int.from_bytes(drawn, "little") >> 11) / (1 << 53)


def drop_similar(
    candidates: list[Candidate], labelled: Iterable[str], near: float
) -> tuple[list[Candidate], int]:
    """Candidates without those that are nearly equal to a labelled text, or to a higher ranked one.

    Args:
        candidates: the most wanted first.
        labelled: texts.
        near: the similarity from which on texts are nearly equal, see `SimilarTexts`.

    Returns:
        What is left, in order; and how many were dropped.
    """
    known = [text for text in dict.fromkeys(map(normalize, labelled)) if text]
    similar = SimilarTexts([*known, *(normalize(c.document.text) for c in candidates)], near)
    for index in range(len(known)):
        similar.add(index)
    kept = []
    for index, candidate in enumerate(candidates, len(known)):
        if next(similar.find(index), None) is None:
            similar.add(index)
            kept.append(candidate)
    return kept, len(candidates) - len(kept)
