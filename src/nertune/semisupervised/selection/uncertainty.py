"""How uncertain a tagger is about a text, from the exact distribution over its tag sequences.

Three measures; a higher value is a text that says more when it is labelled. Axes: U units, K tags,
S entities that begin somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ConfigError, NotFiniteError
from nertune.inference.predictor import Predictor
from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import Head
from nertune.models.heads.decoding import Chain, _sums, viterbi
from nertune.types import Document

__all__ = ["LEAST_PROBABILITY", "MEASURES", "Posterior", "least_token", "measure", "mnlp",
           "span_entropy"]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]
MEASURES = ("least-token", "mnlp", "span-entropy")
LEAST_PROBABILITY = 0.01
"""Of the spans whose entropy counts; a less probable one adds less than 0.06 nats."""


@dataclass(frozen=True)
class Posterior:
    """The distribution over the tag sequences of one text, as a Markov chain over its units.

    Given the text, the tags of a linear chain are a Markov chain again: p(y) is the product of
    `first_K[y_1]` and the `steps_UKK[u, y_u, y_{u+1}]`.

    Attributes:
        first_K: probabilities of the first unit's tag.
        steps_UKK: `[U - 1, K, K]`, of the next unit's tag given a unit's; rows of tags without
            probability are 0.
    """

    first_K: Floats
    steps_UKK: Floats

    @classmethod
    def of(cls, emission_UK: NDArray[np.floating], chain: Chain) -> Posterior:
        """From the scores that a head decodes (`decoding.Chain`); U ≥ 1."""
        emission_LBK = emission_UK.astype(np.float64)[:, None]
        _, beta_LBK = _sums(emission_LBK, np.array([len(emission_UK)]), chain)
        beta_UK = beta_LBK[:, 0]
        first_K = _softmax(chain.start_K + beta_UK[0])
        return cls(first_K, _softmax(chain.transition_KK + beta_UK[1:, None]))

    @property
    def marginals_UK(self) -> Floats:
        """The probability of each tag of each unit."""
        rows = [self.first_K]
        for step_KK in self.steps_UKK:
            rows.append(rows[-1] @ step_KK)
        return np.stack(rows)

    def log_probability(self, ids_U: NDArray[np.intp]) -> float:
        """That of one tag sequence, in nats."""
        steps = self.steps_UKK[np.arange(len(ids_U) - 1), ids_U[:-1], ids_U[1:]]
        return float(np.log(self.first_K[ids_U[0]]) + np.log(steps).sum())

    def likely_spans(self, tagset: TagSet) -> list[tuple[TokenSpan, float]]:
        """All entities that are not less probable than `LEAST_PROBABILITY`, in no certain order.

        From each unit and label with which one may begin, the walk goes on from length to length
        while an entity of that length or longer is probable enough. So none is missed, and few
        others are looked at.
        """
        continues_KK, tags_CK = tagset.continues_KK, _tags_of_labels(tagset)
        going_UKK = np.where(continues_KK, self.steps_UKK, 0.0)
        ending_UK = np.ones((len(going_UKK) + 1, len(self.first_K)))
        ending_UK[:-1] -= going_UKK.sum(axis=2)
        marginals_UK = self.marginals_UK
        begun_UK = marginals_UK.copy()
        begun_UK[1:] -= np.einsum("uk,ukj->uj", marginals_UK[:-1], going_UKK)
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


def least_token(posterior: Posterior) -> float:
    """1 − the least, over the units, of the probability of the unit's likeliest tag, in [0, 1].

    The least probable token of a text (Marcheggiani & Artières, 2014), by exact marginals.
    """
    return 1.0 - float(posterior.marginals_UK.max(axis=1).min())


def mnlp(posterior: Posterior, best_U: NDArray[np.intp]) -> float:
    """−log p(best sequence) / U, in nats (Shen et al., 2018: MNLP, with the sign turned)."""
    return -posterior.log_probability(best_U) / len(best_U)


def span_entropy(probabilities: Sequence[float]) -> float:
    """The binary entropies of spans, summed, in nats: what is open about the text's entities."""
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
        found = head.probabilities(emissions, head.spans(emissions))
        return [
            span_entropy(p) / len(e) if len(e) else -np.inf
            for p, e in zip(found, emissions, strict=True)
        ]
    chain: Chain = head.chain()
    best = viterbi(emissions, chain)  # refuses what is not finite
    values = []
    for emission_UK, best_U in zip(emissions, best, strict=True):
        if not len(emission_UK):
            values.append(-np.inf)
            continue
        posterior = Posterior.of(emission_UK, chain)
        if name == "least-token":
            values.append(least_token(posterior))
        elif name == "mnlp":
            values.append(mnlp(posterior, best_U))
        else:
            spans = posterior.likely_spans(chain.tagset)
            values.append(span_entropy([p for _, p in spans]) / len(best_U))
    return values


def _tags_of_labels(tagset: TagSet) -> Floats:
    """`[C, K]`: 1 where a tag is of a label."""
    tags_CK = np.zeros((len(tagset.labels), len(tagset)))
    for (_, label), tag in tagset.parts.items():
        if label:
            tags_CK[tagset.labels.index(label), tag] = 1.0
    return tags_CK


def _softmax(scores: Floats) -> Floats:
    """Over the last axis; zeros where all is −inf."""
    top = np.maximum(scores.max(axis=-1, keepdims=True), -1e300)
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    shares: Floats = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return shares
