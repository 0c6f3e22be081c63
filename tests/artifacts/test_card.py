"""The model card says what the tagger is, how good it is, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.artifacts import saved
from nertune.artifacts.card import model_card
from nertune.artifacts.manifest import Manifest, read_manifest
from nertune.artifacts.save import add_metrics

_ROW = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8}
SCORES: dict[str, Any] = {
    "micro": {**_ROW, "f1_ci95": [0.2, 0.45]},
    "macro": {"precision": None, "recall": 0.25, "f1": None},
    "types": {"PERSON": _ROW},
    "documents": 7,
}
DATA = {"train": {"documents": 12, "entities": 34, "sha256": "ab" * 32}, "dev": None}


def card(folder: Path, variant: str, **changes: Any) -> str:
    """Of an untrained tagger whose manifest says more than it knows."""
    _, model = saved(folder, variant)
    manifest: Manifest = read_manifest(model).model_copy(update=changes)
    return model_card(manifest)


def test_what_it_is(tmp_path: Path) -> None:
    text = card(tmp_path, "lora-crf")
    for part in (
        "lora, crf",
        "LOCATION, ORGANIZATION, PERSON, TIME",
        "Unit: char",
        "A LoRA adapter",
    ):
        assert part in text
    assert "Scores" not in text
    (tmp_path / "other").mkdir()
    text = card(tmp_path / "other", "lstm")
    assert "BiLSTM, softmax" in text
    assert "adapter" not in text


def test_its_scores_and_its_data(tmp_path: Path) -> None:
    lines = card(tmp_path, "full", metrics={"dev": SCORES}, data=DATA).splitlines()
    assert "## Scores on dev (strict spans)" in lines
    assert "## Scores on test (strict spans)" not in lines
    assert "| micro | 0.5000 | 0.2500 | 0.3333 | 8 |" in lines
    assert "| macro | – | 0.2500 | – |  |" in lines
    assert "| PERSON | 0.5000 | 0.2500 | 0.3333 | 8 |" in lines
    (interval,) = [line for line in lines if "interval" in line]
    assert "[0.2000, 0.4500] over 7 documents" in interval
    assert f"- train: 12 documents, 34 entities, sha256 `{('ab' * 32)[:16]}…`" in lines
    assert not [line for line in lines if line.startswith("- dev")]


def test_further_scores_are_added_to_the_folder(tmp_path: Path) -> None:
    _, model = saved(tmp_path, "lstm")
    add_metrics(model, {"dev": SCORES}, data={})
    add_metrics(model, {"test": SCORES}, data=DATA)
    assert read_manifest(model).metrics.keys() == {"dev", "test"}
    text = (model / "README.md").read_text(encoding="utf-8")
    assert text == model_card(read_manifest(model))
    assert text.index("Scores on dev") < text.index("Scores on test") < text.index("12 documents")
