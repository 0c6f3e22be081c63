"""How uncertain a tagger is about a text, from the exact distribution over its tag sequences.

Three measures; a higher value is a text that says more when it is labelled. Axes: U units, K tags,
S entities that begin somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ConfigError, NotFiniteError
from nertune.inference.predictor import Predictor
from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.heads.decoding import Chain, best_log_probabilities
from nertune.models.heads.marginals import Marginals, find_marginals, tag_marginals
from nertune.types import Document

__all__ = ["LEAST_PROBABILITY", "MEASURES", "least_token", "likely_spans", "measure",
           "span_entropy"]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]
_MOST_CELLS = 4_000_000  # of pairs of tags: 32 MB
MEASURES = ("least-token", "mnlp", "span-entropy")
LEAST_PROBABILITY = 0.01
"""Of the spans whose entropy counts; a less probable one adds less than 0.06 nats."""


def likely_spans(marginals: Marginals, tagset: TagSet) -> list[tuple[TokenSpan, float]]:
    """All entities that are not less probable than `LEAST_PROBABILITY`, in no certain order.

    Given the text, the tags of a linear chain are a Markov chain again. From each unit and label
    with which an entity may begin, the walk goes on from length to length while one of that length
    or longer is probable enough. So none is missed, and few others are looked at.

    Args:
        marginals: of a text's tags and pairs of tags.
        tagset: the tags.
    """
    assert marginals.pairs_UKK is not None
    marginals_UK, tags_CK = marginals.tags_UK, _tags_of_labels(tagset)
    before_VK1 = marginals_UK[:-1, :, None]
    pairs_VKK = np.where(tagset.continues_KK, marginals.pairs_UKK[1:], 0.0)
    begun_UK = marginals_UK.copy()
    begun_UK[1:] -= pairs_VKK.sum(axis=1)
    going_VKK = np.zeros_like(pairs_VKK)
    np.divide(pairs_VKK, before_VK1, out=going_VKK, where=before_VK1 > 0)
    ending_UK = np.ones(marginals_UK.shape)
    ending_UK[:-1] -= going_VKK.sum(axis=2)
    first_S, label_S = np.nonzero(begun_UK @ tags_CK.T >= LEAST_PROBABILITY)
    open_SK = begun_UK[first_S] * tags_CK[label_S]
    last_S = first_S
    found: list[tuple[TokenSpan, float]] = []
    while len(first_S):
        share_S = (open_SK * ending_UK[last_S]).sum(axis=1)
        for i in np.flatnonzero(share_S >= LEAST_PROBABILITY).tolist():
            span = TokenSpan(int(first_S[i]), int(last_S[i]) + 1, tagset.labels[label_S[i]])
            found.append((span, min(1.0, float(share_S[i]))))
        inside_S = last_S < len(going_VKK)
        first_S, label_S, last_S = first_S[inside_S], label_S[inside_S], last_S[inside_S]
        open_SK = np.einsum("sk,skj->sj", open_SK[inside_S], going_VKK[last_S])
        likely_S = open_SK.sum(axis=1) >= LEAST_PROBABILITY
        first_S, label_S = first_S[likely_S], label_S[likely_S]
        last_S, open_SK = last_S[likely_S] + 1, open_SK[likely_S]
    return found


def least_token(marginals_UK: Floats) -> float:
    """1 − the least, over the units, of the probability of the unit's likeliest tag, in [0, 1].

    The least probable token of a text (Marcheggiani & Artières, 2014), by exact marginals.
    """
    return 1.0 - float(marginals_UK.max(axis=1).min())


def span_entropy(probabilities: Sequence[float]) -> float:
    """The binary entropies of spans, summed, in nats: what is open about the text's entities.

    A text's score is this sum over all likely spans, found or not, by unit: what is learned for
    what is paid. Neither a mean over the spans, under which one open span of a long text counts as
    much as of a short one, nor the sum, under which the longest texts come first whatever they
    cost.
    """
    p_S = np.clip(np.array(probabilities), 1e-12, 1 - 1e-12)
    return float(-(p_S * np.log(p_S) + (1 - p_S) * np.log1p(-p_S)).sum())


def measure(predictor: Predictor, documents: Sequence[Document], name: str) -> list[float]:
    """How uncertain a tagger is about documents, higher is more; `-inf` for one without units.

    `mnlp` is −log p(best sequence) / U, in nats: maximum normalised log-probability (Shen et al.,
    2018) with the sign turned.

    Args:
        predictor: the tagger; for `least-token` and `mnlp` one whose head gives tag sequences.
        documents: their own entities do not count.
        name: one of `MEASURES`.

    Raises:
        ConfigError: the head has no distribution over tag sequences, which the measure needs.
        NotFiniteError: the model gives NaN or infinity.
    """
    head = predictor.tagger.head
    if name != "span-entropy" and not hasattr(head, "chain"):
        raise ConfigError(
            f"--strategy {name}: the model's head gives no tag sequence; use span-entropy"
        )
    _, emissions = predictor.emissions(documents)
    try:
        return _measure(predictor, emissions, name)
    except ValueError as error:
        raise NotFiniteError(
            f"{error}: the model's weights are not finite, or too large for its precision; "
            "load another copy of it, or train it again"
        ) from error


def _measure(
    predictor: Predictor, emissions: Sequence[NDArray[np.floating]], name: str
) -> list[float]:
    """By the distribution that calibration has made milder or sharper."""
    head, calibration = predictor.tagger.head, predictor.calibration
    if not hasattr(head, "chain"):
        shares = calibration.probabilities(head, emissions, head.spans(emissions))
        return [
            span_entropy(p) / len(e) if len(e) else -np.inf
            for p, e in zip(shares, emissions, strict=True)
        ]
    chain: Chain = head.chain()
    if name == "least-token":
        alone = tag_marginals(emissions, chain, temperature=calibration.temperature)
        return [least_token(m_UK) if len(m_UK) else -np.inf for m_UK in alone]
    if name == "mnlp":
        logs = best_log_probabilities(emissions, chain, calibration.temperature)
        return [-p / len(e) if len(e) else -np.inf for p, e in zip(logs, emissions, strict=True)]
    values = []
    for some in _chunks([len(e) for e in emissions], len(chain.tagset)):
        found = find_marginals([emissions[i] for i in some], chain,
                               temperature=calibration.temperature)  # fmt: skip
        values += [_open_spans(m, chain.tagset) if len(m) else -np.inf for m in found]
    return values


def _open_spans(marginals: Marginals, tagset: TagSet) -> float:
    spans = likely_spans(marginals, tagset)
    return span_entropy([p for _, p in spans]) / len(marginals)


def _chunks(lengths: Sequence[int], num_tags: int) -> Iterator[list[int]]:
    """Texts by their index, in order, some at a time: pairs of tags take much room."""
    chunk: list[int] = []
    cells = 0
    for index, length in enumerate(lengths):
        added = length * num_tags * num_tags
        if chunk and cells + added > _MOST_CELLS:
            yield chunk
            chunk, cells = [], 0
        chunk.append(index)
        cells += added
    if chunk:
        yield chunk


def _tags_of_labels(tagset: TagSet) -> Floats:
    """`[C, K]`: 1 where a tag is of a label."""
    tags_CK = np.zeros((len(tagset.labels), len(tagset)))
    for (_, label), tag in tagset.parts.items():
        if label:
            tags_CK[tagset.labels.index(label), tag] = 1.0
    return tags_CK
