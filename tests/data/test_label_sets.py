"""Training files of different label sets, and how settings name them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import make_settings, write_jsonl
from nertune.config.run import Settings, TrainFile, parse_settings
from nertune.data.corpus import save_documents
from nertune.data.label_sets import describe_scopes
from nertune.data.splits import load_splits
from nertune.errors import ConfigError
from nertune.experiments.train import train
from nertune.types import Document, Entity, Scope

PEOPLE = [
    Document("王明在北京", (Entity(0, 2, "PERSON"),)),
    Document("李华在上海", (Entity(0, 2, "PERSON"),)),
]
PLACES = [Document("张三去香港", (Entity(3, 5, "LOC"),))]


def settings_of(train: Any) -> Settings:
    return parse_settings({"data": {"train": train}})


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return (
        str(write_jsonl(tmp_path / "a.jsonl", PEOPLE)),
        str(write_jsonl(tmp_path / "b.jsonl", PLACES)),
    )


def load(*tables: Any) -> Any:
    return load_splits(settings_of(list(tables)).data, ("train",))["train"]


def test_each_document_has_the_scope_of_its_file(files: tuple[str, str]) -> None:
    a, b = files
    corpus = load({"file": a, "map": {"PERSON": "PER"}}, b)
    assert [d.scope for d in corpus.documents] == [Scope(("PER",))] * 2 + [Scope(("LOC",))]
    assert corpus.labels == ("LOC", "PER")
    assert [file["path"] for file in corpus.files] == [a, b]
    assert corpus.notices[0] == f"{a}: labelled for PER (those that occur in it)"
    full = load({"file": a, "labels": ["PERSON", "LOC"]}, {"file": b, "complete": False})
    found = [d.scope for d in full.documents]
    assert found[1:] == [Scope(("LOC", "PERSON")), Scope(("LOC",), False)]


def test_files_of_one_label_set_are_labelled_in_full(files: tuple[str, str]) -> None:
    a, b = files
    corpus = load({"file": a, "map": {"PERSON": "X"}}, {"file": b, "map": {"LOC": "X"}})
    assert all(d.scope == Scope() for d in corpus.documents)
    alone = load_splits(settings_of(a).data, ("train",))["train"]
    assert load(a).documents == alone.documents


def test_a_document_s_own_scope_is_narrowed_by_its_file(
    files: tuple[str, str], tmp_path: Path
) -> None:
    """Spans of which nothing is known do not make a file of people one of places, too."""
    own = (Scope(unknown=((3, 5),)), Scope(("PERSON", "TIME")), Scope(complete=False))
    documents = [Document("王明在北京", (Entity(0, 2, "PERSON"),), scope=scope) for scope in own]
    file = str(tmp_path / "own.jsonl")
    save_documents(file, documents)
    assert [d.scope for d in load(file, files[1]).documents[:3]] == [
        Scope(("PERSON",), unknown=((3, 5),)), own[1], Scope(("PERSON",), False),
    ]  # fmt: skip
    found = load({"file": file, "complete": False}, files[1]).documents[:3]
    assert [d.scope.complete for d in found] == [False] * 3
    assert [d.scope for d in load(file, files[0]).documents[:3]] == [*own]


def test_the_hash_knows_files_maps_and_scopes(files: tuple[str, str]) -> None:
    a, b = files
    found = {
        load(a, b).sha256,
        load(b, a).sha256,
        load({"file": a, "complete": False}, b).sha256,
        load({"file": a, "labels": ["PERSON", "LOC"]}, b).sha256,
        load({"file": a, "map": {"PERSON": "PER"}}, b).sha256,
    }
    assert len(found) == 5


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"file": "a", "map": {"PER": "X"}}, "map of .*no entity is labelled 'PER'.*did you mean"),
        ({"file": "a", "labels": ["LOC"]}, "lack 'PERSON', which occurs in it"),
        ({"file": "a", "lables": ["LOC"]}, "file 1: unknown key 'lables'; did you mean labels"),
        ({"file": "a", "labels": ["PERSON", ""]}, "file 1: labels: a label is empty"),
        ({"map": {}}, "file 1: file: Field required"),
        ("", "file 1: file: String should have at least 1"),
        (3, "file 1: expected a name or a table"),
    ],
)
def test_errors_name_the_file(files: tuple[str, str], table: Any, told: str) -> None:
    if isinstance(table, dict) and "file" in table:
        table = {**table, "file": files[0]}
    with pytest.raises(ConfigError, match=told):
        load(table, files[1])


def test_a_file_stands_there_once(files: tuple[str, str]) -> None:
    for again in (files[0], os.path.relpath(files[0])):
        with pytest.raises(ConfigError, match="twice"):
            load(files[0], again)
    with pytest.raises(ConfigError, match=r"data\.train is empty"):
        load()


def test_a_label_that_one_file_renames_and_another_keeps_is_said(
    files: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = str(write_jsonl(tmp_path / "c.jsonl", PEOPLE))
    load({"file": files[0], "map": {"PERSON": "PER"}}, other)
    assert "keeps PERSON: two labels are learned" in caplog.text


def test_settings_of_several_files_come_back_from_json(files: tuple[str, str]) -> None:
    settings = settings_of([{"file": files[0], "labels": ["PERSON"]}, files[1]])
    again = parse_settings(json.loads(json.dumps(settings.to_dict())))
    assert again == settings
    assert again.data.train_files[1] == TrainFile(file=files[1])


def test_a_run_on_several_files_records_them_all(files: tuple[str, str], tmp_path: Path) -> None:
    values = make_settings(tmp_path, "lstm").to_dict()
    values["data"] |= {"train": [{"file": files[0]}, {"file": files[1]}], "dev": "", "test": ""}
    values["train"] |= {"epochs": 1}
    record = train(parse_settings(values))
    assert [file["labels"] for file in record["data"]["train"]["files"]] == [["PERSON"], ["LOC"]]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "a.jsonl (PERSON); b.jsonl (LOC)" in card
    assert train(parse_settings(values), resume=True) == record


def test_describe_scopes() -> None:
    documents = [
        Document("x"),
        Document("x", scope=Scope(("A", "B"))),
        Document("x", scope=Scope(("A", "B"), False)),
        Document("x", scope=Scope(unknown=((0, 1),))),
    ]
    assert describe_scopes(documents[:1]) == {}
    assert describe_scopes(documents) == {
        "documents": 3,
        "incomplete": 1,
        "with_unknown_spans": 1,
        "labels": {"A, B": 2, "all labels": 1},
    }
