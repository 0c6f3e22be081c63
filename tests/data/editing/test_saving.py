"""Changed corpora on the disk: whole or not at all, never in the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.corpus import Corpus, load_corpus, save_documents
from nertune.data.editing.saving import Output, save_parts, save_whole, with_documents
from nertune.data.formats import WriteOptions
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

PLAIN = Output(WriteOptions())


def parts_of(corpus: Corpus) -> dict[str, Corpus]:
    return {
        "train": with_documents(corpus, corpus.documents[:6]),
        "dev": with_documents(corpus, corpus.documents[6:]),
    }


@pytest.fixture
def columns(tmp_path: Path) -> Corpus:
    """A file of columns in a layout of its own."""
    lines = ["\r\n".join(f"{d.text[i]} {tag(d, i)}" for i in range(len(d.text))) for d in SENTENCES]
    path = tmp_path / "in.bmes.txt"
    path.write_bytes("\r\n\r\n".join(lines).encode())
    return load_corpus(path)


def tag(document: Document, place: int) -> str:
    for e in document.entities:
        if e.start <= place < e.end:
            single, last = e.end - e.start == 1, place == e.end - 1
            mark = "S" if single else "B" if place == e.start else "E" if last else "M"
            return f"{mark}_{e.label}"
    return "O"


def test_parts_have_the_layout_of_the_source(columns: Corpus, tmp_path: Path) -> None:
    found = save_parts(parts_of(columns), tmp_path / "out", PLAIN)
    assert [made.target.name for made in found.values()] == ["train.txt", "dev.txt"]
    written = [(tmp_path / "out" / f"{name}.txt").read_bytes() for name in ("train", "dev")]
    assert b"\r\n\r\n".join(written) == columns.path.read_bytes()
    assert not list(tmp_path.glob(".*"))
    jsonl = save_parts(parts_of(columns), tmp_path / "j", Output(WriteOptions(), to="jsonl",
                       allow_loss=True, check=True))  # fmt: skip
    assert [made.differences for made in jsonl.values()] == [(), ()]
    assert load_corpus(tmp_path / "j" / "dev.jsonl").num_entities == 6


def test_packed_files_and_folders(tmp_path: Path) -> None:
    save_documents(tmp_path / "a.jsonl.gz", SENTENCES)
    corpus = load_corpus(tmp_path / "a.jsonl.gz")
    save_parts(parts_of(corpus), tmp_path / "out", PLAIN)
    assert load_corpus(tmp_path / "out" / "train.jsonl.gz").documents == tuple(
        d for d in with_ids(corpus.documents[:6], "train.jsonl.gz")
    )
    save_parts(parts_of(corpus), tmp_path / "b", Output(WriteOptions(), to="brat", allow_loss=True))
    assert len(load_corpus(tmp_path / "b" / "dev").documents) == 2
    with pytest.raises(ConfigError, match="train is a folder that is not empty"):
        save_parts(
            parts_of(corpus), tmp_path / "b", Output(WriteOptions(), to="brat", overwrite=True)
        )


def with_ids(documents: tuple[Document, ...], name: str) -> list[Document]:
    return [
        Document(d.text, d.entities, f"{name}:{i}", d.tokens, d.meta)
        for i, d in enumerate(documents, 1)
    ]


def test_nothing_is_written_if_one_part_loses_something(tmp_path: Path) -> None:
    nested = Document("北京大学", (Entity(0, 4, "ORG"), Entity(0, 2, "LOC")))
    path = write_jsonl(tmp_path / "a.jsonl", [*SENTENCES, nested])
    corpus = load_corpus(path)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "train.conll").write_text("older")
    options = WriteOptions(tokenize=lambda text: [(i, i + 1) for i in range(len(text))])
    output = Output(options, to="conll", overwrite=True)
    found = save_parts(parts_of(corpus), folder, output)
    assert [made.is_written for made in found.values()] == [False, False]
    assert [len(made.losses) for made in found.values()] == [0, 1]
    assert [p.name for p in folder.iterdir()] == ["train.conll"]
    assert (folder / "train.conll").read_text() == "older"
    found = save_parts(
        parts_of(corpus), folder, Output(options, "conll", allow_loss=True, overwrite=True)
    )
    assert all(made.is_written for made in found.values())
    assert sorted(p.name for p in folder.iterdir()) == ["dev.conll", "train.conll"]
    assert load_corpus(folder / "train.conll").num_entities > 0


def test_what_is_there_stays(tmp_path: Path) -> None:
    corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl"))
    target = tmp_path / "b.jsonl"
    save_whole(corpus, target, PLAIN)
    before = target.read_bytes()
    with pytest.raises(ConfigError, match=r"b\.jsonl exists already: .*--overwrite"):
        save_whole(with_documents(corpus, corpus.documents[:1]), target, PLAIN)
    assert target.read_bytes() == before
    assert save_whole(corpus, target, Output(WriteOptions(), overwrite=True)).is_written
    for path in (corpus.path, target):
        with pytest.raises(ConfigError, match="IN and OUT are the same file"):
            save_whole(corpus, path, Output(WriteOptions(), overwrite=True), sources=[target])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigError, match="full is a folder that is not empty"):
        save_whole(corpus, tmp_path / "full", Output(WriteOptions(), to="brat", overwrite=True))
    with pytest.raises(ConfigError, match=r"a\.jsonl is a file: expected a folder for train, dev"):
        save_parts(parts_of(corpus), corpus.path, PLAIN)
    with pytest.raises(DataError, match="no document is left"):
        save_whole(with_documents(corpus, ()), tmp_path / "c.jsonl", PLAIN)


def test_the_suffix_decides_then_the_source(columns: Corpus, tmp_path: Path) -> None:
    lossy = Output(WriteOptions(), allow_loss=True)
    assert save_whole(columns, tmp_path / "a.jsonl", lossy).target_format == "jsonl"
    assert save_whole(columns, tmp_path / "a.data", PLAIN).target_format == "conll"
    text = '[{"id": 1, "data": {"text": "ab"}, "annotations": []}]'
    (tmp_path / "studio.json").write_text(text)
    studio = load_corpus(tmp_path / "studio.json")
    assert studio.format == "label-studio"
    assert save_whole(studio, tmp_path / "new.json", lossy).target_format == "label-studio"
    assert save_whole(studio, tmp_path / "new.jsonl", lossy).target_format == "jsonl"
    with pytest.raises(ConfigError, match="--to 'xml': expected auto, conll"):
        save_whole(studio, tmp_path / "x", Output(WriteOptions(), to="xml"))
