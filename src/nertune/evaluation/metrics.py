"""Precision, recall and F1 of predicted entities against gold entities.

A gold or predicted entity is a `(document, start, end, label)`; duplicates count once. Three
ways to match are counted side by side:

| name    | a prediction is right, a gold entity is found, if it meets one of the other side with |
|---------|---------------------------------------------------------------------------------------|
| exact   | the same start, end and label (CoNLL-2003: Tjong Kim Sang & De Meulder, 2003)          |
| untyped | the same start and end, whatever the label                                            |
| overlap | the same label and at least one shared character                                      |

Each prediction and each gold entity counts once, however many it meets, so precision is right
predictions by predictions and recall is found gold by gold:

    precision = correct / predicted    recall = found / support    f1 = 2 P R / (P + R)

For exact matches `correct` equals `found`, and all figures equal conlleval's and seqeval's.

**Nothing to divide by.** A score is undefined (`None`, `null` in JSON) only where there is
neither gold nor prediction: such a tagger did nothing wrong, so 0 would be false, and it found
nothing, so 1 would flatter. With gold but no prediction precision is 0, with predictions but no
gold recall is 0, and F1 is 0 in both cases, as in seqeval's default.

**Partial gold.** Where the gold's scope does not say whether a prediction is right, the prediction
is not counted: see `judged_entities`.

**Averages.** Micro sums the counts over types. Macro is the plain mean over the types that have
gold or predictions, as in seqeval; a type that was only predicted pulls it down with its 0, a
type that is only known by name is shown but not averaged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.errors import DataError
from nertune.evaluation.resampling import chunk_sizes, source_documents, sum_by_source
from nertune.types import Document, Entity, Fragments

__all__ = [
    "Score",
    "ScoreTable",
    "Scores",
    "bootstrap_interval",
    "document_counts",
    "f1_from_counts",
    "judged_entities",
    "score",
]

Key = tuple[int, int, str] | tuple[int, int, str, Fragments]
_Place = tuple[int, int, Fragments]  # start, end, and the fragments of a discontinuous entity


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1 of one type, or an average over types.

    Attributes:
        precision, recall, f1: in [0, 1]; `None` where there is neither gold nor prediction.
        support: gold entities.
        predicted: predicted entities.
        correct: predictions that match gold.
        found: gold entities that a prediction matches; equals `correct` for exact matches.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    correct: int
    found: int

    @classmethod
    def from_counts(cls, *, support: int, predicted: int, correct: int, found: int) -> Score:
        """The score that these counts make."""
        if not support and not predicted:
            return cls(None, None, None, 0, 0, 0, 0)
        precision = correct / predicted if predicted else 0.0
        recall = found / support if support else 0.0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        return cls(precision, recall, f1, support, predicted, correct, found)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The scores under one way to match.

    Attributes:
        micro: over all entities.
        macro: the mean over the types that have gold or predictions; its counts are sums.
        types: each type's score, sorted by name.
    """

    micro: Score
    macro: Score
    types: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Scores:
    """All that `score` counts.

    Attributes:
        exact, untyped, overlap: the three ways to match (see the module's text).
        micro_f1_ci95: 95 % bootstrap interval of the exact micro F1 over documents, whole source
            documents where their borders are known; `None` where F1 is undefined or there are
            fewer than two documents.
        num_documents: how many documents were scored.
        num_sources: how many source documents they were cut from; `None` where that is not known.
        num_ignored: how many predictions were not counted, since partially labelled gold does not
            know them; `None` where all gold is labelled in full.
    """

    exact: ScoreTable
    untyped: ScoreTable
    overlap: ScoreTable
    micro_f1_ci95: tuple[float, float] | None
    num_documents: int
    num_sources: int | None = None
    num_ignored: int | None = None

    @property
    def micro(self) -> Score:
        """The exact micro average, which headlines and model selection use."""
        return self.exact.micro

    @property
    def macro(self) -> Score:
        """The exact macro average."""
        return self.exact.macro

    @property
    def types(self) -> Mapping[str, Score]:
        """The exact score of each type."""
        return self.exact.types

    def to_dict(self) -> dict[str, Any]:
        """For JSON. `untyped` and `overlap` stand at the top (micro averages) and in each type.

        `source_documents` is there only where it is known, `ignored_predictions` only where some
        gold is partially labelled.
        """
        interval = None if self.micro_f1_ci95 is None else list(self.micro_f1_ci95)
        return {
            "documents": self.num_documents,
            **({} if self.num_sources is None else {"source_documents": self.num_sources}),
            **({} if self.num_ignored is None else {"ignored_predictions": self.num_ignored}),
            "micro": {**asdict(self.micro), "f1_ci95": interval},
            "macro": asdict(self.macro),
            "types": {
                name: {
                    **asdict(exact),
                    "untyped": asdict(self.untyped.types[name]),
                    "overlap": asdict(self.overlap.types[name]),
                }
                for name, exact in self.types.items()
            },
            "untyped": asdict(self.untyped.micro),
            "overlap": asdict(self.overlap.micro),
        }


def score(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    *,
    types: Iterable[str] = (),
    num_resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Scores predicted documents against gold documents.

    Args:
        gold: the documents with their own entities, those that no tag can express included.
        predicted: the same documents in the same order, with predicted entities.
        types: names to show even if they have neither gold nor predictions.
        num_resamples: bootstrap resamples for the interval of micro F1; 0 for no interval.
        seed: of the bootstrap.

    Raises:
        DataError: the two sides do not hold the same texts in the same order.
    """
    pairs = _paired_keys(gold, predicted)
    counts: dict[str, _Counts] = {name: _Counts() for name in types}
    for gold_keys, predicted_keys in pairs:
        _count_document(gold_keys, predicted_keys, counts)
    names = sorted(counts)
    sources = source_documents(gold)
    interval = None
    if num_resamples:
        resampled = sum_by_source(_exact_counts(pairs), sources)
        interval = bootstrap_interval(resampled, num_resamples=num_resamples, seed=seed)
    return Scores(
        exact=_table({name: counts[name].score(counts[name].exact) for name in names}),
        untyped=_table({name: counts[name].score(counts[name].untyped) for name in names}),
        overlap=_table({name: counts[name].score(counts[name].overlap) for name in names}),
        micro_f1_ci95=interval,
        num_documents=len(pairs),
        num_sources=None if sources is None else int(sources.max()) + 1,
        num_ignored=_count_ignored(gold, predicted),
    )


def judged_entities(gold: Document, predicted: Document) -> tuple[Entity, ...]:
    """The predictions of which the gold says whether they are right.

    All, where the gold's scope is full. Else those that the gold has as they are, and of the others
    those of a label that the scope names and of text that it knows: not in an unknown span, and
    with incomplete gold only where they overlap a gold entity.
    """
    scope = gold.scope
    if scope.is_full:
        return predicted.entities
    keys = {entity.key for entity in gold.entities}

    def is_judged(entity: Entity) -> bool:
        if entity.key in keys or not scope.leaves_open(entity):
            return True
        is_named = scope.labels is None or entity.label in scope.labels
        return is_named and any(_overlaps(entity, e.spans) for e in gold.entities)

    return tuple(filter(is_judged, predicted.entities))


def _overlaps(entity: Entity, spans: Fragments) -> bool:
    return any(a < end and start < b for a, b in entity.spans for start, end in spans)


def _count_ignored(gold: Sequence[Document], predicted: Sequence[Document]) -> int | None:
    pairs = [(g, p) for g, p in zip(gold, predicted, strict=True) if not g.scope.is_full]
    return sum(len(p.entities) - len(judged_entities(g, p)) for g, p in pairs) if pairs else None


def document_counts(gold: Sequence[Document], predicted: Sequence[Document]) -> NDArray[np.int64]:
    """The exact counts of each document, from which micro F1 is made.

    Where the gold documents are sentences of known source documents (`source_documents`), a row is
    a source document: what resamples rows draws or swaps whole ones.

    Returns:
        `[num_documents, 3]`: gold entities, predicted entities, correct predictions.

    Raises:
        DataError: the two sides do not hold the same texts in the same order.
    """
    return sum_by_source(_exact_counts(_paired_keys(gold, predicted)), source_documents(gold))


def f1_from_counts(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of `[..., 3]` counts (gold, predicted, correct); NaN with neither gold nor prediction."""
    total = np.asarray(counts[..., 0] + counts[..., 1], dtype=np.float64)
    doubled = np.asarray(2.0 * counts[..., 2], dtype=np.float64)
    return np.divide(doubled, total, out=np.full_like(total, np.nan), where=total > 0)


def bootstrap_interval(
    counts: NDArray[np.int64], *, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of micro F1 over documents (Efron & Tibshirani, 1993, ch. 13).

    Documents with the same counts are interchangeable, so a resample is one multinomial draw
    over the distinct rows: the same distribution as drawing documents one by one, much faster.
    Rows that are whole source documents make it a cluster bootstrap (Field & Welsh, 2007). It is
    the noise of the choice of documents; the noise of training is not in it.

    Args:
        counts: `[num_documents, 3]` from `document_counts`.
        num_resamples: at least 1.
        seed: the same seed gives the same interval.
        level: coverage, in (0, 1).

    Returns:
        Lower and upper bound; `None` where F1 is undefined or there are fewer than two documents.
    """
    num_documents = len(counts)
    if num_documents < 2 or not counts[:, :2].any():
        return None
    rows, multiplicity = np.unique(counts, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    share = multiplicity / num_documents
    values = []
    for size in chunk_sizes(num_resamples, len(rows)):
        weights = rng.multinomial(num_documents, share, size=size)
        values.append(f1_from_counts(weights @ rows))
    resampled = np.concatenate(values)
    resampled = resampled[~np.isnan(resampled)]  # a resample of nothing but empty documents
    if not len(resampled):
        return None
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class _Counts:
    """What is counted for one type: `[correct, found]` for each way to match."""

    __slots__ = ("exact", "overlap", "predicted", "support", "untyped")

    def __init__(self) -> None:
        self.support = self.predicted = 0
        self.exact, self.untyped, self.overlap = [0, 0], [0, 0], [0, 0]

    def score(self, matches: list[int]) -> Score:
        return Score.from_counts(
            support=self.support, predicted=self.predicted, correct=matches[0], found=matches[1]
        )


def _count_document(
    gold_keys: set[Key], predicted_keys: set[Key], counts: dict[str, _Counts]
) -> None:
    spans = ({_place(key) for key in gold_keys}, {_place(key) for key in predicted_keys})
    gold_by_label, predicted_by_label = _by_label(gold_keys), _by_label(predicted_keys)
    for label in gold_by_label.keys() | predicted_by_label.keys():
        found, answered = gold_by_label.get(label, []), predicted_by_label.get(label, [])
        entry = counts.setdefault(label, _Counts())
        entry.support += len(found)
        entry.predicted += len(answered)
        exact = len(set(found) & set(answered))
        _add(entry.exact, exact, exact)
        _add(
            entry.untyped,
            sum(span in spans[0] for span in answered),
            sum(span in spans[1] for span in found),
        )
        _add(entry.overlap, _num_overlapping(answered, found), _num_overlapping(found, answered))


def _add(matches: list[int], correct: int, found: int) -> None:
    matches[0] += correct
    matches[1] += found


def _place(key: Key) -> _Place:
    return key[0], key[1], key[3] if len(key) == 4 else ()


def _by_label(keys: set[Key]) -> dict[str, list[_Place]]:
    spans: dict[str, list[_Place]] = defaultdict(list)
    for key in sorted(keys):
        spans[key[2]].append(_place(key))
    return spans


def _num_overlapping(spans: list[_Place], others: list[_Place]) -> int:
    """How many spans share a character with at least one of the others (sorted by start).

    A discontinuous entity counts as what lies between its ends.
    """
    starts = [start for start, _, _ in others]
    furthest = list(accumulate((end for _, end, _ in others), max))
    number = 0
    for start, end, _ in spans:
        before = bisect_left(starts, end)  # the others that start before this one ends
        number += before > 0 and furthest[before - 1] > start
    return number


def _table(types: dict[str, Score]) -> ScoreTable:
    present = [row for row in types.values() if row.support or row.predicted]
    counts = {
        name: sum(getattr(row, name) for row in present)
        for name in ("support", "predicted", "correct", "found")
    }
    macro = Score(
        precision=_mean([row.precision for row in present]),
        recall=_mean([row.recall for row in present]),
        f1=_mean([row.f1 for row in present]),
        **counts,
    )
    return ScoreTable(micro=Score.from_counts(**counts), macro=macro, types=types)


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _exact_counts(pairs: list[tuple[set[Key], set[Key]]]) -> NDArray[np.int64]:
    rows = [(len(gold), len(answer), len(gold & answer)) for gold, answer in pairs]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 3)


def _paired_keys(
    gold: Sequence[Document], predicted: Sequence[Document]
) -> list[tuple[set[Key], set[Key]]]:
    if len(gold) != len(predicted):
        raise DataError(
            f"{len(gold)} gold documents but {len(predicted)} predicted ones: expected the same "
            "documents in the same order"
        )
    pairs = []
    for number, (reference, answer) in enumerate(zip(gold, predicted, strict=True), start=1):
        if reference.text != answer.text:
            raise DataError(_text_difference(number, reference, answer))
        pairs.append(
            (
                {entity.key for entity in reference.entities},
                {entity.key for entity in judged_entities(reference, answer)},
            )
        )
    return pairs


def _text_difference(number: int, gold: Document, predicted: Document) -> str:
    lengths = range(min(len(gold.text), len(predicted.text)))
    at = next((i for i in lengths if gold.text[i] != predicted.text[i]), len(lengths))
    name = f"document {number}" + (f" ({gold.id})" if gold.id else "")
    return (
        f"{name} differs between gold and prediction from character {at} on: "
        f"gold has {gold.text[at : at + 20]!r}, prediction has {predicted.text[at : at + 20]!r}; "
        "expected the same documents in the same order"
    )
