"""GLiNER's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nertune.data.corpus import load_corpus, save_documents
from nertune.data.formats import WriteOptions, find_format
from nertune.errors import DataError
from nertune.types import Document, Entity

ITEMS: list[dict[str, Any]] = [
    {"tokenized_text": ["Li", "Ming", "of", "Oslo", "University"],
     "ner": [[0, 1, "person"], [3, 3, "city"], [3, 4, "school"]]},
    {"tokenized_text": ["data", "result"], "ner": [], "ner_negatives": ["city"], "id": 7},
]  # fmt: skip


def put(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text", [json.dumps(ITEMS), json.dumps(ITEMS, indent=2), "\n".join(map(json.dumps, ITEMS))]
)
def test_spans_of_tokens_are_read_with_their_ends(text: str, tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.json", text))
    assert (corpus.format, corpus.joined) == ("gliner", "space")
    first, second = corpus.documents
    assert [f"{first.surface(e)}/{e.label}" for e in first.entities] == [
        "Li Ming/person", "Oslo/city", "Oslo University/school"
    ]  # fmt: skip
    assert first.tokens == ((0, 2), (3, 7), (8, 10), (11, 15), (16, 26))
    assert (second.id, second.meta) == ("7", {"ner_negatives": ["city"], "id": 7})
    save_documents(tmp_path / "b.json", corpus.documents, format="gliner")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == ITEMS


def test_sentences_of_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.json", [ITEMS[0], ITEMS[0], ITEMS[1]]))
    assert [d.id for d in corpus.documents] == ["a.json:1", "a.json:1.2", "7"]


@pytest.mark.parametrize(
    ("ner", "message"),
    [
        (
            [[0, 2, "X"]],
            "X [0, 2] reaches beyond the 2 tokens, counted from 0 (the end is included",
        ),
        ([[1, 0, "X"]], "the span [1, 0] is empty or negative (the end is included"),
        ([[-1, 0, "X"]], "empty or negative"),
        ([[0, "1", "X"]], "not both integers"),
        ([[0, True, "X"]], "not both integers"),
        ([[0, 1, ""]], "the label of [0, 1] is empty"),
        ([[0, 1, ["X"]]], "a label is not a string"),
        ([[0, 1]], '"ner" is not a list of [start, end, label]'),
        (None, '"ner" is not a list of [start, end, label]'),
    ],
)
def test_what_cannot_be_read(ner: Any, message: str, tmp_path: Path) -> None:
    wrong = {"tokenized_text": ["a", "b"], "ner": ner}
    path = put(tmp_path / "a", json.dumps(ITEMS[0]) + "\n" + json.dumps(wrong))
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert load_corpus(path, ignore_tags=True).documents[1].text == "a b"


def test_what_it_cannot_hold_is_listed() -> None:
    entities = (Entity(0, 3, "X"), Entity(0, 5, "X"), Entity(5, 6, "Y"))
    document = Document("ab cd ", entities, tokens=((0, 2), (3, 5)), meta={"ner": 1, "a": 2})
    fitted = find_format("gliner").fit(document, WriteOptions())
    assert fitted.document is not None
    assert [e.key for e in fitted.document.entities] == [(0, 2, "X"), (0, 5, "X")]
    assert fitted.document.meta == {"a": 2}
    assert [loss.kind for loss in fitted.losses] == ["metadata", "entity", "entity", "text"]


def test_entities_that_are_widened_to_one_are_one() -> None:
    document = Document("abc", (Entity(0, 1, "X"), Entity(1, 2, "X")), tokens=((0, 3),))
    fitted = find_format("gliner").fit(document, WriteOptions())
    assert fitted.document is not None
    assert [e.key for e in fitted.document.entities] == [(0, 3, "X")]
    assert [loss.reason for loss in fitted.losses] == [
        "widened to whole tokens: 'abc'", "widened to whole tokens: 'abc'", "it stands there twice"
    ]  # fmt: skip


def test_gliner_itself_makes_the_same_spans_its_targets(tmp_path: Path) -> None:
    """Both ways: of what is written, and of a file as GLiNER is given it."""
    processor = pytest.importorskip(
        "gliner.data_processing.processor", reason="the extra oracles is not installed"
    )
    corpus = load_corpus(put(tmp_path / "a.json", ITEMS))
    save_documents(tmp_path / "b.json", corpus.documents, format="gliner")
    types = ["person", "city", "school"]
    config = SimpleNamespace(max_width=3, max_len=99, ent_token="<E>", sep_token="<S>")
    tokenizer = SimpleNamespace(unk_token="?", pad_token="_")
    theirs = processor.UniEncoderSpanProcessor(config, tokenizer, words_splitter=object())
    for path in (tmp_path / "a.json", tmp_path / "b.json"):
        items = json.loads(path.read_text(encoding="utf-8"))
        batch = theirs.collate_raw_batch(items, [types] * len(items))
        for number, document in enumerate(corpus.documents):
            labels = batch["span_label"][number].tolist()
            spans = zip(batch["span_idx"][number].tolist(), labels, strict=True)
            targets = {(a, b, types[label - 1]) for (a, b), label in spans if label > 0}
            tokens = document.tokens or ()
            found = {
                (
                    [start for start, _ in tokens].index(e.start),
                    [end for _, end in tokens].index(e.end),
                    e.label,
                )
                for e in document.entities
            }
            assert targets == found
