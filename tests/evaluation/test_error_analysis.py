"""Error kinds and novelty, against cases worked out by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nertune.evaluation.error_analysis import (
    ERROR_KINDS,
    NOTHING,
    NOVELTIES,
    _Touching,
    analyse,
    known_names,
)
from nertune.evaluation.metrics import score
from nertune.types import Document, Entity

TEXT = "王小明在北京大学读书。"


def document(*entities: tuple[int, int, str], text: str = TEXT) -> Document:
    return Document(text, [Entity(*e) for e in entities])


def kinds(gold: Document, predicted: Document) -> dict[str, int]:
    return {k: n for k, n in analyse([gold], [predicted], {}).kinds.items() if n}


def test_each_kind_by_hand() -> None:
    gold = document((0, 3, "PER"), (4, 8, "ORG"))
    assert kinds(gold, gold) == {"correct": 2}
    assert kinds(gold, document()) == {"missed": 2}
    assert kinds(gold, document((0, 3, "ORG"), (4, 8, "ORG"))) == {"type": 1, "correct": 1}
    assert kinds(gold, document((1, 3, "PER"), (4, 8, "ORG"))) == {"boundary": 1, "correct": 1}
    assert kinds(gold, document((1, 3, "LOC"), (4, 8, "ORG"))) == {"both": 1, "correct": 1}
    assert kinds(gold, document((8, 10, "PER"))) == {"missed": 2, "spurious": 1}
    # Half of a name of each type: the one of the right type counts.
    assert kinds(document((4, 8, "ORG")), document((4, 6, "LOC"), (6, 8, "ORG"))) == {"boundary": 1}
    # Neighbours share no character.
    assert kinds(document((0, 3, "PER")), document((3, 4, "PER"))) == {"missed": 1, "spurious": 1}


def test_novelty_by_hand() -> None:
    train = [document((0, 3, "PER")), document((4, 6, "LOC"), text="我们喜欢北京。")]
    names = known_names(train)
    assert names == {"王小明": {"PER"}, "北京": {"LOC"}}
    gold = [
        document((0, 3, "PER"), (4, 8, "ORG")),
        document((0, 2, "ORG"), text="北京赢了。"),
    ]
    predicted = [document((0, 3, "PER"), (4, 6, "LOC")), document((0, 2, "LOC"), text="北京赢了。")]
    found = analyse(gold, predicted, names)
    assert found.gold == {"seen": 1, "other type": 1, "unseen": 1}
    assert found.found == {"seen": 1, "other type": 0, "unseen": 0}
    assert found.recall("seen") == 1.0
    assert found.recall("unseen") == 0.0
    assert analyse([], [], names).recall("seen") is None


ENTITIES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from(["PER", "LOC"])), max_size=4
)


@given(st.lists(st.tuples(ENTITIES, ENTITIES), max_size=4))
def test_the_counts_add_up(cases: list[tuple[list[tuple[int, int, str]], ...]]) -> None:
    def made(rows: list[tuple[int, int, str]]) -> Document:
        return document(*{(s, min(len(TEXT), s + n), label) for s, n, label in rows})

    gold, predicted = ([made(case[side]) for case in cases] for side in (0, 1))
    found = analyse(gold, predicted, {})
    micro = score(gold, predicted, num_resamples=0).micro
    assert found.kinds.keys() == set(ERROR_KINDS)
    assert found.kinds["correct"] == micro.correct
    assert sum(found.kinds.values()) - found.kinds["spurious"] == micro.support
    assert found.kinds["spurious"] <= micro.predicted - micro.correct
    assert sum(found.gold[n] for n in NOVELTIES) == micro.support
    assert sum(found.found.values()) == micro.correct


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from("AB")), max_size=12),
    st.tuples(st.integers(0, 30), st.integers(1, 8)),
)
def test_what_touches_an_entity(others: list[tuple[int, int, str]], one: tuple[int, int]) -> None:
    """Entities may overlap each other."""
    entities = [Entity(start, start + length, label) for start, length, label in others]
    asked = Entity(one[0], one[0] + one[1], "A")
    expected = [e for e in entities if e.start < asked.end and asked.start < e.end]
    found = _Touching(entities).of(asked)
    assert sorted(e.key for e in found) == sorted(e.key for e in expected)


def confusions(gold: Document, predicted: Document) -> dict[tuple[str, str], int]:
    return dict(analyse([gold], [predicted], {}).confusions)


def test_confused_types_by_hand() -> None:
    gold = document((0, 3, "PER"), (4, 8, "ORG"))
    assert confusions(gold, gold) == {("PER", "PER"): 1, ("ORG", "ORG"): 1}
    assert confusions(gold, document((1, 3, "LOC"))) == {("PER", "LOC"): 1, ("ORG", NOTHING): 1}
    spurious = {("PER", NOTHING): 1, ("ORG", NOTHING): 1, (NOTHING, "PER"): 1}
    assert confusions(gold, document((8, 10, "PER"))) == spurious
    one = document((4, 8, "ORG"))
    # The same span goes before the same type, the same type before a longer shared part.
    assert confusions(one, document((4, 8, "LOC"), (4, 5, "ORG"))) == {("ORG", "LOC"): 1}
    assert confusions(one, document((4, 7, "LOC"), (7, 8, "ORG"))) == {("ORG", "ORG"): 1}
    assert confusions(one, document((4, 7, "LOC"), (7, 8, "PER"))) == {("ORG", "LOC"): 1}
    assert confusions(one, document((4, 8, "LOC"), (4, 8, "ORG"))) == {("ORG", "ORG"): 1}


@given(st.lists(st.tuples(ENTITIES, ENTITIES), max_size=4))
def test_confused_types_agree_with_the_kinds_of_errors(
    cases: list[tuple[list[tuple[int, int, str]], ...]],
) -> None:
    gold, predicted = (
        [document(*{(s, min(11, s + n), label) for s, n, label in case[side]}) for case in cases]
        for side in (0, 1)
    )
    found = analyse(gold, predicted, {})
    pairs = found.confusions
    same = sum(n for (one, other), n in pairs.items() if one == other)
    missed = sum(n for (_, other), n in pairs.items() if other == NOTHING)
    spurious = sum(n for (one, _), n in pairs.items() if one == NOTHING)
    assert same == found.kinds["correct"] + found.kinds["boundary"]
    assert missed == found.kinds["missed"]
    assert spurious == found.kinds["spurious"]
    assert sum(pairs.values()) - same - missed - spurious == (
        found.kinds["type"] + found.kinds["both"]
    )
    for label in ("PER", "LOC"):
        support = sum(e.label == label for d in gold for e in d.entities)
        assert sum(n for (one, _), n in pairs.items() if one == label) == support
