"""Masked tokens in the training batches of pseudo-labelled text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nertune.errors import TokenizerError
from nertune.tokens.tokenizer import Tokenizer
from nertune.tokens.windows import Window
from nertune.types import Document

__all__ = ["PSEUDO", "TokenNoise", "is_pseudo"]

PSEUDO = "pseudo"
"""The key of `Document.meta` that is true where a model, and no person, has labelled it."""

_STREAM = 2  # sets these random numbers apart from those that order the batches


def is_pseudo(document: Document) -> bool:
    """Whether a document's labels are a model's."""
    return document.meta.get(PSEUDO) is True


class TokenNoise:
    """Replaces a share of the input tokens by the mask token, as a noisy student reads them.

    The student has to find an entity that its teacher found in the whole text (cf. Xie et al.,
    2020, *Self-training with noisy student*, whose noise is that of images). Which tokens are
    masked depends on seed, epoch and window alone, so a resumed run masks the same. Special tokens
    stay.

    Args:
        tokenizer: gives the mask token.
        share: chance of a token, in (0, 1).
        seed: of the run.
        noisy: for each window that is trained on whether its tokens are masked.

    Raises:
        TokenizerError: the tokenizer has neither a mask token nor one for the unknown.
    """

    def __init__(self, tokenizer: Tokenizer, *, share: float, seed: int, noisy: Sequence[bool]):
        if tokenizer.mask_id is None:
            raise TokenizerError(
                "train.noise: the encoder's tokenizer has neither a mask token nor one for what it "
                "does not know, so no token can be masked; set train.noise = 0"
            )
        self._mask_id, self._share, self._seed = tokenizer.mask_id, share, seed
        self._num_before, self._num_behind = len(tokenizer.prefix_ids), len(tokenizer.suffix_ids)
        self._noisy = noisy

    def apply(self, window: Window, index: int, epoch: int) -> Window:
        """The window, some of its tokens masked.

        Args:
            window: the window.
            index: its place among all windows that are trained on.
            epoch: counts from 1.
        """
        if not self._noisy[index]:
            return window
        end = len(window.piece_ids) - self._num_behind
        draws = np.random.default_rng([self._seed, epoch, index, _STREAM]).random(end)
        masked = [
            self._mask_id if place >= self._num_before and draws[place] < self._share else id
            for place, id in enumerate(window.piece_ids[:end])
        ]
        return replace(window, piece_ids=masked + window.piece_ids[end:])
