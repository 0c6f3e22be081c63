"""Units: the characters or words that a model labels.

How a text is cut depends on the text alone, so a model reads it the same from columns, JSONL or
standard input. A unit never shares a token with another one, so that no entity boundary which
stands between two units can fall inside a token.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

from nertune.data.formats.conll.joining import CHARACTER_SHARE
from nertune.types import Document

__all__ = [
    "Unit",
    "UnitChoice",
    "choose_unit",
    "cut_units",
    "cut_visible",
    "is_marked_character",
    "is_unspaced",
]

Unit = Literal["char", "word"]
UnitChoice = Literal["char", "word", "auto"]

# Scripts that are written without spaces between words; each of their characters is a word here:
# kana, CJK ideographs with extensions and compatibility forms, Thai, Lao, Khmer, Myanmar.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
# What belongs to the character before it: combining marks (vowel and tone signs, accents, dakuten,
# variation selectors, keycaps), joiners, skin tones, and the tag characters of flags.
_MARK_RANGES = ((0x200C, 0x200D), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F), (0xE0100, 0xE01EF))
_MARK_SET = {chr(i) for first, last in _MARK_RANGES for i in range(first, last + 1)}
_MARK_SET |= {c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M"}
_MARKS = "".join(sorted(_MARK_SET))  # none of them means something within brackets
_CHARACTER = re.compile(rf"\s|\S[{_MARKS}]*")
_LETTERS = rf"[^\W{_UNSPACED}]+"
# One character of an unspaced script, else a run of word characters, else one other character;
# each with its marks.
_WORD = re.compile(
    rf"[{_UNSPACED}][{_MARKS}]*|{_LETTERS}(?:[{_MARKS}]+(?:{_LETTERS})?)*|[^\w\s][{_MARKS}]*"
)
_MARKED_CHARACTER = re.compile(rf"\S[{_MARKS}]+")
_SAMPLE = 200_000  # letters, or source tokens, that decide the unit


def cut_units(document: Document, unit: Unit) -> list[tuple[int, int]]:
    """The spans that a model of this unit labels; they depend on the document's text alone.

    `char`: every character. `word`: runs of letters and digits, with punctuation and each
    character of an unspaced script (Chinese, Japanese, Thai, …) on its own. Either way a combining
    mark, a joiner, a variation selector or an emoji's modifier belongs to the character before it;
    behind white space and at the text's start it is a unit of its own.

    Returns:
        Half-open spans in code points, in order, none empty, none overlapping.
    """
    text = document.text
    if unit == "word":
        return [match.span() for match in _WORD.finditer(text)]
    if _MARK_SET.isdisjoint(text):  # many times faster than a search
        return list(pairwise(range(len(text) + 1)))
    return [match.span() for match in _CHARACTER.finditer(text)]


def cut_visible(text: str, unit: Unit) -> list[tuple[int, int]]:
    """The same of a text, without the units that are white space."""
    return [(a, b) for a, b in cut_units(Document(text), unit) if not text[a:b].isspace()]


def is_unspaced(character: str) -> bool:
    """Whether its script is written without spaces between words (Chinese, Thai, …)."""
    return _UNSPACED_CHARACTER.match(character) is not None


def is_marked_character(unit: str) -> bool:
    """Whether it is one character and the marks that belong to it."""
    return _MARKED_CHARACTER.fullmatch(unit) is not None


def choose_unit(documents: Iterable[Document], choice: UnitChoice = "auto") -> Unit:
    """`auto` decides: characters where the annotation or the script asks for them, else words.

    The annotation does where nearly all source tokens are single characters, whatever the script;
    the script where most letters are of an unspaced one.
    """
    if choice != "auto":
        return choice
    unspaced = letters = single = tokens = 0
    for document in documents:
        lengths = [end - start for start, end in document.tokens or ()]
        single += lengths.count(1)
        tokens += len(lengths)
        unspaced += len(_UNSPACED_CHARACTER.findall(document.text))
        letters += sum(1 for c in document.text if unicodedata.category(c)[0] == "L")
        if letters > _SAMPLE or tokens > _SAMPLE:
            break
    if tokens and single >= CHARACTER_SHARE * tokens:
        return "char"
    return "char" if letters and 2 * unspaced >= letters else "word"
