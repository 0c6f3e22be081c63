"""How far the scores of predicted entities are from the share of them that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.evaluation.metrics import judged_entities
from nertune.evaluation.resampling import source_documents
from nertune.types import Document

__all__ = [
    "THRESHOLDS",
    "Reliability",
    "ReliabilityBin",
    "ThresholdScore",
    "calibration_error",
    "measure_reliability",
]

Floats: TypeAlias = NDArray[np.float64]
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""The scores at which precision and recall are shown."""
_NUM_BINS = 10
_NUM_DRAWS = 200


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
            2015).
        ece_by_chance: what it would be on average if all scores were exact probabilities: with
            few entities, far from 0.
        ece_ci95: 95 % bootstrap interval over documents, less the bootstrap's bias (a resample has
            fewer different entities, and so a larger error); `None` with fewer than two.
        brier: mean squared distance between score and outcome.
        log_loss: mean negative log-likelihood of the outcomes, in nats.
        num_entities: predicted entities.
        bins: from low to high scores; their means make the reliability figure.
        thresholds: precision and recall at each of `THRESHOLDS`.
    """

    ece: float
    ece_by_chance: float
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
        ece_by_chance=_error_by_chance(score_N, seed),
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


def _error_by_chance(score_N: Floats, seed: int) -> float:
    """The mean error of exact scores: outcomes are drawn as the scores say."""
    rng = np.random.default_rng(seed)
    drawn = (rng.random(len(score_N)) < score_N for _ in range(_NUM_DRAWS))
    return float(np.mean([calibration_error(score_N, right_N) for right_N in drawn]))


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
    """Bootstrap over documents, whole source documents where they are known.

    The percentiles are moved by the estimated bias (Efron & Tibshirani, 1993, chapter 10): the mean
    of the resamples less the error itself. Without this, the interval of a well calibrated model
    lies above its error.
    """
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
    bias = float(np.mean(found)) - calibration_error(outcome.score_N, outcome.right_N)
    low, high = np.quantile(found, [0.025, 0.975]) - bias
    return max(0.0, float(low)), max(0.0, float(high))


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
