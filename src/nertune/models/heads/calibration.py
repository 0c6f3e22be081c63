"""Calibrated probabilities: what turns a head's probabilities into shares that can be relied on.

Of the entities that carry a score of 0.8, eight in ten should be right. A trained tagger is most
often surer than that. Three steps mend it, each with few parameters (`evaluation.calibration` fits
them on dev):

    p_T   the probability of the span with all scores divided by a temperature
          (Guo et al., 2017, "On calibration of modern neural networks");
    p     σ(slope · logit p_T + bias + length · ln(units) + label offset)
          (Platt, 1999, with the span's length and label as further features);
    and the same, without length and label, for the probability of a whole tag sequence.

Neither changes which entities are found: the best tag sequence is that without calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nertune.labels.schemes import TokenSpan
from nertune.models.heads.decoder import Decoder, ScoreArrays
from nertune.models.heads.decoding import best_log_probabilities

__all__ = ["LOGIT_LIMIT", "Calibration", "has_chain", "logit", "sequence_log_odds", "sigmoid"]

LOGIT_LIMIT = 20.0
"""Log-odds are cut off here: beyond it float64 cannot tell a probability from 0 or 1."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Calibration(BaseModel):
    """How a tagger's probabilities are calibrated; the default changes nothing.

    Attributes:
        temperature: divides all scores, in (0, 100].
        slope, bias: of a span's log-odds. The slope is positive, so that of two spans alike in
            length and label the likelier one stays the likelier.
        length: times the natural logarithm of the span's number of units.
        labels: offsets by label; 0 for those that are missing.
        sequence_slope, sequence_bias: of the log-odds of a document's tag sequence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)
    slope: float = Field(1.0, gt=0, allow_inf_nan=False)
    bias: _Finite = 0.0
    length: _Finite = 0.0
    labels: dict[str, _Finite] = {}
    sequence_slope: float = Field(1.0, gt=0, allow_inf_nan=False)
    sequence_bias: _Finite = 0.0

    @property
    def changes_spans(self) -> bool:
        """Whether the probabilities of spans differ from those of the head."""
        return self.temperature != 1.0 or self._bends

    @property
    def _bends(self) -> bool:
        return (self.slope, self.bias, self.length) != (1.0, 0.0, 0.0) or any(self.labels.values())

    def probabilities(
        self, head: Decoder, scores: ScoreArrays, spans: Sequence[Sequence[TokenSpan]]
    ) -> list[list[float]]:
        """The calibrated probability of each span, in [0, 1].

        Args:
            head: what the scores belong to.
            scores: one `[U, K]` array a document.
            spans: in units, of each document; any, whether they are predicted or not.
        """
        if self.temperature == 1.0:
            found = head.probabilities(scores, spans)
        else:
            tempered: Any = head  # a head with a chain, see `fit_calibration`
            found = tempered.probabilities(scores, spans, temperature=self.temperature)
        if not self._bends:
            return found
        return [self._bend(p, s) for p, s in zip(found, spans, strict=True)]

    def _bend(self, probabilities: Sequence[float], spans: Sequence[TokenSpan]) -> list[float]:
        if not spans:
            return []
        length_N = np.log([span.last - span.first for span in spans])
        label_N = np.array([self.labels.get(span.label, 0.0) for span in spans])
        logit_N = self.slope * logit(np.array(probabilities)) + self.bias
        bent: list[float] = sigmoid(logit_N + self.length * length_N + label_N).tolist()
        return bent

    def confidences(self, head: Decoder, scores: ScoreArrays) -> list[float]:
        """For each document the probability in [0, 1] that its entities are right, all and no more.

        It is that of the best tag sequence, calibrated. A document without a unit has 1.

        Raises:
            ValueError: the head has no chain, or a score is NaN or infinite.
        """
        odds_N = sequence_log_odds(head, scores, self.temperature)
        sure_N = sigmoid(self.sequence_slope * odds_N + self.sequence_bias)
        empty_N = np.array([len(scores_UK) == 0 for scores_UK in scores], dtype=bool)
        confident: list[float] = np.where(empty_N, 1.0, sure_N).tolist()
        return confident


def has_chain(head: Decoder) -> bool:
    """Whether a head's entities are runs in a tag sequence, which has a probability of its own."""
    return hasattr(head, "chain")


def sequence_log_odds(
    head: Decoder, scores: ScoreArrays, temperature: float
) -> NDArray[np.float64]:
    """The log-odds of each document's best tag sequence, cut off at ± `LOGIT_LIMIT` · 10.

    Long documents have tiny probabilities; the limit is wide enough to tell them apart.

    Raises:
        ValueError: the head has no chain.
    """
    if not has_chain(head):
        raise ValueError(f"the head {type(head).__name__} gives no probability of a whole document")
    chained: Any = head
    log_N = best_log_probabilities(scores, chained.chain(), temperature)
    odds_N = log_N - np.log(-np.expm1(np.minimum(log_N, -1e-9)))
    clipped: NDArray[np.float64] = odds_N.clip(-10 * LOGIT_LIMIT, LOGIT_LIMIT)
    return clipped


def logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds, cut off at ± `LOGIT_LIMIT`."""
    with np.errstate(divide="ignore"):
        odds: NDArray[np.float64] = np.log(probability) - np.log1p(-probability)
    return odds.clip(-LOGIT_LIMIT, LOGIT_LIMIT)


def sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of log-odds, without overflow."""
    result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return result
