"""Runs that say little or nothing are told so before they train."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers import shown
from helpers.tiny import SENTENCES, make_predictor, make_settings, write_jsonl
from nertune.data.corpus import Corpus, load_corpus
from nertune.experiments.run_warnings import find_data_warnings, find_training_warnings
from nertune.training.examples import prepare_examples
from nertune.types import Document, Entity

USUAL = {"epochs": 20, "batch_tokens": 40}
NO_ENTITY = [Document("天气很好。"), Document("他在那里等人。")]


def corpus_of(folder: Path, documents: Sequence[Document], name: str) -> Corpus:
    return load_corpus(write_jsonl(folder / f"{name}.jsonl", documents))


def of_data(
    folder: Path,
    train: Sequence[Document] = SENTENCES,
    dev: Sequence[Document] | None = None,
    test: Sequence[Document] | None = None,
) -> list[str]:
    corpora = {"train": train, "dev": dev, "test": test}
    read = {k: None if v is None else corpus_of(folder, v, k) for k, v in corpora.items()}
    assert read["train"] is not None
    return find_data_warnings(read["train"], read["dev"], read["test"])


def of_training(folder: Path, variant: str, **sections: dict[str, Any]) -> list[str]:
    settings = make_settings(folder, variant, {"train": USUAL} | sections)
    predictor = make_predictor(settings)
    examples = prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    return find_training_warnings(settings, examples, predictor.tagger)


def test_usual_runs_are_not_warned_of(tmp_path: Path) -> None:
    assert of_data(tmp_path, dev=SENTENCES[:3], test=SENTENCES[3:]) == []
    for variant in ("lstm", "lora", "full"):
        assert of_training(tmp_path, variant) == []


def test_dev_or_test_without_entities(tmp_path: Path) -> None:
    (message,) = of_data(tmp_path, dev=NO_ENTITY)
    assert message.startswith("dev holds no entity: nothing chooses an epoch")
    (message,) = of_data(tmp_path, dev=SENTENCES, test=NO_ENTITY)
    assert message == "test holds no entity: its scores say nothing"


def test_labels_that_training_never_shows(tmp_path: Path) -> None:
    strange = Document("猫在北京", (Entity(0, 1, "ANIMAL"), Entity(2, 4, "LOCATION")))
    (message,) = of_data(tmp_path, dev=[strange])
    assert message == "dev: ANIMAL never occurs in training: will be missed"


def test_one_text_again_and_again(tmp_path: Path) -> None:
    (message,) = of_data(tmp_path, train=[SENTENCES[0]] * 6)
    assert message == "train: all 6 documents have the same text"
    assert of_data(tmp_path, train=SENTENCES[:1]) == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"batch_tokens": 100_000}, ["batch_tokens = 100000 takes all", "20 optimizer steps"]),
        ({"batch_tokens": 100_000, "epochs": 1}, ["1 optimizer step in the whole run"]),
        ({"accumulate": 50}, ["accumulate = 50, but an epoch has", "20 optimizer steps"]),
        ({"epochs": 2}, ["optimizer steps in the whole run (2 epochs of", "raise train.epochs"]),
        ({"warmup": 0.98}, ["warmup = 0.98: the learning rate still rises in"]),
    ],
)
def test_steps_that_teach_little(values: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    (message,) = of_training(tmp_path, "lstm", train=USUAL | values)
    assert all(part in message for part in told)


@pytest.mark.parametrize("ranks", [{"rank": 500}, {"rank": 2, "ranks": {"0": 500}}])
def test_a_rank_above_the_width(ranks: dict[str, Any], tmp_path: Path) -> None:
    lora = {"targets": ["query", "key"], **ranks}
    (message,) = of_training(tmp_path, "lora", lora=lora)
    assert message.startswith("lora: rank 500 is above what a matrix of")
    assert "query" in message
    assert of_training(tmp_path, "lora", lora={"targets": ["query", "key"], "rank": 4}) == []


def test_they_are_told_before_the_first_epoch_and_stand_out(tmp_path: Path) -> None:
    dev = write_jsonl(tmp_path / "dev.jsonl", NO_ENTITY)
    settings = make_settings(
        tmp_path, "lstm", {"data": {"dev": str(dev)}, "train": {"epochs": 1, "warmup": 0.9}}
    )
    stream = io.StringIO()
    shown.train(settings, console=Console(file=stream, width=300, force_terminal=True))
    said = stream.getvalue()
    for message in ("dev holds no entity", "optimizer steps in the whole run", "train.warmup"):
        assert 0 <= said.index(message) < said.index("epoch 1/1")
    assert "\x1b[1;33mwarning: dev holds no entity" in said
