"""What a model labels: characters, or words with unspaced scripts character by character."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus
from nertune.tokens.units import choose_unit, cut_units, is_unspaced
from nertune.types import Document

AWKWARD = [*"a1 .北ทีか\u3099\u0301\u200d\u20e3\ufe0f\U0001f600\U0001f3fd\U000e0100\U000e0067\n"]


def is_mark(character: str) -> bool:
    """By its name and category, apart from how the rule is written."""
    return (
        unicodedata.category(character)[0] == "M"
        or character in "\u200c\u200d"
        or "EMOJI MODIFIER" in unicodedata.name(character, "")
        or 0xE0020 <= ord(character) <= 0xE007F
    )


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
        ("ที่นี่", ["ที่", "นี่"]),
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


@settings(deadline=None, max_examples=300)
@given(st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=40))
def test_characters_are_code_points_with_their_marks(text: str) -> None:
    spans = cut_units(Document(text), "char")
    assert [i for start, end in spans for i in range(start, end)] == [*range(len(text))]
    begins = {start for start, _ in spans}
    for i, character in enumerate(text):
        belongs = is_mark(character) and i > 0 and not text[i - 1].isspace()
        assert (i in begins) != belongs


@settings(deadline=None, max_examples=300)
@given(st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=40))
def test_a_word_never_ends_before_a_mark(text: str) -> None:
    characters = {start for start, _ in cut_units(Document(text), "char")}
    assert {start for start, _ in cut_units(Document(text), "word")} <= characters


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Mn", "Mc", "Me", "Cf", "Sk"]), max_size=40))
def test_without_marks_words_are_those_of_the_first_version(text: str) -> None:
    """A model of 0.1.0 learned these."""
    unspaced = "".join(c for c in dict.fromkeys(text) if is_unspaced(c))
    one = f"[{unspaced}]|" if unspaced else ""
    but = f"(?![{unspaced}])" if unspaced else ""
    expected = [m.group() for m in re.finditer(rf"{one}(?:{but}\w)+|[^\w\s]", text)]
    assert words(text) == expected


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("บุรีรัมย์", ["บุ", "รี", "รั", "ม", "ย์"]),
        ("か\u3099く", ["か\u3099", "く"]),
        ("葛\U000e0100城", ["葛\U000e0100", "城"]),
        ("❤\ufe0f!", ["❤\ufe0f", "!"]),
        ("👍\U0001f3fd👍", ["👍\U0001f3fd", "👍"]),
        ("#\ufe0f\u20e3", ["#\ufe0f\u20e3"]),
        ("👨\u200d👩", ["👨\u200d", "👩"]),
        ("🏴\U000e0067\U000e0062\U000e007f。", ["🏴\U000e0067\U000e0062\U000e007f", "。"]),
        ("\u0301\u0302。\u0301", ["\u0301\u0302", "。\u0301"]),
    ],
)
def test_marks_belong_to_the_character_before_them(
    unit: str, text: str, expected: list[str]
) -> None:
    document = Document(text)
    assert [text[a:b] for a, b in cut_units(document, unit)] == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["char", "word"])
def test_marks_behind_white_space_are_on_their_own(unit: str) -> None:
    text = "a \u0301b"
    expected = {"char": ["a", " ", "\u0301", "b"], "word": ["a", "\u0301", "b"]}[unit]
    spans = cut_units(Document(text), unit)  # type: ignore[arg-type]
    assert [text[a:b] for a, b in spans] == expected


TOKENS = st.text(
    st.one_of(st.sampled_from(AWKWARD), st.characters()), min_size=1, max_size=8
).filter(lambda token: not any(map(str.isspace, token)))


@settings(deadline=None, max_examples=300)
@given(st.lists(TOKENS, min_size=1, max_size=8))
@example(["@mira_k", "U.S.", "41.5", "Rock'n'Roll", "St.-Denis", "\u0301a"])
def test_columns_are_cut_as_their_text_is(tokens: list[str]) -> None:
    """Source tokens joined with a space are unions of units, so none of their entities is lost."""
    text, spans = " ".join(tokens), []
    for token in tokens:
        start = spans[-1][1] + 1 if spans else 0
        spans.append((start, start + len(token)))
    columns = Document(text, tokens=tuple(spans))
    for unit in ("char", "word"):
        units = cut_units(columns, unit)  # type: ignore[arg-type]
        assert units == cut_units(Document(text), unit)  # type: ignore[arg-type]
        assert {a for a, _ in spans} <= {a for a, _ in units}
        assert {b for _, b in spans} <= {b for _, b in units}


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


def annotated(tokens: list[str], glue: str) -> Document:
    text, spans = glue.join(tokens), []
    for token in tokens:
        start = spans[-1][1] + len(glue) if spans else 0
        spans.append((start, start + len(token)))
    return Document(text, tokens=tuple(spans))


@pytest.mark.parametrize(
    ("tokens", "unit"),
    [
        ([*"서울에서 왔다"], "char"),
        ([*"Hello"], "char"),
        (["서울에서", "왔다"], "word"),
        ([*"서울에서", "1998"], "char"),  # 80 %
        ([*"서울에", "1998"], "word"),
        (["北京", "大学"], "char"),  # by the script
    ],
)
@pytest.mark.parametrize("glue", ["", " "])
def test_auto_follows_the_annotation(tokens: list[str], unit: str, glue: str) -> None:
    assert choose_unit([annotated(tokens, glue)]) == unit
    assert choose_unit([Document("OK"), annotated(tokens, glue)]) == unit


def test_a_file_of_characters_is_joined_and_labelled_as_such(tmp_path: Path) -> None:
    """One share decides both."""
    path = tmp_path / "a.conll"
    path.write_text("".join(f"{c}\tO\n" for c in "서울에서") + "1998\tO\n\n", encoding="utf-8")
    (document,) = load_corpus(path).documents
    assert (document.text, choose_unit([document])) == ("서울에서1998", "char")


def test_a_choice_is_kept() -> None:
    assert choose_unit([Document("我在北京")], "word") == "word"
    assert choose_unit([Document("Hello")], "char") == "char"
