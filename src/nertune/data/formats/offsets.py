"""What offsets count: Unicode code points, UTF-16 units, UTF-8 bytes or graphemes.

Tools written in JavaScript or Java count UTF-16 units, of which a character beyond U+FFFF (an
emoji, a rare Chinese character) takes two. A grapheme is what a reader takes for one character: a
letter with its accents, a family of emojis, CR with LF (Unicode Standard Annex 29). Inside nertune
only code points exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

import regex

from nertune.storage.files import shorten
from nertune.types import Entity, Fragments

__all__ = ["MisplacedSpan", "Offsets", "Placed", "Span", "count_units", "place", "place_all"]

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
    """A span does not fit its text.

    Attributes:
        record: the record it belongs to, counted from 0.
    """

    def __init__(self, message: str, record: int = 0):
        super().__init__(message)
        self.record = record


@dataclass(frozen=True, slots=True)
class Placed:
    """The entities of all records in code points.

    Attributes:
        entities: of each record, in the file's order, repeated ones included.
        offsets: what the offsets count; `auto` where every unit gives the same.
        ambiguous: records whose entities would be others in UTF-16 units, while nothing decides.
    """

    entities: list[list[Entity]]
    offsets: Offsets
    ambiguous: tuple[int, ...] = ()


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


def place_all(
    records: Sequence[tuple[str, Sequence[Span]]], offsets: Offsets, prefer: Offsets = "auto"
) -> Placed:
    """The entities of a file, whose offsets all count the same.

    Args:
        records: texts and their spans.
        offsets: what they count. `auto` takes code points unless some span does not fit its text
            so, and then UTF-16 units if every span fits so.
        prefer: what `auto` takes where both fit.

    Raises:
        MisplacedSpan: a span does not fit its text.
    """
    if offsets != "auto":
        return Placed(_place_records(records, offsets), offsets)
    try:
        as_code_points = _place_records(records, "codepoint")
    except MisplacedSpan as error:
        if as_utf16 := _try(records, "utf16"):
            return Placed(as_utf16, "utf16")
        fitting = [unit for unit in _SAID if _try(records, unit) is not None]
        hint = "".join(f", but all fit as {_NAMES[u]}: if so, say offsets {u}" for u in fitting)
        raise MisplacedSpan(
            f"{error}, and as UTF-16 units not all spans fit either{hint}", error.record
        ) from error
    differing = [i for i, (text, spans) in enumerate(records) if spans and _ASTRAL.search(text)]
    if not differing:
        return Placed(as_code_points, "auto")
    as_utf16 = _try(records, "utf16")
    if as_utf16 is None:
        return Placed(as_code_points, "codepoint")
    ambiguous = tuple(i for i in differing if as_utf16[i] != as_code_points[i])
    if not ambiguous:
        return Placed(as_code_points, "auto")
    if prefer == "utf16":
        return Placed(as_utf16, "utf16", ambiguous)
    return Placed(as_code_points, "codepoint", ambiguous)


def _place_records(
    records: Sequence[tuple[str, Sequence[Span]]], offsets: Offsets
) -> list[list[Entity]]:
    placed = []
    for number, (text, spans) in enumerate(records):
        try:
            placed.append([place(span, text, offsets) for span in spans])
        except MisplacedSpan as error:
            raise MisplacedSpan(str(error), number) from error
    return placed


def _try(
    records: Sequence[tuple[str, Sequence[Span]]], offsets: Offsets
) -> list[list[Entity]] | None:
    try:
        return _place_records(records, offsets)
    except MisplacedSpan:
        return None
