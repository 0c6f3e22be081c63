"""Offsets in code points, UTF-16 units, UTF-8 bytes and graphemes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.formats.offsets import (
    Counted,
    MisplacedSpan,
    Offsets,
    Span,
    UnitChoice,
    UnitVote,
    count_units,
    explain_misfit,
    place,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ENCODINGS: dict[Offsets, str] = {"utf16": "utf-16-le", "byte": "utf-8", "codepoint": "utf-32-le"}
UNIT = {"utf16": 2, "byte": 1, "codepoint": 4}


def span(start: int, end: int, surface: str | None = None) -> Span:
    return Span(start, end, "X", None, surface, f"[{start}, {end}]")


def counted(text: str, offsets: Offsets) -> int:
    """How long a text is, by Python's own encoder."""
    return len(text.encode(ENCODINGS[offsets])) // UNIT[offsets]


@given(TEXTS, st.data(), st.sampled_from(sorted(ENCODINGS)))
def test_every_unit_gives_the_same_characters(
    text: str, data: st.DataObject, offsets: Offsets
) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    given = span(counted(text[:start], offsets), counted(text[:end], offsets), text[start:end])
    assert place(given, text, offsets).key == (start, end, "X")


@given(TEXTS, st.sampled_from(sorted(ENCODINGS)))
def test_units_are_counted_as_python_encodes(text: str, offsets: Offsets) -> None:
    expected = [counted(text[:i], offsets) for i in range(len(text) + 1)]
    assert count_units(text, offsets) == expected


# An accent, CR LF, jamo, a flag, emojis joined by U+200D: as in Unicode Standard Annex 29.
CLUSTERS = ["e\u0301", "a", "\r\n", "\u1100\u1161\u11a8", "🇨🇳", "👩\u200d👩\u200d👧", "王", "𠮷"]


@given(st.lists(st.sampled_from(CLUSTERS), min_size=1), st.data())
def test_graphemes(clusters: list[str], data: st.DataObject) -> None:
    text = "".join(clusters)
    start = data.draw(st.integers(0, len(clusters) - 1))
    end = data.draw(st.integers(start + 1, len(clusters)))
    there = "".join(clusters[start:end])
    first = len("".join(clusters[:start]))
    assert place(span(start, end, there), text, "grapheme").key == (first, first + len(there), "X")
    places = count_units(text, "grapheme")
    assert (places[first], places[first + len(there)]) == (start, end)
    assert len([p for p in places if p >= 0]) == len(clusters) + 1


def test_graphemes_are_never_taken_without_asking() -> None:
    text = "e\u0301 王明"  # 王明: [3, 5] in code points, [2, 4] in graphemes
    assert keys((text, [span(2, 4)])) == [[(2, 4)]]
    told = misfit((text, [span(2, 4, "王明")]))
    assert "but all fit as graphemes: if so, say offsets graph" in told
    assert keys((text, [span(2, 4, "王明")]), offsets="grapheme") == [[(3, 5)]]
    with pytest.raises(MisplacedSpan, match=r"out of range: .* offsets count graphemes"):
        keys((text, [span(3, 5)]), offsets="grapheme")


def test_white_space_of_a_loose_surface_says_nothing() -> None:
    text = "a  b\nc"
    assert place(span(0, 6, "a b c")._replace(loose=True), text, "codepoint").end == 6
    with pytest.raises(MisplacedSpan, match="says its text is 'a b d'"):
        place(span(0, 6, "a b d")._replace(loose=True), text, "codepoint")


@pytest.mark.parametrize(
    ("text", "given", "offsets", "message"),
    [
        ("🎉a", span(1, 3), "utf16", "ends inside a character, in UTF-16 units"),
        ("王a", span(0, 1), "byte", "ends inside a character, in UTF-8 bytes"),
        ("🎉a", span(0, 4), "utf16", "out of range: the text has 2 characters"),
        ("ab", span(-1, 1), "codepoint", "out of range"),
        ("ab", span(0, 3), "auto", "offsets count Unicode code points"),
        ("ab", span(0, 1, "b"), "byte", "says its text is 'b', but there stands 'a'"),
    ],
)
def test_what_does_not_fit(text: str, given: Span, offsets: Offsets, message: str) -> None:
    with pytest.raises(MisplacedSpan, match=message):
        place(given, text, offsets)


def settle(
    *records: tuple[str, list[Span]], offsets: Offsets = "auto", prefer: Offsets = "auto"
) -> UnitChoice:
    vote = UnitVote(offsets, prefer)
    for line, (text, spans) in enumerate(records, 1):
        vote.add(Counted(line, text, spans))
    return vote.settle()


def keys(*records: tuple[str, list[Span]], **how: Offsets) -> list[list[tuple[int, int]]]:
    """Where the spans of a file are placed, in the unit that is found out."""
    unit = settle(*records, **how).offsets
    placed = [[place(span, text, unit) for span in spans] for text, spans in records]
    return [[(e.start, e.end) for e in entities] for entities in placed]


def misfit(*records: tuple[str, list[Span]]) -> str:
    """What is said of the first span that does not fit."""
    unit = settle(*records).offsets
    for text, spans in records:
        try:
            [place(span, text, unit) for span in spans]
        except MisplacedSpan as error:
            counted = [Counted(1, *record) for record in records]
            return explain_misfit(error, counted, "auto", unit)
    raise AssertionError("all fit")


PARTY = ("🎉王明在京", [span(2, 4)])  # 王明 in UTF-16 units, 明在 in code points
BEYOND = ("🎉王", [span(2, 3)])  # fits in UTF-16 units alone


def test_the_whole_file_counts_the_same() -> None:
    assert keys(PARTY) == [[(2, 4)]]
    assert keys(PARTY, BEYOND) == [[(1, 3)], [(1, 2)]]
    assert keys(PARTY, prefer="utf16") == [[(1, 3)]]
    assert keys(PARTY, offsets="utf16") == [[(1, 3)]]
    assert settle(BEYOND, PARTY).offsets == "utf16"
    assert settle(("王", [span(0, 1)])) == settle(("王", [span(0, 1)]), prefer="utf16")


def test_what_nothing_decides_is_counted_and_the_first_is_named() -> None:
    choice = settle(("王", [span(0, 1)]), PARTY, PARTY)
    assert (choice.offsets, choice.num_ambiguous) == ("codepoint", 2)
    assert choice.ambiguous == Counted(2, *PARTY)
    assert settle(PARTY, BEYOND) == UnitChoice("utf16")


def test_a_span_that_fits_in_no_unit_is_explained() -> None:
    assert "and as UTF-16 units not all spans fit either" in misfit(PARTY, ("a", [span(0, 9)]))
    assert "and as code points not all spans fit either" in misfit(BEYOND, ("a", [span(0, 9)]))
    assert "say offsets byte" in misfit(("王", [span(0, 3)]))
