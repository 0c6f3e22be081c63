"""Windows: every unit is owned once, in order, and nothing is longer than the encoder allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nertune.tokens.tokenizer import CharTokenizer, Encoding, load_tokenizer
from nertune.tokens.windows import Segmenter, Window, cut_windows
from nertune.types import Document


@dataclass
class Marks:
    """The part of a tokenizer that windows need."""

    prefix_ids: list[int] = field(default_factory=list)
    suffix_ids: list[int] = field(default_factory=list)


def encoding_of(lengths: list[int]) -> Encoding:
    """Units of so many pieces each, every piece with an id of its own."""
    ids = count(100)
    units = [(i, i + 1) for i in range(len(lengths))]
    return Encoding(units, [[next(ids) for _ in range(length)] for length in lengths])


def inner(window: Window, marks: Marks) -> list[int]:
    """A window's pieces without the special ones, which must be where they belong."""
    pieces, begin = window.piece_ids, len(marks.prefix_ids)
    end = len(pieces) - len(marks.suffix_ids)
    assert pieces[:begin] == marks.prefix_ids
    assert pieces[end:] == marks.suffix_ids
    return pieces[begin:end]


MARKS = st.builds(Marks, st.lists(st.just(1), max_size=1), st.lists(st.just(2), max_size=2))


@settings(deadline=None, max_examples=400)
@given(
    lengths=st.lists(st.one_of(st.just(1), st.integers(1, 9)), max_size=60),
    capacity=st.integers(1, 12),
    share=st.floats(0, 1, exclude_max=True),
    marks=MARKS,
)
@example(lengths=[9, 1, 9, 1], capacity=4, share=0.9, marks=Marks([1], [2]))
@example(lengths=[3] * 9, capacity=8, share=0.99, marks=Marks([1], [2]))
@example(lengths=[1, 1, 4, 1, 1], capacity=4, share=0.75, marks=Marks())
def test_every_unit_is_owned_once_and_read_whole(
    lengths: list[int], capacity: int, share: float, marks: Marks
) -> None:
    encoding = encoding_of(lengths)
    max_pieces = capacity + len(marks.prefix_ids) + len(marks.suffix_ids)
    stride = int(share * capacity)
    windows = cut_windows(encoding, marks, max_pieces=max_pieces, stride=stride, document=7)

    kept = [ids[:capacity] for ids in encoding.piece_ids]  # a longer unit keeps its first pieces
    flat = [i for ids in kept for i in ids]
    owned: list[int] = []
    for window in windows:
        assert window.document == 7
        assert len(window.piece_ids) <= max_pieces
        pieces = inner(window, marks)
        begin = flat.index(pieces[0])
        assert pieces == flat[begin : begin + len(pieces)]
        assert window.num_units > 0
        assert window.first_unit == len(owned)
        ends = [*window.positions[1:], window.owned_end]
        for start, end in zip(window.positions, ends, strict=True):
            assert window.piece_ids[start:end] == kept[len(owned)]
            owned.append(len(owned))
    assert len(owned) == len(lengths)
    assert [w.is_first for w in windows] == [True] + [False] * (len(windows) - 1) if windows else 1
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True] if windows else 1


@settings(deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=80),
    capacity=st.integers(8, 24),
    share=st.floats(0, 0.6),
)
def test_neighbours_share_about_the_stride(lengths: list[int], capacity: int, share: float) -> None:
    """Less than a unit under the stride, and each owned unit sees half of it on both sides."""
    marks, longest = Marks([1], [2]), max(lengths)
    stride = int(share * capacity)
    encoding = encoding_of(lengths)
    flat = [i for ids in encoding.piece_ids for i in ids]
    windows = cut_windows(encoding, marks, max_pieces=capacity + 2, stride=stride)
    for left, right in pairwise(windows):
        shared = len(set(inner(left, marks)) & set(inner(right, marks)))
        assert stride - longest < shared <= stride
    context = stride // 2 - 2 * longest
    for window in windows:
        pieces = inner(window, marks)
        before = window.positions[0] - 1
        behind = len(pieces) + 1 - window.owned_end
        assert window.is_first or before >= context
        assert window.is_last or behind >= context
        assert not window.is_first or pieces[0] == flat[0]
        assert not window.is_last or pieces[-1] == flat[-1]


def test_a_border_halves_the_overlap() -> None:
    windows = cut_windows(encoding_of([1] * 16), Marks([1], [2]), max_pieces=12, stride=4)
    assert [(w.first_unit, w.num_units, len(w.piece_ids)) for w in windows] == [
        (0, 8, 12),
        (8, 8, 12),
    ]
    assert windows[1].positions[0] == 3  # behind [CLS] and two units of context


def test_a_unit_longer_than_a_window_is_still_labelled() -> None:
    encoding = encoding_of([1, 30, 1])
    windows = cut_windows(encoding, Marks([1], [2]), max_pieces=6, stride=1)
    assert sum(w.num_units for w in windows) == 3
    assert [1, *encoding.piece_ids[1][:4], 2] in [w.piece_ids for w in windows]


def test_a_short_document_is_one_window() -> None:
    (window,) = cut_windows(encoding_of([2, 1]), Marks([1], [2]), max_pieces=5, stride=2)
    assert window.piece_ids == [1, 100, 101, 102, 2]
    assert (window.positions, window.owned_end) == ([1, 3], 4)
    assert window.is_first
    assert window.is_last


def test_a_document_without_pieces_has_no_window() -> None:
    assert cut_windows(Encoding([], []), Marks([1], [2]), max_pieces=5, stride=2) == []


@pytest.mark.parametrize(
    ("max_pieces", "stride"), [(2, 0), (0, 0), (-1, 0), (10, 8), (10, 9), (10, 100), (10, -1)]
)
def test_settings_that_leave_no_way_forward_are_refused(max_pieces: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"leave no room: expected max_pieces > 2 and 0 <= stride"):
        cut_windows(encoding_of([1] * 20), Marks([1], [2]), max_pieces=max_pieces, stride=stride)


def test_the_longest_stride_still_moves() -> None:
    windows = cut_windows(encoding_of([1] * 20), Marks([1], [2]), max_pieces=10, stride=7)
    assert len(windows) == 13
    assert sum(w.num_units for w in windows) == 20


@pytest.mark.parametrize("encoder", [False, True])
def test_a_hundred_thousand_characters(encoder: bool) -> None:
    text = "在1998年的北京，他 见到了王小明。" * 5500
    document = Document(text)
    tokenizer = load_tokenizer("mini-zh") if encoder else CharTokenizer.from_documents([document])
    segmenter = Segmenter(tokenizer, "char", max_pieces=128, stride=31)
    encoding, windows = segmenter.segment(document, 3)
    spaces = text.count(" ") if encoder else 0
    assert len(encoding.units) == len(text) - spaces
    assert len(text) >= 100_000
    assert {w.document for w in windows} == {3}
    assert max(len(w.piece_ids) for w in windows) == 128
    read = [w.piece_ids[p] for w in windows for p in w.positions]
    assert read == [ids[0] for ids in encoding.piece_ids]
    # Each window moves by what does not overlap, so the extra reading stays bounded.
    assert sum(len(w.piece_ids) for w in windows) < 1.4 * len(text)
