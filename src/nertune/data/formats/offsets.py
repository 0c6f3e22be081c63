"""What offsets count: Unicode code points, UTF-16 units, UTF-8 bytes or graphemes.

Tools written in JavaScript or Java count UTF-16 units, of which a character beyond U+FFFF (an
emoji, a rare Chinese character) takes two. A grapheme is what a reader takes for one character: a
letter with its accents, a family of emojis, CR with LF (Unicode Standard Annex 29). Inside nertune
only code points exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

import regex

from nertune.storage.files import shorten
from nertune.types import Entity, Fragments

__all__ = [
    "Counted",
    "MisplacedSpan",
    "Offsets",
    "Span",
    "UnitChoice",
    "UnitVote",
    "count_units",
    "explain_misfit",
    "place",
]

Offsets = Literal["auto", "codepoint", "utf16", "byte", "grapheme"]
_NAMES = {
    "codepoint": "Unicode code points",
    "utf16": "UTF-16 units",
    "byte": "UTF-8 bytes",
    "grapheme": "graphemes",
}
_SAID: tuple[Offsets, ...] = ("byte", "grapheme")  # only where a user says so
_GRAPHEME = regex.compile(r"\X")
_UNSEEN = re.compile(r"[\s…]+")  # what may stand between the fragments of a surface
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


class Span(NamedTuple):
    """An entity as a file gives it.

    `surface` is the text that the file says it covers, `shown` is the span for messages or gives
    it, `fragments` are the parts of a discontinuous entity; of a `loose` surface white space says
    nothing.
    """

    start: int
    end: int
    label: str
    score: float | None
    surface: str | None
    shown: str | Callable[[], str]
    fragments: Fragments = ()
    loose: bool = False

    @property
    def told(self) -> str:
        """The span for messages."""
        return self.shown if isinstance(self.shown, str) else self.shown()


class MisplacedSpan(ValueError):
    """A span does not fit its text."""


class Counted(NamedTuple):
    """A text and its spans, and where they stand in the file."""

    line: int
    text: str
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class UnitChoice:
    """What the offsets of a file count.

    Attributes:
        offsets: the unit; `auto` where every unit gives the same.
        num_ambiguous: records whose entities would be others in UTF-16 units, while nothing
            decides.
        ambiguous: the first of them.
    """

    offsets: Offsets
    num_ambiguous: int = 0
    ambiguous: Counted | None = None


def place(span: Span, text: str, offsets: Offsets) -> Entity:
    """A span as an entity.

    Raises:
        MisplacedSpan: it is out of range, ends inside a character, or covers another text than the
            file says.
    """
    if span.fragments:
        return _place_fragments(span, text, offsets)
    start, end = span.start, span.end
    if (offsets == "utf16" and not text.isascii()) or offsets in _SAID:
        places = _code_points(text, offsets)
        if start >= 0 and end in places and start in places:
            start, end = places[start], places[end]
        elif 0 <= start < end <= max(places):
            raise MisplacedSpan(f"{span.told} ends inside a character, in {_NAMES[offsets]}")
        else:
            start = -1
    if start < 0 or end > len(text):
        counted = "codepoint" if offsets == "auto" else offsets
        raise MisplacedSpan(
            f"{span.told} is out of range: the text has {len(text)} characters, and offsets count "
            f"{_NAMES[counted]}"
        )
    if span.surface is not None and not _agrees(span, text[start:end]):
        counted = "codepoint" if offsets == "auto" else offsets
        raise MisplacedSpan(
            f"{span.told} says its text is {shorten(span.surface)}, but there stands "
            f"{shorten(text[start:end])}: offsets count {_NAMES[counted]}"
        )
    return Entity(start, end, span.label, span.score)


def _place_fragments(span: Span, text: str, offsets: Offsets) -> Entity:
    """A discontinuous span; the text that a file says it covers may part the fragments anyhow."""
    parts = [
        place(Span(start, end, span.label, None, None, span.shown), text, offsets)
        for start, end in span.fragments
    ]
    told = "".join(text[part.start : part.end] for part in parts)
    if span.surface is not None and not _agrees(span._replace(loose=True), told):
        raise MisplacedSpan(
            f"{span.told} says its text is {shorten(span.surface)}, but there stands "
            f"{shorten(told)}"
        )
    return Entity.of_fragments([(p.start, p.end) for p in parts], span.label, span.score)


def _agrees(span: Span, there: str) -> bool:
    """Whether what stands there is what the file says."""
    told = span.surface or ""
    if span.loose:
        return _UNSEEN.sub("", told) == _UNSEEN.sub("", there)
    return told == there


@lru_cache(maxsize=1)  # the spans of a text follow each other
def _code_points(text: str, offsets: Offsets) -> dict[int, int]:
    """The code point that begins at an offset, the text's end included."""
    counted = enumerate(count_units(text, offsets))
    return {offset: i for i, offset in counted if offset >= 0}


def count_units(text: str, offsets: Offsets) -> list[int]:
    """The offset of each code point of a text and of its end; -1 inside a grapheme."""
    if offsets == "utf16":
        return list(accumulate((2 if ord(c) > 0xFFFF else 1 for c in text), initial=0))
    if offsets == "byte":
        return list(accumulate((len(c.encode()) for c in text), initial=0))
    places = list(range(len(text) + 1))
    if offsets == "grapheme":
        places = [-1] * len(places)
        number = 0
        for number, found in enumerate(_GRAPHEME.finditer(text), 1):
            places[found.start()] = number - 1
        places[-1] = number
    return places


class UnitVote:
    """Finds out what the offsets of a file count, which is the same in all of it.

    Only texts with characters beyond U+FFFF say anything. `auto` takes code points unless some
    span does not fit its text so, and then UTF-16 units if every span fits so.

    Args:
        asked: what a user asked for.
        prefer: what `auto` takes where both fit.
    """

    def __init__(self, asked: Offsets, prefer: Offsets = "auto"):
        self._asked, self._prefer = asked, prefer
        self._fits: dict[Offsets, bool] = {"codepoint": True, "utf16": True}
        self._num_ambiguous = 0
        self._ambiguous: Counted | None = None

    def add(self, record: Counted) -> None:
        """Look at one more record."""
        if self._asked != "auto" or not record.spans or not _ASTRAL.search(record.text):
            return
        found = [_try(record, unit) if fits else None for unit, fits in self._fits.items()]
        self._fits = {u: f is not None for u, f in zip(self._fits, found, strict=True)}
        if None not in found and found[0] != found[1]:
            self._num_ambiguous += 1
            self._ambiguous = self._ambiguous or record

    def settle(self) -> UnitChoice:
        """The answer; where neither fits, code points, which `place` refuses."""
        if self._asked != "auto":
            return UnitChoice(self._asked)
        by_code_points, by_utf16 = self._fits.values()
        if not (by_code_points and by_utf16):
            return UnitChoice("utf16" if by_utf16 else "codepoint")
        if not self._num_ambiguous:
            return UnitChoice("auto")
        unit: Offsets = "utf16" if self._prefer == "utf16" else "codepoint"
        return UnitChoice(unit, self._num_ambiguous, self._ambiguous)


def _try(record: Counted, offsets: Offsets) -> list[Entity] | None:
    try:
        return [place(span, record.text, offsets) for span in record.spans]
    except MisplacedSpan:
        return None


def explain_misfit(
    error: MisplacedSpan, records: Iterable[Counted], asked: Offsets, chosen: Offsets
) -> str:
    """Why a span does not fit its text, and what to try.

    Args:
        error: what `place` said.
        records: all of the file.
        asked: what a user asked for.
        chosen: the unit in which it was placed.
    """
    if asked != "auto":
        return str(error)
    fits = dict.fromkeys(_SAID, True)
    for record in records:
        fits = {unit: fit and _try(record, unit) is not None for unit, fit in fits.items()}
        if not any(fits.values()):
            break
    fitting = [unit for unit, fit in fits.items() if fit]
    hint = "".join(f", but all fit as {_NAMES[u]}: if so, say offsets {u}" for u in fitting)
    other = "code points" if chosen == "utf16" else "UTF-16 units"
    return f"{error}, and as {other} not all spans fit either{hint}"
