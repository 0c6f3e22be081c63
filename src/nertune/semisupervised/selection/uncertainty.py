"""How uncertain a tagger is about a text, from the exact distribution over its tag sequences.

Three measures; a higher value is a text that says more when it is labelled. Axes: U units, K tags,
S entities that begin somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ConfigError, NotFiniteError
from nertune.inference.predictor import Predictor
from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import Head
from nertune.models.heads.decoding import Chain, viterbi
from nertune.models.heads.marginals import Marginals, find_marginals, tag_marginals
from nertune.types import Document

__all__ = ["LEAST_PROBABILITY", "MEASURES", "Posterior", "least_token", "measure", "mnlp",
           "span_entropy"]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]
_MOST_CELLS = 4_000_000  # of pairs of tags: 32 MB
MEASURES = ("least-token", "mnlp", "span-entropy")
LEAST_PROBABILITY = 0.01
"""Of the spans whose entropy counts; a less probable one adds less than 0.06 nats."""


@dataclass(frozen=True)
class Posterior:
    """The distribution over the tag sequences of one text, as a Markov chain over its units.

    Given the text, the tags of a linear chain are a Markov chain again: p(y) is the product of
    `marginals_UK[0, y_1]` and the `steps_UKK[u, y_u, y_{u+1}]`.

    Attributes:
        marginals_UK: the probability of each tag of each unit.
        steps_UKK: `[U - 1, K, K]`: that of the next unit's tag given a unit's; rows of tags
            without probability are 0.
    """

    marginals_UK: Floats
    steps_UKK: Floats

    @classmethod
    def of(cls, marginals: Marginals) -> Posterior:
        """From the marginals of a text's tags and pairs of tags; U ≥ 1."""
        assert marginals.pairs_UKK is not None
        before_VK1, pairs_VKK = marginals.tags_UK[:-1, :, None], marginals.pairs_UKK[1:]
        steps_VKK = np.zeros_like(pairs_VKK)
        np.divide(pairs_VKK, before_VK1, out=steps_VKK, where=before_VK1 > 0)
        return cls(marginals.tags_UK, steps_VKK)

    def log_probability(self, ids_U: NDArray[np.intp]) -> float:
        """That of one tag sequence, in nats."""
        steps = self.steps_UKK[np.arange(len(ids_U) - 1), ids_U[:-1], ids_U[1:]]
        return float(np.log(self.marginals_UK[0, ids_U[0]]) + np.log(steps).sum())

    def likely_spans(self, tagset: TagSet) -> list[tuple[TokenSpan, float]]:
        """All entities that are not less probable than `LEAST_PROBABILITY`, in no certain order.

        From each unit and label with which one may begin, the walk goes on from length to length
        while an entity of that length or longer is probable enough. So none is missed, and few
        others are looked at.
        """
        continues_KK, tags_CK = tagset.continues_KK, _tags_of_labels(tagset)
        going_UKK = np.where(continues_KK, self.steps_UKK, 0.0)
        ending_UK = np.ones(self.marginals_UK.shape)
        ending_UK[:-1] -= going_UKK.sum(axis=2)
        begun_UK = self.marginals_UK.copy()
        begun_UK[1:] -= np.einsum("uk,ukj->uj", self.marginals_UK[:-1], going_UKK)
        first_S, label_S = np.nonzero(begun_UK @ tags_CK.T >= LEAST_PROBABILITY)
        open_SK = begun_UK[first_S] * tags_CK[label_S]
        last_S = first_S
        found: list[tuple[TokenSpan, float]] = []
        while len(first_S):
            share_S = (open_SK * ending_UK[last_S]).sum(axis=1)
            for i in np.flatnonzero(share_S >= LEAST_PROBABILITY).tolist():
                span = TokenSpan(int(first_S[i]), int(last_S[i]) + 1, tagset.labels[label_S[i]])
                found.append((span, min(1.0, float(share_S[i]))))
            inside_S = last_S < len(going_UKK)
            first_S, label_S = first_S[inside_S], label_S[inside_S]
            last_S = last_S[inside_S]
            open_SK = np.einsum("sk,skj->sj", open_SK[inside_S], going_UKK[last_S])
            likely_S = open_SK.sum(axis=1) >= LEAST_PROBABILITY
            first_S, label_S = first_S[likely_S], label_S[likely_S]
            last_S, open_SK = last_S[likely_S] + 1, open_SK[likely_S]
        return found


def least_token(marginals_UK: Floats) -> float:
    """1 − the least, over the units, of the probability of the unit's likeliest tag, in [0, 1].

    The least probable token of a text (Marcheggiani & Artières, 2014), by exact marginals.
    """
    return 1.0 - float(marginals_UK.max(axis=1).min())


def mnlp(posterior: Posterior, best_U: NDArray[np.intp]) -> float:
    """−log p(best sequence) / U, in nats (Shen et al., 2018: MNLP, with the sign turned)."""
    return -posterior.log_probability(best_U) / len(best_U)


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
        return _measure(head, emissions, name)
    except ValueError as error:
        raise NotFiniteError(
            f"{error}: the model's weights are not finite, or too large for its precision; "
            "load another copy of it, or train it again"
        ) from error


def _measure(head: Head, emissions: Sequence[NDArray[np.floating]], name: str) -> list[float]:
    if not hasattr(head, "chain"):
        shares = head.probabilities(emissions, head.spans(emissions))
        return [
            span_entropy(p) / len(e) if len(e) else -np.inf
            for p, e in zip(shares, emissions, strict=True)
        ]
    chain: Chain = head.chain()
    if name == "least-token":
        alone = tag_marginals(emissions, chain)
        return [least_token(m_UK) if len(m_UK) else -np.inf for m_UK in alone]
    best = viterbi(emissions, chain)
    values = []
    for some in _chunks([len(e) for e in emissions], len(chain.tagset)):
        for i, marginals in zip(
            some, find_marginals([emissions[i] for i in some], chain), strict=True
        ):
            values.append(_measure_chain(Posterior.of(marginals), best[i], chain, name))
    return values


def _measure_chain(
    posterior: Posterior, best_U: NDArray[np.intp], chain: Chain, name: str
) -> float:
    if not len(best_U):
        return -np.inf
    if name == "mnlp":
        return mnlp(posterior, best_U)
    spans = posterior.likely_spans(chain.tagset)
    return span_entropy([p for _, p in spans]) / len(best_U)


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
