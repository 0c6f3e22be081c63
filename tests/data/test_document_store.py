"""Documents on the disk: the same as in memory, whoever reads them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, make_settings, write_jsonl
from nertune.data.corpus import Corpus, load_corpus, save_documents
from nertune.data.document_store import StoredDocuments, is_large, load_stored
from nertune.data.formats.base import ReadOptions
from nertune.data.splits import load_splits
from nertune.errors import ConfigError, DataError
from nertune.storage import cache
from nertune.types import Document, Entity, Scope


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


RICH = (
    *SENTENCES,
    Document("", id="empty"),
    Document(
        "a𝒳b c",
        (Entity(0, 5, "X", None, ((0, 1), (4, 5))), Entity(1, 2, "Y", 0.25)),
        "own id",
        ((0, 3), (4, 5)),
        {"n": [1, {"k": None}]},
        Scope(("X", "Y"), complete=False, unknown=((3, 4),)),
    ),
)


def stored(path: Path) -> Corpus:
    return load_stored(path, ReadOptions())


def test_every_document_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "rich.jsonl"
    save_documents(path, RICH)
    corpus, held = stored(path), load_corpus(path)
    assert tuple(corpus.documents) == held.documents
    assert [d.meta for d in corpus] == [d.meta for d in held]
    assert [d.id for d in corpus] == [d.id for d in held]
    assert corpus.documents[-1] == held.documents[-1]
    assert len(corpus.documents) == len(held.documents)
    for name in ("sha256", "labels", "num_entities", "format", "reading", "notices", "reason"):
        assert getattr(corpus, name) == getattr(held, name), name
    assert corpus.facts is not None
    assert not corpus.facts.is_full
    with pytest.raises(IndexError):
        corpus.documents[len(RICH)]


@pytest.mark.parametrize("suffix", ["conll", "jsonl", "conll.gz"])
def test_any_format_and_a_share_of_it(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{suffix}"
    save_documents(path, SENTENCES, tokenize=lambda text: [(i, i + 1) for i in range(len(text))])
    corpus, held = stored(path), load_corpus(path)
    for share in (1.0, 0.5, 0.01):
        some, same = corpus.take_share(share, 3), held.take_share(share, 3)
        assert tuple(some.documents) == tuple(same.documents)
        assert (some.sha256, some.labels, some.num_entities) == (
            same.sha256, same.labels, same.num_entities,
        )  # fmt: skip
    part = corpus.documents[2:7:2]
    assert isinstance(part, StoredDocuments)
    assert tuple(part[1:]) == held.documents[4:7:2]


def test_read_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "data.jsonl")
    first = stored(path)
    monkeypatch.setattr("nertune.data.document_store.CorpusReader", None)  # is not read again
    assert tuple(stored(path).documents) == tuple(first.documents)
    monkeypatch.undo()
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    write_jsonl(path, SENTENCES[:3])
    assert tuple(stored(path).documents) == tuple(load_corpus(path).documents)
    assert len(list((tmp_path / "cache" / "documents").glob("[!.]*"))) == 2
    assert len(first.documents) == len(SENTENCES)  # who reads it goes on


def test_an_error_of_the_file_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "a"}\n{"text": "ab", "entities": [[0, 9, "X"]]}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        stored(path)
    assert list((own_cache / "documents").glob("[!.]*")) == []
    assert list((own_cache / "documents").glob(".*.draft")) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "file" / "in"))
    with pytest.raises(DataError, match=r'set NERTUNE_CACHE .* data\.storage = "memory"'):
        stored(write_jsonl(tmp_path / "data.jsonl"))


def test_a_damaged_store_is_told(tmp_path: Path, own_cache: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl")
    folder = stored(path).documents.folder  # type: ignore[attr-defined]
    os.truncate(folder / "documents.bin", 9)
    with pytest.raises(DataError, match=r"is damaged .*: remove the folder"):
        stored(path)


def test_several_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[int] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        cache.make_once(tmp_path / "thing", lambda draft: made.append(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert (tmp_path / "thing").is_dir()


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NERTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.cache_folder() == Path("/x/nertune")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "nertune"


def test_what_cannot_go_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write_jsonl(tmp_path / "in" / "data.jsonl")
    for train in (str(tmp_path / "in"), [{"file": str(path)}, {"file": str(path)}]):
        settings = make_settings(tmp_path, "lstm", {"data": {"train": train, "storage": "disk"}})
        with pytest.raises(ConfigError, match=r'"disk" is for one training file'):
            load_splits(settings.data, ("train",))


def test_which_files_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "data.jsonl")
    assert not is_large(path)
    assert not is_large(tmp_path)
    dev = str(write_jsonl(tmp_path / "dev.jsonl"))
    data = make_settings(tmp_path, "lstm", {"data": {"dev": dev}}).data
    kinds = {}
    for storage in ("auto", "memory", "disk"):
        found = load_splits(data.model_copy(update={"storage": storage}), ("train", "dev"))
        kinds[storage] = [type(found[split].documents) for split in ("train", "dev")]
    assert kinds == {
        "auto": [tuple, tuple], "memory": [tuple, tuple], "disk": [StoredDocuments, tuple],
    }  # fmt: skip
    monkeypatch.setattr("nertune.data.document_store._LARGE_BYTES", 10)
    assert type(load_splits(data, ("train",))["train"].documents) is StoredDocuments
    packed = tmp_path / "data.jsonl.gz"
    packed.write_bytes(json.dumps({}).encode() * 3)
    assert not is_large(tmp_path / "nothing")
    assert is_large(packed)
