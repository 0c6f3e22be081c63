"""Text of an evaluation file is found in a line, and nothing else is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.pretraining.exclusion import WINDOW, Exclusion

# Characters that all differ, so that only what is meant is shared.
TEXT = "".join(chr(0x4E00 + 7 * i) for i in range(60))
OTHER = "".join(chr(0x3400 + 7 * i) for i in range(60))


def test_the_window_is_24_characters() -> None:
    exclusion = Exclusion([TEXT])
    assert WINDOW == 24
    assert len(exclusion) == 60 - 24 + 1
    for start in (0, 7, 36):
        assert exclusion.shares(OTHER[:5] + TEXT[start : start + 24] + OTHER[5:9])
        assert not exclusion.shares(OTHER[:5] + TEXT[start : start + 23] + OTHER[5:9])
    assert exclusion.shares(TEXT)
    assert exclusion.shares(TEXT[:24])
    assert not exclusion.shares(TEXT[:23])
    assert not exclusion.shares(TEXT[:23] + OTHER[0] + TEXT[24:47])


def test_characters_must_stand_together_in_one_text() -> None:
    exclusion = Exclusion([TEXT[:30], TEXT[30:]])
    assert not exclusion.shares(TEXT[10:30] + TEXT[31:50])
    assert not exclusion.shares(TEXT[18:41])
    assert exclusion.shares(TEXT[6:60])


@pytest.mark.parametrize("white", [" ", "\t", "\u3000", "\xa0", "\n", " \u2003 "])
def test_white_space_does_not_matter(white: str) -> None:
    """Word-level data are joined by spaces, and lines are broken anywhere."""
    spaced = white.join(TEXT)
    assert Exclusion([TEXT]).shares(spaced[: 23 * (1 + len(white)) + 1])
    assert not Exclusion([TEXT]).shares(spaced[: 22 * (1 + len(white)) + 1] + white * 3)
    assert Exclusion([spaced]).shares(TEXT[:24])
    assert Exclusion([white + TEXT[:9] + white]).shares(TEXT[:5] + white + TEXT[5:9])


def test_short_texts_only_as_whole_lines() -> None:
    exclusion = Exclusion(["天气很好", TEXT[:23]])
    assert exclusion.shares("天气很好")
    assert exclusion.shares(" 天气 很好 ")
    assert not exclusion.shares("今天天气很好")
    assert not exclusion.shares("天气很")
    assert exclusion.shares(TEXT[:23])
    assert not exclusion.shares(TEXT[:24])


def test_blank_texts_exclude_nothing() -> None:
    exclusion = Exclusion(["", "  ", "\u3000"])
    assert len(exclusion) == 0
    assert not exclusion.shares("")
    assert not exclusion.shares(" ")
    assert not exclusion.shares(TEXT)


def by_brute_force(texts: list[str], line: str) -> bool:
    line = "".join(line.split())
    for text in texts:
        text = "".join(text.split())
        if text and text == line:
            return True
        for size in range(24, len(text) + 1):
            if any(text[i : i + size] in line for i in range(len(text) - size + 1)):
                return True
    return False


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32), alphabet=st.integers(1, 3), cut=st.integers(18, 30))
def test_as_by_brute_force(seed: int, alphabet: int, cut: int) -> None:
    """Texts over few characters, and lines put together from stretches of about a window."""
    draw = random.Random(seed)
    letters = "一二 三"[: alphabet + 1]
    texts = [
        "".join(draw.choices(letters, k=draw.randint(0, 50))) for _ in range(draw.randint(0, 3))
    ]
    line = ""
    for _ in range(draw.randint(0, 2)):
        source = draw.choice([*texts, "四五"])
        start = draw.randint(0, len(source))
        line += source[start : start + cut] + draw.choice(["", "六", " "])
    assert Exclusion(texts).shares(line) == by_brute_force(texts, line)
