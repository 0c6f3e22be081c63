"""Find, on dev, the `Calibration` under which scores are the share that is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.evaluation.reliability import calibration_error
from nertune.labels.align import spans_to_entities
from nertune.labels.schemes import TokenSpan
from nertune.models.heads.base import Head
from nertune.models.heads.calibration import (
    Calibration,
    has_chain,
    logit,
    sequence_log_odds,
    sigmoid,
)
from nertune.models.heads.decoder import Decoder, ScoreArrays
from nertune.models.heads.decoding import log_partitions, sequence_scores
from nertune.types import Document

__all__ = ["FittedCalibration", "fit_calibration"]

Floats: TypeAlias = NDArray[np.float64]
_NUM_FOLDS = 5
_LEAST_SPANS = 30  # predicted on dev; with fewer there is nothing to fit
_MOST_DOCUMENTS = 400  # that the temperature is fitted on
_RIDGES = (0.5, 2.0, 8.0)  # strengths of the pull towards no change, in observations
_TEMPERATURES = (0.2, 10.0)


@dataclass(frozen=True, slots=True)
class FittedCalibration:
    """A calibration, and what it was fitted on.

    Attributes:
        calibration: what was fitted.
        steps: what of it was worth its parameters: `temperature`, `platt`, `length`, `label`.
        num_entities: predicted entities that it was fitted on.
        ece_before: expected calibration error of the head's own probabilities there.
        ece_after: the same after calibration, each entity by parameters that were fitted without
            its document (five folds; the temperature apart).
    """

    calibration: Calibration
    steps: tuple[str, ...]
    num_entities: int
    ece_before: float
    ece_after: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"calibration": self.calibration.model_dump(mode="json")}


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The predicted spans of dev: log-odds, features, outcome and document of each."""

    logit_N: Floats
    length_N: Floats
    labels: tuple[str, ...]
    right_N: NDArray[np.bool_]
    document_N: NDArray[np.intp]

    def features(self, steps: Sequence[str], names: Sequence[str]) -> Floats:
        """`[N, F]`: a constant, the log-odds, and what `steps` ask for."""
        columns = [np.ones(len(self.logit_N)), self.logit_N]
        if "length" in steps:
            columns.append(self.length_N)
        if "label" in steps:
            columns += [np.array([x == name for x in self.labels], float) for name in names]
        return np.stack(columns, axis=1)


def fit_calibration(
    head: Head,
    scores: ScoreArrays,
    documents: Sequence[Document],
    units: Sequence[Sequence[tuple[int, int]]],
) -> FittedCalibration | None:
    """Fit a calibration on documents that were not trained on.

    The temperature minimises the negative log-likelihood of the gold tag sequences (Guo et al.,
    2017). Of Platt scaling without more, with the length, and with length and label, and of several
    strengths of a Gaussian prior at "no change", five-fold cross-validation over documents takes
    what has the lowest log loss; if none is better than the temperature alone, that stays.

    Args:
        head: whose probabilities are calibrated.
        scores: one `[U, K]` array a document.
        documents: with gold entities; those that are labelled in part are left out.
        units: the spans of each document's units.

    Returns:
        `None` where fewer than 30 entities are predicted, or all are right, or none is.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    known = head.tagset.labels
    chosen = [i for i, document in enumerate(documents) if document.scope.is_full_for(known)]
    scores = [scores[i] for i in chosen]
    documents, units = [documents[i] for i in chosen], [units[i] for i in chosen]
    spans = head.spans(scores)
    num_spans = sum(map(len, spans))
    if num_spans < _LEAST_SPANS:
        return None
    temperature = _fit_temperature(head, scores, documents, units)
    raw = _evidence(Calibration(), head, scores, documents, (units, spans))
    if raw.right_N.all() or not raw.right_N.any():
        return None
    warm = _evidence(Calibration(temperature=temperature), head, scores, documents, (units, spans))
    losses = [_log_loss(sigmoid(e.logit_N), e.right_N) for e in (raw, warm)]
    if losses[0] <= losses[1]:  # what gold sequences want may not be what single spans want
        temperature, warm = 1.0, raw
    names = tuple(sorted(set(warm.labels)))
    steps, ridge, held_out_N = _choose(warm, names)
    values: dict[str, Any] = {}
    if steps:
        weights_F = _fit(warm.features(steps, names), warm.right_N, ridge)
        values = _unpack(weights_F, steps, names)
    if has_chain(head):
        values |= _fit_sequences(head, scores, documents, (units, spans), temperature)
    named = (*(("temperature",) if temperature != 1.0 else ()), *steps)
    return FittedCalibration(
        Calibration(temperature=temperature, **values),
        named,
        num_spans,
        calibration_error(sigmoid(raw.logit_N), raw.right_N),
        calibration_error(held_out_N, warm.right_N),
    )


_Cut: TypeAlias = tuple[Sequence[Sequence[tuple[int, int]]], Sequence[Sequence[TokenSpan]]]
"""The units of each document, and the spans that are predicted in it."""


def _evidence(
    calibration: Calibration,
    head: Decoder,
    scores: ScoreArrays,
    documents: Sequence[Document],
    cut: _Cut,
) -> _Evidence:
    units, spans = cut
    found = calibration.probabilities(head, scores, spans)
    right = [r for row in _right(documents, units, spans) for r in row]
    flat = [span for row in spans for span in row]
    return _Evidence(
        logit(np.array([p for row in found for p in row])),
        np.log([span.last - span.first for span in flat]),
        tuple(span.label for span in flat),
        np.array(right, dtype=bool),
        np.repeat(np.arange(len(spans)), [len(row) for row in spans]),
    )


def _right(
    documents: Sequence[Document],
    units: Sequence[Sequence[tuple[int, int]]],
    spans: Sequence[Sequence[TokenSpan]],
) -> list[list[bool]]:
    """Whether each predicted span is a gold entity."""
    keys = [{entity.key for entity in document.entities} for document in documents]
    return [
        [entity.key in gold for entity in spans_to_entities(found, cut)]
        for gold, found, cut in zip(keys, spans, units, strict=True)
    ]


def _fit_temperature(
    head: Head,
    scores: ScoreArrays,
    documents: Sequence[Document],
    units: Sequence[Sequence[tuple[int, int]]],
) -> float:
    """The temperature that makes gold tag sequences likeliest; 1 where a head has no chain."""
    if not has_chain(head):
        return 1.0
    known = set(head.tagset.labels)
    chained: Any = head
    chain = chained.chain()
    chosen, sequences = [], []
    for i in np.random.default_rng(0).permutation(len(documents)).tolist():
        if any(entity.label not in known for entity in documents[i].entities):
            continue
        values = np.asarray(head.targets(documents[i], units[i]).values)
        if len(values) and values.ndim == 1 and (values >= 0).all():
            chosen.append(scores[i])
            sequences.append(values)
        if len(chosen) == _MOST_DOCUMENTS:
            break
    gold_N = sequence_scores(chosen, sequences, chain)
    legal = np.isfinite(gold_N)
    if not legal.any():
        return 1.0
    chosen = [scores_UK for scores_UK, is_legal in zip(chosen, legal, strict=True) if is_legal]

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        log_z_N = log_partitions(chosen, chain, temperature)
        return float((log_z_N - gold_N[legal] / temperature).sum())

    return float(np.exp(_minimise(loss, *np.log(_TEMPERATURES))))


def _minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """The lowest point of a function of one valley, by golden section (Kiefer, 1953)."""
    shrink = (5**0.5 - 1) / 2
    a, b = high - shrink * (high - low), low + shrink * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    while high - low > 0.01:
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - shrink * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + shrink * (high - low)
            loss_b = loss(b)
    return (low + high) / 2


_STEPS: tuple[tuple[str, ...], ...] = (
    ("platt",),
    ("platt", "length"),
    ("platt", "length", "label"),
)


def _choose(evidence: _Evidence, names: Sequence[str]) -> tuple[tuple[str, ...], float, Floats]:
    """What is worth fitting, how strong the prior is, and the probabilities held out."""
    best: tuple[tuple[str, ...], float, Floats] = ((), 0.0, sigmoid(evidence.logit_N))
    lowest = _log_loss(best[2], evidence.right_N)
    fold_N = np.random.default_rng(0).permutation(int(evidence.document_N.max()) + 1) % _NUM_FOLDS
    own_N = fold_N[evidence.document_N]
    for steps in _STEPS:
        features_NF = evidence.features(steps, names)
        for ridge in _RIDGES:
            held_out_N = np.empty(len(features_NF))
            for fold in range(_NUM_FOLDS):
                inside_N = own_N != fold
                weights_F = _fit(features_NF[inside_N], evidence.right_N[inside_N], ridge)
                held_out_N[~inside_N] = sigmoid(features_NF[~inside_N] @ weights_F)
            loss = _log_loss(held_out_N, evidence.right_N)
            if loss < lowest:
                lowest, best = loss, (steps, ridge, held_out_N)
    return best


def _log_loss(score_N: Floats, right_N: NDArray[np.bool_]) -> float:
    sure_N = np.where(right_N, score_N, 1 - score_N).clip(1e-12, 1.0)
    return float(-np.log(sure_N).sum())


def _fit(features_NF: Floats, right_N: NDArray[np.bool_], ridge: float) -> Floats:
    """Logistic regression with a Gaussian prior at "no change", by Newton's method.

    The first two features are the constant and the log-odds, whose slope stays above 0.05.
    """
    identity_F = np.zeros(features_NF.shape[1])
    identity_F[1] = 1.0
    weights_F = identity_F.copy()
    for _ in range(50):
        sure_N = sigmoid(features_NF @ weights_F)
        slope_F = features_NF.T @ (sure_N - right_N) + ridge * (weights_F - identity_F)
        curve_N = sure_N * (1 - sure_N)
        curve_FF = features_NF.T @ (features_NF * curve_N[:, None])
        curve_FF += ridge * np.eye(len(weights_F))
        step_F = np.linalg.solve(curve_FF, slope_F)
        step_F *= min(1.0, 2.0 / max(float(np.abs(step_F).max()), 1e-12))
        weights_F = weights_F - step_F
        weights_F[1] = max(weights_F[1], 0.05)
        if np.abs(step_F).max() < 1e-8:
            break
    return weights_F


def _unpack(weights_F: Floats, steps: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"bias": float(weights_F[0]), "slope": float(weights_F[1])}
    rest = weights_F[2:]
    if "length" in steps:
        values["length"], rest = float(rest[0]), rest[1:]
    if "label" in steps:
        values["labels"] = dict(zip(names, map(float, rest), strict=True))
    return values


def _fit_sequences(
    head: Decoder, scores: ScoreArrays, documents: Sequence[Document], cut: _Cut, temperature: float
) -> dict[str, float]:
    """Slope and bias of the probability that a document's entities are right, all and no more."""
    units, spans = cut
    right = _right(documents, units, spans)
    correct_N = np.array(
        [
            all(row) and len(row) == len({e.key for e in document.entities})
            for row, document in zip(right, documents, strict=True)
        ]
    )
    wanted_N = np.array([len(scores_UK) > 0 for scores_UK in scores])
    if correct_N[wanted_N].all() or not correct_N[wanted_N].any():
        return {}
    odds_N = sequence_log_odds(head, scores, temperature)[wanted_N]
    features_NF = np.stack([np.ones(len(odds_N)), odds_N], axis=1)
    weights_F = _fit(features_NF, correct_N[wanted_N], _RIDGES[0])
    return {"sequence_bias": float(weights_F[0]), "sequence_slope": float(weights_F[1])}
