"""What a corpus holds, in numbers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean, median
from typing import Any

from nertune.types import Document, Scope

__all__ = [
    "ContentHash",
    "Lengths",
    "Statistics",
    "content_hash",
    "describe",
    "has_overlap",
    "summarize_lengths",
]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long documents are, in characters or in tokens.

    Attributes:
        mean, median: over all documents.
        p95: the shortest length that at least 95 % of the documents do not exceed.
        longest: the maximum.
    """

    mean: float
    median: float
    p95: int
    longest: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a corpus holds.

    Attributes:
        documents: how many there are.
        documents_without_entities: how many of them have no entity.
        documents_with_overlaps: how many have entities that share characters.
        characters: Unicode code points in all.
        tokens: tokens in all; `None` where the source has none.
        entities: how many there are of each label, the most frequent first.
        lengths: the documents' lengths in characters.
        sha256: the content hash.
    """

    documents: int
    documents_without_entities: int
    documents_with_overlaps: int
    characters: int
    tokens: int | None
    entities: dict[str, int]
    lengths: Lengths
    sha256: str

    @property
    def num_entities(self) -> int:
        return sum(self.entities.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def describe(documents: Sequence[Document]) -> Statistics:
    """Count what a corpus holds."""
    counts = Counter(entity.label for document in documents for entity in document.entities)
    lengths = [len(document.text) for document in documents]
    tokens = [len(document.tokens) for document in documents if document.tokens is not None]
    return Statistics(
        documents=len(documents),
        documents_without_entities=sum(not document.entities for document in documents),
        documents_with_overlaps=sum(map(has_overlap, documents)),
        characters=sum(lengths),
        tokens=sum(tokens) if tokens else None,
        entities=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        lengths=summarize_lengths(lengths),
        sha256=content_hash(documents),
    )


def summarize_lengths(lengths: Sequence[int]) -> Lengths:
    """Mean, median, 95th percentile (nearest rank) and maximum; zeros where there are none."""
    if not lengths:
        return Lengths(0.0, 0.0, 0, 0)
    ordered = sorted(lengths)
    rank = ceil(0.95 * len(ordered))
    return Lengths(fmean(ordered), float(median(ordered)), ordered[rank - 1], ordered[-1])


def has_overlap(document: Document) -> bool:
    """Whether two entities of a document share characters."""
    furthest = 0
    for entity in document.entities:  # sorted by start
        if entity.start < furthest:
            return True
        furthest = entity.end
    return False


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def content_hash(documents: Iterable[Document]) -> str:
    """A sha256 over texts and entities in order: the same for every format of one corpus.

    Ids, tokens and scores do not count; a scope does where a document has one.
    """
    content = ContentHash()
    for document in documents:
        content.add(document)
    return content.hexdigest()


class ContentHash:
    """`content_hash`, one document after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, document: Document) -> None:
        """The next document."""
        content: list[Any] = [document.text, [entity.key for entity in document.entities]]
        if document.scope != Scope():
            content.append(document.scope.to_dict())
        self._digest.update(_ENCODER.encode(content).encode() + b"\n")

    def hexdigest(self) -> str:
        """Of all so far."""
        return self._digest.hexdigest()
