"""The two values that flow through nertune."""

from __future__ import annotations

import pickle

import pytest

from nertune.evaluation.error_analysis import analyse
from nertune.evaluation.metrics import score
from nertune.labels.align import align_entities
from nertune.types import Document, Entity, Scope


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (-1, 2), (-2, -1)])
def test_an_entity_covers_something(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"entity span \[.*\) is empty or negative"):
        Entity(start, end, "X")


def test_an_entity_has_a_label() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\) has no label"):
        Entity(0, 1, "")


def test_the_key_leaves_the_score_out() -> None:
    assert Entity(1, 2, "X", 0.5).key == Entity(1, 2, "X").key == (1, 2, "X")
    assert Entity(1, 2, "X", 0.5) != Entity(1, 2, "X")


def test_entities_are_sorted_even_with_and_without_scores() -> None:
    """A score is `None` for gold: sorting must not compare it with a number."""
    entities = (Entity(2, 3, "A"), Entity(0, 2, "B"), Entity(0, 2, "A", 0.5), Entity(0, 2, "A"))
    document = Document("abc", entities)
    assert [e.key for e in document.entities] == [
        (0, 2, "A"), (0, 2, "A"), (0, 2, "B"), (2, 3, "A")
    ]  # fmt: skip
    assert len(document.entities) == 4


def test_offsets_count_code_points() -> None:
    text = "\U0001f600é\u0301王"
    document = Document(text, (Entity(3, 4, "PER"),))
    assert document.surface(document.entities[0]) == "王"
    with pytest.raises(ValueError, match=r"PER \[3, 5\) reaches beyond the text of 4 characters"):
        Document(text, (Entity(3, 5, "PER"),))


@pytest.mark.parametrize(
    "tokens", [((0, 0),), ((2, 1),), ((0, 2), (1, 3)), ((1, 2), (0, 1)), ((0, 4),), ((-1, 1),)]
)
def test_tokens_are_in_order_and_in_the_text(tokens: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="is empty, out of order or out of text"):
        Document("abc", tokens=tokens)


def test_tokens_may_touch_or_leave_gaps() -> None:
    tokens = ((0, 1), (1, 2), (3, 4))
    assert Document("abcd", tokens=tokens).tokens == tokens
    assert Document("abc").tokens is None
    assert Document("abc", tokens=()).tokens == ()


def test_other_entities_leave_the_rest() -> None:
    document = Document("abcd", (Entity(0, 1, "X"),), id="f:3", tokens=((0, 4),))
    other = document.with_entities(iter([Entity(2, 3, "Z"), Entity(1, 2, "Y")]))
    assert [e.label for e in other.entities] == ["Y", "Z"]
    assert (other.text, other.id, other.tokens) == ("abcd", "f:3", ((0, 4),))
    assert document.entities == (Entity(0, 1, "X"),)
    with pytest.raises(ValueError, match="beyond"):
        document.with_entities([Entity(0, 5, "X")])


def test_values_are_values() -> None:
    """Hashable, comparable, picklable (for worker processes), unchangeable."""
    document = Document("abc", (Entity(0, 1, "X", 0.5),), id="a", tokens=((0, 3),))
    assert pickle.loads(pickle.dumps(document)) == document
    assert len({document, Document("abc", (Entity(0, 1, "X", 0.5),), "a", ((0, 3),))}) == 1
    with pytest.raises(AttributeError):
        document.text = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        document.entities[0].start = 2  # type: ignore[misc]


def test_an_empty_text_is_a_document() -> None:
    assert Document("").entities == ()


def test_metadata_stay_with_other_entities() -> None:
    document = Document("王明", (Entity(0, 2, "PER"),), "a:1", meta={"source": ["x", 1]})
    other = document.with_entities([])
    assert (other.id, other.meta) == ("a:1", {"source": ["x", 1]})
    assert document == pickle.loads(pickle.dumps(document))
    assert hash(document)
    assert Document("王明", meta={"a": 1}) != Document("王明")


def test_short_forms() -> None:
    document = Document(
        "王小明到了北京。", (Entity(0, 3, "PER", 0.98765), Entity(5, 7, "LOC")), id="a"
    )
    assert repr(document) == "Document('王小明到了北京。', ['王小明' PER, '北京' LOC], id='a')"
    assert repr(document.entities[0]) == "Entity(0, 3, 'PER', 0.9877)"
    assert repr(document.entities[1]) == "Entity(5, 7, 'LOC')"
    long = Document("甲" * 1000, tuple(Entity(i, i + 1, "X") for i in range(100)))
    assert len(repr(long)) < 120
    assert "… 96 more" in repr(long)


def test_fragments() -> None:
    entity = Entity.of_fragments([(5, 7), (0, 1), (1, 2)], "X", 0.5)
    assert entity == Entity(0, 7, "X", 0.5, ((0, 2), (5, 7)))
    assert entity.spans == ((0, 2), (5, 7))
    assert Entity(0, 7, "X").spans == ((0, 7),)
    assert entity.key != Entity(0, 7, "X").key
    assert Entity.of_fragments([(3, 5), (0, 3)], "X") == Entity(0, 5, "X")
    document = Document("ab cd ef", (entity,))
    assert document.surface(entity) == "ab …  e"
    assert Document.from_dict(document.to_dict()) == document
    assert "fragments=[(0, 2), (5, 7)]" in repr(entity)


@pytest.mark.parametrize(
    "fragments", [((0, 7),), ((0, 2), (2, 7)), ((0, 2), (5, 6)), ((1, 2), (5, 7)), ((5, 7), (0, 2))]
)
def test_fragments_that_are_none(fragments: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="fragments"):
        Entity(0, 7, "X", None, fragments)
    with pytest.raises(ValueError, match="span"):
        Entity.of_fragments([], "X")


def test_a_discontinuous_entity_is_no_continuous_one() -> None:
    """It is trained on by no flat head and scored as missed; another one of its ends is wrong."""
    gold = Document("ab cd ef", (Entity.of_fragments([(0, 2), (6, 8)], "X"), Entity(3, 5, "Y")))
    aligned = align_entities(gold, [(0, 2), (3, 5), (6, 8)])
    assert [(lost.entity.label, lost.reason) for lost in aligned.lost] == [
        ("X", "it is discontinuous: 2 fragments")
    ]
    assert aligned.tags == [None, "B-Y", None]
    cover = gold.with_entities([Entity(0, 8, "X"), Entity(3, 5, "Y")])
    scores = score([gold], [cover])
    assert (scores.exact.micro.precision, scores.exact.micro.recall) == (0.5, 0.5)
    assert (scores.untyped.micro.f1, scores.overlap.micro.f1) == (0.5, 1.0)
    assert score([gold], [gold]).exact.micro.f1 == 1.0
    kinds = analyse([gold], [cover], {}).kinds
    assert (kinds["correct"], kinds["boundary"], kinds["type"]) == (1, 1, 0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_entities_of_any_iterable_are_a_tuple(count: int) -> None:
    entities = [Entity(i, i + 1, "X") for i in range(count)]
    document = Document("ab", tuple(entities))
    for given in (entities, iter(entities)):
        other = Document("ab", given)  # type: ignore[arg-type]
        assert other == document
        assert hash(other) == hash(document)


@pytest.mark.parametrize(
    "scope",
    [Scope(), Scope(("B", "A")), Scope((), False), Scope(None, False, ((0, 1), (1, 3)))],
)
def test_a_scope_survives_plain_values(scope: Scope) -> None:
    document = Document("abc", (Entity(0, 1, "A"),), scope=scope)
    assert Document.from_dict(document.to_dict()) == document
    assert ("scope" in document.to_dict()) == (scope != Scope())
    assert scope.is_full == (scope == Scope())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"label": ["A"]}, "'label' is no key"),
        ({"labels": "PER"}, "expected a list of labels"),
        ({"complete": "no"}, "expected true or false"),
        ({"unknown": [3]}, r"expected \[start, end\] spans"),
        ({"unknown": [[2, 3], [0, 1]]}, "out of order"),
        ({"unknown": [[2, 9]]}, "reaches beyond the text"),
        ({"labels": [""]}, "is empty"),
    ],
)
def test_a_scope_that_cannot_be_is_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Document.from_dict({"text": "abc", "scope": values})
