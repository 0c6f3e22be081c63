"""Decoding of tag sequences: the best legal one, and the probabilities of spans.

Softmax and CRF heads differ only in their `Chain`. It defines a distribution over the legal tag
sequences y of a document of U units,

    p(y) ∝ exp( start[y_1] + Σ_u emission[u, y_u] + Σ_u transition[y_{u-1}, y_u] + end[y_U] ),

with −inf where the tag scheme forbids something. A softmax head has zeros elsewhere, a CRF its
learned scores. Plain numpy, so that evaluation, prediction, export and serving share it whatever
computed the emissions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet

__all__ = [
    "Chain",
    "Floats",
    "best_log_probabilities",
    "document_groups",
    "forward_backward",
    "log_partitions",
    "sequence_scores",
    "span_probabilities",
    "viterbi",
]

Floats: TypeAlias = NDArray[np.float64]
_GROUP_CELLS = 1 << 17  # units that are decoded side by side, padding counted
_NOT_FINITE = "the model's logits are not finite (NaN or infinity)"
_LOWEST = -1e300  # in the place of −inf where that would be subtracted from itself


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

    def tempered(self, temperature: float) -> Chain:
        """The chain with all scores divided by a temperature, which is positive."""
        if temperature == 1.0:
            return self
        scores = (self.start_K, self.transition_KK, self.end_K)
        return Chain(self.tagset, *(part / temperature for part in scores))

    @property
    def is_flat(self) -> bool:
        """Whether all legal sequences weigh the same but for their emissions, as with softmax."""
        scores = (self.start_K, self.transition_KK, self.end_K)
        return all(not np.any(part[np.isfinite(part)]) for part in scores)


def viterbi(emissions: Sequence[NDArray[np.floating]], chain: Chain) -> list[NDArray[np.intp]]:
    """The most probable legal tag sequence of each document (Viterbi, 1967), batched.

    Ties go to the lower tag id. Emissions that are not finite are refused.

    Raises:
        ValueError: an emission is NaN or infinite.
    """
    best = _likeliest(emissions, chain)
    left = [i for i, found in enumerate(best) if found is None]
    into_KK = np.ascontiguousarray(chain.transition_KK.T)  # [next, previous]
    for rows, emission_LBK, lengths_B in document_groups([emissions[i] for i in left]):
        active_L = _active(lengths_B)
        scores_BK = chain.start_K + emission_LBK[0]
        back_LBK = np.zeros(emission_LBK.shape, dtype=np.int16)
        for step in range(1, len(emission_LBK)):
            n = active_L[step]
            paths_BKK = scores_BK[:n, None, :] + into_KK
            back_LBK[step, :n] = paths_BKK.argmax(axis=2)
            scores_BK[:n] = paths_BKK.max(axis=2) + emission_LBK[step, :n]
        tag_B = (scores_BK + chain.end_K).argmax(axis=1)
        path_BL = np.zeros(emission_LBK.shape[1::-1], dtype=np.intp)
        every_B = np.arange(len(rows))
        for step in range(len(emission_LBK) - 1, -1, -1):
            n = active_L[step]
            path_BL[:n, step] = tag_B[:n]
            tag_B[:n] = back_LBK[step, every_B[:n], tag_B[:n]]
        for column, row in enumerate(rows):
            best[left[row]] = path_BL[column, : lengths_B[column]]
    return [np.zeros(0, dtype=np.intp) if found is None else found for found in best]


def _likeliest(
    emissions: Sequence[NDArray[np.floating]], chain: Chain
) -> list[NDArray[np.intp] | None]:
    """Each unit's likeliest tag, of documents where nothing else needs to be asked.

    Where transitions weigh nothing, that is the best sequence if it is legal: no other can be
    better, and of equal ones it has the lower tag ids. `None` for the other documents.
    """
    if not emissions or not chain.is_flat or not sum(map(len, emissions)):
        return [None] * len(emissions)
    joint_NK = np.concatenate(emissions)
    if not np.isfinite(joint_NK).all():
        raise ValueError(_NOT_FINITE)
    id_N = joint_NK.argmax(axis=1)
    legal_N = np.ones(len(id_N), dtype=bool)
    legal_N[1:] = np.isfinite(chain.transition_KK)[id_N[:-1], id_N[1:]]
    found: list[NDArray[np.intp] | None] = []
    end = 0
    for emission_UK in emissions:
        start, end = end, end + len(emission_UK)
        is_legal = start < end and bool(
            legal_N[start + 1 : end].all()
            and np.isfinite(chain.start_K[id_N[start]])
            and np.isfinite(chain.end_K[id_N[end - 1]])
        )
        found.append(id_N[start:end] if is_legal else None)
    return found


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
    for rows, emission_LBK, lengths_B in document_groups([emissions[i] for i in wanted]):
        alpha_LBK, beta_LBK = forward_backward(emission_LBK, lengths_B, chain)
        every_B = np.arange(len(rows))
        log_z_B = _logsumexp(alpha_LBK[lengths_B - 1, every_B] + chain.end_K)
        found = [spans[wanted[row]] for row in rows]
        values = _probabilities(found, emission_LBK, lengths_B, alpha_LBK, beta_LBK, log_z_B, chain)
        for row, its_own in zip(rows, found, strict=True):
            results[wanted[row]] = values[: len(its_own)]
            values = values[len(its_own) :]
    return results


def _probabilities(
    found: Sequence[Sequence[TokenSpan]],
    emission_LBK: Floats,
    lengths_B: NDArray[np.intp],
    alpha_LBK: Floats,
    beta_LBK: Floats,
    log_z_B: Floats,
    chain: Chain,
) -> list[float]:
    """The probabilities of all spans, document by document; S spellings, C units in them."""
    owners: list[int] = []  # the span of each spelling: IOB1 and BIOS have two of some
    columns: list[int] = []
    firsts: list[int] = []
    ids: list[list[int]] = []
    num_spans = 0
    for column, spans in enumerate(found):
        for span in spans:
            for spelling in chain.tagset.spell(span.label, span.last - span.first):
                owners.append(num_spans)
                columns.append(column)
                firsts.append(span.first)
                ids.append(spelling)
            num_spans += 1
    if not ids:
        return [0.0] * num_spans
    size_S = np.array([len(row) for row in ids])
    begin_S = np.cumsum(size_S) - size_S
    end_S = begin_S + size_S - 1
    column_S, first_S = np.array(columns), np.array(firsts)
    last_S = first_S + size_S - 1
    id_C = np.concatenate(ids)
    unit_C = np.arange(len(id_C)) + np.repeat(first_S - begin_S, size_S)
    value_C = emission_LBK[unit_C, np.repeat(column_S, size_S), id_C]
    step_C = np.zeros(len(id_C))
    step_C[1:] = chain.transition_KK[id_C[:-1], id_C[1:]]
    step_C[begin_S] = 0.0  # between two spellings there is no transition
    within_S = np.add.reduceat(value_C + step_C, begin_S)
    leaves_KK = np.where(chain.tagset.continues_KK, -np.inf, chain.transition_KK)
    id_S = id_C[begin_S]
    before_SK = alpha_LBK[np.maximum(first_S - 1, 0), column_S]
    enter_S = _logsumexp(before_SK + leaves_KK.T[id_S])
    enter_S = np.where(first_S == 0, chain.start_K[id_S], enter_S)
    id_S = id_C[end_S]
    at_end_S = last_S == lengths_B[column_S] - 1
    behind_SK = beta_LBK[np.where(at_end_S, last_S, last_S + 1), column_S]
    leave_S = _logsumexp(leaves_KK[id_S] + behind_SK)
    leave_S = np.where(at_end_S, chain.end_K[id_S], leave_S)
    share_S = np.exp(np.minimum(enter_S + within_S + leave_S - log_z_B[column_S], 0.0))
    shares: list[float] = np.bincount(np.array(owners), share_S, num_spans).clip(0, 1).tolist()
    return shares


def log_partitions(
    emissions: Sequence[NDArray[np.floating]], chain: Chain, temperature: float = 1.0
) -> NDArray[np.float64]:
    """log Z of each document with all scores divided by a temperature; 0 without a unit."""
    tempered = chain.tempered(temperature)
    found_N = np.zeros(len(emissions))
    for rows, emission_LBK, lengths_B in document_groups(emissions):
        alpha_LBK, _ = forward_backward(emission_LBK / temperature, lengths_B, tempered)
        last_BK = alpha_LBK[lengths_B - 1, np.arange(len(rows))]
        found_N[rows] = _logsumexp(last_BK + tempered.end_K)
    return found_N


def sequence_scores(
    emissions: Sequence[NDArray[np.floating]],
    sequences: Sequence[NDArray[np.intp]],
    chain: Chain,
) -> NDArray[np.float64]:
    """The unnormalised score of a tag sequence of each document, −inf if it is illegal.

    Args:
        emissions: one `[U, K]` array per document.
        sequences: U tag ids per document.
        chain: the decoder's scores.
    """
    found_N = np.zeros(len(emissions))
    for i, (emission_UK, ids) in enumerate(zip(emissions, sequences, strict=True)):
        if len(ids):
            steps = chain.transition_KK[ids[:-1], ids[1:]].sum()
            ends = chain.start_K[ids[0]] + chain.end_K[ids[-1]]
            units = emission_UK.astype(np.float64)[np.arange(len(ids)), ids].sum()
            found_N[i] = units + steps + ends
    return found_N


def best_log_probabilities(
    emissions: Sequence[NDArray[np.floating]], chain: Chain, temperature: float = 1.0
) -> NDArray[np.float64]:
    """The log-probability of each document's most probable tag sequence, at most 0.

    Args:
        emissions: one `[U, K]` array per document.
        chain: the decoder's scores.
        temperature: divides all scores; the best sequence stays the same.

    Raises:
        ValueError: an emission is NaN or infinite.
    """
    best_N = sequence_scores(emissions, viterbi(emissions, chain), chain) / temperature
    log_N: NDArray[np.float64] = best_N - log_partitions(emissions, chain, temperature)
    return np.minimum(log_N, 0.0)


def forward_backward(
    emission_LBK: Floats, lengths_B: NDArray[np.intp], chain: Chain
) -> tuple[Floats, Floats]:
    """Forward and backward scores `[L, B, K]`, the unit's own emission in both; the rest is 0.

    The backward scores are the forward ones of the text read from its end, so both are computed
    in one go: axis D.
    """
    reach_LB = _mirror(len(emission_LBK), lengths_B)
    every_B = np.arange(len(lengths_B))
    scores_LDKB = np.stack(
        [emission_LBK.transpose(0, 2, 1), emission_LBK[reach_LB, every_B].transpose(0, 2, 1)], 1
    )
    # [direction, from, to, any row]
    step_DKK1 = np.stack([chain.transition_KK, chain.transition_KK.T])[..., None]
    scores_LDKB[0] += np.stack([chain.start_K, chain.end_K])[..., None]
    with np.errstate(divide="ignore"):  # log 0 = −inf is what an unreachable tag has
        for step, n in enumerate(_active(lengths_B)[1:], start=1):
            paths_DKKB = scores_LDKB[step - 1, :, :, None, :n] + step_DKK1
            top_DKB = np.maximum(paths_DKKB.max(axis=1), _LOWEST)
            paths_DKKB -= top_DKB[:, None]
            summed_DKB = np.log(np.exp(paths_DKKB, out=paths_DKKB).sum(axis=1))
            summed_DKB += top_DKB
            scores_LDKB[step, :, :, :n] += summed_DKB
    scores_LDBK = scores_LDKB.transpose(0, 1, 3, 2)
    return scores_LDBK[:, 0], scores_LDBK[:, 1][reach_LB, every_B]


def _active(lengths_B: NDArray[np.intp]) -> list[int]:
    """For each step how many rows reach it; the longest rows come first."""
    steps_L = np.arange(lengths_B[0])
    return np.searchsorted(-lengths_B, -steps_L, side="left").tolist()  # type: ignore[no-any-return]


def _mirror(longest: int, lengths_B: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each step of each row the step as counted from the row's end; itself behind it."""
    step_L1 = np.arange(longest)[:, None]
    mirrored: NDArray[np.intp] = np.where(step_L1 < lengths_B, lengths_B - 1 - step_L1, step_L1)
    return mirrored


def _logsumexp(values: Floats) -> Floats:
    """Over the last axis."""
    top = np.maximum(values.max(axis=-1, keepdims=True), _LOWEST)
    with np.errstate(divide="ignore"):
        summed: Floats = np.log(np.exp(values - top).sum(axis=-1)) + top.squeeze(-1)
    return summed


def document_groups(
    emissions: Sequence[NDArray[np.floating]],
) -> Iterator[tuple[list[int], Floats, NDArray[np.intp]]]:
    """Documents side by side, the longest first: indices, `[L, B, K]` emissions, lengths."""
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
            raise ValueError(_NOT_FINITE)
        yield rows, padded_LBK, lengths_B
