"""What nertune 0.1.0 wrote stays usable: recipes, records, artifacts (tests/fixtures/v0.1.0)."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.config import load_settings
from nertune.data.corpus import load_corpus
from nertune.inference.predictor import Predictor

ROOT = Path(__file__).parents[1]
FOLDER = Path("tests/fixtures/v0.1.0")  # relative, as its recipes and its adapter name it
RUNS = ("full", "lora-crf", "lstm-crf")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", RUNS)
def test_an_artifact_predicts_what_it_did(name: str) -> None:
    predictor = Predictor.load(FOLDER / "runs" / name / "model", device="cpu")
    before = load_corpus(FOLDER / "runs" / name / "dev.predictions.jsonl").documents
    now = list(predictor.tag_texts(d.text for d in before))
    assert [[e.key for e in d.entities] for d in now] == [
        [e.key for e in d.entities] for d in before
    ]
    assert any(d.entities for d in now)
    for one, other in zip(now, before, strict=True):
        assert [e.score for e in one.entities] == pytest.approx(
            [e.score for e in other.entities], abs=1e-4
        )


@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_loads(name: str) -> None:
    settings = load_settings(FOLDER / f"{name}.toml")
    assert settings.train.epochs == 40
    assert settings.data.train.endswith("data.jsonl")
