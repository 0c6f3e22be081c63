"""spaCy's JSON of version 2, on samples written by hand, and beside spaCy itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.corpus import Corpus, load_corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.errors import DataError
from nertune.types import Document, Entity


def token(orth: str, ner: str | None = "O", **more: Any) -> dict[str, Any]:
    return {"orth": orth, **({} if ner is None else {"ner": ner}), **more}


def paragraph(*tokens: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"sentences": [{"tokens": list(tokens)}], **more}


BERLIN = paragraph(
    token("Anna", "B-PER"), token("Lee", "L-PER"), token("in"), token("Bonn", "U-LOC"),
    raw="Anna  Lee in\nBonn",
)  # fmt: skip


def load(folder: Path, value: Any, **how: Any) -> Corpus:
    (folder / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return load_corpus(folder / "a.json", **{"format": "spacy-json", **how})


def surfaces(corpus: Corpus) -> list[list[str]]:
    return [[f"{d.surface(e)}/{e.label}" for e in d.entities] for d in corpus.documents]


def test_paragraphs_are_documents(tmp_path: Path) -> None:
    both = [{"id": 3, "paragraphs": [BERLIN]}, {"id": "x", "paragraphs": [BERLIN, BERLIN]}]
    corpus = load(tmp_path, both, format="auto")
    assert (corpus.format, corpus.scheme) == ("spacy-json", "BILOU")
    assert surfaces(corpus) == [["Anna  Lee/PER", "Bonn/LOC"]] * 3
    assert [(d.id, d.meta) for d in corpus.documents] == [
        ("3", {"id": 3}), ("x:1", {"document": "x"}), ("x:2", {"document": "x"})
    ]  # fmt: skip
    assert corpus.documents[0].tokens == ((0, 4), (6, 9), (10, 12), (13, 17))
    assert (
        load(tmp_path, both[0], format="auto").format == "spacy-json"
    )  # one object, as `docs_to_json` gives it
    save_with(tmp_path / "b.json", corpus.documents, WriteOptions(), format="spacy-json")
    written = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert [len(record["paragraphs"]) for record in written] == [1, 2]
    assert load_corpus(tmp_path / "b.json").documents == corpus.documents


def test_objects_of_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    corpus = load(tmp_path, [{"paragraphs": [BERLIN]}, {"paragraphs": [BERLIN, BERLIN]}])
    assert [d.id for d in corpus.documents] == ["a.json:1", "a.json:1.2:1", "a.json:1.2:2"]


def test_texts_without_raw(tmp_path: Path) -> None:
    spaced = paragraph(token("a", "U-X", space=""), token("b", space=" "))
    corpus = load(tmp_path, [{"paragraphs": [spaced, paragraph(token("a"), token("b", "U-X"))]}])
    assert [d.text for d in corpus.documents] == ["ab ", "a b"]
    assert surfaces(corpus) == [["a/X"], ["b/X"]]
    assert corpus.notices == (
        "1 texts whose tokens are joined by a space, since there is no other text",
    )


def test_entities_count_where_no_token_has_a_tag(tmp_path: Path) -> None:
    bare = paragraph(token("🎉", None), token("b", "-"), raw="🎉 b", entities=[[2, 3, "X"]])
    differs = paragraph(token("a", "U-Y"), raw="a", entities=[[0, 1, "X"]])
    corpus = load(tmp_path, [{"paragraphs": [bare, differs]}])
    assert surfaces(corpus) == [["b/X"], ["a/Y"]]
    assert set(corpus.notices) == {
        "2 tokens without a tag, read as outside",
        '1 paragraphs whose "entities" differ from "ner", which is read',
    }


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    two = {
        "sentences": [
            {"tokens": [token("a", tag="NN", head=0)], "brackets": [{"first": 0}]},
            {"tokens": [token("b", "L-X")]},
        ],
        "raw": "a b",
        "cats": [{"label": "good", "value": 1.0}],
        "links": [],
    }
    corpus = load(tmp_path, [{"paragraphs": [two]}])
    assert set(corpus.notices) == {
        "1 paragraphs of several sentences, whose borders are not kept",
        "1 sentences with brackets, which are not kept",
        "keys of tokens that are not kept: head, tag",
        "1 tag repaired as conlleval does (first: line 1, L-X: nothing opened this entity)",
    }
    assert corpus.documents[0].meta == {"cats": [{"label": "good", "value": 1.0}]}
    with pytest.raises(DataError, match="strict reading refuses it"):
        load(tmp_path, [{"paragraphs": [two]}], strict=True)
    assert load(tmp_path, [{"paragraphs": [two]}], ignore_tags=True).num_entities == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"paragraphs": 1}, '"paragraphs" is not a list of objects'),
        ({"paragraphs": [{}]}, '"sentences" is not a list of objects'),
        ({"paragraphs": [{"sentences": [{"tokens": [3]}]}]}, '"tokens" is not a list of objects'),
        ({"paragraphs": [paragraph({"ner": "O"})]}, '"orth" of a token is not a string'),
        ({"paragraphs": [paragraph(token("a", "X"))]}, "tag 'X' is not in scheme BILOU"),
        ({"paragraphs": [paragraph({"orth": "a", "ner": 3})]}, '"ner" of a token is not a string'),
        ({"paragraphs": [paragraph(token("b"), raw="a b")]}, "token 'b' does not stand in"),
        ({"paragraphs": [paragraph(token("a"), raw=3)]}, '"raw" is not a string'),
        ({"paragraphs": [paragraph(raw="a", entities=[[0, 2, "X"]])]}, "is out of range"),
        ({"paragraphs": [paragraph(raw="a", entities=[[0, 1, ""]])]}, "is empty"),
        ({"paragraphs": [paragraph(raw="a", entities=["x"])]}, "is not [start, end, label]"),
    ],
)
def test_what_is_refused(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, [record])
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}:1: ")
    assert message in str(caught.value)


def test_an_entity_inside_a_token_is_widened_and_said() -> None:
    document = Document("Anna Lee", (Entity(1, 6, "X"),), tokens=((0, 4), (5, 8)))
    fitted = find_format("spacy-json").fit(document, WriteOptions())
    assert fitted.document is not None
    assert fitted.document.entities == (Entity(0, 8, "X"),)
    assert [loss.reason for loss in fitted.losses] == ["widened to whole tokens: 'Anna Lee'"]


# Beside spaCy

WORDS = st.sampled_from(["Anna", "王明", "🎉", "e\u0301", ".", "\n", "  ", "\u00a0", "O", "-"])
GAPS = st.sampled_from(["", " ", "  ", "\n", "\t ", " x "])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Words with anything between them, some of them entities."""
    text, tokens, entities = draw(GAPS), [], []
    for word in draw(st.lists(WORDS, min_size=1, max_size=8)):
        tokens.append((len(text), len(text) + len(word)))
        if draw(st.booleans()):
            entities.append(Entity(*tokens[-1], draw(st.sampled_from(["PER", "a-b", "组织"]))))
        text += word + draw(GAPS)
    has_tokens = draw(st.booleans())
    return Document(text, tuple(entities), tokens=tuple(tokens) if has_tokens else None)


@settings(max_examples=100)
@given(items=st.lists(documents(), min_size=1, max_size=3))
def test_spacy_reads_what_is_written(
    items: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> None:
    converters = pytest.importorskip("spacy.training.converters")
    path = tmp_path_factory.getbasetemp() / "spacy.json"
    save_with(path, items, WriteOptions(), format="spacy-json")
    theirs = list(converters.json_to_docs(path.read_bytes()))
    assert [doc.text for doc in theirs] == [document.text for document in items]
    for doc, document in zip(theirs, items, strict=True):
        found = [(e.start_char, e.end_char, e.label_) for e in doc.ents]
        assert found == [e.key for e in document.entities]
        if document.tokens is not None:
            words = {(t.idx, t.idx + len(t)) for t in doc}
            assert words >= set(document.tokens)


@settings(max_examples=100)
@given(document=documents())
def test_what_spacy_writes_is_read(
    document: Document, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spacy = pytest.importorskip("spacy")
    gold = pytest.importorskip("spacy.training.gold_io")
    path = tmp_path_factory.getbasetemp() / "theirs.json"
    nlp = spacy.blank("xx")
    nlp.add_pipe("sentencizer")
    doc = nlp(document.text)
    spans = [doc.char_span(e.start, e.end, e.label) for e in document.entities]
    doc.ents = [span for span in spans if span is not None]
    path.write_text(json.dumps(gold.docs_to_json([doc])), encoding="utf-8")
    (read,) = load_with(path, ReadOptions(), format="spacy-json").documents
    assert read.text == doc.text
    assert [e.key for e in read.entities] == [
        (e.start_char, e.end_char, e.label_) for e in doc.ents
    ]
    assert read.tokens == tuple((t.idx, t.idx + len(t)) for t in doc)
