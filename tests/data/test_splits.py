"""The files of a run, read alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.config.run import DataSettings
from nertune.data import splits
from nertune.data.corpus import Reading, load_alike, load_corpus, load_with
from nertune.data.splits import load_splits
from nertune.errors import ConfigError, DataError
from nertune.experiments.record import describe_data


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


def write_tags(path: Path, *tags: str) -> str:
    path.write_text("\n".join(f"字\t{tag}" for tag in tags) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("train", "dev", "alone", "together", "said"),
    [
        ("B-X I-X O B-X", "I-X I-X O", "IOB1", "BIO", "scheme BIO, as the training file"),
        ("I-X B-X O", "B-X O B-X", "BIO", "IOB1", "scheme IOB1, as the training file"),
        ("B-X M-X E-X S-X", "B-X E-X S-X", "BIOES", "BMES", "scheme BMES, as the training file"),
        ("B-X I-X S-X O", "B-X I-X O", "BIO", "BIOS", "scheme BIOS, as the training file"),
        ("X Y O", "Y Y", "", "IO", "scheme IO, as the training file"),
        ("B-X I-X E-X O", "B-X I-X O", "BIO", "BIO", "the tags do not fit BIOES, the training"),
        ("B-X I-X O", "B-X E-X S-X", "BIOES", "BIOES", "the tags do not fit BIO, the training"),
        ("X Y O", "B-X I-X", "BIO", "BIO", "the tags do not fit IO, the training file's"),
    ],
)
def test_dev_is_read_in_the_scheme_of_train(
    train: str, dev: str, alone: str, together: str, said: str, tmp_path: Path
) -> None:
    names = [
        write_tags(tmp_path / name, *tags.split()) for name, tags in (("t", train), ("d", dev))
    ]
    if alone:
        assert load_corpus(names[1]).scheme == alone
    else:
        with pytest.raises(DataError, match="no tag is O"):
            load_corpus(names[1])
    found = load_splits(DataSettings(train=names[0], dev=names[1], test=names[1]))
    assert found["dev"].scheme == found["test"].scheme == together
    assert any(said in notice for notice in found["dev"].notices)


def test_dev_is_read_with_the_offsets_of_train(tmp_path: Path) -> None:
    party = '{"text": "🎉王明在京", "label": [[2, 4, "PER"]]}\n'
    (tmp_path / "dev.jsonl").write_text(party, encoding="utf-8")
    beyond = '{"text": "🎉京", "label": [[2, 3, "LOC"]]}\n'
    (tmp_path / "train.jsonl").write_text(party + beyond, encoding="utf-8")
    names = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev")}
    found = load_splits(DataSettings(**names))
    document = found["dev"].documents[0]
    assert document.surface(document.entities[0]) == "王明"
    assert any("read as UTF-16 units" in notice for notice in found["dev"].notices)
    asked = load_splits(DataSettings(**{**names, "train": names["dev"]}, offsets="utf16"))
    assert asked["train"].offsets == asked["dev"].offsets == "utf16"


def test_jsonl_says_nothing_about_the_others(tmp_path: Path) -> None:
    found = load_splits(
        DataSettings(train="sample:train", dev=write_conll(tmp_path / "dev", 4)), ("train", "dev")
    )
    assert [corpus.joined for corpus in found.values()] == ["auto", "space"]
    asked = DataSettings(train="sample:train", dev=str(tmp_path / "dev"), join="none")
    assert load_splits(asked)["dev"].joined == "none"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def count(path: Path, *more: object, **options: object) -> object:
        read.append(path)
        return load_with(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(splits, "load_with", count)
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


def test_what_a_record_says_of_the_reading(tmp_path: Path) -> None:
    """A model's own record reads the next file; one of 0.1.0 says what joins the tokens alone."""
    corpus = load_corpus(write_tags(tmp_path / "t", "B-X", "M-X", "E-X", "S-X"))
    like = Reading.from_record(describe_data(corpus))
    assert like == corpus.reading == Reading("BMES", "none", "auto")
    found = load_alike(write_tags(tmp_path / "d", "B-X", "E-X", "S-X"), like)
    assert found.scheme == "BMES"
    assert Reading.from_record({"join": "space", "sha256": "x"}) == Reading(join="space")
    assert Reading.from_record({"join": "glue", "scheme": None}) == Reading()


def test_options_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("a B-X O\nb O O\n")
    for options, count in (({}, 0), ({"columns": "0,1"}, 1)):
        found = load_splits(DataSettings(train=str(path), dev=str(path), options=options))
        assert [corpus.num_entities for corpus in found.values()] == [count, count]
    with pytest.raises(ConfigError, match="format conll has no option 'column'; it has: columns"):
        load_splits(DataSettings(train=str(path), options={"column": "0,1"}))
