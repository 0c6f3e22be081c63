"""A new format is one module (`helpers/toy_format.py`) and one registry line: all commands take it.

This is the example of the documentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import nertune
from helpers.commands import run
from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from helpers.toy_format import Csv
from nertune.data import formats
from nertune.errors import ConfigError


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    formats.register(Csv())
    yield
    formats.unregister("csv")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    nertune.write(path, SENTENCES)
    assert path.read_text(encoding="utf-8").startswith(
        "text,spans\n王小明昨天到了北京。,0,3,PERSON"
    )
    return path


def test_python_reads_and_writes_it(data: Path, tmp_path: Path) -> None:
    read = nertune.read(data)
    assert [(d.text, d.entities) for d in read] == [(d.text, d.entities) for d in SENTENCES]
    assert read[0].id == "data.csv:2"
    corpus = nertune.load_corpus(data)
    assert corpus.format == "csv"
    assert corpus.sha256 == nertune.load_corpus(write_jsonl(tmp_path / "same.jsonl")).sha256
    other = tmp_path / "other.txt"  # no suffix of the format: recognised by its content
    other.write_bytes(data.read_bytes())
    assert nertune.load_corpus(other).documents[0].entities == SENTENCES[0].entities
    with pytest.raises(ConfigError, match=r"expected auto, conll, jsonl, .* or csv"):
        nertune.load_corpus(data, format="xml")
    nertune.write(tmp_path / "a.data", SENTENCES, format="csv")
    assert (tmp_path / "a.data").read_bytes() == data.read_bytes()


def test_errors_have_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("text,spans\nabc,0,1,X\nabc,2,9,X\n")
    outcome = run("data", "inspect", path)
    assert outcome.code == 2
    assert outcome.error.startswith(f"error: {path}:3: X [2, 9) reaches beyond")


def test_all_commands_take_it(data: Path, tmp_path: Path) -> None:
    outcome = run("data", "inspect", data, "--json")
    (file,) = json.loads(outcome.stdout)["files"]
    assert (file["format"], file["statistics"]["documents"]) == ("csv", len(SENTENCES))
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        f'[run]\ndir = "{tmp_path}/run"\ndevice = "cpu"\nthreads = 1\n'
        f'[data]\ntrain = "{data}"\ndev = "{data}"\ntest = "{data}"\nformat = "csv"\n'
        f'[model]\nencoder = "{tiny_bert()}"\nunit = "char"\n'
        "[train]\nepochs = 2\nlearning_rate = 0.004\nhead_learning_rate = 0.02\n"
    )
    outcome = run("train", recipe, "--test", "--json")
    assert outcome.code == 0, outcome.stderr
    trained = json.loads(outcome.stdout)
    model = tmp_path / "run" / "model"
    outcome = run("evaluate", model, data, "--json")
    assert json.loads(outcome.stdout)["micro"] == trained["test"]["micro"]

    target = tmp_path / "found.csv"
    assert run("predict", model, "--file", data, "--output", target).code == 0
    found = nertune.read(target)
    assert [d.text for d in found] == [d.text for d in SENTENCES]
    tagged = nertune.load(model).tag_texts([d.text for d in SENTENCES])
    assert [[e.key for e in d.entities] for d in found] == [
        [e.key for e in d.entities] for d in tagged
    ]
    streamed = run("predict", model, "--format", "csv", stdin=SENTENCES[0].text.encode())
    assert streamed.stdout.split("\n")[:2] == target.read_text(encoding="utf-8").split("\n")[:2]

    exported = run("export", model, "--to", "onnx")  # compares on dev, a file of this format
    assert exported.code == 0, exported.stderr
    outcome = run("evaluate", model, data, "--backend", "onnx", "--json")
    assert json.loads(outcome.stdout)["micro"] == trained["test"]["micro"]


def test_a_name_or_suffix_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="'csv' is registered already"):
        formats.register(Csv())
    for name, suffixes, message in (
        ("auto", (), "other than auto and text"),
        ("tsv", (".tsv", ".jsonl"), "the suffix .jsonl already means 'jsonl'"),
    ):
        other = Csv()
        other.name, other.suffixes = name, suffixes
        with pytest.raises(ConfigError, match=message):
            formats.register(other)
        assert name not in formats.format_names()
