"""Every recipe under recipes/ can be used: read, built, trained on a few sentences, loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from nertune.config.run import load_settings
from nertune.data.corpus import load_corpus
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor

ROOT = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(p for folder in ("methods", "sample") for p in (ROOT / folder).glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_trains(recipe: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    changes = [f"data.{split}={data}" for split in ("train", "dev", "test")]
    changes += [f"run.dir={tmp_path / 'run'}", "run.device=cpu", "train.epochs=1"]
    settings = load_settings(recipe, changes)
    if settings.model.encoder != "mini-zh":  # from the hub, which tests do not ask
        settings = load_settings(recipe, [*changes, f"model.encoder={tiny_bert()}"])
    record = train(settings, score_test=True)
    trainable, total = record["parameters"]["trainable"], record["parameters"]["total"]
    is_partly = settings.model.emitter == "encoder" and settings.model.tuning != "full"
    assert 0 < trainable <= total
    assert (trainable < total) == is_partly
    # What was saved finds what the run found.
    predictor = Predictor.load(settings.run.dir, device="cpu")
    predicted = load_corpus(settings.run.dir / "test.predictions.jsonl").documents
    for found, kept in zip(predictor.tag_documents(SENTENCES), predicted, strict=True):
        assert [e.key for e in found.entities] == [e.key for e in kept.entities]


def test_there_are_recipes_for_all_methods() -> None:
    names = {path.stem for path in (ROOT / "methods").glob("*.toml")}
    assert len(names) >= 20
