"""The functions at the root: documents in memory give what files give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nertune
from helpers.tiny import SENTENCES, make_settings, write_jsonl
from nertune import Document, Entity
from nertune.errors import CheckpointError, ConfigError, DataError


def test_documents_in_memory_train_as_their_files_do(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    settings = make_settings(tmp_path / "file", "lora-crf")
    by_file = nertune.train(settings)
    documents = nertune.read(settings.data.train)
    values = settings.to_dict()
    values["run"]["dir"] = str(tmp_path / "memory")
    values["data"] = {}
    dev = nertune.read(settings.data.dev)
    in_memory = nertune.train(values, train=documents, dev=dev)
    assert in_memory["dev"]["micro"] == by_file["dev"]["micro"]
    assert in_memory["data"]["train"]["sha256"] == by_file["data"]["train"]["sha256"]
    assert in_memory["data"]["train"]["path"] == "<documents>"
    assert in_memory["test"] is None
    name = "adapter_model.safetensors"
    weights = [Path(d) / "model" / name for d in (settings.run.dir, tmp_path / "memory")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    for others in ({"train": documents[1:], "dev": dev}, {"train": documents, "dev": dev[1:]}):
        with pytest.raises(CheckpointError, match=r"other (train|dev) documents than those given"):
            nertune.train(values, **others, resume=True)
    # A finished run is scored on documents too, and others are refused.
    scored = nertune.train(values, train=documents, dev=dev, test=dev, resume=True)
    assert scored["test"]["micro"]["f1"] == scored["dev"]["micro"]["f1"]
    with pytest.raises(CheckpointError, match="test file of other content"):
        nertune.train(values, train=documents, dev=dev, test=dev[:2], resume=True)
    scores = nertune.evaluate(nertune.load(tmp_path / "memory"), dev)
    assert scores.micro.f1 == in_memory["dev"]["micro"]["f1"]
    assert nertune.evaluate(str(tmp_path / "memory"), settings.data.dev).micro == scores.micro


def test_a_recipe_with_documents(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'[run]\ndir = "{tmp_path}/run"\n[data]\ntrain = "there-is-none"\n'
        '[model]\nemitter = "lstm"\n[lstm]\nhidden_size = 4\n[train]\nepochs = 1\n'
    )
    record = nertune.train(recipe, train=SENTENCES)
    assert record["data"]["train"]["documents"] == len(SENTENCES)
    with pytest.raises(DataError, match="there-is-none"):
        nertune.train(recipe, overwrite=True)


@pytest.mark.parametrize("values", [{"data": []}, {"data": {"trian": "x"}}, {}])
def test_settings_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="data"):
        nertune.train(values)


def test_no_documents(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no documents were given"):
        nertune.train({"run": {"dir": str(tmp_path / "x")}}, train=[])
    assert not (tmp_path / "x").exists()


def test_read_and_write(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", SENTENCES)
    nertune.write(tmp_path / "out.jsonl", nertune.read(path))
    again = nertune.read(tmp_path / "out.jsonl")
    assert [(d.text, d.entities) for d in again] == [(d.text, d.entities) for d in SENTENCES]
    assert len(nertune.read("sample:dev")) == 80


def test_documents_to_and_from_dicts() -> None:
    document = Document(
        "a<b 北京", (Entity(0, 1, "X", 0.5), Entity(4, 6, "LOC")), "7", ((0, 1), (1, 2)), {"k": [1]}
    )
    assert Document.from_dict(document.to_dict()) == document
    assert Document.from_dict({"text": "北京", "entities": [[0, 2, "LOC"]]}).entities == (
        Entity(0, 2, "LOC"),
    )
    assert Document("x").to_dict() == {"text": "x", "entities": []}
    for wrong in (
        {},
        {"text": 1},
        {"text": "x", "entities": [[0]]},
        {"text": "x", "entities": [5]},
    ):
        with pytest.raises(ValueError, match="expected"):
            Document.from_dict(wrong)


def test_a_document_in_a_notebook() -> None:
    page = Document("a<b 北京市", (Entity(4, 7, "LOC"), Entity(4, 6, "LOC<"), Entity(0, 1, "X")))
    html = page._repr_html_()
    assert "&lt;b" in html
    assert html.count("<mark") == 2
    assert "+ 北京 LOC&lt;" in html


def test_a_page_to_look_through_documents(tmp_path: Path) -> None:
    nertune.view(tmp_path / "a.html", nertune.read("sample:dev"), title="x < y")
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<title>x &lt; y</title>" in html
    (first,) = nertune.read("sample:dev")[0].entities[:1]
    assert f'"{nertune.read("sample:dev")[0].surface(first)}"' in html
