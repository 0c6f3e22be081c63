"""The store: nothing that was answered is lost, and the file to train on is what holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.corpus import load_with
from nertune.data.formats import ReadOptions
from nertune.errors import ConfigError, DataError
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.types import Document, Entity

NAME = "label-studio-2"


def made(number: int, key: str = "1") -> Document:
    text = f"王明 {number}"
    return Document(text, (Entity(0, 2, "PER"),), id=key, meta={"id": key})


def current(store: AnnotationStore) -> list[Document]:
    path = store.file(NAME)
    return list(load_with(path, ReadOptions()).documents) if path.stat().st_size else []


def changes(store: AnnotationStore) -> Path:
    return store.folder / ".changes" / f"{NAME}.jsonl"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2) | st.none(), st.booleans()), max_size=12
    )
)
def test_the_file_is_what_the_changes_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | None, bool]]
) -> None:
    """Kept, replaced, removed, with restarts between: as a dictionary would have it."""
    folder = tmp_path_factory.mktemp("store")
    expected: dict[str, Document] = {}
    store = AnnotationStore(folder)
    for key, number, restarts in steps:
        if restarts:
            store.close()
            store = AnnotationStore(folder)
        before = dict(expected)
        if number is None:
            expected.pop(key, None)
            changed = store.remove(NAME, key, event="d")
        else:
            expected[key] = made(number, key)
            changed = store.keep(NAME, key, [expected[key]], event="c")
        assert changed == (before != expected)
        assert current(store) == list(expected.values())
    store.close()


def test_a_folder_belongs_to_one_server(tmp_path: Path) -> None:
    with AnnotationStore(tmp_path), pytest.raises(ConfigError, match="another server"):
        AnnotationStore(tmp_path)
    AnnotationStore(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="name a folder that can be written"):
        AnnotationStore(tmp_path / "file" / "folder")


def test_a_change_that_was_cut_off_goes(store: AnnotationStore) -> None:
    """A crash while a line is written: its request was not answered."""
    store.keep(NAME, "1", [made(1)], event="c")
    with changes(store).open("ab") as stream:
        stream.write(b'{"key": "2", "documents": [{"te')
    store.close()
    with AnnotationStore(store.folder) as again:
        assert again.keep(NAME, "3", [made(3, "3")], event="c")
        assert [d.text for d in current(again)] == ["王明 1", "王明 3"]
    lines = changes(store).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["1", "3"]


def test_a_crash_before_the_file_is_written(store: AnnotationStore) -> None:
    store.keep(NAME, "1", [made(1)], event="c")
    store.keep(NAME, "2", [made(2, "2")], event="c")
    store.file(NAME).write_bytes(b"")
    store.close()
    with AnnotationStore(store.folder) as again:
        again.keep(NAME, "3", [made(3, "3")], event="c")
        assert len(current(again)) == 3


def test_a_file_that_was_moved_away_is_written_whole(store: AnnotationStore) -> None:
    store.keep(NAME, "1", [made(1)], event="c")
    store.file(NAME).unlink()
    store.keep(NAME, "2", [made(2, "2")], event="c")
    assert len(current(store)) == 2


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk that is full at the n-th flush from now."""
    countdown = [0]
    sync = os.fsync

    def fail(descriptor: int) -> None:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    return countdown


@pytest.mark.parametrize("flush", [1, 2])
def test_a_full_disk(store: AnnotationStore, full: list[int], flush: int) -> None:
    """It is said, and when there is room the same request is accepted: nothing is there twice."""
    store.keep(NAME, "1", [made(1)], event="c")
    full[0] = flush
    with pytest.raises(DataError, match="not kept: No space left on device; make room"):
        store.keep(NAME, "2", [made(2, "2")], event="c")
    store.keep(NAME, "2", [made(2, "2")], event="c")
    assert [d.text for d in current(store)] == ["王明 1", "王明 2"]


def test_damaged_changes_are_refused(store: AnnotationStore) -> None:
    store.keep(NAME, "1", [made(1)], event="c")
    store.close()
    changes(store).write_bytes(b"{}\n" + changes(store).read_bytes())
    with AnnotationStore(store.folder) as again, pytest.raises(DataError, match=":1: this line"):
        again.keep(NAME, "2", [made(2)], event="c")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 200])
def test_names_that_are_none(store: AnnotationStore, name: str) -> None:
    with pytest.raises(DataError, match="no name of a file"):
        store.keep(name, "1", [], event="c")


def test_metadata_that_means_something_else_in_jsonl(store: AnnotationStore) -> None:
    """Keys as `text` cannot be written; the document is."""
    meta: dict[str, Any] = {"id": "1", "text": "other", "page": 3}
    store.keep(NAME, "1", [Document("王明", meta=meta)], event="c")
    assert current(store)[0].meta == {"id": "1", "page": 3}


def test_a_folder_of_annotations_is_a_corpus(store: AnnotationStore) -> None:
    """Its own files are hidden from a training that reads all of it."""
    store.keep(NAME, "1", [made(1)], event="c")
    store.keep("label-studio-3", "1", [made(2)], event="c")
    assert len(load_with(store.folder, ReadOptions()).documents) == 2
