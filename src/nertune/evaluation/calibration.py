"""Whether scores can be relied on, and how to make them so.

`measure_reliability` says how far the scores of predicted entities are from the share that is
right; `fit_calibration` finds, on dev, the `Calibration` that brings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.evaluation.metrics import judged_entities
from nertune.evaluation.resampling import source_documents
from nertune.labels.align import spans_to_entities
from nertune.labels.schemes import TokenSpan
from nertune.models.heads.base import Head, Scores
from nertune.models.heads.calibration import (
    Calibration,
    has_chain,
    logit,
    sequence_log_odds,
    sigmoid,
)
from nertune.models.heads.decoding import log_partitions, sequence_scores
from nertune.types import Document

__all__ = [
    "THRESHOLDS",
    "FittedCalibration",
    "Reliability",
    "ReliabilityBin",
    "ThresholdScore",
    "calibration_error",
    "fit_calibration",
    "measure_reliability",
]

Floats: TypeAlias = NDArray[np.float64]
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""The scores at which precision and recall are shown."""
_NUM_BINS = 10
_NUM_FOLDS = 5
_LEAST_SPANS = 30  # predicted on dev; with fewer there is nothing to fit
_MOST_DOCUMENTS = 400  # that the temperature is fitted on
_RIDGES = (0.5, 2.0, 8.0)  # strengths of the pull towards no change, in observations
_TEMPERATURES = (0.2, 10.0)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predicted entities of about the same score.

    Attributes:
        low, high: the lowest and highest score.
        mean_score: in [0, 1].
        precision: the share that is right.
        count: how many there are.
    """

    low: float
    high: float
    mean_score: float
    precision: float
    count: int


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """What is left if entities below a score are dropped.

    Attributes:
        threshold: the score.
        kept: the share of the predicted entities that is left.
        precision, recall, f1: of what is left, against all gold; `None` where undefined.
    """

    threshold: float
    kept: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores can be relied on.

    Attributes:
        ece: expected calibration error in [0, 1]: the mean distance between score and precision,
            over ten bins of equal size (Naeini et al., 2015, with the bins of Nguyen & O'Connor,
            2015). It cannot be 0: of n entities chance alone makes about 0.8 √(10 p (1 − p) / n).
        ece_ci95: 95 % bootstrap interval over documents; `None` with fewer than two.
        brier: mean squared distance between score and outcome.
        log_loss: mean negative log-likelihood of the outcomes, in nats.
        num_entities: predicted entities.
        bins: from low to high scores; their means make the reliability figure.
        thresholds: precision and recall at each of `THRESHOLDS`.
    """

    ece: float
    ece_ci95: tuple[float, float] | None
    brier: float
    log_loss: float
    num_entities: int
    bins: tuple[ReliabilityBin, ...]
    thresholds: tuple[ThresholdScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure_reliability(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Reliability | None:
    """How far the scores of predicted entities are from the share of them that is right.

    Predictions that partially labelled gold cannot judge do not count, as in `metrics.score`.

    Args:
        gold: documents with gold entities.
        predicted: the same documents with predicted ones, all with a score.
        num_resamples: of the bootstrap; 0 gives no interval.
        seed: of the bootstrap.

    Returns:
        `None` where nothing is predicted.

    Raises:
        ValueError: a predicted entity has no score.
    """
    outcome = _outcomes(gold, predicted)
    if not len(outcome.score_N):
        return None
    score_N, right_N = outcome.score_N, outcome.right_N
    sure_N = score_N.clip(1e-12, 1 - 1e-12)
    losses_N = np.where(right_N, -np.log(sure_N), -np.log1p(-sure_N))
    return Reliability(
        ece=calibration_error(score_N, right_N),
        ece_ci95=_interval(outcome, gold, num_resamples, seed),
        brier=float(((score_N - right_N) ** 2).mean()),
        log_loss=float(losses_N.mean()),
        num_entities=len(score_N),
        bins=_bins(score_N, right_N),
        thresholds=tuple(_at(threshold, outcome, gold) for threshold in THRESHOLDS),
    )


def calibration_error(
    score_N: Floats, right_N: NDArray[np.bool_], weight_N: Floats | None = None
) -> float:
    """Expected calibration error over ten bins of equal weight.

    Args:
        score_N: scores in [0, 1]; at least one.
        right_N: whether each is right.
        weight_N: how often each counts; by default once.
    """
    order_N = np.argsort(score_N, kind="stable")
    weights_N = np.ones(len(score_N)) if weight_N is None else weight_N[order_N]
    total = weights_N.sum()
    middle_N = np.cumsum(weights_N) - weights_N / 2
    bin_N = np.minimum((middle_N / total * _NUM_BINS).astype(np.intp), _NUM_BINS - 1)
    gap_N = weights_N * (right_N[order_N] - score_N[order_N])
    return float(np.abs(np.bincount(bin_N, gap_N, _NUM_BINS)).sum() / total)


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Predicted entities: score, whether it is right, and the number of its document."""

    score_N: Floats
    right_N: NDArray[np.bool_]
    document_N: NDArray[np.intp]


def _outcomes(gold: Sequence[Document], predicted: Sequence[Document]) -> _Outcomes:
    scores: list[float] = []
    right: list[bool] = []
    documents: list[int] = []
    for number, (truth, found) in enumerate(zip(gold, predicted, strict=True)):
        keys = {entity.key for entity in truth.entities}
        for entity in judged_entities(truth, found):
            if entity.score is None:
                raise ValueError(f"{found.id}: {entity!r} has no score")
            scores.append(entity.score)
            right.append(entity.key in keys)
            documents.append(number)
    return _Outcomes(np.array(scores), np.array(right, dtype=bool), np.array(documents, np.intp))


def _interval(
    outcome: _Outcomes, gold: Sequence[Document], num_resamples: int, seed: int
) -> tuple[float, float] | None:
    """Percentile bootstrap over documents, whole source documents where they are known."""
    sources = source_documents(gold)
    owner_N = outcome.document_N if sources is None else sources[outcome.document_N]
    num_owners = len(gold) if sources is None else int(sources.max()) + 1
    if num_owners < 2 or not num_resamples:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num_resamples):
        drawn = rng.multinomial(num_owners, np.full(num_owners, 1 / num_owners))
        weight_N = drawn[owner_N].astype(np.float64)
        if weight_N.any():
            found.append(calibration_error(outcome.score_N, outcome.right_N, weight_N))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _bins(score_N: Floats, right_N: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    order_N = np.argsort(score_N, kind="stable")
    return tuple(
        ReliabilityBin(
            float(score_N[part].min()),
            float(score_N[part].max()),
            float(score_N[part].mean()),
            float(right_N[part].mean()),
            len(part),
        )
        for part in np.array_split(order_N, _NUM_BINS)
        if len(part)
    )


def _at(threshold: float, outcome: _Outcomes, gold: Sequence[Document]) -> ThresholdScore:
    kept_N = outcome.score_N >= threshold
    num_kept, correct = int(kept_N.sum()), int(outcome.right_N[kept_N].sum())
    num_gold = sum(len({e.key for e in document.entities}) for document in gold)
    f1 = 2 * correct / (num_kept + num_gold) if num_kept + num_gold else None
    return ThresholdScore(
        threshold,
        num_kept / len(kept_N),
        correct / num_kept if num_kept else None,
        correct / num_gold if num_gold else None,
        f1,
    )


# -------------------------------------------------------------------------------------- fitting


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
    scores: Scores,
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
    chosen = [i for i, document in enumerate(documents) if document.scope.is_full]
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
    calibration: Calibration, head: Head, scores: Scores, documents: Sequence[Document], cut: _Cut
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
    scores: Scores,
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
    head: Head, scores: Scores, documents: Sequence[Document], cut: _Cut, temperature: float
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
