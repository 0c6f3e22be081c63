"""The spans that may be entities, gold or not, each with its out-of-fold probability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nertune.labels.align import align_entities
from nertune.labels.schemes import TokenSpan
from nertune.models.heads.base import Head
from nertune.models.heads.calibration import has_chain
from nertune.models.heads.marginals import tag_marginals
from nertune.semisupervised.audit.out_of_fold import FoldScores
from nertune.types import Document, Entity

__all__ = ["Candidates", "collect_candidates"]

_BIASES = (0.0, 1.0, 2.0, 4.0)  # nats that "no entity" is made less likely by, to find more
_REACH = 2  # units by which the ends of a gold span are moved
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Candidates:
    """What models that were not trained on a document say of it.

    Attributes:
        gold: the entities that can be judged; the score is the out-of-fold probability.
        others: spans that are no gold, likewise; of the spans that any model finds or comes near
            to, and of the neighbours of gold.
        not_judged: gold entities that the models cannot express, and why.
        sizes: of each entity in `gold`, the number of its units; none: taken as 1.
        outside: of each span in `others`, the geometric mean over its units of the probability that
            a unit is in no entity; none, where the head gives no probabilities of tags: taken as
            the probability of no span there.
    """

    gold: tuple[Entity, ...]
    others: tuple[Entity, ...]
    not_judged: tuple[tuple[Entity, str], ...]
    sizes: tuple[int, ...] = ()
    outside: tuple[float, ...] = ()


def collect_candidates(
    documents: Sequence[Document],
    models: Sequence[FoldScores],
    more: Sequence[Sequence[Entity]] = (),
) -> list[Candidates]:
    """The candidates of a fold's documents; probabilities are the means over the fold's models.

    Args:
        documents: those of the fold, with gold.
        models: of the fold, one a seed.
        more: of each document, entities that are to be candidates whatever the models find.
    """
    head = models[0].head
    units = models[0].units
    golds = [_gold(d, u, head) for d, u in zip(documents, units, strict=True)]
    spans: list[set[TokenSpan]] = [set(gold) for gold, _ in golds]
    for model in models:
        for bias in _BIASES:
            found = model.head.spans([_biased(s, model.head, bias) for s in model.scores])
            for own, its_found in zip(spans, found, strict=True):
                own.update(its_found)
    for own, (gold, _), its_units in zip(spans, golds, units, strict=True):
        own.update(_neighbours(gold, len(its_units), head.tagset.labels))
    for own, document, wanted, its_units in zip(spans, documents, more, units, strict=False):
        own.update(_gold(document.with_entities(wanted), its_units, head)[0])
    ordered = [sorted(own) for own in spans]
    probabilities = _mean_probabilities(ordered, models)
    outside = _outside(models)
    return [
        _candidates(gold, missing, its_spans, its_units, values, log_outside_U)
        for (gold, missing), its_spans, its_units, values, log_outside_U in zip(
            golds, ordered, units, probabilities, outside, strict=True
        )
    ]


def _gold(
    document: Document, units: Sequence[tuple[int, int]], head: Head
) -> tuple[dict[TokenSpan, Entity], list[tuple[Entity, str]]]:
    """The gold that can be judged, by its span in units; and what cannot, with the reason."""
    known = set(head.tagset.labels)
    named = [e for e in document.entities if e.label in known]
    whole = align_entities(document.with_entities(named), units)
    lost = [(item.entity, item.reason) for item in whole.lost]
    lost += [
        (entity, f"no other fold has the label {entity.label}")
        for entity in document.entities
        if entity.label not in known
    ]
    lost_keys = {entity.key for entity, _ in lost}
    spans = {}
    for entity in named:
        if entity.key not in lost_keys:
            (span,) = align_entities(document.with_entities([entity]), units).spans
            spans[span] = entity
    return spans, lost


def _biased(scores_UK: NDArray[np.float32], head: Head, bias: float) -> NDArray[np.float32]:
    """The same scores with "no entity" less likely."""
    outside = head.tagset.find("O", "")
    if not bias or outside is None:
        return scores_UK
    scores_UK = scores_UK.copy()
    scores_UK[:, outside] -= bias
    return scores_UK


def _neighbours(
    gold: Iterable[TokenSpan], num_units: int, labels: Sequence[str]
) -> Iterable[TokenSpan]:
    """Gold spans with their ends moved a little, and with every other label."""
    for span in gold:
        for label in labels:
            yield TokenSpan(span.first, span.last, label)
        for first in range(max(0, span.first - _REACH), span.first + _REACH + 1):
            for last in range(span.last - _REACH, min(num_units, span.last + _REACH) + 1):
                if first < last:
                    yield TokenSpan(first, last, span.label)


def _mean_probabilities(
    spans: Sequence[Sequence[TokenSpan]], models: Sequence[FoldScores]
) -> list[NDArray[np.float64]]:
    summed = [np.zeros(len(own)) for own in spans]
    for model in models:
        for values, found in zip(
            summed, model.head.probabilities(model.scores, spans), strict=True
        ):
            values += np.array(found, dtype=np.float64) / len(models)
    return summed


def _outside(models: Sequence[FoldScores]) -> list[NDArray[np.float64] | None]:
    """The log-probability of each unit to be in no entity, `[U]`; `None` without such a tag."""
    head = models[0].head
    outside = head.tagset.find("O", "")
    if outside is None or not has_chain(head):
        return [None] * len(models[0].units)
    summed = [np.zeros(len(units)) for units in models[0].units]
    for model in models:
        chain = cast("Any", model.head).chain()
        found = tag_marginals(model.scores, chain, temperature=1.0)
        for own_U, tags_UK in zip(summed, found, strict=True):
            own_U += tags_UK[:, outside] / len(models)
    return [np.log(np.maximum(own_U, _TINY)) for own_U in summed]


def _candidates(
    gold: dict[TokenSpan, Entity],
    missing: list[tuple[Entity, str]],
    spans: Sequence[TokenSpan],
    units: Sequence[tuple[int, int]],
    values: NDArray[np.float64],
    log_outside_U: NDArray[np.float64] | None,
) -> Candidates:
    """Spans in characters; gold keeps its own ends, with the white space that may be there."""
    own, others, sizes, outside = [], [], [], []
    for span, value in zip(spans, values.tolist(), strict=True):
        if span in gold:
            entity = gold[span]
            own.append(Entity(entity.start, entity.end, entity.label, value))
            sizes.append(span.last - span.first)
        else:
            start, end = units[span.first][0], units[span.last - 1][1]
            others.append(Entity(start, end, span.label, value))
            if log_outside_U is not None:
                outside.append(float(np.exp(log_outside_U[span.first : span.last].mean())))
    return Candidates(tuple(own), tuple(others), tuple(missing), tuple(sizes), tuple(outside))
