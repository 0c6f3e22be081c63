"""A teacher for tests: fixed probabilities of unlabelled text, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.labels.tagset import TagSet
from nertune.models.heads.base import Head, soft_head
from nertune.models.heads.decoding import Chain
from nertune.models.heads.marginals import Marginals, find_marginals
from nertune.tokens.windows import Segmenter
from nertune.training.soft_targets import SoftTargets
from nertune.training.stores.soft_store import SoftStore, SoftStoreWriter
from nertune.types import Document

__all__ = ["FixedTeacher", "random_emissions"]


def random_emissions(length: int, num_tags: int, seed: int) -> NDArray[np.float64]:
    """Scores of a document, `[U, K]`."""
    return np.random.default_rng(seed).normal(scale=2.0, size=(length, num_tags))


def random_marginals(tagset: TagSet, length: int, seed: int) -> Marginals:
    emissions = [random_emissions(length, len(tagset), seed)]
    return find_marginals(emissions, Chain.of(tagset))[0]


@dataclass(frozen=True)
class FixedTeacher:
    """A `SoftSource`.

    Attributes:
        texts: without labels.
        answer: what the teacher says of a document of so many units, by its number.
        weight, temperature: of the loss.
        labels: those that the student learns.
    """

    texts: Sequence[Document]
    answer: Callable[[TagSet, int, int], Marginals] = random_marginals
    weight: float = 1.0
    temperature: float = 1.0
    labels: Sequence[str] = ()
    name: str = "fixed"

    @property
    def key(self) -> str:
        return f"{self.name} {self.weight} {self.temperature}"

    def documents(self) -> Iterator[Document]:
        yield from self.texts

    def prepare(self, segmenter: Segmenter, head: Head, folder: Path) -> SoftTargets:
        if not SoftStore.is_complete(folder, self.key):
            pairs = soft_head(head).soft_pairs
            writer = SoftStoreWriter(folder, head.tagset, with_pairs=pairs, key=self.key)
            for number, document in enumerate(self.texts):
                encoding, windows = segmenter.segment(document)
                writer.add(windows, self.answer(head.tagset, len(encoding.units), number))
            writer.finish()
        return SoftTargets(SoftStore(folder, head.tagset), self.weight, self.temperature)

    def describe(self) -> dict[str, Any]:
        return {"documents": len(self.texts)}
