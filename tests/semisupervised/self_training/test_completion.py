"""What a teacher may add to a document that a person labelled in part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nertune.data.corpus import Corpus
from nertune.semisupervised.self_training.completion import complete, is_partial
from nertune.types import Document, Entity, Scope

TEXT = "王明在北京的新华社工作"
GOLD = Entity(3, 5, "LOC")
FOUND = (
    Entity(0, 2, "PER", 0.9),
    Entity(4, 6, "PER", 0.9),  # overlaps gold
    Entity(6, 9, "ORG", 0.6),
    Entity(9, 11, "LOC", 0.4),  # less likely than not
    Entity(5, 6, "LOC", 0.8),
)


@pytest.mark.parametrize(
    ("scope", "added"),
    [
        (Scope(), []),
        (Scope(labels=("LOC",)), [(0, 2), (6, 9)]),
        (Scope(labels=("LOC", "PER")), [(6, 9)]),
        (Scope(complete=False), [(0, 2), (5, 6), (6, 9)]),
        (Scope(unknown=((0, 1),)), [(0, 2)]),
        (Scope(labels=("PER",), unknown=((0, 2),)), [(0, 2), (5, 6), (6, 9)]),
    ],
)
def test_only_what_the_scope_leaves_open(scope: Scope, added: list[tuple[int, int]]) -> None:
    document = Document(TEXT, (GOLD,), "a", scope=scope, meta={"source": "x"})
    found = complete(document, FOUND)
    assert found.scope.is_full
    assert GOLD in found.entities
    assert [(e.start, e.end) for e in found.entities if e != GOLD] == added
    assert all(e.score is None for e in found.entities)
    assert (found.text, found.id, found.meta) == (document.text, document.id, document.meta)


def test_entities_of_several_teachers_have_no_score() -> None:
    document = Document(TEXT, (), scope=Scope(complete=False))
    plain = [replace(entity, score=None) for entity in FOUND[:1]]
    assert complete(document, plain).entities == tuple(plain)


def test_which_documents_are_partial() -> None:
    partial = Document(TEXT, scope=Scope(labels=("PER",)))
    assert not is_partial(Corpus.from_documents([Document(TEXT)]))
    assert is_partial(Corpus.from_documents([Document(TEXT), partial]))
