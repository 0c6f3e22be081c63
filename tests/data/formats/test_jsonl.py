"""JSONL spans."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus, save_documents, save_with
from nertune.data.formats import jsonl
from nertune.data.formats.base import Findings, ReadOptions, Source, WriteOptions
from nertune.data.formats.jsonl import Jsonl
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Reading
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

NAME = Path("x.jsonl")


class File:
    """What is read of a file with this content."""

    def __init__(self, text: str, **options: Any):
        findings = Findings()
        read = Jsonl().read(Source(NAME, text.encode()), ReadOptions(**options), findings)
        self.documents = tuple(read)
        self.notices = tuple(findings.notices)
        self.offsets = findings.reading.offsets


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(st.characters(exclude_categories=["Cs"])))
    spans = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    label = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    score = st.none() | st.floats(0, 1)
    entities = {
        (start, end, name): Entity(start, end, name, draw(score))
        for (start, end), name in draw(st.lists(st.tuples(spans, label)))
        if start < end
    }
    return Document(text, tuple(entities.values()))


def text_of(items: list[Document], *, predictions: bool = False) -> str:
    stream = StringIO()
    jsonl.write(stream, items, predictions=predictions)
    return stream.getvalue()


@given(st.lists(documents(), min_size=1))
def test_predictions_are_read_back_with_their_scores(items: list[Document]) -> None:
    file = File(text_of(items, predictions=True))
    assert [(d.text, d.entities) for d in file.documents] == [(d.text, d.entities) for d in items]


@given(st.lists(documents(), min_size=1))
def test_gold_is_read_back(items: list[Document]) -> None:
    file = File(text_of(items))
    assert [(d.text, [e.key for e in d.entities]) for d in file.documents] == [
        (d.text, [e.key for e in d.entities]) for d in items
    ]
    assert text_of(list(file.documents)) == text_of(items)


@pytest.mark.parametrize(
    "record",
    [
        {"text": "王明在京", "entities": [[0, 2, "PER"], [3, 4, "LOC"]]},
        {"text": "王明在京", "label": [[3, 4, "LOC"], [0, 2, "PER"]], "id": 7},
        {"text": "王明在京", "labels": [[0, 2, "PER"], [3, 4, "LOC"]], "Comments": []},
        {"text": "王明在京", "label": "news", "entities": []} | {"label": []},
        {
            "text": "王明在京",
            "entities": [
                {"start": 0, "end": 2, "label": "PER", "text": "王明", "score": 0.5},
                {"start": 3, "end": 4, "label": "LOC", "score": None},
            ],
        },
        {
            "text": "王明在京",
            "entities": [
                {"id": 1, "start_offset": 0, "end_offset": 2, "label": "PER"},
                {"id": 2, "start_offset": 3, "end_offset": 4, "label": "LOC"},
            ],
            "relations": [],
        },
    ],
)
def test_what_annotation_tools_write(record: dict[str, Any]) -> None:
    (document,) = File(json.dumps(record)).documents
    expected = [(0, 2, "PER"), (3, 4, "LOC")] if any(record.get(k) for k in KEYS) else []
    assert [entity.key for entity in document.entities] == expected
    assert document.tokens is None


KEYS = ("entities", "label", "labels")


def test_ids_count_blank_lines() -> None:
    file = File('\n{"text": "a", "entities": []}\r\n \t\r\n{"text": "b", "label": []}')
    assert [document.id for document in file.documents] == ["x.jsonl:2", "x.jsonl:4"]
    assert file.notices == ()


def test_overlapping_entities_are_kept_identical_ones_dropped() -> None:
    spans = [[0, 3, "A"], [1, 2, "B"], [0, 3, "A"], [0, 3, "C"]]
    file = File(json.dumps({"text": "abc", "entities": spans}))
    keys = [entity.key for entity in file.documents[0].entities]
    assert keys == [(0, 3, "A"), (0, 3, "C"), (1, 2, "B")]
    assert [notice.split(" ")[:2] for notice in file.notices] == [
        ["1", "identical"],
        ["1", "texts"],
    ]


def test_records_without_entities_are_said_aloud() -> None:
    file = File('{"text": "a", "spans": [[0, 1, "X"]]}\n{"text": "b"}\n')
    assert [len(d.entities) for d in file.documents] == [1, 0]
    assert file.notices == (
        "1 record without any of entities, label, labels, spans, ents among 2, read as text "
        "without entities (first: line 2)",
    )
    (notice,) = File('{"text": "a", "lang": "zh"}\n{"text": "b"}\n').notices
    assert notice.startswith("2 records, and none names entities (in one of entities, label")
    assert "(other keys of line 1: 'lang')" in notice
    assert File('{"text": "a"}\n', ignore_tags=True).notices == ()


@pytest.mark.parametrize(
    "value",
    [
        [{"start": 0, "end": 3, "label": "PER"}],
        [[0, 3, "PER"]],
        [["PER", 0, 3]],
        {"PER": [[0, 3]]},
        {"PER": {"abc": [{"startOffset": 0, "endOffset": 3}]}},
        [{"begin": 0, "end": 3}],
    ],
)
def test_entities_under_an_unknown_key_are_refused(value: Any) -> None:
    lines = [{"text": "abc", "entities": [[0, 2, "PER"]]}, {"text": "abc", "entity_list": value}]
    text = "\n".join(map(json.dumps, lines))
    with pytest.raises(DataError, match=r"^x\.jsonl:2: the key 'entity_list' holds what look like"):
        File(text)
    with pytest.raises(
        DataError, match=r"^x\.jsonl:1: .* read from entities, label, labels, spans"
    ):
        File(json.dumps(lines[1]))
    (document,) = File(json.dumps(lines[1]), ignore_tags=True).documents
    assert document.meta == {"entity_list": value}
    beside = File(json.dumps({**lines[1], "entities": []}))
    assert '1 records whose "entities" is empty hold what look like spans' in beside.notices[0]
    whole = File(json.dumps({**lines[1], "entities": [[0, 1, "X"]]}))
    assert whole.notices == ()


def test_what_prodigy_s_user_rejected_is_no_gold() -> None:
    span = [{"start": 0, "end": 1, "label": "X"}]
    answers = ("accept", "reject", "ignore", "accept")
    text = "\n".join(json.dumps({"text": "ab", "spans": span, "answer": a}) for a in answers)
    file = File(text)
    assert [d.id for d in file.documents] == ["x.jsonl:1", "x.jsonl:4"]
    assert any(n.startswith("2 records skipped that Prodigy") for n in file.notices)
    assert "first: line 2" in "".join(file.notices)
    assert len(File(text, ignore_tags=True).documents) == 4
    with pytest.raises(DataError, match="all 1 records are rejected or ignored"):
        File(text.split("\n")[1])


@pytest.mark.parametrize("given", [7, "d-7", 0])
def test_ids_and_other_keys_survive(given: object) -> None:
    record = {"text": "ab", "entities": [[0, 1, "X"]], "id": given, "meta": {"page": 3},
              "label": "news", "tags": ["\ud83d"], "none": None}  # fmt: skip
    (document,) = File(json.dumps(record)).documents
    assert document.id == str(given)
    again = json.loads(text_of([document]))
    assert again == record
    assert type(again["id"]) is type(given)
    predicted = json.loads(text_of([document], predictions=True))
    assert {**predicted, "entities": record["entities"]} == record
    (other,) = File('{"text": "a", "id": null, "entities": []}').documents
    assert (other.id, other.meta) == ("x.jsonl:1", {"id": None})


# Offsets. 🎉 is one code point, two UTF-16 units, four bytes.


def spans_of(*records: dict[str, Any], **how: Any) -> tuple[list[str], File]:
    file = File("\n".join(map(json.dumps, records)), **how)
    return [d.surface(e) for d in file.documents for e in d.entities], file


PARTY = {"text": "🎉王明在京", "label": [[2, 4, "PER"]]}


def test_utf16_offsets_are_read_where_code_points_do_not_fit() -> None:
    beyond = {"text": "王在🎉京", "label": [[4, 5, "LOC"]]}
    found, file = spans_of(PARTY, beyond)
    assert (found, file.offsets) == (["王明", "京"], "utf16")
    assert "offsets read as UTF-16 units" in file.notices[0]
    stated = {"text": "🎉王明", "entities": [{"start": 2, "end": 4, "label": "P", "text": "王明"}]}
    assert spans_of(stated)[0] == ["王明"]
    assert spans_of(PARTY, stated)[0] == ["王明", "王明"]
    assert spans_of(PARTY, beyond, {"text": "🎉🎉a", "label": [[4, 5, "X"]]})[0][-1] == "a"


def test_offsets_that_nothing_decides_are_said() -> None:
    found, file = spans_of({"text": "王", "label": [[0, 1, "PER"]]}, PARTY)
    assert (found, file.offsets) == (["王", "明在"], "codepoint")
    (notice,) = file.notices
    assert "read as code points (first: line 2, PER '明在', as UTF-16 units '王明')" in notice
    found, file = spans_of(PARTY, like=Reading(offsets="utf16"))
    assert (found, file.offsets) == (["王明"], "utf16")
    assert (
        "read as UTF-16 units (first: line 1, PER '王明', as code points '明在')" in file.notices[0]
    )
    decided = {"text": "🎉王明", "entities": [{"start": 1, "end": 2, "label": "P", "text": "王"}]}
    found, file = spans_of(PARTY, decided)
    assert (found, file.offsets, file.notices) == (["明在", "王"], "codepoint", ())
    assert spans_of({"text": "王🎉", "label": [[0, 1, "PER"]]})[1].notices == ()


@pytest.mark.parametrize(
    ("offsets", "span", "found"),
    [("codepoint", [1, 3], "王明"), ("utf16", [2, 4], "王明"), ("byte", [4, 10], "王明")],
)
def test_the_unit_can_be_said(offsets: str, span: list[int], found: str) -> None:
    record = {"text": "🎉王明在京", "label": [[*span, "PER"]]}
    surfaces, file = spans_of(record, offsets=offsets)
    assert (surfaces, file.offsets, file.notices) == ([found], offsets, ())


def test_offsets_that_fit_in_no_unit_are_refused() -> None:
    with pytest.raises(DataError, match=r":1: .* out of range: .* count UTF-16 units"):
        spans_of({"text": "🎉a", "label": [[2, 4, "X"]]}, offsets="utf16")
    with pytest.raises(DataError, match=r":1: .* ends inside a character, in UTF-16 units"):
        spans_of({"text": "🎉a", "label": [[1, 3, "X"]]}, offsets="utf16")
    with pytest.raises(DataError, match=r":1: .* out of range.*fit as UTF-8 bytes.* offsets byte"):
        spans_of({"text": "王明在京", "label": [[3, 9, "X"]]})
    with pytest.raises(DataError, match=r":2: .* out of range.*not all spans fit either$"):
        spans_of(PARTY, {"text": "🎉a", "label": [[0, 99, "X"]]})


def test_document_to_json_leaves_out_a_missing_score() -> None:
    document = Document("王明在京", (Entity(3, 4, "LOC", 0.25), Entity(0, 2, "PER")))
    assert jsonl.document_to_json(document) == {
        "text": "王明在京",
        "entities": [
            {"start": 0, "end": 2, "label": "PER", "text": "王明"},
            {"start": 3, "end": 4, "label": "LOC", "text": "京", "score": 0.25},
        ],
    }


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    document = Document("a\u2028b\x85c\x1cd", (Entity(0, 1, "\u2029"),))
    text = text_of([document])
    assert text.count("\n") == 1
    assert File(text).documents[0].text == document.text


def test_half_a_surrogate_pair_is_not_written() -> None:
    with pytest.raises(DataError, match=r"document d1 cannot be written: .* surrogate"):
        text_of([Document("a\udc00", id="d1")])


def test_source_tokens_come_back(tmp_path: Path) -> None:
    document = Document("王 明来", (Entity(0, 3, "PER"),), "x", ((0, 1), (2, 3), (3, 4)))
    save_documents(tmp_path / "a.jsonl", [document, Document("", tokens=())])
    written = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(written[0])["tokens"] == [[0, 1], [2, 3], [3, 4]]
    again = load_corpus(tmp_path / "a.jsonl").documents
    assert [d.tokens for d in again] == [document.tokens, ()]
    assert [d.meta for d in again] == [{}, {}]
    texts = load_corpus(tmp_path / "a.jsonl", ignore_tags=True).documents
    assert texts[0].tokens == document.tokens
    without = WriteOptions(more={"tokens": "no"})
    fitted = find_format("jsonl").fit(document, without)
    assert [(loss.kind, loss.reason) for loss in fitted.losses] == [("tokens", "3 source tokens")]
    save_with(tmp_path / "b.jsonl", [document], without, format=None)
    assert "tokens" not in (tmp_path / "b.jsonl").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="tokens='perhaps' is unknown, expected one of yes, no"):
        save_with(tmp_path / "c.jsonl", [document], WriteOptions(more={"tokens": "perhaps"}),
                  format=None)  # fmt: skip


@pytest.mark.parametrize(
    "tokens", [["王", "明"], [[0, 9]], [[1, 2], [0, 1]], [[0, 1], [0, 2]], [[0.0, 1]], [], {"a": 1}]
)
def test_tokens_of_another_kind_are_metadata(tokens: object, tmp_path: Path) -> None:
    record = {"text": "王明", "entities": [], "tokens": tokens}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    (document,) = load_corpus(tmp_path / "a.jsonl", format="jsonl").documents
    assert document.tokens is None
    assert document.meta == {"tokens": tokens}


def test_tokens_count_what_entities_count(tmp_path: Path) -> None:
    record = {"text": "🎉王明", "entities": [[2, 4, "PER"]], "tokens": [[0, 2], [2, 3], [3, 4]]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    (document,) = load_corpus(tmp_path / "a.jsonl").documents  # only UTF-16 units fit
    assert document.entities == (Entity(1, 3, "PER"),)
    assert document.tokens == ((0, 1), (1, 2), (2, 3))
