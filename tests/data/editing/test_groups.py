"""What has to stay together."""

from __future__ import annotations

import pytest

from nertune.data.editing.groups import UnionFind, find_groups
from nertune.errors import ConfigError
from nertune.types import Document

LONG = "今天北京的天气非常好，我们大家一起去公园里散步吧"


def docs(*texts: str, **meta: list[object]) -> list[Document]:
    return [
        Document(text, id=f"d{i}", meta={k: v[i] for k, v in meta.items() if v[i] is not None})
        for i, text in enumerate(texts)
    ]


def test_sets() -> None:
    sets = UnionFind(5)
    sets.join(3, 4)
    sets.join(4, 1)
    assert [sets.root(n) for n in range(5)] == [0, 1, 2, 1, 1]


def test_equal_and_nearly_equal_texts() -> None:
    found = find_groups(docs("甲", LONG, "甲 ", LONG + "。", "乙", "", ""))
    assert found.members == ((0, 2), (1, 3), (4,), (5,), (6,))
    assert (found.num_before, found.num_equal, found.num_near, found.num_joined) == (7, 1, 2, 2)
    assert find_groups(docs(LONG, LONG + "。"), near=1).members == ((0,), (1,))
    assert (found.by, found.notices) == ("document", ())


def test_source_documents_are_compared_as_wholes() -> None:
    """Documents that share a line, such as a dateline, are not the same."""
    other = "完全不同的另外一段话，说的是上海昨天晚上的一场音乐会"
    shared = docs(LONG, "新华社电", "新华社电", other, document=["a", "a", "b", "b"])
    assert find_groups(shared).members == ((0, 1), (2, 3))
    assert find_groups(shared).by == "source document"
    again = docs(LONG, "新华社电", LONG + "。", "新华社电", other, doc_id=[1, 1, 2, 2, 3])
    assert find_groups(again).members == ((0, 1, 2, 3), (4,))
    parted = find_groups(shared, sentences=True)
    assert parted.members == ((0,), (1, 2), (3,))
    assert "may come into different parts" in parted.notices[0]


def test_groups_by_a_key() -> None:
    given = docs("甲", "乙", "丙", site=["x", "y", "x"], document=["a", "b", "b"])
    found = find_groups(given, group="site")
    assert (found.members, found.by) == (((0, 2), (1,)), "site")
    with pytest.raises(ConfigError, match="--group page: document d0 has no such key"):
        find_groups(given, group="page")


def test_borders_that_do_not_help_are_said() -> None:
    (told,) = find_groups(docs("甲", "乙", document=["a", None])).notices
    assert told.startswith("1 of 2 documents have the key 'document', the others not")
    (told,) = find_groups(docs("甲", "乙", document=["a", "a"])).notices
    assert told == "all texts are of one source document, which is parted"
