"""Parts of a corpus: complete, stratified, without leakage."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data import split_documents
from nertune.data.corpus import load_corpus
from nertune.data.editing.split import read_sizes
from nertune.data.editing.stratification import stratify
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

SIZES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def sample() -> list[Document]:
    return list(load_corpus(resolve_data("sample:train")).documents)


def numbered(number: int, **meta: object) -> list[Document]:
    return [
        Document(f"第{i}句：{chr(0x4E00 + 7 * i)}", id=f"d{i}", meta=meta) for i in range(number)
    ]


def test_each_part_gets_its_share_of_every_label() -> None:
    documents = sample()
    found = split_documents(documents, SIZES, seed=3)
    counts = {name: len(part.documents) for name, part in found.parts.items()}
    assert counts == {"train": 324, "dev": 41, "test": 40}
    assert [p.wanted for p in found.parts.values()] == list(counts.values())
    totals = Counter(e.label for d in documents for e in d.entities)
    for name, part in found.parts.items():
        for label, total in totals.items():
            assert abs(part.entities[label] - SIZES[name] * total) <= 0.02 * total + 1, label
    together = [d for part in found.parts.values() for d in part.documents]
    assert sorted(d.id for d in together) == sorted(d.id for d in documents)
    order = {d.id: i for i, d in enumerate(documents)}
    for part in found.parts.values():
        places = [order[d.id] for d in part.documents]
        assert places == sorted(places)


def test_the_seed_decides() -> None:
    def ids(seed: int) -> list[str]:
        return [d.id for d in split_documents(sample(), SIZES, seed=seed).parts["dev"].documents]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_nothing_of_a_group_or_nearly_equal_is_torn_apart() -> None:
    documents = [
        Document(f"{d.text}{'。' * copy}", d.entities, f"{d.id}-{copy}")
        for d in sample()[:100]
        for copy in range(2)
    ]
    found = split_documents(documents, SIZES)
    for part in found.parts.values():
        assert set(Counter(d.id.rsplit("-", 1)[0] for d in part.documents).values()) == {2}
    assert found.groups.num_joined >= 95  # very short texts differ too much
    sites = [Document(f"{d.text}", d.entities, d.id, meta={"site": i % 20})
             for i, d in enumerate(sample())]  # fmt: skip
    parts = split_documents(sites, SIZES, group="site").parts
    held = [{d.meta["site"] for d in part.documents} for part in parts.values()]
    assert sum(map(len, held)) == 20
    assert [part.groups for part in parts.values()] == [16, 2, 2]


def test_a_rare_label_is_in_each_part_if_it_can_be() -> None:
    documents = [
        Document(d.text, [Entity(0, 1, "RARE" if i in (3, 10, 17) else "X")])
        for i, d in enumerate(numbered(60))
    ]
    found = split_documents(documents, SIZES)
    assert [part.entities["RARE"] for part in found.parts.values()] == [1, 1, 1]
    assert found.notices == ()
    fewer = [d if i != 17 else d.with_entities(()) for i, d in enumerate(documents)]
    (told,) = split_documents(fewer, SIZES).notices
    assert told.startswith("RARE is not in ")
    assert told.endswith("there are only 2 groups with it")


def test_numbers_of_documents_and_what_is_left_over() -> None:
    found = split_documents(numbered(50), {"a": 10, "b": 5})
    assert [len(part.documents) for part in found.parts.values()] == [10, 5]
    assert len(found.left_out) == 35
    assert found.notices == ("35 documents are in no part: the sizes leave them over",)
    half = split_documents(numbered(50), {"a": 0.5})
    assert (len(half.parts["a"].documents), len(half.left_out)) == (25, 25)
    assert split_documents(numbered(7), {"all": 1}).left_out == ()


def test_sizes_that_groups_do_not_allow_are_said() -> None:
    meta = [{"document": "a" if i < 50 else f"b{i // 10}"} for i in range(100)]
    documents = [Document(d.text, id=d.id, meta=m)
                 for d, m in zip(numbered(100), meta, strict=True)]  # fmt: skip
    found = split_documents(documents, {"train": 0.2, "dev": 0.8})
    assert sum(len(part.documents) for part in found.parts.values()) == 100
    assert "the largest group has 50 of 100 documents" in found.notices
    torn = split_documents(documents, {"train": 0.95, "dev": 0.05})
    assert any("dev has 10 documents, not 5: groups are not torn" in n for n in torn.notices)


def test_texts_that_stand_in_two_parts_are_counted_where_groups_share_them() -> None:
    line = "新华社北京一月一日电"
    documents = [
        Document(line if i % 2 else f"第{i}篇{chr(0x4E00 + 9 * i) * 30}", meta={"document": i // 2})
        for i in range(40)
    ]
    found = split_documents(documents, SIZES)
    assert [part.leaking for part in found.parts.values()] == [16, 2, 2]
    assert found.notices[-1].endswith("in groups that are not: train 16, dev 2, test 2")
    assert found.to_dict()["parts"]["dev"] == {
        "documents": 4, "wanted": 4, "groups": 2, "entities": {}, "leaking": 2
    }  # fmt: skip


@given(
    counts=st.lists(
        st.dictionaries(st.sampled_from("ABC"), st.integers(1, 5)), min_size=3, max_size=40
    ),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_single_documents_meet_the_sizes_exactly(counts: list[dict[str, int]], seed: int) -> None:
    number = len(counts)
    wanted = [number - 2 * (number // 3), number // 3, number // 3]
    places = stratify(counts, [1] * number, wanted, seed)
    assert [places.count(part) for part in range(3)] == wanted


def test_sizes_are_read() -> None:
    assert read_sizes("train=0.8, dev=.2") == {"train": 0.8, "dev": 0.2}
    assert read_sizes("a=10,b=2") == {"a": 10, "b": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "'train' is no size; expected train=0.8"),
        ("train=a", "is no size"),
        ("=1", "is no size"),
        ("../x=1", "is no size"),
        ("a=1,a=2", "stands twice"),
        ("a=-1", "is no size"),
        ("a=١", "is no size"),
    ],
)
def test_sizes_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sizes(text)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"1.1 in all are more than 1; expected"):
        split_documents(numbered(9), {"a": 0.8, "b": 0.3})
    with pytest.raises(ConfigError, match=r"12 in all are more than 9 documents"):
        split_documents(numbered(9), {"a": 10, "b": 2})
    with pytest.raises(ConfigError, match="a size is 0"):
        split_documents(numbered(9), {"a": 1, "b": 0})
    with pytest.raises(DataError, match=r"2 to share out .by document, .*one for each$"):
        split_documents(numbered(2), SIZES)
    two = [Document(f"{i}甲乙", meta={"document": i % 2}) for i in range(6)]
    with pytest.raises(DataError, match=r"2 to share out .*; --sentences parts source documents$"):
        split_documents(two, SIZES)
    assert len(split_documents(two, SIZES, sentences=True).parts) == 3
