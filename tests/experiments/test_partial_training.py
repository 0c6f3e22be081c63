"""Training on partial labels, with taggers that would fail if the scope were not respected."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import SENTENCES, make_settings
from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.experiments.train import train
from nertune.types import Document, Scope

HALVES = (("LOCATION", "ORGANIZATION"), ("PERSON", "TIME"))


def only(labels: tuple[str, ...], scope: Scope) -> list[Document]:
    return [
        replace(d, entities=tuple(e for e in d.entities if e.label in labels), scope=scope)
        for d in SENTENCES
    ]


def run(folder: Path, variant: str, documents: list[Document], **changes: Any) -> dict[str, Any]:
    folder.mkdir()
    settings: Settings = make_settings(folder, variant, {"train": {"epochs": 40, **changes}})
    dev = Corpus.from_documents(SENTENCES, name="dev")
    return train(settings, corpora={"train": Corpus.from_documents(documents), "dev": dev})


@pytest.mark.parametrize("variant", ["lstm", "lstm-crf"])
def test_two_label_sets_give_a_tagger_of_both(variant: str, tmp_path: Path) -> None:
    """Every text stands there twice, labelled for half of the labels each time."""
    split = [d for labels in HALVES for d in only(labels, Scope(labels))]
    found = run(tmp_path / "scope", variant, split)
    assert found["dev"]["micro"]["f1"] > 0.95
    ignored = run(tmp_path / "none", variant, [replace(d, scope=Scope()) for d in split])
    assert ignored["dev"]["micro"]["f1"] < found["dev"]["micro"]["f1"] - 0.1


@pytest.mark.parametrize("variant", ["lstm", "lstm-crf"])
def test_unmarked_text_may_hold_entities_but_not_everywhere(
    variant: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each text two copies, with half of the entities each; nothing says where there is none."""
    half = [d for labels in HALVES for d in only(labels, Scope(complete=False))]
    with caplog.at_level(logging.INFO, logger="nertune"):
        found = run(tmp_path / "ratio", variant, half)
        assert "(of dev)" in caplog.text
        without = run(tmp_path / "off", variant, half, entity_ratio=0.0)
        assert "train.entity_ratio is off" in caplog.text
    scores = [r["dev"]["micro"] for r in (found, without)]
    assert scores[0]["f1"] > scores[1]["f1"] + 0.1
    assert scores[0]["recall"] > 0.8


def test_full_labels_train_to_the_same_losses_whatever_the_ratio(tmp_path: Path) -> None:
    with_ratio = run(tmp_path / "a", "lstm-crf", list(SENTENCES), epochs=2, entity_ratio=0.3)
    without = run(tmp_path / "b", "lstm-crf", list(SENTENCES), epochs=2, entity_ratio=0.0)
    losses = [[epoch["loss"] for epoch in r["epochs"]] for r in (with_ratio, without)]
    assert losses[0] == losses[1]


def test_later_pieces_of_partial_labels_train(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    split = [d for labels in HALVES for d in only(labels, Scope(labels))]
    changes = {"model": {"pieces": "all", "unit": "word"}, "train": {"epochs": 2}}
    settings = make_settings(tmp_path / "p", "full", changes)
    corpora = {"train": Corpus.from_documents(split)}
    losses = [epoch["loss"] for epoch in train(settings, corpora=corpora)["epochs"]]
    assert losses[1] < losses[0] < 10
