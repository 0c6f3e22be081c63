"""What a chain says of single units and of neighbours: the probabilities of tags and of pairs.

Axes: U units, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nertune.models.heads.decoding import Chain, Floats, document_groups, forward_backward

__all__ = [
    "Marginals",
    "find_marginals",
    "likeliest_tags",
    "mean_marginals",
    "soften_chain",
    "tag_marginals",
]

_LEAST = 1e-300  # in the place of probability 0, where that is divided by


@dataclass(frozen=True, slots=True)
class Marginals:
    """Of one document.

    Attributes:
        tags_UK: the probability of each unit's tags; every row sums to 1.
        pairs_UKK: `[u, j, k]`: that unit u−1 has tag j and unit u has tag k; zeros for the first
            unit. `None` where they were not asked for.
    """

    tags_UK: Floats
    pairs_UKK: Floats | None = None

    def __len__(self) -> int:
        return len(self.tags_UK)


def find_marginals(
    emissions: Sequence[NDArray[np.floating]],
    chain: Chain,
    *,
    temperature: float = 1.0,
    with_pairs: bool = True,
) -> list[Marginals]:
    """The marginals of each document's distribution over legal tag sequences, exactly.

    By the forward-backward algorithm (Rabiner, 1989). With a softmax head's flat chain they are
    those of the legal sequences alone, so they differ from the softmax of each unit wherever that
    gives weight to tags which cannot follow each other.

    Args:
        emissions: one `[U, K]` array a document (`Head.scores`); U may be 0.
        chain: the decoder's scores.
        temperature: divides all scores; above 1 it softens the distribution (Hinton et al., 2015).
        with_pairs: also those of neighbours.

    Raises:
        ValueError: an emission is NaN or infinite, or the temperature is not above 0.
    """
    chain = soften_chain(chain, temperature)
    size = len(chain.tagset)
    empty = Marginals(np.zeros((0, size)), np.zeros((0, size, size)) if with_pairs else None)
    found = [empty] * len(emissions)
    for rows, emission_LBK, lengths_B in document_groups([e / temperature for e in emissions]):
        alpha_LBK, beta_LBK = forward_backward(emission_LBK, lengths_B, chain)
        for column, (row, length) in enumerate(zip(rows, lengths_B, strict=True)):
            own = (slice(length), column)
            found[row] = _of_document(
                alpha_LBK[own], beta_LBK[own], emission_LBK[own], chain, with_pairs=with_pairs
            )
    return found


def tag_marginals(
    emissions: Sequence[NDArray[np.floating]], chain: Chain, *, temperature: float = 1.0
) -> list[Floats]:
    """The `[U, K]` probabilities of tags alone; see `find_marginals`."""
    found = find_marginals(emissions, chain, temperature=temperature, with_pairs=False)
    return [marginals.tags_UK for marginals in found]


def mean_marginals(found: Sequence[Marginals]) -> Marginals:
    """What several distributions over the tags of one document say together: their mean.

    Args:
        found: at least one; all with pairs, or none.
    """
    tags_UK = np.mean([one.tags_UK for one in found], axis=0)
    pairs = [one.pairs_UKK for one in found if one.pairs_UKK is not None]
    return Marginals(tags_UK, np.mean(pairs, axis=0) if pairs else None)


def likeliest_tags(marginals: Marginals) -> list[int]:
    """The best tag sequence of p(y) = q(y_1) · Π q(y_u | y_{u−1}) (Viterbi, 1967).

    Args:
        marginals: q, with pairs.
    """
    assert marginals.pairs_UKK is not None
    if not len(marginals):
        return []
    with np.errstate(divide="ignore"):  # log 0 = −inf is what cannot be
        best_K = np.log(marginals.tags_UK[0])
        before_UK1 = np.log(np.maximum(marginals.tags_UK[:-1, :, None], _LEAST))
        step_VKK = np.log(marginals.pairs_UKK[1:]) - before_UK1
    back = []
    for step_KK in step_VKK:
        paths_KK = best_K[:, None] + step_KK
        back.append(paths_KK.argmax(axis=0))
        best_K = paths_KK.max(axis=0)
    path = [int(best_K.argmax())]
    for from_K in reversed(back):
        path.append(int(from_K[path[-1]]))
    return path[::-1]


def soften_chain(chain: Chain, temperature: float) -> Chain:
    """The chain with all scores divided by the temperature.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: expected more than 0")
    scores = (chain.start_K, chain.transition_KK, chain.end_K)
    return Chain(chain.tagset, *(part / temperature for part in scores))


def _of_document(
    alpha_UK: Floats, beta_UK: Floats, emission_UK: Floats, chain: Chain, *, with_pairs: bool
) -> Marginals:
    """From forward and backward scores, the unit's own emission in both."""
    tags_UK = _normal(alpha_UK + (beta_UK - emission_UK), axes=(1,))
    if not with_pairs:
        return Marginals(tags_UK)
    pairs_UKK = np.zeros((*alpha_UK.shape, alpha_UK.shape[1]))
    joint_VKK = alpha_UK[:-1, :, None] + chain.transition_KK + beta_UK[1:, None, :]
    pairs_UKK[1:] = _normal(joint_VKK, axes=(1, 2))
    return Marginals(tags_UK, pairs_UKK)


def _normal(scores: Floats, axes: tuple[int, ...]) -> Floats:
    """Scores as probabilities over some axes."""
    weights = np.exp(scores - scores.max(axis=axes, keepdims=True))
    normal: Floats = weights / weights.sum(axis=axes, keepdims=True)
    return normal
