"""Labels under another name: nothing is renamed, dropped or made one without being counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.data import map_labels
from nertune.data.editing.labels import Clash, nearest_label, read_label_map
from nertune.errors import ConfigError
from nertune.types import Document, Entity, Scope


def test_renamed_and_dropped() -> None:
    documents = [
        Document("ab cd", (Entity(0, 2, "PER"), Entity(3, 5, "LOC"))),
        Document("ef", (Entity(0, 2, "PER", 0.5),)),
        Document("gh", (Entity(0, 2, "MISC"),)),
    ]
    found = map_labels(documents, {"PER": "LOC", "LOC": "PER", "MISC": ""})
    assert [[e.key for e in d.entities] for d in found.documents] == [
        [(0, 2, "LOC"), (3, 5, "PER")], [(0, 2, "LOC")], []
    ]  # fmt: skip
    assert found.documents[1].entities[0].score == 0.5
    assert (found.renamed, found.dropped, found.clashes) == (
        {"PER": 2, "LOC": 1}, {"MISC": 1}, ()
    )  # fmt: skip


def test_entities_that_become_the_same_or_overlap_are_listed() -> None:
    three = (Entity(0, 2, "A"), Entity(0, 2, "B"), Entity(0, 2, "C"), Entity(1, 3, "B"))
    document = Document("abcd", three, "d1")
    found = map_labels([document], {"A": "X", "B": "X", "C": "X"})
    assert [e.key for e in found.documents[0].entities] == [(0, 2, "X"), (1, 3, "X")]
    first, other = Entity(0, 2, "X"), Entity(1, 3, "X")
    assert found.clashes == (
        Clash("d1", first, first, ("A", "B"), "ab", True),
        Clash("d1", first, first, ("A", "C"), "ab", True),
        Clash("d1", first, other, ("A", "B"), "bc", False),
    )
    assert found.num_merged == 2
    assert found.to_dict()["clashes"][2]["is_same"] is False


def test_what_was_so_before_is_no_clash() -> None:
    nested = Document("abcd", (Entity(0, 4, "A"), Entity(0, 2, "A"), Entity(0, 3, "B")))
    assert map_labels([nested], {"A": "C"}).clashes == ()
    around = (Entity(0, 4, "A", fragments=((0, 1), (3, 4))), Entity(1, 3, "B"))
    assert map_labels([Document("abcd", around)], {"B": "A"}).clashes == ()


def test_a_label_that_is_not_there_is_refused() -> None:
    documents = [Document("ab", (Entity(0, 1, "PERSON"), Entity(1, 2, "LOC")))]
    message = "no entity is labelled 'per'; there is LOC, PERSON; did you mean 'PERSON'"
    with pytest.raises(ConfigError, match=message):
        map_labels(documents, {"per": "X"})
    with pytest.raises(ConfigError, match="there is none"):
        map_labels([Document("ab")], {"per": "X"})
    assert nearest_label("x", []) == ""


def test_maps_are_read_from_the_command_line_and_from_files(tmp_path: Path) -> None:
    expected = {"per": "PERSON", "x": "", "a b": "LOC"}
    assert read_label_map("per=PERSON, x=, a b=LOC") == expected
    table = 'per = "PERSON"\nx = ""\n"a b" = "LOC"\n'
    for name, text in {
        "a.toml": table,
        "b.toml": "[labels]\n" + table,
        "c.json": json.dumps(expected),
        "d.json": json.dumps({**expected, "x": None}),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_label_map(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per", "'per' is no pair; expected OLD=NEW"),
        ("=PER", "is no pair"),
        ("per=PER,", "is no pair"),
        ("per=PER,per=LOC", "stands twice"),
        ("absent.toml", "cannot be read: No such file"),
    ],
)
def test_maps_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_label_map(text)


@pytest.mark.parametrize(("name", "text"), [
    ("a.toml", "per = 1\n"), ("b.toml", "per = \n"), ("c.json", "[1]"), ("d.json", "{"),
    ("e.json", "{}"),
])  # fmt: skip
def test_files_that_are_no_maps(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"--labels .*{name}"):
        read_label_map(str(tmp_path / name))


def test_a_scope_has_a_new_label_where_all_that_it_is_made_of_were_in_it() -> None:
    """A document that was looked through for A alone may hold B, which has the same name now."""
    scopes = [Scope(("A",)), Scope(("B",)), Scope(("A", "B")), Scope(("A", "C")), Scope()]
    documents = [Document("x", scope=scope) for scope in scopes]
    found = [d.scope.labels for d in map_labels(documents, {"A": "B"}).documents]
    assert found == [(), (), ("B",), ("C",), None]
    found = [d.scope.labels for d in map_labels(documents, {"A": "D", "C": ""}).documents]
    assert found == [("D",), ("B",), ("B", "D"), ("D",), None]
