"""Which tokens are masked, and what stands in their place (Devlin et al., 2019)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["MaskStrategy", "choose_masked", "corrupt", "join_entities", "split_at_random"]

MaskStrategy = Literal["word", "span", "piece"]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SPAN_END = 0.4  # a span ends behind each token with this chance: 2.5 tokens on average


def split_at_random(shape: tuple[int, int], rng: np.random.Generator) -> Bools:
    """Word starts of random spans with geometric lengths (Joshi et al., 2020), `[B, L]`."""
    starts: Bools = rng.random(shape) < _SPAN_END
    return starts


def join_entities(starts_BL: Bools, kinds_BL: npt.NDArray[Any], entities_BL: Bools) -> Bools:
    """Word starts where neighbouring words of an entity are one word, `[B, L]`.

    A tagger may cut a name into several words with the same tag, e.g. 明年|5月.

    Args:
        starts_BL: where a word begins.
        kinds_BL: the number of each token's tag.
        entities_BL: whether the tag names entities.
    """
    starts = starts_BL.copy()
    starts[:, 1:] &= ~(entities_BL[:, 1:] & (kinds_BL[:, 1:] == kinds_BL[:, :-1]))
    return starts


def choose_masked(starts_BL: Bools, *, share: float | Floats, rng: np.random.Generator) -> Bools:
    """Choose whole words to mask, each with the same chance or with one of its own.

    Args:
        starts_BL: where a word begins; each row's first token begins one anyway.
        share: chance of a word, 0 … 1; or `[B, L]`, where that at a word's start counts.

    Returns:
        Which tokens are masked, `[B, L]`; at least one word of the batch.
    """
    starts = starts_BL.copy()
    starts[:, 0] = True
    word_of = np.cumsum(starts.ravel()) - 1
    draw = rng.random(int(word_of[-1]) + 1)
    chances = share[starts] if isinstance(share, np.ndarray) else share
    chosen = draw < chances
    chosen[(draw - chances).argmin()] = True  # a batch may be so small that no word was drawn
    masked: Bools = chosen[word_of].reshape(starts.shape)
    return masked


def corrupt(
    ids_BL: Ids, masked_BL: Bools, *, mask_id: int, num_ids: int, rng: np.random.Generator
) -> Ids:
    """The model's input: of the masked tokens 80 % `[MASK]`, 10 % any token, 10 % as they were."""
    ids = ids_BL.copy()
    positions = np.flatnonzero(masked_BL)
    draw = rng.random(len(positions))
    flat = ids.reshape(-1)
    flat[positions[draw < 0.8]] = mask_id
    swapped = positions[(draw >= 0.8) & (draw < 0.9)]
    flat[swapped] = rng.integers(0, num_ids, len(swapped))
    return flat.reshape(ids.shape)
