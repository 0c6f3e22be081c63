"""JSON of CLUENER and CMeEE, on samples written by hand."""

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

PARTY = "🎉王明在京"  # 🎉 is one code point and two UTF-16 units
CLUENER = {"text": PARTY, "label": {"name": {"王明": [[1, 2]]}, "address": {"京": [[4, 4]]}}}
CMEEE = [
    {"text": PARTY, "entities": [{"start_idx": 1, "end_idx": 2, "type": "PER", "entity": "王明"}]},
    {"text": "无", "entities": [], "id": "d2"},
]


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


@pytest.mark.parametrize("name", ["cluener", "cmeee"])
def test_labels_are_ignored_where_asked(name: str, tmp_path: Path) -> None:
    value = {"cluener": CLUENER, "cmeee": CMEEE}[name]
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
