"""`Document.scope` in the files of formats that hold it, and errors about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.commands import run
from nertune.data.convert import convert
from nertune.data.corpus import Corpus, load_corpus, save_documents
from nertune.data.formats.base import WriteOptions
from nertune.data.formats.scope_text import parse_scope, spell_scope
from nertune.errors import DataError
from nertune.types import Document, Entity, Scope

LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(
    st.none() | st.sets(LABELS).map(tuple), st.booleans(), st.sets(st.integers(0, 30), max_size=4)
)
def test_words_come_back(labels: tuple[str, ...] | None, complete: bool, cuts: set[int]) -> None:
    places = sorted(cuts)
    spans = tuple(zip(places[::2], places[1::2], strict=False))
    scope = Scope(labels, complete, spans)
    assert parse_scope(spell_scope(scope)) == scope


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_a_header_of_a_file_of_columns_holds_until_the_next(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "a.conll"
    lines = [
        "王 B-PER", "明 I-PER", "", "# nertune: labels=PER,LOC complete=false", "在 O", "",
        "# another comment", "京 B-LOC", "", "# nertune: labels=PER", "李 B-PER", "",
        "# nertune: labels=*", "华 O", "",
    ]  # fmt: skip
    rows = [x if x.startswith("#") else x.replace(" ", separator) for x in lines]
    file.write_text("\n".join(rows), encoding="utf-8")
    corpus = load_corpus(file)
    both = Scope(("LOC", "PER"), False)
    assert [d.scope for d in corpus.documents] == [Scope(), both, both, Scope(("PER",)), Scope()]
    assert any("1 comment skipped" in notice for notice in corpus.notices)
    again = tmp_path / "b.conll"
    save_documents(again, corpus.documents)
    assert load_corpus(again).sha256 == corpus.sha256
    assert load_corpus(file, ignore_tags=True).documents[1].scope == Scope()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("label=PER", "got 'label=PER', expected labels="),
        ("labels=PER, LOC", "got 'LOC'"),
        ("complete=no", "expected true or false"),
        ("labels=PER unknown=1-2", "no unknown spans"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error(tmp_path: Path, words: str, told: str) -> None:
    file = tmp_path / "a.conll"
    file.write_text(f"王 B-PER\n\n# nertune: {words}\n在 O\n", encoding="utf-8")
    with pytest.raises(DataError, match=told) as caught:
        load_corpus(file)
    assert "a.conll:3" in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ({"label": ["PER"]}, "'label' is no key"),
        ({"unknown": [[0, 9]]}, "is not in the text of 4 characters"),
        ({"complete": "no"}, "expected true or false"),
        ({"unknown": [["0", 1.9]]}, "spans of whole numbers"),
        (["PER"], "expected an object"),
        ("labels=PER", "expected an object"),
    ],
)
def test_a_record_s_scope_that_cannot_be_read_is_an_error(
    tmp_path: Path, scope: object, told: str
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "王明在京", "entities": [], "scope": scope}) + "\n")
    with pytest.raises(DataError, match=told) as caught:
        load_corpus(file)
    assert "a.jsonl:1" in str(caught.value)
    assert load_corpus(file, ignore_tags=True).documents[0].scope == Scope()


@pytest.mark.parametrize("value", ["national", 3, None, "the scope of work"])
def test_another_scope_is_metadata(tmp_path: Path, value: object) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "王明在京", "entities": [], "scope": value}) + "\n")
    (found,) = load_corpus(file).documents
    assert (found.scope, found.meta["scope"]) == (Scope(), value)


def test_unknown_spans_count_what_offsets_count(tmp_path: Path) -> None:
    record = {"text": "𠮷王在", "entities": [[2, 3, "PER"]], "scope": {"unknown": [[0, 2]]}}
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(record) + "\n")
    (found,) = load_corpus(file, offsets="utf16").documents
    assert (found.entities[0].start, found.scope.unknown) == (1, ((0, 1),))
    task = {"data": {"text": "𠮷王在", "scope": {"unknown": [[0, 2]], "labels": ["PER"]}},
            "annotations": [{"result": []}]}  # fmt: skip
    file = tmp_path / "a.json"
    file.write_text(json.dumps([task]))
    (found,) = load_corpus(file, format="label-studio", offsets="utf16").documents
    assert found.scope == Scope(("PER",), True, ((0, 1),))
    assert "scope" not in found.meta


def test_a_conversion_lists_a_scope_that_the_target_cannot_hold(tmp_path: Path) -> None:
    documents = [
        Document("王明", (Entity(0, 1, "PER"),), tokens=((0, 1), (1, 2)), scope=scope)
        for scope in (Scope(("PER",)), Scope(unknown=((1, 2),)), Scope())
    ]
    corpus = Corpus.from_documents(documents)
    lost = convert(corpus, tmp_path / "a.conllup", WriteOptions(), to="conllu-plus")
    assert lost.count_losses()["scope"] == 2
    assert not lost.is_written
    columns = convert(corpus, tmp_path / "a.conll", WriteOptions(), allow_loss=True)
    assert [loss.reason.partition(":")[0] for loss in columns.losses] == ["its unknown spans"]
    # What cannot be said is rather unknown than taken as text without entities.
    assert [d.scope for d in load_corpus(tmp_path / "a.conll")] == [
        Scope(("PER",)), Scope(complete=False), Scope(),
    ]  # fmt: skip


def test_brat_has_a_note(tmp_path: Path) -> None:
    document = Document("王明在", (Entity(0, 2, "PER"),), scope=Scope(("PER",), unknown=((2, 3),)))
    save_documents(tmp_path / "brat", [document], format="brat")
    (notes,) = (tmp_path / "brat").glob("*.ann")
    assert "#nertune\tScope document\tlabels=PER unknown=2-3\n" in notes.read_text()
    assert load_corpus(tmp_path / "brat").documents[0].scope == document.scope
    notes.write_text("#nertune\tScope document\tunknown=2-9\n")
    with pytest.raises(DataError, match="reaches beyond the text"):
        load_corpus(tmp_path / "brat")


def test_inspect_tells_what_documents_are_labelled_for(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    documents = [
        Document("王明在京", (Entity(0, 2, "PER"),), scope=Scope(("PER",), complete))
        for complete in (True, False)
    ]
    save_documents(file, [*documents, Document("x")])
    told = run("data", "inspect", str(file)).stdout
    assert "2 documents are partially labelled; in 1 of them unmarked text is unknown" in told
    assert "labelled for PER: 2" in told
