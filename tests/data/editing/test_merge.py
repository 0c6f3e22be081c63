"""Several corpora as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.data import merge_documents
from nertune.data.borders import number_sources
from nertune.data.editing.merge import name_sources
from nertune.errors import ConfigError
from nertune.types import Document, Entity


def doc(text: str, id: object, **meta: object) -> Document:
    return Document(text, id=str(id), meta={"id": id, **meta})


def test_ids_are_unique_and_what_was_changed_is_said() -> None:
    found = merge_documents(
        {
            "a": [doc("一", 1), doc("二", "x"), doc("三", "x"), Document("四", id="f:1")],
            "b": [doc("五", 1), doc("六", "b:1"), doc("七", 7), Document("八", id="f:1")],
        }
    )
    ids = [d.meta.get("id") for d in found.documents]
    assert ids == [1, "x", "a:x", None, "b:1-2", "b:1", 7, None]
    assert len({d.id for d in found.documents}) == 8
    assert found.notices == (
        "a: 1 ids stand there already and were changed, e.g. x is a:x now",
        "b: 1 ids stand there already and were changed, e.g. 1 is b:1-2 now",
    )
    assert found.sources == {"a": 4, "b": 4}
    assert (found.repeated, found.conflicts, found.mapped) == (0, (), None)


def test_counted_source_documents_of_two_files_are_not_the_same() -> None:
    """A file of columns counts its documents; names of documents stay."""
    first = [Document(t, meta={"document": n}) for t, n in (("一", 1), ("二", 1), ("三", 2))]
    found = merge_documents({"a": first, "b": [Document("四", meta={"document": 1})]})
    assert [d.meta["document"] for d in found.documents] == [1, 1, 2, "b:1"]
    assert number_sources(found.documents) == [0, 0, 1, 2]
    assert (
        "b: 1 numbers of source documents (document) stand in an earlier file" in found.notices[0]
    )
    named = [Document(t, meta={"doc_id": "PMC1"}) for t in "一二"]
    found = merge_documents({"a": named, "b": named[:1]})
    assert {d.meta["doc_id"] for d in found.documents} == {"PMC1"}
    assert found.notices == ("1 source documents (doc_id) have texts in several files",)


def test_copies_are_kept_and_reported() -> None:
    gold = Document("王明来", (Entity(0, 2, "PER"),), "1")
    other = Document("王明来", (Entity(0, 2, "person"), Entity(2, 3, "X")), "2")
    found = merge_documents({"a": [gold], "b": [other, gold]})
    assert (len(found.documents), found.repeated) == (3, 2)
    assert [(c.first, c.second) for c in found.conflicts] == [("1", "2")]
    mapped = merge_documents({"a": [gold], "b": [other]}, labels={"person": "PER", "X": ""})
    assert (mapped.repeated, mapped.conflicts) == (1, ())
    assert mapped.to_dict()["labels"]["dropped"] == {"X": 1}
    with pytest.raises(ConfigError, match="no entity is labelled 'ORG'"):
        merge_documents({"a": [gold]}, labels={"ORG": "X"})
    with pytest.raises(ConfigError, match="nothing to merge"):
        merge_documents({})


def test_many_equal_ids_cost_no_more_than_their_number() -> None:
    found = merge_documents({"a": [doc(str(i), "same") for i in range(5000)]})
    assert len({d.meta["id"] for d in found.documents}) == 5000


def test_names_of_files() -> None:
    def names(*paths: str) -> list[str]:
        return name_sources([Path(path) for path in paths])

    assert names("x/train.conll", "dev.jsonl") == ["train", "dev"]
    assert names("train.conll", "train.jsonl") == ["train.conll", "train.jsonl"]
    assert names("a/train.conll", "b/train.conll") == ["a/train.conll", "b/train.conll"]
    assert names("a.jsonl", "a.jsonl") == ["1-a.jsonl", "2-a.jsonl"]
