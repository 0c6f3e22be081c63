"""Prodigy's JSON lines, and which files of texts and spans are Prodigy's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nertune.data.corpus import load_corpus, save_with
from nertune.data.formats import WriteOptions, find_format
from nertune.errors import DataError
from nertune.types import Document, Entity

TASK: dict[str, Any] = {
    "text": "🎉 Li Ming met Ann",
    "_input_hash": 1,
    "_task_hash": -2,
    "tokens": [
        {"text": "🎉", "start": 0, "end": 1, "id": 0, "ws": True},
        {"text": "Li", "start": 2, "end": 4, "id": 1, "ws": True},
        {"text": "Ming", "start": 5, "end": 9, "id": 2, "ws": True},
        {"text": "met", "start": 10, "end": 13, "id": 3, "ws": True},
        {"text": "Ann", "start": 14, "end": 17, "id": 4, "ws": False},
    ],
    "spans": [
        {"start": 2, "end": 9, "label": "PERSON", "token_start": 1, "token_end": 2},
        {"start": 14, "end": 17, "label": "PERSON", "token_start": 4, "token_end": 4},
    ],
    "_view_id": "ner_manual",
    "answer": "accept",
    "meta": {"page": 3},
}


def put(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return path


def test_a_task_is_read_with_its_tokens_and_written_as_it_was(tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.jsonl", TASK))
    (document,) = corpus.documents
    assert corpus.format == "prodigy"
    assert [document.surface(e) for e in document.entities] == ["Li Ming", "Ann"]
    assert document.tokens == ((0, 1), (2, 4), (5, 9), (10, 13), (14, 17))
    assert set(document.meta) == {"_input_hash", "_task_hash", "_view_id", "answer", "meta"}
    save_with(tmp_path / "b.jsonl", corpus.documents, WriteOptions(), format="prodigy")
    assert json.loads((tmp_path / "b.jsonl").read_text(encoding="utf-8")) == TASK


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in TASK.items() if key not in keys} | more


SIGNS = ("_input_hash", "_task_hash", "_view_id", "answer", "tokens")


@pytest.mark.parametrize(
    ("record", "format"),
    [
        (without("_input_hash", "_task_hash", "_view_id", "answer"), "prodigy"),  # tokens
        (without("tokens"), "prodigy"),
        (without("_input_hash", "_task_hash", "_view_id", "tokens"), "prodigy"),  # an answer
        (without("spans"), "prodigy"),
        (without(*SIGNS), "jsonl"),
        (without(*SIGNS, answer="yes"), "jsonl"),
        (without(*SIGNS, tokens=["a", "b"]), "jsonl"),
        (without("spans", entities=[[0, 1, "X"]]), "jsonl"),
        (without("spans", *SIGNS, label=[[0, 1, "X"]]), "jsonl"),
    ],
)
def test_what_is_prodigy_s(record: Any, format: str, tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.jsonl", record))
    assert corpus.format == format
    as_jsonl = load_corpus(tmp_path / "a.jsonl", format="jsonl").documents
    assert [d.entities for d in as_jsonl] == [d.entities for d in corpus.documents]


def test_a_long_first_record_is_known_by_its_hashes(tmp_path: Path) -> None:
    record = {"text": "a", "_input_hash": 1, "_task_hash": 2, "spans": [], "x": "a" * 70_000}
    corpus = load_corpus(put(tmp_path / "a.jsonl", record))
    assert (corpus.format, corpus.documents[0].text) == ("prodigy", "a")


def test_what_was_rejected_or_ignored_is_no_gold(tmp_path: Path) -> None:
    answers = ("accept", "reject", "ignore", "accept")
    path = put(tmp_path / "a.jsonl", *(without(answer=a) for a in answers))
    corpus = load_corpus(path)
    assert [d.id for d in corpus.documents] == ["a.jsonl:1", "a.jsonl:4"]
    told = "2 records skipped that Prodigy's user rejected or ignored (first: line 2)"
    assert told in corpus.notices
    texts = load_corpus(path, ignore_tags=True).documents
    assert len(texts) == 4
    with pytest.raises(DataError, match="all 1 records are rejected or ignored"):
        load_corpus(put(path, without(answer="reject")))
    fitted = find_format("prodigy").fit(texts[1], WriteOptions())
    assert fitted.document is not None
    assert "answer" not in fitted.document.meta
    assert [loss.reason for loss in fitted.losses] == ["its key 'answer'"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    marker = {"text": "[CLS]", "start": 0, "end": 0, "id": 0, "disabled": True}
    odd = [
        {**TASK["spans"][0], "source": "model", "score": 0.5},
        {**TASK["spans"][1], "score": 7},
        TASK["spans"][1],
        {"start": 0, "end": 1},
    ]
    first = without(tokens=[marker, *TASK["tokens"]], spans=odd)
    corpus = load_corpus(put(tmp_path / "a.jsonl", first, without("spans")))
    assert corpus.documents[0].entities == (Entity(2, 9, "PERSON", 0.5), Entity(14, 17, "PERSON"))
    assert corpus.documents[0].tokens == corpus.documents[1].tokens
    assert {
        "1 tokens without characters left out",
        "1 spans with other keys, which are not read: 'source'",
        "1 scores that are no probability, which are not read",
        "1 identical entities dropped (same span and label)",
        "1 spans without a label, which are not read",
        "1 records without spans, read as texts without entities",
    } <= set(corpus.notices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spans": [{"start": 0, "end": 99, "label": "X"}]}, "X [0, 99] is out of range"),
        (
            {"spans": [{"start": 2, "end": 4, "label": "X", "text": "Ming"}]},
            "says its text is 'Ming'",
        ),
        ({"spans": [{"start": 2, "end": 2, "label": "X"}]}, "empty or negative"),
        ({"spans": [{"start": 2, "end": 4, "label": ""}]}, "the label of [2, 4] is empty"),
        ({"spans": {}}, '"spans" is not a list of objects'),
        ({"tokens": [[0, 1]]}, '"tokens" is not a list of objects'),
        ({"tokens": [{"start": 0, "end": 99, "id": 0}]}, "token [0, 99] is out of range"),
        ({"tokens": [*TASK["tokens"], TASK["tokens"][0]]}, "token [0, 1] overlaps the one before"),
        ({"text": None}, '"text" is not a string'),
    ],
)
def test_what_cannot_be_read(change: Any, message: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", TASK, {**TASK, **change})
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_the_unit_can_be_said(tmp_path: Path) -> None:
    spans = [{"start": 3, "end": 5, "label": "X"}]
    path = put(tmp_path / "a.jsonl", without("tokens", spans=spans))
    (document,) = load_corpus(path, offsets="utf16").documents
    assert document.surface(document.entities[0]) == "Li"


def test_tokens_that_part_an_entity_are_lost_not_the_entity() -> None:
    document = Document("abc", (Entity(0, 1, "X"),), tokens=((0, 2), (2, 3)), meta={"spans": 1})
    fitted = find_format("prodigy").fit(document, WriteOptions())
    assert fitted.document == Document("abc", (Entity(0, 1, "X"),))
    assert [loss.kind for loss in fitted.losses] == ["metadata", "tokens"]
    assert "X 'a' begins or ends inside a token" in fitted.losses[1].reason
