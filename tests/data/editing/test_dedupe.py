"""Documents that repeat an earlier one."""

from __future__ import annotations

import pytest

from nertune.data import dedupe_documents
from nertune.data.editing.conflicts import conflict_between
from nertune.errors import ConfigError
from nertune.types import Document, Entity, Scope

LONG = "今天北京的天气非常好，我们大家一起去公园里散步吧"


def doc(text: str, id: str, *entities: Entity) -> Document:
    return Document(text, entities, id)


def test_the_first_is_kept_and_conflicts_are_listed_by_entity() -> None:
    found = dedupe_documents(
        [
            doc("王明来", "1", Entity(0, 2, "PER"), Entity(2, 3, "X")),
            doc("李华", "2"),
            doc("王明来", "3", Entity(0, 2, "PER", 0.5), Entity(2, 3, "X")),
            doc("王明来", "4", Entity(0, 3, "PER"), Entity(2, 3, "X")),
            doc("王明来 ", "5"),
        ]
    )
    assert [d.id for d in found.documents] == ["1", "2", "5"]
    assert [(r.document, r.of, r.is_equal) for r in found.repeats] == [
        ("3", "1", True), ("4", "1", True)
    ]  # fmt: skip
    (conflict,) = found.conflicts
    assert (conflict.first, conflict.second) == ("1", "4")
    assert conflict.only_first == ((Entity(0, 2, "PER"), "王明"),)
    assert conflict.only_second == ((Entity(0, 3, "PER"), "王明来"),)
    values = found.to_dict()
    assert values["dropped"] == 2
    assert values["repeats"][1]["conflict"]["only_second"][0]["surface"] == "王明来"


def test_conflicting_copies_can_be_kept() -> None:
    documents = [doc("a", "1"), doc("a", "2", Entity(0, 1, "X")), doc("a", "3")]
    found = dedupe_documents(documents, keep_conflicts=True)
    assert [d.id for d in found.documents] == ["1", "2"]
    assert [r.document for r in found.dropped] == ["3"]


def test_near_copies_are_compared_to_what_is_kept() -> None:
    """A chain of small changes does not end in the first text."""
    chain = [LONG]
    for i in range(12):
        chain.append(f"{chain[-1][:i]}{chr(0x5000 + i)}{chain[-1][i + 1 :]}")
    found = dedupe_documents([doc(text, str(i)) for i, text in enumerate(chain)], near=0.7)
    assert 1 < len(found.documents) < 13
    assert found.documents[0].id == "0"
    assert {r.of for r in found.repeats} <= {d.id for d in found.documents}
    assert not any(r.is_equal for r in found.repeats)


def test_copies_of_a_near_copy_repeat_the_one_that_is_kept() -> None:
    documents = [doc(LONG, "1"), doc(LONG + "。", "2"), doc(LONG + "。", "3"), doc("", "4")]
    found = dedupe_documents([*documents, doc("", "5")], near=0.8)
    assert [d.id for d in found.documents] == ["1", "4"]
    assert [(r.document, r.of) for r in found.repeats] == [("2", "1"), ("3", "1"), ("5", "4")]


def test_one_means_equal_but_for_what_is_not_seen() -> None:
    documents = [doc("ＡＢ c", "1"), doc("abC", "2"), doc("abCd", "3")]
    assert [d.id for d in dedupe_documents(documents, near=1).documents] == ["1", "3"]
    assert len(dedupe_documents(documents).documents) == 3
    with pytest.raises(ConfigError, match=r"--near 0\.2"):
        dedupe_documents(documents, near=0.2)


def test_entities_of_nearly_equal_texts_are_compared_by_what_they_cover() -> None:
    one = doc("王明来了", "1", Entity(0, 2, "PER"))
    assert conflict_between(one, doc("，王明来了", "2", Entity(1, 3, "PER"))) is None
    other = conflict_between(one, doc("，王明来了", "2", Entity(1, 3, "ORG")))
    assert other is not None
    assert other.only_second == ((Entity(1, 3, "ORG"), "王明"),)
    twice = doc("王明王明", "1", Entity(0, 2, "PER"), Entity(2, 4, "PER"))
    once = conflict_between(twice, doc("王明王明。", "2", Entity(0, 2, "PER")))
    assert once is not None
    assert (len(once.only_first), once.only_second) == (1, ())


@pytest.mark.parametrize(
    "scope", [Scope(complete=False), Scope(("PER",)), Scope(unknown=((0, 1),))]
)
def test_a_copy_that_is_labelled_for_less_is_a_conflict(scope: Scope) -> None:
    """What it leaves open, the other one denies."""
    whole = doc("王明来", "2", Entity(0, 2, "PER"))
    partial = Document(whole.text, whole.entities, "1", scope=scope)
    found = dedupe_documents([partial, whole])
    (conflict,) = found.conflicts
    assert (conflict.scopes, conflict.only_first) == ((scope, Scope()), ())
    assert found.to_dict()["repeats"][0]["conflict"]["scopes"] == [scope.to_dict(), {}]
    assert len(dedupe_documents([partial, whole], keep_conflicts=True).documents) == 2
    assert conflict_between(partial, partial) is None
    # Unknown spans of another text cannot be compared.
    near = Document("王明来 ", whole.entities, "3")
    assert (conflict_between(partial, near) is None) == bool(scope.unknown)
