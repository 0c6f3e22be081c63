"""One format to another: nothing is lost without being listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import run
from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.convert import convert
from nertune.data.corpus import Corpus, load_corpus, save_documents
from nertune.data.formats import WriteOptions
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

NESTED = Document("北京大学", (Entity(0, 4, "ORG"), Entity(0, 2, "LOC", 0.5)), "d1")


def test_there_and_back(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl")
    outcome = run("data", "convert", source, tmp_path / "b.conll", "--check")
    assert (outcome.code, outcome.stdout) == (0, "")
    assert f"{source}: read as jsonl: its first line is a JSON object with a text" in outcome.stderr
    assert "b.conll: 8 documents, 17 entities as conll\n" in outcome.stderr
    assert "checked: what is read again is the same\n" in outcome.stderr
    again = ("data", "convert", tmp_path / "b.conll", tmp_path / "c.jsonl", "--check")
    assert run(*again).code == 0
    assert load_corpus(tmp_path / "c.jsonl").sha256 == load_corpus(source).sha256
    tokens = [document.tokens for document in load_corpus(tmp_path / "c.jsonl").documents]
    assert tokens == [document.tokens for document in load_corpus(tmp_path / "b.conll").documents]
    assert "c.jsonl exists already" in run(*again).error
    without = (*again, "--overwrite", "--to-option", "tokens=no")
    assert run(*without).code == 1
    back = run(*without, "--allow-loss")
    assert back.code == 0  # source tokens are lost, and said to be
    assert "lost: b.conll:1: tokens: 10 source tokens" in back.stderr


def test_what_is_lost_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    save_documents(source, [NESTED, *SENTENCES], format="predictions")
    target = tmp_path / "b.conll"
    outcome = run("data", "convert", source, target)
    assert outcome.code == 1
    assert not target.exists()
    told = "lost: a.jsonl:1: entity: ORG [0, 4): overlaps LOC '北京', which is kept"
    assert told in outcome.stderr
    assert "b.conll is not written: conll cannot hold 1 entity, 1 score" in outcome.stderr
    outcome = run("data", "convert", source, target, "--allow-loss", "--check", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.stdout)
    assert found["lost"] == {"entity": 1, "score": 1}
    assert found["losses"][0]["entity"] == {
        "start": 0, "end": 4, "label": "ORG", "score": None, "fragments": []
    }  # fmt: skip
    assert (found["differences"], found["is_written"], found["entities"]) == ([], True, 18)
    assert load_corpus(target).num_entities == 18


def test_entities_and_text_are_listed_before_ids(tmp_path: Path) -> None:
    """Each document loses its id, more than are shown, and only the last one an entity."""
    others = [Document("王", id=f"d{i}", meta={"id": f"d{i}", "from": "web"}) for i in range(30)]
    spaced = Document("王\n明", (Entity(0, 3, "PER"), Entity(2, 3, "LOC")))
    source = tmp_path / "a.jsonl"
    save_documents(source, [*others, spaced])
    target = tmp_path / "b.conll"
    outcome = run("data", "convert", source, target, "--allow-loss", "--check")
    assert outcome.code == 0
    lost = [line.split(": ")[2] for line in outcome.stderr.splitlines() if "lost: " in line[:6]]
    assert lost == ["entity", "text", *["metadata"] * 18]
    assert "; lost: 1 entity, 1 text, 30 metadata, 30 id\n" in outcome.stderr
    assert "checked: what is read again is the same but for what is lost\n" in outcome.stderr


def test_words_are_cut_as_asked(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    save_documents(source, [Document("Ann Lee's", (Entity(0, 7, "PER"),))])
    assert run("data", "convert", source, tmp_path / "b.conll").code == 1  # the space between
    for unit, tokens in (("auto", "Ann Lee ' s"), ("char", "A n n L e e ' s")):
        target = tmp_path / f"{unit}.conll"
        assert run("data", "convert", source, target, "--unit", unit, "--allow-loss").code == 0
        (document,) = load_corpus(target, join="space").documents
        assert document.text == tokens
        assert [e.label for e in document.entities] == ["PER"]


def test_a_target_that_reads_otherwise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nertune.data.formats.jsonl import format as jsonl

    corpus = Corpus.from_documents(SENTENCES)
    whole = jsonl.write

    def forget(stream: object, documents: object, **how: bool) -> None:
        kept = [d.with_entities(d.entities[:1]) for d in documents]  # type: ignore[attr-defined]
        whole(stream, kept[:-1], **how)  # type: ignore[arg-type]

    monkeypatch.setattr(jsonl, "write", forget)
    found = convert(corpus, tmp_path / "a.jsonl", WriteOptions(), check=True)
    assert found.differences is not None
    assert (
        "document 1 ('王小明昨天到了北京。'): entities: [(0, 3, 'PERSON')" in found.differences[0]
    )
    assert found.differences[-1] == "8 documents were written, 7 read"


def test_refusals(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl")
    corpus = load_corpus(source)
    with pytest.raises(ConfigError, match="--to 'xml': expected auto, conll, jsonl"):
        convert(corpus, tmp_path / "b", WriteOptions(), to="xml")
    empty = Corpus.from_documents([Document("")])
    with pytest.raises(DataError, match="format conll can hold no document"):
        convert(empty, tmp_path / "b.conll", WriteOptions(tokenize=lambda t: []), allow_loss=True)
    assert "same file" in run("data", "convert", source, source).error
    assert "expected auto, char or word" in run("data", "convert", source, "b", "--unit", "x").error
    told = run("data", "convert", source, "b", "--option", "columns=1").error
    assert "format jsonl has no option 'columns'; it has: tokens" in told


def test_why_no_document_can_be_held(tmp_path: Path) -> None:
    corpus = Corpus.from_documents([Document("a\nb")])
    told = "format conll can hold no document of it, e.g. since "
    with pytest.raises(DataError, match=told):
        convert(corpus, tmp_path / "a.conll", WriteOptions(), allow_loss=True)
