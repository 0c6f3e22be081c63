"""JSONL spans."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.formats import jsonl
from nertune.errors import DataError
from nertune.types import Document, Entity

NAME = Path("x.jsonl")


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
    file = jsonl.read(text_of(items, predictions=True), NAME)
    assert [(d.text, d.entities) for d in file.documents] == [(d.text, d.entities) for d in items]


@given(st.lists(documents(), min_size=1))
def test_gold_is_read_back(items: list[Document]) -> None:
    file = jsonl.read(text_of(items), NAME)
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
    (document,) = jsonl.read(json.dumps(record), NAME).documents
    expected = [(0, 2, "PER"), (3, 4, "LOC")] if any(record.get(k) for k in KEYS) else []
    assert [entity.key for entity in document.entities] == expected
    assert document.tokens is None


KEYS = ("entities", "label", "labels")


def test_ids_count_blank_lines() -> None:
    file = jsonl.read('\n{"text": "a", "entities": []}\r\n \t\r\n{"text": "b", "label": []}', NAME)
    assert [document.id for document in file.documents] == ["x.jsonl:2", "x.jsonl:4"]
    assert file.notices == ()


def test_overlapping_entities_are_kept_identical_ones_dropped() -> None:
    spans = [[0, 3, "A"], [1, 2, "B"], [0, 3, "A"], [0, 3, "C"]]
    file = jsonl.read(json.dumps({"text": "abc", "entities": spans}), NAME)
    keys = [entity.key for entity in file.documents[0].entities]
    assert keys == [(0, 3, "A"), (0, 3, "C"), (1, 2, "B")]
    assert [notice.split(" ")[:2] for notice in file.notices] == [
        ["1", "identical"],
        ["1", "texts"],
    ]


def test_records_without_entities_are_said_aloud() -> None:
    file = jsonl.read('{"text": "a", "spans": [[0, 1, "X"]]}\n{"text": "b"}\n', NAME)
    assert file.notices == (
        '2 records without "entities" or "label", read as texts without entities',
    )


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
    assert jsonl.read(text, NAME).documents[0].text == document.text


def test_half_a_surrogate_pair_is_not_written() -> None:
    with pytest.raises(DataError, match=r"document d1 cannot be written: .* surrogate"):
        text_of([Document("a\udc00", id="d1")])
