"""GENIA-like JSON: tokens and nested mentions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nertune.data.corpus import load_corpus, save_documents
from nertune.data.formats import WriteOptions, find_format
from nertune.errors import DataError
from nertune.types import Document, Entity

SENTENCE: dict[str, Any] = {
    "tokens": ["human", "IL-2", "gene", "text"],
    "doc_id": "d",
    "sent_id": "d-3",
    "entity_mentions": [
        {"start": 0, "end": 3, "entity_type": "DNA", "text": "human IL-2 gene"},
        {"start": 1, "end": 2, "entity_type": "protein", "text": "IL-2"},
    ],
}


def put(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


@pytest.mark.parametrize("text", [json.dumps(SENTENCE), json.dumps([SENTENCE])])
def test_nested_mentions_ids_and_documents(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    corpus = load_corpus(tmp_path / "a.jsonl")
    (document,) = corpus.documents
    assert corpus.format == "genia"
    assert [e.key for e in document.entities] == [(0, 15, "DNA"), (6, 10, "protein")]
    assert (document.id, document.meta) == ("d-3", {"document": "d", "id": "d-3"})
    save_documents(tmp_path / "b", corpus.documents, format="genia")
    assert json.loads((tmp_path / "b").read_text()) == SENTENCE


@pytest.mark.parametrize(
    ("keys", "meta", "name"),
    [
        ({}, {}, "a:1"),
        ({"sent_id": 3}, {"id": 3}, "3"),
        ({"id": 1, "sent_id": "s"}, {"id": 1, "sent_id": "s"}, "1"),
        ({"document": 1, "doc_id": "s"}, {"document": 1, "doc_id": "s"}, "a:1"),
        ({"doc_id": 4, "sentence": "x"}, {"document": 4, "sentence": "x"}, "a:1"),
    ],
)
def test_ids_come_back(keys: Any, meta: Any, name: str, tmp_path: Path) -> None:
    record = {"tokens": ["a"], **keys, "entity_mentions": []}
    (document,) = load_corpus(put(tmp_path / "a", record)).documents
    assert (document.meta, document.id) == (meta, name)
    assert find_format("genia").fit(document, WriteOptions()).losses == ()
    save_documents(tmp_path / "b", [document], format="genia")
    assert json.loads((tmp_path / "b").read_text()) == record


def test_keys_that_would_be_read_as_others_are_lost() -> None:
    document = Document("a", tokens=((0, 1),), meta={"sent_id": 1, "doc_id": 2, "id": 3})
    fitted = find_format("genia").fit(document, WriteOptions())
    assert fitted.document is not None
    assert fitted.document.meta == {"sent_id": 1, "id": 3}
    assert [loss.reason for loss in fitted.losses] == ["its key 'doc_id'"]


def test_other_keys_of_mentions_are_said(tmp_path: Path) -> None:
    mention = {**SENTENCE["entity_mentions"][0], "id": "T1", "mention_type": "NAM"}
    del mention["text"]
    corpus = load_corpus(put(tmp_path / "a", {**SENTENCE, "entity_mentions": [mention, mention]}))
    assert [e.key for e in corpus.documents[0].entities] == [(0, 15, "DNA")]
    assert {
        "2 mentions with other keys, which are not read: 'id', 'mention_type'",
        "1 identical entities dropped",
    } <= set(corpus.notices)


@pytest.mark.parametrize(
    ("mention", "message"),
    [
        ({"end": 5}, "DNA [0, 5] reaches beyond the 4 tokens, counted from 0 (the end is excluded"),
        ({"end": 2}, "says its text is 'human IL-2 gene', but there stands 'human IL-2' (the end"),
        ({"end": 0}, "empty or negative"),
        ({"entity_type": None}, "a label is not a string"),
        (None, '"entity_mentions" is not a list of objects'),
    ],
)
def test_what_cannot_be_read(mention: Any, message: str, tmp_path: Path) -> None:
    first = SENTENCE["entity_mentions"][0]
    wrong = {**SENTENCE, "entity_mentions": mention and [{**first, **mention}]}
    path = put(tmp_path / "a", SENTENCE, wrong)
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "documents", "entities", "sources"),
    [("train", 1500, 3998, 199), ("dev", 265, 716, 139), ("test", 1732, 5119, 199)],
)
def test_genia(
    name: str, documents: int, entities: int, sources: int, real_data: Path, tmp_path: Path
) -> None:
    path = real_data / "genia" / f"{name}.jsonl"
    corpus = load_corpus(path)
    assert (corpus.format, len(corpus.documents), corpus.num_entities) == (
        "genia", documents, entities
    )  # fmt: skip
    assert len({d.meta["document"] for d in corpus.documents}) == sources
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    mentions = [
        sorted((m["text"], m["entity_type"]) for m in record["entity_mentions"])
        for record in records
    ]
    assert mentions == [
        sorted((d.surface(e), e.label) for e in d.entities) for d in corpus.documents
    ]
    save_documents(tmp_path / "again", corpus.documents, format="genia")
    again = [
        json.loads(line)
        for line in (tmp_path / "again").read_text(encoding="utf-8").split("\n")
        if line
    ]
    for record in (*records, *again):
        record["entity_mentions"].sort(key=str)
    assert again == records


def test_an_entity_inside_a_token_is_refused() -> None:
    document = Document("ab", (Entity(0, 1, "X"),), tokens=((0, 2),))
    with pytest.raises(DataError, match="does not begin and end with a token"):
        find_format("genia").write([document], None, WriteOptions())
