"""The data that an advice is asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, write_jsonl
from nertune.comparison.search.advice_data import find_data, load_data
from nertune.config.run import DataSettings, parse_settings
from nertune.data.corpus import load_corpus
from nertune.data.splits import load_splits
from nertune.errors import DataError
from nertune.types import Document

KEPT = {"label": ["a", "b"], "spans": [1], "scope": {"x": 1}, "answer": "ignore", "note": "x"}
"""Metadata of a source; all but the last mean something else in JSON lines."""


def test_a_fifth_of_the_sample_can_be_set_aside(tmp_path: Path) -> None:
    """Whose splits were made by a hash of their texts."""
    settings = parse_settings({"data": {"train": "sample:train"}})
    data = load_data(settings.data, tmp_path)
    num_train, num_dev = len(data.train.documents), len(data.dev.documents)
    assert num_train + num_dev == 405
    assert 0.1 < num_dev / 405 < 0.3
    assert list(tmp_path.iterdir()) == []
    data.save()
    for corpus in (data.train, data.dev):
        assert load_corpus(corpus.path).sha256 == corpus.sha256


def test_a_fifth_is_set_aside_where_there_is_no_dev(tmp_path: Path) -> None:
    many = [Document(f"{number}: {d.text}") for number in range(10) for d in SENTENCES]
    shifted = [
        d.with_entities(type(e)(e.start + 3, e.end + 3, e.label) for e in SENTENCES[i % 8].entities)
        for i, d in enumerate(many)
    ]
    path = write_jsonl(tmp_path / "all.jsonl", [*shifted, *shifted])
    settings = parse_settings({"data": {"train": str(path)}}).data
    data = load_data(settings, tmp_path / "out")
    assert len(data.train.documents) + len(data.dev.documents) == 160
    assert 0.05 < len(data.dev.documents) / 160 < 0.4
    # Equal texts stay on one side.
    assert not {d.text for d in data.train.documents} & {d.text for d in data.dev.documents}
    assert "were set aside" in data.notice
    few = write_jsonl(tmp_path / "few.jsonl", SENTENCES[:1])
    settings = parse_settings({"data": {"train": str(few)}}).data
    with pytest.raises(DataError, match="too small to set a fifth of it aside"):
        load_data(settings, tmp_path)


def test_a_folders_files_are_found_whatever_their_suffix(tmp_path: Path) -> None:
    train, dev = tmp_path / "train.conll", tmp_path / "dev.txt"
    train.touch()
    assert find_data(str(tmp_path), "") == (str(train), "")
    dev.touch()
    assert find_data(str(tmp_path), "") == (str(train), str(dev))
    assert find_data(str(tmp_path), "other") == (str(train), "other")
    assert find_data(str(train), "") == (str(train), "")
    assert find_data("sample", "") == ("sample:train", "sample:dev")


def test_folders_without_or_with_too_many_training_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.conll").touch()
    with pytest.raises(DataError, match=r"no file named train.*it holds: texts.conll"):
        find_data(str(tmp_path), "")
    for name in ("train.conll", "train.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"several files of train: train.conll, train.jsonl"):
        find_data(str(tmp_path), "")


def test_what_is_set_aside_is_read_back_as_it_was(tmp_path: Path) -> None:
    """The source counts UTF-16 units; the files that are written count code points."""
    lines = [json.dumps({"text": f"🎉王明在京{i}", "label": [[2, 4, "PER"]]}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = DataSettings(train=str(tmp_path / "a.jsonl"), offsets="utf16")
    data = load_data(settings, tmp_path / "data")
    data.save()
    again = load_splits(settings.model_copy(update=dict(data.changes)), ("train", "dev"))
    for corpus in again.values():
        assert {d.surface(e) for d in corpus.documents for e in d.entities} == {"王明"}
    assert again["dev"].sha256 == data.dev.sha256


def test_sentences_of_one_source_document_stay_together(tmp_path: Path) -> None:
    many = [
        {"text": f"{n:03d}王明", "entities": [[3, 5, "PER"]], "document": n // 4}
        for n in range(120)
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, many)) + "\n", encoding="utf-8")
    data = load_data(parse_settings({"data": {"train": str(path)}}).data, tmp_path / "out")
    sides = [{d.meta["document"] for d in part.documents} for part in (data.train, data.dev)]
    assert sides[0] | sides[1] == set(range(30))
    assert not sides[0] & sides[1]


def test_what_was_set_aside_can_be_read_whatever_the_source_kept(tmp_path: Path) -> None:
    """Columns of a table that mean something else in JSON lines."""
    rows = [
        {"tokens": ["王", "明", str(n)], "ner_tags": ["B-PER", "I-PER", "O"], **KEPT}
        for n in range(60)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    values = {"train": str(path), "format": "huggingface"}
    data = load_data(parse_settings({"data": values}).data, tmp_path / "out")
    data.save()
    for corpus in (data.train, data.dev):
        assert load_corpus(corpus.path).sha256 == corpus.sha256
