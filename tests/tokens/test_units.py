"""What a model labels: characters, or words with unspaced scripts character by character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.tokens.units import choose_unit, cut_units
from nertune.types import Document


def words(text: str) -> list[str]:
    return [text[a:b] for a, b in cut_units(Document(text), "word")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Angela Merkel, 1998.", ["Angela", "Merkel", ",", "1998", "."]),
        ("在1998年的Paris见", ["在", "1998", "年", "的", "Paris", "见"]),
        ("서울시 강남구", ["서울시", "강남구"]),
        ("東京タワー", [*"東京タワー"]),
        ("々〇ｱ", [*"々〇ｱ"]),
        ("ประเทศ", [*"ประเทศ"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ঢাকা শহর", ["ঢাকা", "শহর"]),
        ("தமிழ்நாடு", ["தமிழ்நாடு"]),
        ("هٰذا", ["هٰذا"]),
        ("U.S. don't", ["U", ".", "S", ".", "don", "'", "t"]),
        ("\U0001f600!\U00020000a", ["\U0001f600", "!", "\U00020000", "a"]),
        ("Ａ１", ["Ａ１"]),
        ("a_b", ["a_b"]),
        (" \t\u3000\n", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=40))
def test_words_hold_every_visible_character_once_in_order(text: str) -> None:
    spans = cut_units(Document(text), "word")
    assert all(start < end for start, end in spans)
    covered = [i for start, end in spans for i in range(start, end)]
    assert covered == [i for i, c in enumerate(text) if not c.isspace()]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_characters_are_code_points(text: str) -> None:
    assert cut_units(Document(text), "char") == [(i, i + 1) for i in range(len(text))]


def test_the_documents_own_tokens_are_the_words() -> None:
    document = Document("U.S. don't 在京", tokens=((0, 4), (5, 7), (7, 10), (11, 13)))
    assert cut_units(document, "word") == [(0, 4), (5, 7), (7, 10), (11, 13)]
    assert len(cut_units(document, "char")) == 13
    assert cut_units(Document("a b", tokens=()), "word") == []  # told that it has none


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (["我在北京。"], "char"),
        (["我在Beijing大学读书"], "word"),  # seven letters of Latin against six of Chinese
        (["我在GPU上训练"], "char"),
        (["서울시 강남구"], "word"),
        (["Hello"], "word"),
        (["ภาษาไทย"], "char"),
        (["カタカナ"], "char"),
        (["1998 !!"], "word"),
        ([], "word"),
        (["Hello", "我在北京我在北京"], "char"),
    ],
)
def test_auto_follows_the_script(texts: list[str], unit: str) -> None:
    assert choose_unit([Document(text) for text in texts]) == unit


def test_a_choice_is_kept() -> None:
    assert choose_unit([Document("我在北京")], "word") == "word"
    assert choose_unit([Document("Hello")], "char") == "char"
