"""Gold of another naming: said before a score is, and renamed on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, write_jsonl
from nertune.errors import ConfigError
from nertune.evaluation.relabel import describe_gold, rename_labels
from nertune.types import Document, Entity

KNOWN = ("LOC", "PER")
GOLD = (
    Document("ab cd", (Entity(0, 2, "person"), Entity(3, 5, "place"))),
    Document("ef", (Entity(0, 2, "person"),)),
    Document("gh", (Entity(0, 2, "PER"),)),
)


def test_labels_that_the_model_does_not_know_are_said_with_what_to_do() -> None:
    (told,) = describe_gold(GOLD, KNOWN)
    assert told.startswith("3 of 4 gold entities have labels that the model does not know")
    assert "(person, place; the model knows LOC, PER): they are scored as missed" in told
    assert "--labels person=PER" in told
    assert describe_gold(GOLD[2:], KNOWN) == []
    (told,) = describe_gold([Document("ab")], KNOWN)
    assert "the file holds no entity" in told
    assert "F1 is undefined" in told


def test_renamed_and_dropped() -> None:
    found = rename_labels(GOLD, {"person": "PER", "place": ""}, KNOWN)
    assert [[e.key for e in d.entities] for d in found.documents] == [
        [(0, 2, "PER")], [(0, 2, "PER")], [(0, 2, "PER")]
    ]  # fmt: skip
    assert (found.renamed, found.dropped, found.merged) == (2, {"place": 1}, 0)
    assert (
        "2 gold entities renamed, 1 dropped (place 1): what the model finds there counts as wrong"
        in found.describe()
    )
    assert describe_gold(found.documents, KNOWN) == []


def test_names_are_exchanged_at_once() -> None:
    document = Document("ab cd", (Entity(0, 2, "PER"), Entity(3, 5, "LOC")))
    (swapped,) = rename_labels([document], {"PER": "LOC", "LOC": "PER"}, KNOWN).documents
    assert [e.key for e in swapped.entities] == [(0, 2, "LOC"), (3, 5, "PER")]


def test_entities_that_become_the_same_count_once() -> None:
    document = Document("ab", (Entity(0, 2, "PER"), Entity(0, 2, "person")))
    found = rename_labels([document], {"person": "PER"}, KNOWN)
    assert (len(found.documents[0].entities), found.merged) == (1, 1)
    assert "count once" in found.describe()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"org": "PER"}, "no gold entity is labelled 'org'; the file has PER, person, place"),
        ({"person": "PERSON"}, "the model knows no 'PERSON'; it knows LOC, PER"),
    ],
)
def test_what_is_not_there_is_refused(names: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rename_labels(GOLD, names, KNOWN)


def test_the_command(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "full")
    save_predictor(tmp_path / "model", make_predictor(settings), settings)
    short = {"PERSON": "per", "LOCATION": "loc", "TIME": "date", "ORGANIZATION": "org"}
    others = [
        Document(d.text, tuple(Entity(e.start, e.end, short[e.label]) for e in d.entities))
        for d in SENTENCES
    ]
    same = write_jsonl(tmp_path / "same.jsonl")
    other = write_jsonl(tmp_path / "other.jsonl", others)

    def scored(*arguments: object) -> dict[str, Any]:
        done = run("evaluate", tmp_path / "model", *arguments, "--json")
        assert done.code == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    expected = scored(same)
    assert expected["notices"] == []
    wrong = run("evaluate", tmp_path / "model", other)
    assert "17 of 17 gold entities have labels that the model does not know" in wrong.stderr
    assert "--labels date=" in wrong.stderr
    names = ",".join(f"{short[label]}={label}" for label in short)
    renamed = scored(other, "--labels", names)
    assert renamed["micro"] == expected["micro"]
    assert renamed["types"] == expected["types"]
    assert renamed["labels"] == {new: old for old, new in short.items()}
    less = run("evaluate", tmp_path / "model", other, "--labels", names.replace("=TIME", "="))
    assert "dropped (date 3): what the model finds there counts as wrong" in less.stderr
    refused = run("evaluate", tmp_path / "model", other, "--labels", "org=COMPANY")
    assert (refused.code, "the model knows no 'COMPANY'" in refused.error) == (2, True)
    nothing = write_jsonl(tmp_path / "none.jsonl", [Document(d.text) for d in SENTENCES])
    assert "the file holds no entity" in run("evaluate", tmp_path / "model", nothing).stderr
