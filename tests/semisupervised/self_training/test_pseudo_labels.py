"""Which pseudo-labels are learned: thresholds, unknown text, balance; on probabilities by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.semisupervised.self_training.options import student_epochs
from nertune.semisupervised.self_training.selection import (
    Judged,
    Thresholds,
    balance,
    choose_thresholds,
    mark_unknown,
    unknown_share,
)
from nertune.training.noise import is_pseudo
from nertune.types import Document, Entity, Scope

TEXT = "甲乙丙丁戊己庚辛壬癸"
UNITS = [(i, i + 1) for i in range(10)]


def dev_pair(label: str, score: float, *, is_right: bool) -> tuple[Document, Document]:
    """A document of dev with one prediction."""
    guess = Document(TEXT, (Entity(0, 2, label, score),))
    gold = Document(TEXT, (Entity(0, 2 if is_right else 3, label),))
    return gold, guess


def thresholds_of(pairs: list[tuple[Document, Document]], precision: float) -> Thresholds:
    gold, guesses = zip(*pairs, strict=True)
    return choose_thresholds(gold, guesses, precision=precision)


def test_the_lowest_threshold_that_reaches_the_precision_is_taken() -> None:
    # From .9 on 5 of 5 are right, from .8 on 9 of 10, from .7 on 11 of 15.
    rights = {0.9: 5, 0.8: 4, 0.7: 2}
    pairs = [
        dev_pair("A", score, is_right=i < right)
        for score, right in rights.items()
        for i in range(5)
    ]

    assert thresholds_of(pairs, 1.0).pooled == 0.9
    found = thresholds_of(pairs, 0.9)
    assert found.pooled == 0.8
    assert found.precision == pytest.approx(0.9)
    assert found.kept == pytest.approx(10 / 15)
    assert thresholds_of(pairs, 0.7).pooled == 0.7


def test_what_dev_cannot_judge_sets_no_threshold() -> None:
    """Dev is labelled for A alone, and of B nothing is known."""
    gold = [Document(TEXT, (Entity(0, 2, "A"),), scope=Scope(("A",)))] * 40
    guesses = [Document(TEXT, (Entity(0, 2, "A", 0.6), Entity(4, 6, "B", 0.9)))] * 40
    found = choose_thresholds(gold, guesses, precision=0.9)
    assert (found.pooled, found.by_label, found.precision) == (0.6, {"A": 0.6}, 1.0)


def test_where_no_threshold_reaches_the_precision_the_best_one_counts() -> None:
    pairs = [dev_pair("A", 0.9, is_right=i < 3) for i in range(5)]
    pairs += [dev_pair("A", 0.5, is_right=False) for _ in range(5)]

    found = thresholds_of(pairs, 0.95)

    assert found.pooled == 0.9
    assert found.precision == pytest.approx(0.6)


def test_few_entities_make_no_threshold() -> None:
    # Two that are right by luck do not say that .99 is reliable.
    pairs = [dev_pair("A", 0.99, is_right=True) for _ in range(2)]
    pairs += [dev_pair("A", 0.6, is_right=i % 2 == 0) for i in range(8)]

    assert thresholds_of(pairs, 0.9).pooled == 0.6
    assert thresholds_of(pairs[:2], 0.9).pooled == 1.0


def test_a_frequent_label_has_a_threshold_of_its_own() -> None:
    easy = [dev_pair("EASY", 0.5, is_right=True) for _ in range(30)]
    hard = [dev_pair("HARD", 0.5, is_right=False) for _ in range(30)]
    hard += [dev_pair("HARD", 0.95, is_right=True) for _ in range(5)]
    rare = [dev_pair("RARE", 0.5, is_right=True) for _ in range(5)]

    found = thresholds_of([*easy, *hard, *rare], 0.9)

    assert found.by_label == {"EASY": 0.5, "HARD": 0.95}
    assert found.of("RARE") == found.pooled == 0.95
    assert found.precision == 1.0


def test_what_the_teacher_is_not_sure_of_is_unknown_and_not_outside() -> None:
    document = Document(TEXT, (Entity(0, 2, "A", 0.95), Entity(4, 6, "A", 0.6)))
    outside = np.array([0.0, 0.0, 0.99, 0.7, 0.3, 0.3, 0.99, 0.99, 0.5, 0.99])

    found = mark_unknown(
        Judged(document, UNITS, outside), Thresholds(0.9, {}, None, 1.0), outside=0.8
    )

    assert [e.key for e in found.entities] == [(0, 2, "A")]
    # Unit 3 is nearly an entity and touches the one that was dropped; 8 stands alone.
    assert found.scope.unknown == ((3, 6), (8, 9))
    assert found.scope.labels is None
    assert found.scope.complete
    assert unknown_share(found) == pytest.approx(0.4)
    assert is_pseudo(found)
    assert not is_pseudo(document)


def test_a_label_is_held_to_its_own_threshold() -> None:
    document = Document(TEXT, (Entity(0, 2, "A", 0.7), Entity(4, 6, "B", 0.7)))

    found = mark_unknown(
        Judged(document, UNITS, np.ones(10)), Thresholds(0.9, {"B": 0.5}, None, 1.0), outside=0.8
    )

    assert [e.label for e in found.entities] == ["B"]
    assert found.scope.unknown == ((0, 2),)


def with_labels(*labels: str) -> Document:
    return Document(TEXT, tuple(Entity(i, i + 1, label) for i, label in enumerate(labels)))


def test_balance_brings_shares_near_to_those_of_the_labelled_data() -> None:
    labelled = [with_labels("A"), with_labels("B")] * 50
    pseudo = [with_labels("A")] * 600 + [with_labels("B")] * 400 + [with_labels()] * 500

    chosen, excess = balance(labelled, pseudo)

    counts = Counter(e.label for i in chosen for e in pseudo[i].entities)
    assert excess == 1.25
    assert counts["B"] == 400  # what is rare is kept
    assert counts["A"] <= 1.25 * 0.5 * counts.total() + 5
    # Labelled documents without entities are none, so 10 % of them are allowed.
    empty = sum(not pseudo[i].entities for i in chosen)
    assert 0 < empty <= 0.125 * len(chosen) + 5


def test_balance_never_costs_more_than_half_of_the_entities() -> None:
    labelled = [with_labels("A")] * 10 + [with_labels("B")] * 90
    pseudo = [with_labels("A")] * 1000 + [with_labels("B")] * 10

    chosen, excess = balance(labelled, pseudo)

    assert excess == math.inf
    assert chosen == list(range(1010))


def test_balanced_documents_all_stay() -> None:
    labelled = [with_labels("A", "B"), with_labels()]
    pseudo = [with_labels("B", "A"), with_labels(), with_labels("A"), with_labels("B")] * 20

    assert balance(labelled, pseudo) == (list(range(80)), 1.25)


@given(st.lists(st.lists(st.sampled_from("ABC"), max_size=4), max_size=40))
def test_balance_keeps_at_least_half_of_the_entities(rows: list[list[str]]) -> None:
    pseudo = [with_labels(*row) for row in rows]

    chosen, _ = balance([with_labels("A"), with_labels("B"), with_labels()], pseudo)

    assert chosen == sorted(set(chosen))
    kept = sum(len(pseudo[i].entities) for i in chosen)
    assert 2 * kept >= sum(len(d.entities) for d in pseudo)


def test_a_student_with_more_text_trains_fewer_epochs_and_more_steps() -> None:
    assert student_epochs(47, units=100, all_units=100) == 47
    assert student_epochs(48, units=100, all_units=800) == 12
    assert student_epochs(1, units=100, all_units=10**6) == 1
