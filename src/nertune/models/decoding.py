"""The one decoder: emissions to the best legal tag sequence and to span probabilities.

Softmax and CRF taggers differ only in their `Chain`. It defines a distribution over the legal tag
sequences y of a document of U units,

    p(y) ∝ exp( start[y_1] + Σ_u emission[u, y_u] + Σ_u transition[y_{u-1}, y_u] + end[y_U] ),

with −inf where the tag scheme forbids something. A softmax tagger has zeros elsewhere, a CRF its
learned scores. Plain numpy, so that evaluation, prediction, export and serving share it whatever
computed the emissions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.labels.scheme import TokenSpan
from nertune.labels.tagset import TagSet

__all__ = ["Chain", "decode", "log_partition", "span_probabilities", "viterbi"]

Floats: TypeAlias = NDArray[np.float64]
_GROUP_CELLS = 1 << 17  # units that are decoded side by side, padding counted


@dataclass(frozen=True)
class Chain:
    """The part of the distribution that does not depend on the text. K tags.

    Attributes:
        tagset: the tags.
        start_K, end_K, transition_KK: scores in nats (`[previous, next]`), −inf if illegal.
    """

    tagset: TagSet
    start_K: Floats
    transition_KK: Floats
    end_K: Floats

    @classmethod
    def of(
        cls,
        tagset: TagSet,
        start_K: Floats | None = None,
        transition_KK: Floats | None = None,
        end_K: Floats | None = None,
    ) -> Chain:
        """Learned scores (zeros by default) with what the scheme forbids masked out."""
        size = len(tagset)

        def masked(scores: Floats | None, legal: NDArray[np.bool_]) -> Floats:
            values = np.zeros(legal.shape) if scores is None else scores.astype(np.float64)
            return np.where(legal, values, -np.inf)

        assert transition_KK is None or transition_KK.shape == (size, size)
        return cls(
            tagset,
            masked(start_K, tagset.legal_start_K),
            masked(transition_KK, tagset.legal_KK),
            masked(end_K, tagset.legal_end_K),
        )


def decode(
    emissions: Sequence[NDArray[np.floating]], chain: Chain, *, with_scores: bool = True
) -> list[tuple[list[TokenSpan], list[float]]]:
    """The entities of each document under its most probable legal tag sequence.

    Args:
        emissions: one `[U, K]` array per document, in nats; U may be 0.
        chain: the decoder's scores.
        with_scores: whether to compute the spans' probabilities.

    Returns:
        For each document its spans in units, and their probabilities (empty without scores).
    """
    spans = [chain.tagset.decode(ids) for ids in viterbi(emissions, chain)]
    if not with_scores:
        return [(found, []) for found in spans]
    return list(zip(spans, span_probabilities(emissions, spans, chain), strict=True))


def viterbi(emissions: Sequence[NDArray[np.floating]], chain: Chain) -> list[NDArray[np.intp]]:
    """The most probable legal tag sequence of each document (Viterbi, 1967), batched.

    Ties go to the lower tag id. Emissions that are not finite are refused.

    Raises:
        ValueError: an emission is NaN or infinite.
    """
    best: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)] * len(emissions)
    for rows, emission_LBK, lengths_B in _groups(emissions):
        scores_BK = chain.start_K + emission_LBK[0]
        back_LBK = np.zeros(emission_LBK.shape, dtype=np.int16)
        stay_K = np.arange(emission_LBK.shape[2], dtype=np.int16)
        for step in range(1, len(emission_LBK)):
            paths_BKK = scores_BK[:, :, None] + chain.transition_KK
            choice_BK = paths_BKK.argmax(axis=1)
            goes_on_B1 = (step < lengths_B)[:, None]
            reached_BK = np.take_along_axis(paths_BKK, choice_BK[:, None], axis=1)[:, 0]
            scores_BK = np.where(goes_on_B1, reached_BK + emission_LBK[step], scores_BK)
            back_LBK[step] = np.where(goes_on_B1, choice_BK, stay_K)
        tag_B = (scores_BK + chain.end_K).argmax(axis=1)
        path_LB = np.zeros(emission_LBK.shape[:2], dtype=np.intp)
        every_B = np.arange(len(rows))
        for step in range(len(emission_LBK) - 1, -1, -1):
            path_LB[step] = tag_B
            tag_B = back_LBK[step, every_B, tag_B]
        for column, row in enumerate(rows):
            best[row] = path_LB[: lengths_B[column], column]
    return best


def span_probabilities(
    emissions: Sequence[NDArray[np.floating]],
    spans: Sequence[Sequence[TokenSpan]],
    chain: Chain,
) -> list[list[float]]:
    """The probability of each span: that of all legal sequences holding exactly this entity.

    With forward scores α and backward scores β (Rabiner, 1989), a span of units s … e−1 tagged
    y_s … y_{e−1} has the probability

        α-mass entering y_s · exp(scores within the span) · β-mass leaving it / Z,

    where entering and leaving sum over the tags before and behind it that do not belong to the
    same entity. So it is the CRF's marginal of the tag sequence over the span, both boundaries
    included; for a softmax decoder it is the same quantity with legal transitions of equal weight.

    Args:
        emissions: one `[U, K]` array per document.
        spans: spans in units, as `TagSet.decode` gives them for a legal sequence.
        chain: the decoder's scores.

    Returns:
        Values in [0, 1], in the order of `spans`.
    """
    wanted = [i for i, found in enumerate(spans) if found]
    results: list[list[float]] = [[] for _ in spans]
    chosen = [emissions[i] for i in wanted]
    leaves_KK = np.where(chain.tagset.continues_KK, -np.inf, chain.transition_KK)
    for rows, emission_LBK, lengths_B in _groups(chosen):
        alpha_LBK = _forward(emission_LBK, chain)
        beta_LBK = _backward(emission_LBK, lengths_B, chain)
        for column, row in enumerate(rows):
            length = int(lengths_B[column])
            emission_UK = emission_LBK[:length, column]
            alpha_UK, beta_UK = alpha_LBK[:length, column], beta_LBK[:length, column]
            log_z = float(_logsumexp(alpha_UK[-1] + chain.end_K))
            results[wanted[row]] = [
                _span_probability(span, emission_UK, alpha_UK, beta_UK, log_z, leaves_KK, chain)
                for span in spans[wanted[row]]
            ]
    return results


def _span_probability(
    span: TokenSpan,
    emission_UK: Floats,
    alpha_UK: Floats,
    beta_UK: Floats,
    log_z: float,
    leaves_KK: Floats,
    chain: Chain,
) -> float:
    first, last = span.first, span.last
    probability = 0.0
    for ids in chain.tagset.spell(span.label, last - first):
        enter = (
            float(chain.start_K[ids[0]])
            if first == 0
            else float(_logsumexp(alpha_UK[first - 1] + leaves_KK[:, ids[0]]))
        )
        within = float(emission_UK[range(first, last), ids].sum())
        within += float(chain.transition_KK[ids[:-1], ids[1:]].sum())
        leave = (
            float(chain.end_K[ids[-1]])
            if last == len(emission_UK)
            else float(_logsumexp(leaves_KK[ids[-1]] + emission_UK[last] + beta_UK[last]))
        )
        probability += float(np.exp(min(0.0, enter + within + leave - log_z)))
    return min(1.0, probability)


def log_partition(emission_UK: NDArray[np.floating], chain: Chain) -> float:
    """log Z: the log of the summed weight of all legal tag sequences. U ≥ 1."""
    emission_LBK = emission_UK.astype(np.float64)[:, None]
    return float(_logsumexp(_forward(emission_LBK, chain)[-1, 0] + chain.end_K))


def _forward(emission_LBK: Floats, chain: Chain) -> Floats:
    alpha_LBK = np.empty_like(emission_LBK)
    alpha_LBK[0] = chain.start_K + emission_LBK[0]
    for step in range(1, len(emission_LBK)):
        paths_BKK = alpha_LBK[step - 1][:, :, None] + chain.transition_KK
        alpha_LBK[step] = _logsumexp(paths_BKK, axis=1) + emission_LBK[step]
    return alpha_LBK


def _backward(emission_LBK: Floats, lengths_B: NDArray[np.intp], chain: Chain) -> Floats:
    beta_LBK = np.empty_like(emission_LBK)
    beta_LBK[-1] = chain.end_K
    for step in range(len(emission_LBK) - 2, -1, -1):
        ahead_BK = emission_LBK[step + 1] + beta_LBK[step + 1]
        reached_BK = _logsumexp(chain.transition_KK + ahead_BK[:, None], axis=2)
        ends_here_B1 = (step >= lengths_B - 1)[:, None]
        beta_LBK[step] = np.where(ends_here_B1, chain.end_K, reached_BK)
    return beta_LBK


def _logsumexp(values: Floats, axis: int = -1) -> Floats:
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # log 0 = −inf is what an unreachable tag has
        summed: Floats = np.log(np.exp(values - top).sum(axis=axis)) + top.squeeze(axis)
    return summed


def _groups(
    emissions: Sequence[NDArray[np.floating]],
) -> Iterator[tuple[list[int], Floats, NDArray[np.intp]]]:
    """Documents of like length side by side: their indices, `[L, B, K]` emissions, lengths."""
    order = sorted((i for i, e in enumerate(emissions) if len(e)), key=lambda i: len(emissions[i]))
    while order:
        rows = [order.pop()]
        longest = len(emissions[rows[0]])
        while order and (len(rows) + 1) * longest <= _GROUP_CELLS and len(rows) < 256:
            rows.append(order.pop())
        lengths_B = np.array([len(emissions[i]) for i in rows])
        padded_LBK = np.zeros((longest, len(rows), emissions[rows[0]].shape[1]))
        for column, row in enumerate(rows):
            padded_LBK[: lengths_B[column], column] = emissions[row]
        if not np.isfinite(padded_LBK).all():
            raise ValueError("the model's emissions are not finite (NaN or infinity)")
        yield rows, padded_LBK, lengths_B
