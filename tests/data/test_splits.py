"""The files of a run, read alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.config import DataSettings
from nertune.data import splits
from nertune.data.corpus import load_corpus
from nertune.data.splits import load_splits
from nertune.errors import ConfigError


def write_conll(path: Path, num_words: int) -> str:
    """Ten tokens, most of them characters."""
    tokens = ["我"] * (10 - num_words) + ["iPhone"] * num_words
    path.write_text("\n".join(f"{token}\tB-X" for token in tokens), encoding="utf-8")
    return str(path)


def test_what_joins_the_tokens_of_train_joins_those_of_the_others(tmp_path: Path) -> None:
    train, dev = (write_conll(tmp_path / name, n) for name, n in (("train", 1), ("dev", 4)))
    assert [load_corpus(name).joined for name in (train, dev)] == ["none", "space"]
    found = load_splits(DataSettings(train=train, dev=dev))
    assert {split: corpus.joined for split, corpus in found.items()} == {
        "train": "none", "dev": "none"
    }  # fmt: skip
    assert found["dev"].documents[0].text == "我" * 6 + "iPhone" * 4
    swapped = load_splits(DataSettings(train=dev, dev=train))
    assert swapped["dev"].documents[0].text == " ".join(["我"] * 9 + ["iPhone"])
    asked = load_splits(DataSettings(train=train, dev=dev, join="space"))
    assert asked["train"].joined == asked["dev"].joined == "space"


def test_jsonl_says_nothing_about_the_others(tmp_path: Path) -> None:
    found = load_splits(
        DataSettings(train="sample:train", dev=write_conll(tmp_path / "dev", 4)), ("train", "dev")
    )
    assert [corpus.joined for corpus in found.values()] == ["auto", "space"]
    asked = DataSettings(train="sample:train", dev=str(tmp_path / "dev"), join="none")
    assert load_splits(asked)["dev"].joined == "none"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def count(path: Path, **options: object) -> object:
        read.append(path)
        return load_corpus(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(splits, "load_corpus", count)
    cache: splits.CorpusCache = {}
    train, dev = (write_conll(tmp_path / name, n) for name, n in (("train", 1), ("dev", 4)))
    for _ in range(2):
        load_splits(DataSettings(train=train, dev=dev, test=dev), cache=cache)
    assert [path.name for path in read] == ["train", "dev"]
    load_splits(DataSettings(train=dev, dev=dev), cache=cache)  # joined in another way
    assert [path.name for path in read] == ["train", "dev", "dev"]


def test_without_a_training_file_there_is_nothing_to_begin_with() -> None:
    with pytest.raises(ConfigError, match=r"data\.train is empty: expected a file"):
        load_splits(DataSettings(train=""))
