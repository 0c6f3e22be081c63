"""Units: the characters or words that a model labels.

A unit never shares a piece with another one, so that no entity boundary which stands between
two units can fall inside a piece.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from nertune.types import Document

__all__ = ["Unit", "UnitChoice", "choose_unit", "cut_units", "is_unspaced"]

Unit = Literal["char", "word"]
UnitChoice = Literal["char", "word", "auto"]

# Scripts that are written without spaces between words; each of their characters is a word here:
# kana, CJK ideographs with extensions and compatibility forms, Thai, Lao, Khmer, Myanmar.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
# One character of an unspaced script, else a run of word characters, else one other character;
# combining marks (outside \w in `re`) and joiners stay with the run that they belong to.
_MARKS = "\u200c\u200d" + "".join(
    chr(code)
    for code in range(0x300, 0x20000)
    if unicodedata.category(character := chr(code))[0] == "M"
    and not _UNSPACED_CHARACTER.match(character)
)
_WORD = re.compile(f"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\\w{_MARKS}])+|[^\\w\\s]", re.UNICODE)


def cut_units(document: Document, unit: Unit) -> list[tuple[int, int]]:
    """The spans that a model of this unit labels.

    `char`: every code point. `word`: the document's own tokens where it has them, else runs of
    letters and digits, with punctuation and each character of an unspaced script (Chinese,
    Japanese, Thai, …) on its own.

    Returns:
        Half-open spans in code points, in order, none empty, none overlapping.
    """
    if unit == "char":
        return [(i, i + 1) for i in range(len(document.text))]
    if document.tokens is not None:
        return list(document.tokens)
    return [match.span() for match in _WORD.finditer(document.text)]


def is_unspaced(character: str) -> bool:
    """Whether its script is written without spaces between words (Chinese, Thai, …)."""
    return _UNSPACED_CHARACTER.match(character) is not None


def choose_unit(documents: Iterable[Document], choice: UnitChoice = "auto") -> Unit:
    """`auto` decides: characters where most letters are of an unspaced script, else words."""
    if choice != "auto":
        return choice
    unspaced = letters = 0
    for document in documents:
        unspaced += len(_UNSPACED_CHARACTER.findall(document.text))
        letters += sum(1 for c in document.text if unicodedata.category(c)[0] == "L")
        if letters > 200_000:
            break
    return "char" if letters and 2 * unspaced >= letters else "word"
