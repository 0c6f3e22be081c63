"""Kinds, values and order of suspicions, by hand-made probabilities; copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nertune.labels.tagset import TagSet
from nertune.models.heads.softmax import SoftmaxHead
from nertune.semisupervised.audit.audit import rank
from nertune.semisupervised.audit.candidates import Candidates, collect_candidates
from nertune.semisupervised.audit.copies import Copy, find_copies
from nertune.semisupervised.audit.out_of_fold import FoldScores
from nertune.semisupervised.audit.reasons import Surfaces, explain
from nertune.semisupervised.audit.suspicions import (
    Suspicion,
    find_suspicions,
    kind_of,
    weigh_copy,
)
from nertune.types import Document, Entity, Scope

TEXT = "王明在北京大学工作了很久"
GOLD = Entity(3, 5, "LOC")


def find(
    gold: tuple[Entity, ...], others: tuple[Entity, ...], document: Document | None = None
) -> list[Suspicion]:
    document = document or Document(TEXT, gold, "a:1")
    return find_suspicions(0, document, Candidates(gold, others, ()))


@pytest.mark.parametrize(
    ("gold", "others", "kind", "suggested", "probability"),
    [
        ((), (Entity(0, 2, "PER", 0.9),), "missed", [(0, 2, "PER")], 0.9),
        ((replace(GOLD, score=0.1),), (), "spurious", [], 0.9),
        (
            (replace(GOLD, score=0.2),),
            (Entity(3, 7, "LOC", 0.7),),
            "boundary",
            [(3, 7, "LOC")],
            0.8,
        ),
        ((replace(GOLD, score=0.2),), (Entity(3, 5, "ORG", 0.7),), "type", [(3, 5, "ORG")], 0.8),
        (
            (replace(GOLD, score=0.2),),
            (Entity(3, 7, "ORG", 0.7),),
            "boundary",
            [(3, 7, "ORG")],
            0.8,
        ),
    ],
)
def test_kinds(
    gold: tuple[Entity, ...],
    others: tuple[Entity, ...],
    kind: str,
    suggested: list[tuple[int, int, str]],
    probability: float,
) -> None:
    (found,) = find(gold, others)
    assert found.kind == kind
    assert [e.key for e in found.suggested] == suggested
    assert found.probability == pytest.approx(probability)
    assert [e.key for e in found.gold] == [e.key for e in gold]


def test_gold_that_the_models_find_is_hardly_suspicious() -> None:
    (found,) = find((replace(GOLD, score=0.97),), (Entity(3, 7, "ORG", 0.02),))
    assert found.probability == pytest.approx(0.03)


def test_one_span_that_joins_two_gold_entities_is_one_suspicion() -> None:
    gold = (Entity(3, 5, "LOC", 0.1), Entity(5, 7, "ORG", 0.2))
    (found,) = find(gold, (Entity(3, 7, "ORG", 0.75),))
    assert found.kind == "boundary"
    assert len(found.gold) == 2
    assert found.probability == pytest.approx(0.9)


def test_one_gold_entity_that_is_two_is_replaced_by_both() -> None:
    (found,) = find(
        (Entity(3, 7, "ORG", 0.1),), (Entity(3, 5, "LOC", 0.8), Entity(5, 7, "ORG", 0.7))
    )
    assert [e.key for e in found.suggested] == [(3, 5, "LOC"), (5, 7, "ORG")]


def test_spans_that_exclude_each_other_add_up_to_one_missed_entity() -> None:
    (found,) = find((), (Entity(3, 7, "ORG", 0.5), Entity(3, 5, "LOC", 0.3)))
    assert found.probability == pytest.approx(0.8)
    assert found.suggested_probability == 0.5
    assert found.gold_probability == pytest.approx(0.2)


def test_what_the_scope_leaves_open_is_not_missed() -> None:
    others = (Entity(0, 2, "PER", 0.9), Entity(3, 5, "LOC", 0.9))
    for scope, left in (
        (Scope(complete=False), []),
        (Scope(labels=("PER",)), ["PER"]),
        (Scope(unknown=((0, 1),)), ["LOC"]),
    ):
        found = find((), others, Document(TEXT, scope=scope))
        assert [s.labels[0] for s in found] == left


def test_a_long_entity_is_no_more_suspicious_for_its_length() -> None:
    gold = (Entity(0, 1, "PER", 0.9), Entity(3, 7, "ORG", 0.9**4))
    document = Document(TEXT, tuple(replace(e, score=None) for e in gold))
    short, long = find_suspicions(0, document, Candidates(gold, (), (), (1, 4)))
    assert short.probability == pytest.approx(0.1)
    assert long.probability == pytest.approx(0.1)
    assert long.gold_probability == pytest.approx(0.9**4)


def test_a_missed_entity_is_as_suspicious_as_its_units_on_average() -> None:
    others = (Entity(0, 1, "PER", 0.9), Entity(3, 7, "ORG", 0.5))
    document = Document(TEXT)
    short, long = find_suspicions(0, document, Candidates((), others, (), (), (0.1, 0.2)))
    assert (short.probability, long.probability) == (pytest.approx(0.9), pytest.approx(0.8))
    assert long.gold_probability == pytest.approx(0.5)
    (plain,) = find_suspicions(0, document, Candidates((), others[1:], ()))
    assert plain.probability == pytest.approx(0.5)  # no probabilities of tags
    hardly = Candidates((), (Entity(3, 7, "ORG", 0.001),), (), (), (0.1,))
    assert find_suspicions(0, document, hardly, least=0.01) == []


def test_the_most_probable_error_comes_first() -> None:
    documents = [Document(TEXT, id=f"a:{n}") for n in range(3)]
    chances = (0.3, 0.9, 0.6)
    candidates = {n: Candidates((), (Entity(0, 2, "PER", p),), ()) for n, p in enumerate(chances)}
    assert [s.document for s in rank(documents, candidates, [])] == ["a:1", "a:2", "a:0"]


def test_copies_that_are_labelled_otherwise() -> None:
    with_gold = Document(TEXT, (Entity(0, 2, "PER"),), "a:1")
    without = Document(TEXT, (), "a:2")
    other = Document("别的话", (Entity(0, 1, "PER"),), "a:3")
    found = find_copies([with_gold, with_gold, without, other])
    assert {(c.index, bool(c.gold), c.num_same, c.num_other) for c in found} == {
        (0, True, 2, 1),
        (1, True, 2, 1),
        (2, False, 1, 2),
    }
    assert find_copies([with_gold, with_gold, other]) == []


def test_passages_are_copies_in_unlike_texts_too() -> None:
    around = "昨天下午我们在{}大学里面一起上课"
    start = around.index("{")
    first = Document("一、" + around.format("北京"), (Entity(start + 2, start + 4, "LOC"),), "a")
    second = Document(around.format("北京") + "。", (Entity(start, start + 4, "ORG"),), "b")
    found = {c.index: c for c in find_copies([first, second])}
    assert [e.key for e in found[0].suggested] == [(start + 2, start + 6, "ORG")]
    assert [e.key for e in found[1].suggested] == [(start, start + 2, "LOC")]


def test_copies_outvote_a_model_and_name_the_other_place() -> None:
    documents = [Document(TEXT, (Entity(0, 2, "PER"),), f"a:{n}") for n in range(3)]
    documents.append(Document(TEXT, (), "a:3"))
    own = Candidates((Entity(0, 2, "PER", 0.4),), (), ())
    candidates = dict.fromkeys(range(3), own)
    candidates[3] = Candidates((), (Entity(0, 2, "PER", 0.4),), ())
    first, *rest = rank(documents, candidates, find_copies(documents))
    assert (first.kind, first.document, first.other) == ("copy", "a:3", "a:0")
    assert first.probability == pytest.approx(0.4 * 81 / (0.4 * 81 + 0.6), abs=1e-3)
    assert all(s.probability < 0.1 for s in rest)
    explained = explain(first, documents[3], Surfaces(documents))
    assert "a:0" in explained.reason
    assert "3 of 3 other places" in explained.reason


def test_two_copies_are_told_apart_by_the_models() -> None:
    copy = Copy(0, (Entity(0, 2, "PER"),), (), 1, 1, 1)
    for chance in (0.2, 0.9):
        candidates = Candidates((Entity(0, 2, "PER", chance),), (), ())
        found = weigh_copy(Document(TEXT, copy.gold), copy, candidates, "b")
        assert found.probability == pytest.approx(1 - chance, abs=0.02)


def test_copies_alone_decide_on_gold_that_the_models_cannot_express() -> None:
    documents = [Document(TEXT, (Entity(0, 2, "NEW"),), f"a:{n}") for n in range(3)]
    documents.append(Document(TEXT, (), "a:3"))
    lost = Candidates((), (), ((Entity(0, 2, "NEW"), "no other fold has the label NEW"),))
    copies = find_copies(documents)
    found = [weigh_copy(documents[c.index], c, lost, "a:3") for c in copies if c.gold]
    assert [s.probability for s in found] == pytest.approx([1 / 82] * 3)  # three against one
    explained = explain(found[0], documents[0], Surfaces(documents))
    assert "The gold has NEW “王明”, which the models cannot judge." in explained.reason


@pytest.mark.parametrize(
    ("gold", "suggested", "chances", "told"),
    [
        ((GOLD,), (), (0.1, 0.8), "LOC “北京”; the models find no entity there (probability 0.80"),
        ((), (GOLD,), (0.3, 0.7), "no entity there; the models find LOC “北京” (probability 0.70"),
        ((GOLD,), (), (0.7, 0.2), "“北京”, which the models find likelier (probability 0.70) than"),
        ((), (GOLD,), (0.9, 0.1), "there, which the models find likelier (probability 0.90) than"),
    ],
)
def test_a_reason_says_what_the_models_find_likelier(
    gold: tuple[Entity, ...], suggested: tuple[Entity, ...], chances: tuple[float, float], told: str
) -> None:
    document = Document(TEXT, gold)
    suspicion = Suspicion(0, "a", kind_of(gold, suggested), 0.5, gold, suggested, *chances)
    assert told in explain(suspicion, document, Surfaces([document])).reason


def test_candidates_have_exact_probabilities_and_the_mean_of_several_models() -> None:
    tagset = TagSet.from_labels(["LOC", "PER"])
    units = [(i, i + 1) for i in range(3)]
    document = Document("abc", (Entity(0, 1, "LOC"), Entity(2, 3, "ORG")))

    def model(seed: int, chance: float) -> FoldScores:
        tags = np.full((3, len(tagset)), 1e-9)
        tags[:, tagset.tags.index("O")] = 1 - chance
        tags[:, tagset.tags.index("B-LOC")] = chance
        scores = np.log(tags).astype(np.float32)
        return FoldScores(0, seed, (0,), [units], [scores], SoftmaxHead(tagset))

    (found,) = collect_candidates([document], [model(1, 0.2), model(2, 0.6)])
    (gold,) = found.gold
    assert found.sizes == (1,)
    assert gold.key == (0, 1, "LOC")
    assert gold.score == pytest.approx(0.4, abs=1e-4)
    assert [(e.label, why) for e, why in found.not_judged] == [
        ("ORG", "no other fold has the label ORG")
    ]
    scores = {e.key: e.score for e in found.others}
    assert scores[1, 2, "LOC"] == pytest.approx(0.4, abs=1e-4)  # found where "no entity" is damped
