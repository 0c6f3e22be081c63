"""Whether two taggers are the same: entities, probabilities, logits, F1 and speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.data.corpus import Corpus
from nertune.evaluation.metrics import score
from nertune.inference.predictor import Predictor
from nertune.labels.align import spans_to_entities
from nertune.models.graphs.onnx import Backend
from nertune.types import Document

__all__ = ["Agreement", "compare_entities", "cut_all_lengths", "measure_speeds", "micro_f1"]

_TIE = 1e-4  # probabilities that differ by less are equal but for rounding
_ROUNDING = 1e-3  # nats: so far may float32 logits lie apart
_MOST_TIMED = 400  # documents
_MOST_LISTED = 20

Logits = Sequence[NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Entities of two taggers that should be the same.

    Attributes:
        documents: that were compared.
        entities: that either of them found.
        equal: that both found.
        ties: found by one of them only, with equal probabilities under both: rounding decided.
            `[document, label, text, probability, the other's]`; the first few.
        num_ties: how many.
        differing: found by one of them only, with other probabilities.
        largest_difference: between the probabilities of an entity.
        largest_emission_difference: between the logits of any tag of any unit, in nats (the name is
            that in `parity.json`).
    """

    documents: int
    entities: int
    equal: int
    ties: tuple[tuple[str, str, str, float, float], ...]
    num_ties: int
    differing: int
    largest_difference: float
    largest_emission_difference: float

    @property
    def holds(self) -> bool:
        """Whether they are the same but for rounding."""
        return (
            not self.differing
            and self.largest_difference <= _TIE
            and self.largest_emission_difference <= _ROUNDING
        )


def compare_entities(one: Predictor, other: Predictor, documents: Sequence[Document]) -> Agreement:
    """What two taggers with the same tags find in documents."""
    encodings, logits = one.emissions(documents)
    _, others = other.emissions(documents)
    found = one.head.spans(logits)
    found_by_other = other.head.spans(others)
    union = [sorted({*a, *b}) for a, b in zip(found, found_by_other, strict=True)]
    chances = one.head.probabilities(logits, union)
    chances_of_other = other.head.probabilities(others, union)
    equal = differing = 0
    largest = 0.0
    pairs = zip(logits, others, strict=True)
    apart = max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)
    ties: list[tuple[str, str, str, float, float]] = []
    for i, document in enumerate(documents):
        entities = spans_to_entities(union[i], encodings[i].units)
        for span, entity, p, q in zip(
            union[i], entities, chances[i], chances_of_other[i], strict=True
        ):
            largest = max(largest, abs(p - q))
            if span in found[i] and span in found_by_other[i]:
                equal += 1
            elif abs(p - q) <= _TIE:
                ties.append((document.id, entity.label, document.surface(entity), p, q))
            else:
                differing += 1
    return Agreement(
        documents=len(documents),
        entities=sum(map(len, union)),
        equal=equal,
        ties=tuple(ties[:_MOST_LISTED]),
        num_ties=len(ties),
        differing=differing,
        largest_difference=largest,
        largest_emission_difference=apart,
    )


def cut_all_lengths(
    predictor: Predictor, documents: Sequence[Document], *, num_windows: int = 3
) -> list[Document]:
    """Texts of 1, 2, 4, … units, and one of several windows, cut from documents put together.

    Where the documents are too short for that, they are repeated. There are no texts where that
    gives no more units: the model reads none in them, or only marks that go together.
    """
    segmenter = predictor.segmenter
    joint = " " if segmenter.unit == "word" else ""
    text = joint.join(document.text for document in documents)
    encoding, windows = segmenter.segment(Document(text))
    while len(windows) < num_windows:
        text += joint + text
        num_units = len(encoding.units)
        encoding, windows = segmenter.segment(Document(text))
        if len(encoding.units) <= num_units:
            return []
    longest = windows[num_windows - 1].first_unit + windows[num_windows - 1].num_units
    lengths = [2**power for power in range(longest.bit_length()) if 2**power < longest]
    ends = [(length, encoding.units[length - 1][1]) for length in (*lengths, longest)]
    return [Document(text[:end], id=f"{length} units") for length, end in ends]


def micro_f1(predictor: Predictor, corpus: Corpus, *, one_by_one: bool = False) -> float:
    """Strict micro-F1, with texts side by side or one by one."""
    documents = corpus.documents
    groups = [[document] for document in documents] if one_by_one else [documents]
    predicted = [
        found for group in groups for found in predictor.tag_documents(group, with_scores=False)
    ]
    return score(corpus.documents, predicted, num_resamples=0).micro.f1 or 0.0


def measure_speeds(
    backends: Mapping[Backend, Predictor], documents: Sequence[Document], rounds: int
) -> dict[Backend, float]:
    """Units per second of each, the median of several rounds in which they take turns."""
    some = documents[:_MOST_TIMED]
    seconds: dict[Backend, list[float]] = {name: [] for name in backends}
    units = 0
    for round_number in range(rounds + 1):
        for name, predictor in backends.items():
            started = time.perf_counter()
            encodings, _ = predictor.emissions(some)
            if round_number:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
            units = sum(len(encoding.units) for encoding in encodings)
    return {name: units / statistics.median(taken) for name, taken in seconds.items()}
