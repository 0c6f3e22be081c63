"""JSON of CLUENER, CMeEE and Label Studio, on samples written by hand."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from nertune.data.corpus import Corpus, load_corpus
from nertune.data.formats import WriteOptions, find_format
from nertune.data.formats.json_files.values import read_records
from nertune.errors import DataError
from nertune.types import Entity

PARTY = "🎉王明在京"  # 🎉 is one code point and two UTF-16 units
CLUENER = {"text": PARTY, "label": {"name": {"王明": [[1, 2]]}, "address": {"京": [[4, 4]]}}}
CMEEE = [
    {"text": PARTY, "entities": [{"start_idx": 1, "end_idx": 2, "type": "PER", "entity": "王明"}]},
    {"text": "无", "entities": [], "id": "d2"},
]


def result(start: int, end: int, *labels: str, **more: Any) -> dict[str, Any]:
    value = {"start": start, "end": end, "labels": list(labels)}
    return {"from_name": "l", "to_name": "text", "type": "labels", "value": value, **more}


TASK = {
    "id": 7,
    "data": {"text": PARTY, "source": "web"},
    "annotations": [
        {"was_cancelled": True, "result": [result(0, 2, "X")]},
        {"result": [result(2, 4, "PER"), result(5, 6, "LOC", "GPE"), {"type": "choices"}]},
        {"result": []},
    ],
}


def load(folder: Path, value: Any, name: str = "a.json", **how: Any) -> Corpus:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")
    return load_corpus(folder / name, **how)


def surfaces(corpus: Corpus) -> list[list[str]]:
    return [[f"{d.surface(e)}/{e.label}" for e in d.entities] for d in corpus.documents]


def test_cluener(tmp_path: Path) -> None:
    again = {"id": 3, "text": "王王", "label": {"name": {"王": [[0, 0], [1, 1]]}}}
    corpus = load(tmp_path, "\n".join(map(json.dumps, [CLUENER, again])))
    assert corpus.format == "cluener"
    assert surfaces(corpus) == [["王明/name", "京/address"], ["王/name", "王/name"]]
    assert [d.id for d in corpus.documents] == ["a.json:1", "3"]
    stream = StringIO()
    find_format("cluener").write(corpus.documents, stream, WriteOptions())
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [CLUENER, again]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"name": {"王": [[1, 2]]}}, "says its text is '王', but there stands '王明'"),
        ({"name": {"王明": [[2, 1]]}}, "empty or negative (the end is included"),
        ({"name": {"王明": [1, 2]}}, "a span of '王明' is not [start, end]"),
        ({"name": {"王明": [["1", 2]]}}, "not both integers"),
        ({"name": [[1, 2]]}, "not an object of objects"),
        ({"": {"王明": [[1, 2]]}}, "with a label"),
    ],
)
def test_cluener_refuses(label: Any, message: str, tmp_path: Path) -> None:
    text = json.dumps(CLUENER) + "\n" + json.dumps({"text": PARTY, "label": label})
    with pytest.raises(DataError) as caught:
        load(tmp_path, text, format="cluener")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}:2: ")
    assert message in str(caught.value)


def test_cmeee(tmp_path: Path) -> None:
    corpus = load(tmp_path, CMEEE)
    assert corpus.format == "cmeee"
    assert surfaces(corpus) == [["王明/PER"], []]
    assert corpus.documents[1].id == "d2"
    stream = StringIO()
    find_format("cmeee").write(corpus.documents, stream, WriteOptions())
    assert json.loads(stream.getvalue()) == CMEEE
    wrong = [CMEEE[1], {"text": "a", "entities": [{"start_idx": 0, "end_idx": 1, "type": "X"}]}]
    with pytest.raises(DataError, match=r"a\.json:2: X \[0, 1\] says its text is"):
        load(tmp_path, json.dumps(wrong).replace(", {", ",\n{"), format="cmeee")


def test_label_studio(tmp_path: Path) -> None:
    corpus = load(tmp_path, [TASK])
    assert (corpus.format, corpus.offsets) == ("label-studio", "utf16")
    (document,) = corpus.documents
    assert surfaces(corpus) == [["王明/PER", "京/GPE", "京/LOC"]]
    assert (document.id, document.meta) == ("7", {"id": 7, "source": "web"})
    assert set(corpus.notices) >= {
        "1 tasks with several annotations, of which the first is read",
        "1 tasks with annotations that were cancelled, which are not read",
        "1 results of type choices, which are not read",
    }
    stream = StringIO()
    find_format("label-studio").write(corpus.documents, stream, WriteOptions())
    (task,) = json.loads(stream.getvalue())
    assert (task["id"], task["data"]) == (7, TASK["data"])
    first = task["annotations"][0]["result"][0]
    assert first["value"] == {"start": 2, "end": 4, "text": "王明", "labels": ["PER"]}
    assert load(tmp_path, stream.getvalue()).documents == corpus.documents


def test_label_studio_predictions_and_json_min(tmp_path: Path) -> None:
    task = {"data": {"text": PARTY}, "predictions": [{"result": [result(2, 4, "PER", score=0.5)]}]}
    corpus = load(tmp_path, [task])
    assert corpus.documents[0].entities == (Entity(1, 3, "PER", 0.5),)
    assert "1 tasks without annotations, of which the first prediction is read" in corpus.notices
    flat = [{"id": 1, "text": PARTY, "label": [result(2, 4, "PER")["value"]], "annotator": 2}]
    corpus = load(tmp_path, flat)
    assert corpus.format == "label-studio"
    assert (surfaces(corpus), corpus.documents[0].meta) == ([["王明/PER"]], {"id": 1})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"data": {"x": 1}, "annotations": []}, 'data "text" is not a string'),
        ({**TASK, "annotations": [{"result": [result(1, 4, "X")]}]}, "ends inside a character"),
        ({**TASK, "annotations": [{"result": [result(0, 99, "X")]}]}, "out of range"),
        ({**TASK, "annotations": [{"result": [result(3, 3, "X")]}]}, "empty or negative"),
        ({**TASK, "annotations": {}}, '"annotations" is not a list of objects'),
        ({**TASK, "annotations": [{"result": [result(0, 2, "")]}]}, "is empty"),
    ],
)
def test_label_studio_refuses(task: Any, message: str, tmp_path: Path) -> None:
    if task["annotations"] == {}:
        task["annotations"] = {"a": 1}
    with pytest.raises(DataError) as caught:
        load(tmp_path, [task], format="label-studio")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}:1: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["cluener", "cmeee", "label-studio"])
def test_labels_are_ignored_where_asked(name: str, tmp_path: Path) -> None:
    value = {"cluener": CLUENER, "cmeee": CMEEE, "label-studio": [TASK]}[name]
    corpus = load(tmp_path, value, ignore_tags=True)
    assert corpus.format == name
    assert corpus.documents[0].text == PARTY
    assert not corpus.num_entities


NAME = Path("x.json")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[{"a": 1},\n\n {"a":\n 2}, {}]', [1, 3, 4]),
        ('{"a": 1}\n\n{"a": 2}\n', [1, 3]),
        ("[]", []),
        ("", []),
    ],
)
def test_records_know_their_lines(text: str, lines: list[int]) -> None:
    assert [line for line, _ in read_records(text, NAME)] == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}\n{"a": 2}]', ":2: expected ',' or ']'"),
        ('[{"a": 1},\n', ": the array is not closed"),
        ("[{}] x", ": something stands behind the array"),
        ("[{},\n 3]", ":2: expected an object, got '3'"),
        ('{\n"a": }', ":2: not JSON: Expecting value"),
        ('[{"a": 1, "a": 2}]', ":1: the key 'a' stands twice"),
        ('[{"a": ' + "[" * 100_000, ":1: this JSON cannot be read"),
        ('[{"a": ' + "9" * 5000 + "}]", ":1: this JSON cannot be read"),
    ],
)
def test_records_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(read_records(text, NAME))
    assert str(caught.value).startswith(f"{NAME}{message}")
