"""Source tokens to a text: what joins them, and where they stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import add, sub
from typing import get_args

from nertune.data.formats.base import check_choice
from nertune.data.formats.values import Join

__all__ = ["CHARACTER_SHARE", "JoinVote", "token_spans"]

CHARACTER_SHARE = 0.8
"""From this share of tokens that are one character on, a file holds characters, not words."""


class JoinVote:
    """What joins the tokens of a file: nothing where most are one character, else a space.

    Args:
        asked: what a user asked for; `auto` counts the tokens.

    Raises:
        ConfigError: `asked` is unknown.
    """

    def __init__(self, asked: Join) -> None:
        check_choice("join", asked, get_args(Join))
        self._asked = asked
        self._num_tokens = self._num_single = 0

    def add(self, tokens: Sequence[str]) -> None:
        """Count the tokens of a sentence."""
        if self._asked != "auto":
            return
        lengths = list(map(len, tokens))
        self._num_tokens += len(lengths)
        self._num_single += lengths.count(1)

    def settle(self, notices: list[str]) -> Join:
        """The answer: what is asked for, else that of the tokens, which is said."""
        if self._asked != "auto":
            return self._asked
        share = self._num_single / max(1, self._num_tokens)
        join: Join = "none" if share >= CHARACTER_SHARE else "space"
        how = "without a space" if join == "none" else "with a space"
        notices.append(f"tokens joined {how} ({share:.0%} of them are single characters)")
        return join


_CHARACTERS = tuple((i, i + 1) for i in range(1000))  # the spans of a text's first characters


def token_spans(tokens: Sequence[str], text: str, gap: int) -> tuple[tuple[int, int], ...]:
    """Where tokens stand in their text when `gap` characters stand between them."""
    if gap == 0 and len(tokens) == len(text) <= len(_CHARACTERS):
        return _CHARACTERS[: len(text)]
    lengths = list(map(len, tokens))
    ends = list(accumulate(lengths))
    if gap:
        ends = list(map(add, ends, range(0, gap * len(ends), gap)))
    return tuple(zip(map(sub, ends, lengths), ends, strict=True))
