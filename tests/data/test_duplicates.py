"""Texts that stand in several places."""

from __future__ import annotations

import time

from nertune.data.duplicates import SharedText, find_duplicates, find_leakage
from nertune.types import Document, Entity


def doc(text: str, id: str, *labels: str) -> Document:
    return Document(text, tuple(Entity(0, 1, label) for label in labels), id)


def test_duplicates_within_a_corpus() -> None:
    found = find_duplicates(
        [doc("a", "1"), doc("b", "2", "X"), doc("a", "3"), doc("b", "4", "Y"), doc("a", "5")]
    )
    assert (found.texts, found.documents, found.conflicting_texts) == (2, 3, 1)
    assert found.examples == (
        SharedText("b", ("2", "4"), conflicting=True),
        SharedText("a", ("1", "3", "5"), conflicting=False),
    )
    assert find_duplicates([doc("a", "1"), doc("A", "2")]).texts == 0


def test_scores_are_no_conflict() -> None:
    one = Document("a", (Entity(0, 1, "X", 0.5),))
    assert find_duplicates([one, doc("a", "2", "X")]).conflicting_texts == 0


def test_leakage_counts_the_target_documents() -> None:
    train = [doc("a", "t1", "X"), doc("b", "t2", "X"), doc("b", "t3", "Y"), doc("c", "t4")]
    test = [doc("a", "e1", "X"), doc("a", "e2"), doc("b", "e3", "X"), doc("d", "e4")]
    found = find_leakage(train, test, source_name="train", target_name="test", num_examples=2)
    assert (found.source, found.target) == ("train", "test")
    assert (found.documents, found.target_documents, found.conflicting) == (3, 4, 2)
    assert found.examples == (
        SharedText("a", ("e2", "t1"), conflicting=True),
        SharedText("b", ("e3", "t2", "t3"), conflicting=True),
    )
    assert found.to_dict()["documents"] == 3


def test_many_copies_cost_no_more_than_their_number() -> None:
    """A short text may stand in both corpora thousands of times."""
    copies = [Document("好的", id=f"a:{n}") for n in range(20_000)]
    others = [Document("好的", (Entity(0, 1, "X"),), id=f"b:{n}") for n in range(20_000)]
    started = time.monotonic()
    found = find_leakage(copies, others, source_name="a", target_name="b")
    assert time.monotonic() - started < 20  # it took minutes and gigabytes
    assert (found.documents, found.conflicting) == (20_000, 20_000)
    assert len(found.examples) == 5
    assert found.examples[0].ids[:2] == ("b:0", "a:0")
    assert len(found.examples[0].ids) == 20
    again = find_duplicates([*copies, *others])
    assert (again.texts, again.documents, again.conflicting_texts) == (1, 39_999, 1)
