"""Sentences that are plain: all their lines have the same columns, and nothing else is there.

Almost every sentence is. These are cut by a few calls for all their lines together, many times
faster than line by line; any other sentence is left to `lines.scan`, which says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nertune.data.formats.conll.layout import DOCSTART

__all__ = ["Block", "Blocks"]


class Block(NamedTuple):
    """A plain sentence: its tokens, their tags, and the index of the line behind it."""

    tokens: list[str]
    tags: list[str]
    end: int


class Blocks:
    """Cuts plain sentences.

    Args:
        separator: what stands between columns: a TAB, one space, or a comma.
        count: how many columns there are.
        token, tag: their columns, counted from 0.
    """

    def __init__(self, separator: str, count: int = 2, token: int = 0, tag: int = 1):
        self._separator = separator
        self._count, self._token, self._tag = count, token, tag
        # A line ends in no white space: that would be cut off.
        line = rf"[^\t\n]*(?:\t[^\t\n]*){{{count - 2}}}\t[^\t\n]*\S"
        if separator == " ":
            line = rf"\S+(?: \S+){{{count - 1}}}"
        elif separator == ",":
            line = rf'[^,"\s]+(?:,[^,"\s]+){{{count - 1}}}'
        self._fits = re.compile(rf"{line}(?:\n{line})*").fullmatch

    def read(self, lines: Sequence[str], position: int) -> Block | None:
        """The sentence that begins at a line; `None` if it is not plain."""
        if lines[position][:1] in ("", "#"):
            return None  # a comment, perhaps
        try:
            end = lines.index("", position)
        except ValueError:
            end = len(lines)
        text = "\n".join(lines[position:end])
        if not self._fits(text):
            return None
        cells = text.replace("\n", self._separator).split(self._separator)
        tokens, tags = cells[self._token :: self._count], cells[self._tag :: self._count]
        if DOCSTART in tokens or not all(tags):
            return None
        is_wide = self._count > 2
        if not all(map(str.strip, tokens) if is_wide else tokens) or not all(map(str.strip, tags)):
            return None
        return Block(tokens, tags, end)
