"""Entities and units: nothing is lost unseen, nothing shifts, on awkward Unicode."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nertune.labels.align import (
    IGNORED,
    align_entities,
    continuation_ids,
    spans_to_entities,
)
from nertune.labels.schemes import TokenSpan, encode_tags
from nertune.labels.tagset import TagSet
from nertune.models.heads.softmax import SoftmaxHead
from nertune.tokens.batching import collate
from nertune.tokens.tokenizer import EncoderTokenizer, encode_document, load_tokenizer
from nertune.tokens.units import cut_units
from nertune.tokens.windows import Segmenter
from nertune.training.examples import prepare_examples
from nertune.types import Document, Entity

AWKWARD = [
    *"在年京a1 .Ａ１，",
    "\U0001f600",  # astral
    "\U0001f468\u200d\U0001f469",  # joined emoji
    "\u0301",  # combining mark
    "e\u0301",
    "\u200b",
    "\u200f",
    "\ufeff",
    "\x00",
    "\x1f",
    "\t",
    "\r\n",
    "\u3000",
    "\u2028",
    "\x85",
    "\u00a0",
    "ﬁ",
    "İ",  # lower-cased to two code points
    "ß",
    "각",
    "ที่",
    "\ud800",  # half a surrogate pair
    "1998",
    "New York",
]
TEXTS = st.lists(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=24).map("".join)
LABELS = st.sampled_from(("PER", "LOC", "B-X", "组织"))


@st.composite
def flat_documents(draw: st.DrawFn) -> Document:
    """Texts whose entities do not overlap."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=10)))
    entities = [
        Entity(start, end, draw(LABELS))
        for start, end in itertools.pairwise(cuts)
        if draw(st.booleans())
    ]
    return Document(text, tuple(entities), id="d")


@st.composite
def nested_documents(draw: st.DrawFn) -> Document:
    """Texts with entities anywhere, some twice."""
    text = draw(TEXTS.filter(bool))
    entities = []
    for _ in range(draw(st.integers(0, 7))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, min(len(text), start + 6)))
        entities.append(Entity(start, end, draw(LABELS)))
    return Document(text, tuple(entities), id="d")


@st.composite
def cuts_of(draw: st.DrawFn, text: str) -> list[tuple[int, int]]:
    """Any spans in order, with gaps where a tokenizer drops something."""
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    spans = list(itertools.pairwise(edges))
    return [span for span in spans if draw(st.booleans())]


@pytest.fixture(scope="module")
def mini_zh() -> EncoderTokenizer:
    return load_tokenizer("mini-zh")


def ends_without_blanks(document: Document, units: list[tuple[int, int]], entity: Entity) -> Entity:
    """What an entity is trained on as: character by character, as long as one has to go."""
    blank = {
        i
        for i, c in enumerate(document.text)
        if not (unit := next((document.text[a:b] for a, b in units if a <= i < b), "")).strip()
        and (not unit or c.isspace())
    }
    start, end = entity.start, entity.end
    while start < end and start in blank:
        start += 1
    while start < end and end - 1 in blank:
        end -= 1
    return Entity(start, end, entity.label) if start < end else entity


def check(document: Document, units: list[tuple[int, int]]) -> None:
    """What must hold of any document and any units."""
    found = align_entities(document, units)
    back = spans_to_entities(found.spans, units)
    lost, trimmed = Counter(i.entity for i in found.lost), Counter(i.entity for i in found.trimmed)
    # Each entity is expressed, or trimmed and expressed, or lost: as often as the document has it.
    as_it_is = Counter(document.entities) - lost - trimmed
    cut = Counter(ends_without_blanks(document, units, e) for e in trimmed.elements())
    assert Counter(back) == as_it_is + cut
    assert as_it_is + lost + trimmed == Counter(document.entities)
    known = encode_tags(found.spans, len(units))
    touched = [
        any(e.start < end and start < e.end for e in lost) and tag == "O"
        for (start, end), tag in zip(units, known, strict=True)
    ]
    assert found.tags == [
        None if unsaid else tag for tag, unsaid in zip(known, touched, strict=True)
    ]
    starts, ends = {a for a, _ in units}, {b for _, b in units}
    for item in found.trimmed:
        assert (
            item.entity.start not in starts
            or item.entity.end not in ends
            or (
                document.text[item.entity.start].isspace()
                or document.text[item.entity.end - 1].isspace()
            )
        )
    for item in found.lost:
        entity = item.entity
        assert (item.document_id, item.text) == ("d", document.text[entity.start : entity.end])
        rest = ends_without_blanks(document, units, entity)
        rivals = [
            kept
            for kept in back
            if kept.start < rest.end
            and rest.start < kept.end
            and kept.end - kept.start >= rest.end - rest.start
        ]
        if item.reason.startswith("it holds nothing"):
            assert not any(
                a < entity.end and entity.start < b and document.text[a:b].strip() for a, b in units
            )
        elif rest.start not in starts:
            assert item.reason.startswith("it begins inside"), item
        elif rest.end not in ends:
            assert item.reason.startswith("it ends inside"), item
        else:
            assert item.reason.startswith("it overlaps "), item
            assert rivals, f"{item} was given up for nothing that is kept"


@settings(max_examples=150)
@given(st.data(), st.one_of(flat_documents(), nested_documents()))
def test_every_entity_is_expressed_exactly_or_lost_with_a_reason(
    data: st.DataObject, document: Document
) -> None:
    check(document, data.draw(cuts_of(document.text)))


@settings(max_examples=150)
@given(st.one_of(flat_documents(), nested_documents()), st.sampled_from(("char", "word")))
@example(Document("在1998年", (Entity(1, 6, "DATE"),), id="d"), "char")
def test_the_same_with_a_real_tokenizer(
    mini_zh: EncoderTokenizer, document: Document, unit: str
) -> None:
    check(document, encode_document(document, mini_zh, unit).units)  # type: ignore[arg-type]


@settings(max_examples=150)
@given(flat_documents())
def test_characters_express_every_flat_entity_that_leaves_marks_where_they_belong(
    document: Document,
) -> None:
    units = cut_units(document, "char")
    starts, ends = {a for a, _ in units}, {b for _, b in units}
    found = align_entities(document, units)
    assert {item.entity for item in found.lost} == {
        e
        for e in document.entities
        if e.start not in starts or e.end not in ends or not document.surface(e).strip()
    }


MARKED = [
    Document("นายสมศักดิ์ทำงานที่บุรีรัมย์", (Entity(3, 11, "PER"), Entity(19, 28, "LOC"))),
    Document("อยู่กระบี่", (Entity(4, 10, "LOC"),)),
    Document("か\u3099く\u3099へ", (Entity(0, 4, "LOC"),)),
    Document("去葛\U000e0100。", (Entity(1, 3, "LOC"),)),
    Document("我❤\ufe0f和👍\U0001f3fd。", (Entity(1, 3, "X"), Entity(4, 6, "X"))),
    Document("Jose\u0301 是", (Entity(0, 5, "PER"),)),
]


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("document", MARKED, ids=lambda d: ascii(d.text))
def test_an_entity_that_ends_in_a_mark_is_not_lost(
    mini_zh: EncoderTokenizer, document: Document, unit: str
) -> None:
    """BERT's tokenizer drops accents, tone signs and selectors."""
    encoding = encode_document(document, mini_zh, unit)  # type: ignore[arg-type]
    found = align_entities(document, encoding.units)
    assert found.lost == []
    assert spans_to_entities(found.spans, encoding.units) == list(document.entities)


def test_no_label_shifts_behind_a_digit_run(mini_zh: EncoderTokenizer) -> None:
    """The reference study's bug: one label per token, four characters per `1998`."""
    document = Document("在1998年的北京", (Entity(1, 6, "DATE"), Entity(7, 9, "LOC")))
    encoding = encode_document(document, mini_zh, "char")
    assert encoding.units == [(i, i + 1) for i in range(9)]
    assert all(len(ids) == 1 for ids in encoding.piece_ids)
    assert align_entities(document, encoding.units).tags == [
        *(["O", "B-DATE", "I-DATE", "I-DATE", "I-DATE", "I-DATE", "O", "B-LOC", "I-LOC"])
    ]


def test_the_first_piece_of_a_word_carries_the_tag(mini_zh: EncoderTokenizer) -> None:
    document = Document("在77213年 Paris 见", (Entity(1, 7, "DATE"), Entity(8, 13, "LOC")))
    encoding = encode_document(document, mini_zh, "word")
    # `77213年` ends within nothing: 年 is a word of its own, and the number has several pieces.
    assert [document.text[a:b] for a, b in encoding.units] == ["在", "77213", "年", "Paris", "见"]
    assert len(encoding.piece_ids[1]) > 1
    assert len(encoding.piece_ids[3]) > 1

    tagset = TagSet.from_labels(["DATE", "LOC"])
    examples = prepare_examples([document], Segmenter(mini_zh, "word", 64, 8), SoftmaxHead(tagset))
    batch = collate(examples.windows, pad_id=0, tags=examples.targets)
    read = [batch.piece_ids_BL[0, p].item() for p in batch.positions_BU[0]]
    assert read == [ids[0] for ids in encoding.piece_ids]
    assert batch.tags_BU is not None
    assert [tagset.tags[i] for i in batch.tags_BU[0]] == ["O", "B-DATE", "I-DATE", "B-LOC", "O"]


def test_all_pieces_carry_the_continuation(mini_zh: EncoderTokenizer) -> None:
    document = Document("77213 77213 77213", (Entity(0, 11, "DATE"),))
    tagset = TagSet.from_labels(["DATE"])
    examples = prepare_examples([document], Segmenter(mini_zh, "word", 64, 8), SoftmaxHead(tagset))
    batch = collate(
        examples.windows,
        pad_id=0,
        tags=examples.targets,
        continuation=continuation_ids(tagset.tags),
    )
    assert batch.piece_tags_BL is not None
    o, b, i = tagset.encode(["O", "B-DATE", "I-DATE"])
    size = len(mini_zh.encode_units(["77213"])[0])
    assert size > 1
    expected = [IGNORED, b, *[i] * (2 * size - 1), *[o] * size, IGNORED]
    assert batch.piece_tags_BL.tolist() == [expected]


def test_the_longer_of_two_is_kept_then_the_earlier() -> None:
    def tried(*entities: Entity) -> tuple[list[TokenSpan], list[tuple[Entity, str]]]:
        found = align_entities(Document("abcdef", entities), [(i, i + 1) for i in range(6)])
        return found.spans, [(item.entity, item.reason) for item in found.lost]

    inner, outer = Entity(1, 3, "A"), Entity(0, 4, "B")
    assert tried(inner, outer) == (
        [TokenSpan(0, 4, "B")],
        [(inner, "it overlaps B 'abcd', which was kept")],
    )
    left, right = Entity(0, 3, "B"), Entity(2, 5, "A")
    assert tried(right, left) == (
        [TokenSpan(0, 3, "B")],
        [(right, "it overlaps B 'abc', which was kept")],
    )
    # Two labels for one span, and one entity twice.
    assert tried(Entity(0, 1, "A"), Entity(0, 1, "B"), Entity(0, 1, "A")) == (
        [TokenSpan(0, 1, "A")],
        [
            (Entity(0, 1, "A"), "it overlaps A 'a', which was kept"),
            (Entity(0, 1, "B"), "it overlaps A 'a', which was kept"),
        ],
    )


def test_an_entity_that_cannot_be_said_gives_way() -> None:
    """A longer entity that no units express does not take the shorter one with it."""
    document = Document("ab cd", (Entity(0, 4, "A"), Entity(0, 2, "B")))
    found = align_entities(document, [(0, 2), (3, 5)])
    assert found.spans == [TokenSpan(0, 1, "B")]
    assert [item.reason for item in found.lost] == ["it ends inside the unit 'cd'"]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (1, 4, "it begins inside the unit '1998'"),
        (0, 3, "it ends inside the unit '1998'"),
        (1, 6, "it begins inside the unit '1998'"),
        (4, 5, "it holds nothing but white space and what the tokenizer drops"),
    ],
)
def test_reasons(start: int, end: int, reason: str) -> None:
    document = Document("1998 北京", (Entity(start, end, "X"),))
    (lost,) = align_entities(document, [(0, 4), (5, 6), (6, 7)]).lost
    assert lost.reason == reason


@pytest.mark.parametrize(
    ("start", "end", "tags", "reason"),
    [
        (4, 7, ["O", "B-X", "I-X", "O"], "it begins in white space (U+0020)"),
        (0, 5, ["B-X", "O", "O", "O"], "it ends in white space (U+0020)"),
        (5, 9, ["O", "B-X", "I-X", "O"], "it ends in white space (U+3000)"),
        (5, 8, ["O", "B-X", "I-X", "O"], "it ends with U+200B, which the tokenizer drops"),
        (4, 9, ["O", "B-X", "I-X", "O"], "it begins in white space (U+0020)"),
    ],
)
@pytest.mark.parametrize("blanks_are_units", [False, True])
def test_blank_ends_are_cut_off(
    start: int, end: int, tags: list[str], reason: str, *, blanks_are_units: bool
) -> None:
    """Whether or not the blanks are units, which they are for an LSTM that reads characters."""
    document = Document("1998 北京\u200b\u3000了", (Entity(start, end, "X"),), id="d")
    units = [(0, 4), (5, 6), (6, 7), (9, 10)]
    if blanks_are_units:
        units = sorted([*units, (4, 5), (8, 9)])
    found = align_entities(document, units)
    assert not found.lost
    assert [tag for tag, (a, _) in zip(found.tags, units, strict=True) if a not in (4, 8)] == tags
    (item,) = found.trimmed
    assert (item.document_id, item.entity, item.text, item.reason) == (
        "d", document.entities[0], document.text[start:end], reason,
    )  # fmt: skip


def test_units_of_what_is_lost_have_no_tag() -> None:
    text = "ab cd ef"
    units = [(0, 2), (3, 5), (6, 8)]
    cases = {
        (Entity(1, 8, "A"),): [None, None, None],
        (Entity(1, 5, "A"),): [None, None, "O"],
        (Entity(1, 5, "A"), Entity(3, 8, "B")): [None, "B-B", "I-B"],
        (Entity(0, 5, "A"), Entity(3, 8, "B")): ["B-A", "I-A", None],
        (Entity(0, 8, "A"), Entity(3, 5, "B")): ["B-A", "I-A", "I-A"],
    }
    for entities, tags in cases.items():
        assert align_entities(Document(text, entities), units).tags == tags


def test_of_one_entity_with_and_without_a_blank_one_is_kept() -> None:
    document = Document("ab cd", (Entity(0, 2, "A"), Entity(0, 3, "A")))
    found = align_entities(document, [(0, 2), (3, 5)])
    assert (found.spans, found.tags) == ([TokenSpan(0, 1, "A")], ["B-A", "O"])
    assert [item.entity for item in found.lost] == [Entity(0, 3, "A")]
    assert found.trimmed == []


def test_without_units_everything_is_lost() -> None:
    document = Document("\u200b\u200b", (Entity(0, 1, "A"), Entity(1, 2, "B")))
    found = align_entities(document, [])
    assert (found.spans, found.tags) == ([], [])
    assert [item.entity for item in found.lost] == list(document.entities)


def test_scores_are_handed_on_in_order() -> None:
    entities = spans_to_entities(
        [TokenSpan(1, 2, "B"), TokenSpan(0, 1, "A")], [(0, 2), (3, 4)], [0.25, 0.5]
    )
    assert [(e.key, e.score) for e in entities] == [((3, 4, "B"), 0.25), ((0, 2, "A"), 0.5)]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        spans_to_entities([TokenSpan(0, 1, "A")], [(0, 2)], [])


def test_continuation_ids() -> None:
    tags = ["I-A", "B-A", "O", "B-B"]  # B has no inside tag: it is continued by itself
    assert continuation_ids(tags) == [0, 0, 2, 3]
