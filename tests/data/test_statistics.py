"""Counting what a corpus holds."""

from __future__ import annotations

import pytest

from nertune.data.statistics import Lengths, describe, has_overlap, summarize_lengths
from nertune.types import Document, Entity


def test_describe() -> None:
    documents = [
        Document("abcd", (Entity(0, 2, "X"), Entity(1, 3, "Y")), tokens=((0, 2), (2, 4))),
        Document("a𠮷", (Entity(1, 2, "Y"),), tokens=((0, 2),)),
        Document("", tokens=()),
    ]
    found = describe(documents)
    assert (found.documents, found.documents_without_entities) == (3, 1)
    assert found.documents_with_overlaps == 1
    assert (found.characters, found.tokens, found.num_entities) == (6, 3, 3)
    assert list(found.entities.items()) == [("Y", 2), ("X", 1)]
    assert found.lengths == Lengths(2.0, 2.0, 4, 4)
    assert found.to_dict()["lengths"] == {"mean": 2.0, "median": 2.0, "p95": 4, "longest": 4}
    assert describe([Document("a")]).tokens is None


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], Lengths(0.0, 0.0, 0, 0)),
        ([7], Lengths(7.0, 7.0, 7, 7)),
        (range(1, 101), Lengths(50.5, 50.5, 95, 100)),
        (range(1, 21), Lengths(10.5, 10.5, 19, 20)),
        ([1] * 18 + [50, 90], Lengths(7.9, 1.0, 50, 90)),
    ],
)
def test_lengths(lengths: list[int], expected: Lengths) -> None:
    assert summarize_lengths(list(lengths)) == expected


def test_touching_entities_do_not_overlap() -> None:
    assert not has_overlap(Document("abc", (Entity(0, 1, "X"), Entity(1, 3, "X"))))
    assert has_overlap(Document("abc", (Entity(0, 3, "X"), Entity(0, 1, "Y"))))
