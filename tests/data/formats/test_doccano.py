"""doccano: keys and units of its versions, on samples written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run
from nertune.data.convert import convert
from nertune.data.corpus import load_corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.errors import ConfigError
from nertune.types import Document, Entity

TEXT = "🎉e\u0301王明在京"
# Where 王明 stands:
PLACES = {"codepoint": (3, 5), "utf16": (4, 6), "grapheme": (2, 4), "byte": (7, 13)}
DOCUMENT = Document(TEXT, (Entity(3, 5, "PER"),), "7", meta={"id": 7, "page": 3})


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("unit", PLACES)
@pytest.mark.parametrize("key", ["label", "labels", "spans", "entities"])
def test_every_key_and_unit_comes_back(key: str, unit: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    more = {"unit": unit, "key": key}
    save_with(path, [DOCUMENT], WriteOptions(more=more), format="doccano")
    record = json.loads(path.read_text(encoding="utf-8"))
    start, end = PLACES[unit]
    spans = {"id": 1, "label": "PER", "start_offset": start, "end_offset": end}
    expected = [spans] if key == "entities" else [[start, end, "PER"]]
    assert record == {"text": TEXT, key: expected, "id": 7, "page": 3, "Comments": []}
    for how in (ReadOptions(more={"unit": unit}), ReadOptions(offsets=unit)):  # type: ignore[arg-type]
        assert load_with(path, how, format="doccano").documents == (DOCUMENT,)


def test_what_doccano_writes_today_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save_with(path, [DOCUMENT], WriteOptions(), format="doccano")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["label"] == [[4, 6, "PER"]]
    corpus = load_corpus(path)
    assert (corpus.format, corpus.offsets) == ("doccano", "utf16")
    assert corpus.reason == 'its first line is a JSON object with a text and "Comments"'
    assert corpus.documents == (DOCUMENT,)
    assert "read as UTF-16 units" in corpus.notices[1]
    older = lines(path, {k: v for k, v in record.items() if k != "Comments"})
    assert load_corpus(older).format == "jsonl"  # which knows its keys
    assert load_corpus(older, format="doccano").documents == (DOCUMENT,)
    save_with(path, corpus.documents, WriteOptions(), format="doccano")
    assert load_corpus(path).documents == corpus.documents


def test_graphemes_are_read_only_where_asked_for(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": TEXT, "label": [[2, 4, "PER"]], "Comments": []})
    assert load_corpus(path, offsets="grapheme").documents[0].entities == DOCUMENT.entities
    assert load_corpus(path).offsets != "grapheme"


def test_an_entity_inside_a_grapheme_is_listed() -> None:
    inside = Entity(1, 2, "X")  # e without its accent
    document = Document(TEXT, (inside, *DOCUMENT.entities))
    doccano = find_format("doccano")
    assert doccano.fit(document, WriteOptions()).losses == ()
    (loss,) = doccano.fit(document, WriteOptions(more={"unit": "grapheme"})).losses
    assert (loss.entity, loss.reason) == (inside, "it begins or ends inside a grapheme")


def test_relations_and_keys_that_mean_something_else(tmp_path: Path) -> None:
    entity = {"id": 5, "label": "PER", "start_offset": 0, "end_offset": 1}
    relation = {"id": 1, "from_id": 5, "to_id": 5, "type": "is"}
    record = {"id": 1, "text": "王", "entities": [entity], "relations": [relation], "Comments": []}
    corpus = load_corpus(lines(tmp_path / "a.jsonl", record))
    assert corpus.documents[0].meta["relations"] == [relation]
    assert "1 records have relations, which stay in the metadata" in corpus.notices[-1]
    meta = {"labels": 1, "Comments": ["c"]}
    fitted = find_format("doccano").fit(Document("a", meta=meta), WriteOptions())
    assert [loss.reason for loss in fitted.losses] == ["its key 'labels'"]
    assert fitted.document is not None
    save_with(tmp_path / "b.jsonl", [fitted.document], WriteOptions(), format="doccano")
    assert load_corpus(tmp_path / "b.jsonl").documents[0].meta == {"Comments": ["c"]}


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unit='word' is unknown, expected one of codepoint"):
        save_with(tmp_path / "a", [DOCUMENT], WriteOptions(more={"unit": "word"}), format="doccano")
    with pytest.raises(ConfigError, match="key='x' is unknown"):
        save_with(tmp_path / "a", [DOCUMENT], WriteOptions(more={"key": "x"}), format="doccano")
    with pytest.raises(ConfigError, match="format doccano has no option 'x'; it has: unit, key"):
        save_with(tmp_path / "a", [DOCUMENT], WriteOptions(more={"x": "x"}), format="doccano")
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_options_of_both_sides(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", {"text": TEXT, "entities": [[3, 5, "PER"]]})
    target = tmp_path / "b.jsonl"
    to = ("--to", "doccano", "--to-option", "unit=grapheme", "--check")
    outcome = run("data", "convert", source, target, "--offsets", "codepoint", *to)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(target.read_text(encoding="utf-8"))["label"] == [[2, 4, "PER"]]
    back = ("--from", "doccano", "--option", "unit=grapheme", "--check")
    outcome = run("data", "convert", target, tmp_path / "c.jsonl", *back)
    assert outcome.code == 0, outcome.stderr
    assert load_corpus(tmp_path / "c.jsonl", offsets="codepoint").documents[0].entities == (
        DOCUMENT.entities
    )
    assert run("data", "convert", source, target, "--to-option", "x=1").code == 2


def test_a_real_export(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "formats" / "doccano" / "union_400.jsonl"
    corpus = load_corpus(path, format="doccano")
    assert (len(corpus.documents), corpus.num_entities) == (400, 506)
    for unit in PLACES:
        options = WriteOptions(more={"unit": unit})
        found = convert(corpus, tmp_path / unit, options, to="doccano", check=True)
        assert (found.losses, found.differences) == ((), ())
