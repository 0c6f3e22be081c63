"""A teacher reads unlabelled text: what it finds, how sure it is, and what of it is learned."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nertune.data.inputs import in_batches
from nertune.inference.predictor import Predictor
from nertune.models.heads.marginals import tag_marginals
from nertune.semisupervised.self_training.options import Options
from nertune.semisupervised.self_training.selection import (
    Judged,
    Thresholds,
    balance,
    choose_thresholds,
    mark_pseudo,
    mark_unknown,
    unknown_share,
)
from nertune.semisupervised.self_training.teachers import tag_together
from nertune.types import Document

__all__ = ["PseudoCounts", "PseudoLabels", "judge", "label_pool"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class PseudoCounts:
    """What became of the pool.

    Attributes:
        documents, entities: those that are learned from.
        unknown_entities: entities below their threshold in these documents, taken as unknown.
        too_uncertain: documents left out since too much of them is unknown.
        unbalanced: documents left out to keep the labels in balance.
        excess: how many times its share among the labelled entities a label may have at most;
            `None`: any share.
        shares: of each label among the entities that are learned from.
    """

    documents: int
    entities: int
    unknown_entities: int
    too_uncertain: int
    unbalanced: int
    excess: float | None
    shares: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Documents as a teacher labels them, marked as such; and how they were chosen.

    Attributes:
        documents: those that are learned from.
        thresholds: of hard labels; `None` for soft ones.
        counts: of documents and entities.
    """

    documents: list[Document]
    thresholds: Thresholds | None
    counts: PseudoCounts


def label_pool(
    teachers: Sequence[Predictor],
    pool: Sequence[Document],
    labelled: Sequence[Document],
    dev: Sequence[Document],
    options: Options,
) -> PseudoLabels:
    """Tag the unlabelled documents and choose which of them, and what of them, is learned.

    Args:
        teachers: one tagger; or several, which give soft labels together.
        pool: unlabelled documents.
        labelled: what a person has labelled, partial labels completed; says how frequent the labels
            are.
        dev: chooses the thresholds of hard labels.
        options: of self-training.
    """
    teacher = teachers[0]
    thresholds: Thresholds | None = None
    too_uncertain = 0
    found: list[Document] = []
    num_unknown: list[int] = []  # entities of each that are unknown
    if options.labels == "hard":
        guesses = list(teacher.tag_documents(dev))
        thresholds = choose_thresholds(dev, guesses, precision=options.precision)
        for judged in judge(teacher, pool):
            document = mark_unknown(judged, thresholds, outside=options.outside)
            if unknown_share(document) > options.most_unknown:
                too_uncertain += 1
            else:
                found.append(document)
                num_unknown.append(len(judged.document.entities) - len(document.entities))
    else:
        found = [mark_pseudo(document) for document in tag_together(teachers, pool)]
        num_unknown = [0] * len(found)
    chosen, excess = list(range(len(found))), float("inf")
    if options.balance:
        chosen, excess = balance(labelled, found)
    documents = [found[i] for i in chosen]
    numbers = [len(d.entities) for d in documents]
    shares = {
        label: sum(e.label == label for d in documents for e in d.entities) / max(1, sum(numbers))
        for label in teacher.labels
    }
    counts = PseudoCounts(
        documents=len(documents),
        entities=sum(numbers),
        unknown_entities=sum(num_unknown[i] for i in chosen),
        too_uncertain=too_uncertain,
        unbalanced=len(found) - len(documents),
        excess=None if excess == float("inf") else excess,
        shares=shares,
    )
    return PseudoLabels(documents, thresholds, counts)


def judge(teacher: Predictor, documents: Sequence[Document]) -> Iterator[Judged]:
    """Tag documents, with each unit's calibrated probability to belong to no entity."""
    head = teacher.tagger.head
    outside = [i for (role, _), i in teacher.tagset.parts.items() if role == "O"]
    for batch in in_batches(documents):
        encodings, emissions = teacher.emissions(batch)
        temperature = teacher.calibration.temperature
        marginals = tag_marginals(emissions, head.chain(), temperature=temperature)
        tagged = teacher.tag_documents(batch)
        for document, encoding, tags_UK in zip(tagged, encodings, marginals, strict=True):
            yield Judged(document, encoding.units, tags_UK[:, outside].sum(axis=1))
