"""`Entity=` in MISC: brackets around mentions, as GUM and CorefUD have them.

    # global.Entity = eid-etype-head
    1<TAB>The<TAB>…<TAB>Entity=(e1-place-2
    2<TAB>city<TAB>…<TAB>Entity=e1)

The type stands where `global.Entity` says `etype` or `entity`. A part of a discontinuous mention is
marked `[1/2]`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Brackets", "Mention"]

_PIECE = re.compile(r"(\()?([^()]+)(\))?")
_PART = re.compile(r"\[([0-9]{1,4})/([0-9]{1,4})\]")
_TYPES, _IDS = ("etype", "entity"), ("eid", "GRP")
_TYPE_MISSING = "mentions without a type, which are not read"
_CROSSING = "mentions that go over the end of a sentence, which are not read"
_UNOPENED = "closing brackets without an opening one, which are skipped"
_EMPTY = "mentions of empty nodes alone, which are not read"


class Mention(NamedTuple):
    """An entity: its spans of words, half-open, and its label."""

    spans: tuple[tuple[int, int], ...]
    label: str


@dataclass(slots=True)
class _Open:
    """An opening bracket."""

    content: str
    id: str
    label: str
    start: int
    part: tuple[int, int]


class Brackets:
    """Reads the brackets of sentences, one after the other.

    Args:
        seen: counts what is not read.
    """

    def __init__(self, seen: Counter[str]):
        self._seen = seen
        self._open: list[_Open] = []
        self._crossing: list[_Open] = []
        self._parts: dict[str, list[tuple[int, int]]] = {}

    def read(self, cells: Sequence[tuple[int, int, str]], names: Sequence[str]) -> list[Mention]:
        """The mentions of a sentence.

        Args:
            cells: of each row with brackets the word it is, the word behind it (the same one for
                an empty node), and the brackets.
            names: what `global.Entity` names.
        """
        type_at = next((names.index(name) for name in _TYPES if name in names), -1)
        id_at = next((names.index(name) for name in _IDS if name in names), -1)
        if type_at < 0:
            return []
        found: list[Mention] = []
        for first, last, given in cells:
            for opens, content, closes in _PIECE.findall(given):
                if opens:
                    self._open.append(_opened(content, first, type_at, id_at))
                if closes and (opened := self._close(content, is_own=bool(opens))) is not None:
                    found += self._mention(opened, last)
        for _ in self._open:
            self._seen[_CROSSING] += 1
        self._crossing, self._open, self._parts = self._open, [], {}
        return found

    def _close(self, content: str, *, is_own: bool) -> _Open | None:
        """The opening that a closing bracket belongs to: the last one of its name."""
        if is_own:
            return self._open.pop()
        name = _PART.sub("", content)
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place].content == content:
                return self._open.pop(place)
        for place in range(len(self._open) - 1, -1, -1):
            if name in (self._open[place].id, _PART.sub("", self._open[place].content)):
                return self._open.pop(place)
        if not any(name in (o.id, _PART.sub("", o.content)) for o in self._crossing):
            self._seen[_UNOPENED] += 1
        return None

    def _mention(self, opened: _Open, end: int) -> list[Mention]:
        """The mention that ends here, if it is whole."""
        span = (opened.start, end)
        number, count = opened.part
        if count > 1:
            parts = self._parts.setdefault(opened.id, [])
            parts.append(span)
            if number < count:
                return []
            spans = tuple(part for part in self._parts.pop(opened.id) if part[0] < part[1])
        else:
            spans = (span,) if span[0] < span[1] else ()
        if not spans or opened.label in ("", "_"):
            self._seen[_TYPE_MISSING if spans else _EMPTY] += 1
            return []
        return [Mention(spans, opened.label)]


def _opened(content: str, start: int, type_at: int, id_at: int) -> _Open:
    match = _PART.search(content)
    part = (int(match[1]), int(match[2])) if match else (1, 1)
    fields = _PART.sub("", content).split("-")
    label = fields[type_at] if type_at < len(fields) else ""
    id = fields[id_at] if 0 <= id_at < len(fields) else content
    return _Open(content, id, label, start, part)
