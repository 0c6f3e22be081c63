"""A test set is for final scores: it is read and scored when that is asked for, and only then."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers import shown
from helpers.commands import run
from helpers.tiny import SENTENCES, make_settings, write_jsonl
from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings
from nertune.data.corpus import load_corpus
from nertune.errors import CheckpointError, ConfigError
from nertune.training.observer import Observer
from nertune.types import Document, Entity

UNSEEN = [Document("他到过上海。", (Entity(3, 5, "LOCATION"),)), *SENTENCES[:2]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a run whose test file is not its training file."""
    test = write_jsonl(tmp_path / "test.jsonl", UNSEEN)
    values = {"epochs": 2, "learning_rate": 0.05, "checkpoint_minutes": 0}
    return make_settings(tmp_path, "lstm", {"data": {"test": str(test)}, "train": values})


def quiet(settings: Settings, **options: Any) -> tuple[dict[str, Any], str]:
    """The record, and what was said."""
    stream = io.StringIO()
    record = shown.train(settings, console=Console(file=stream, width=200), **options)
    return record, stream.getvalue()


def with_test(settings: Settings, file: Path | str) -> Settings:
    data = settings.data.model_copy(update={"test": str(file)})
    return settings.model_copy(update={"data": data})


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    epochs = [(e["epoch"], e["loss"], e["dev"]) for e in record["epochs"]]
    clocks = ("seconds", "peak_memory_bytes", "epochs")
    return {k: v for k, v in record.items() if k not in clocks} | {"epochs": epochs}


def test_test_is_neither_scored_nor_read_unless_asked(settings: Settings) -> None:
    absent = with_test(settings, settings.run.dir / "there-is-no-such-file.jsonl")
    record, said = quiet(absent)
    assert record["test"] is record["data"]["test"] is None
    assert record["dev"]["micro"]["support"] > 0
    assert "data.test is not scored: add --test, or nertune evaluate MODEL" in said
    assert "{" not in said
    assert "test texts" not in said
    assert not (settings.run.dir / "test.predictions.jsonl").exists()
    assert read_manifest(settings.run.dir / "model").metrics.keys() == {"dev"}


def test_test_that_is_asked_for_must_be_there(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"data\.test is empty"):
        quiet(with_test(settings, ""), score_test=True)
    assert not settings.run.dir.exists()  # before anything is done


def test_a_finished_run_is_scored_without_training_it_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, _ = quiet(settings, score_test=True)
    predictions = (settings.run.dir / "test.predictions.jsonl").read_bytes()
    manifest = read_manifest(settings.run.dir / "model")
    card = (settings.run.dir / "model" / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(settings.run.dir)

    quiet(settings)
    monkeypatch.setattr("nertune.experiments.train.fit", None)
    record, said = quiet(settings, score_test=True, resume=True)
    assert "finished before, its model is scored on test" in said
    assert "2 of 3 test texts stand in train too" in said
    assert without_times(json.loads(json.dumps(record))) == without_times(
        json.loads(json.dumps(at_once))
    )
    kept = json.loads((settings.run.dir / "record.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(record))
    assert (settings.run.dir / "test.predictions.jsonl").read_bytes() == predictions
    assert read_manifest(settings.run.dir / "model").metrics == manifest.metrics
    assert (settings.run.dir / "model" / "README.md").read_text(encoding="utf-8") == card
    # Once more: nothing to do, and nothing done.
    again, said = quiet(settings, score_test=True, resume=True)
    assert "nothing to do" in said
    assert again == kept


def test_the_test_file_may_be_named_when_it_is_scored(settings: Settings, tmp_path: Path) -> None:
    quiet(with_test(settings, ""))
    record, _ = quiet(settings, score_test=True, resume=True)
    assert record["settings"]["data"]["test"] == settings.data.test
    assert record["data"]["test"]["documents"] == len(UNSEEN)


def test_a_score_of_another_file_is_not_taken_for_this_one(
    settings: Settings, tmp_path: Path
) -> None:
    quiet(settings, score_test=True)
    other = write_jsonl(tmp_path / "other.jsonl", SENTENCES[3:])
    with pytest.raises(CheckpointError, match=r"data\.test"):
        quiet(with_test(settings, other), score_test=True, resume=True)
    write_jsonl(tmp_path / "test.jsonl", SENTENCES[3:])  # of the same name
    with pytest.raises(CheckpointError, match="test file of other content"):
        quiet(settings, score_test=True, resume=True)


def test_a_finished_run_without_its_model_says_so(settings: Settings) -> None:
    quiet(settings)
    shutil.rmtree(settings.run.dir / "model")
    with pytest.raises(CheckpointError, match="model is gone; use --overwrite"):
        quiet(settings, score_test=True, resume=True)


def test_a_killed_run_may_be_asked_for_test_later(settings: Settings) -> None:
    """What is scored has no part in training, so it does not bar a run from going on."""

    class Stop(Exception):
        pass

    class Stopper(Observer):
        def on_resume(self, *_: Any) -> None: ...
        def on_batch(self, *_: Any) -> None: ...
        def on_epoch(self, report: Any, *, is_best: bool) -> None:
            if report.epoch == 2:
                raise Stop

    with pytest.raises(Stop):
        quiet(with_test(settings, ""), observers=[Stopper()])
    record, said = quiet(settings, score_test=True, resume=True)
    assert "resumed: epoch 2" in said
    assert record["test"]["documents"] == len(UNSEEN)


def test_the_command_says_where_the_test_score_is_to_be_had(settings: Settings) -> None:
    recipe = settings.run.dir.parent / "tiny.toml"
    recipe.write_text(
        "\n".join(
            f"[{section}]\n"
            + "\n".join(f"{k} = {json.dumps(v)}" for k, v in values.items() if v not in (None, {}))
            for section, values in settings.to_dict().items()
        ),
        encoding="utf-8",
    )
    done = run("train", recipe)
    assert done.code == 0, done.stderr
    assert f"nertune evaluate {settings.run.dir}/model {settings.data.test}" in done.stdout
    scored = run("train", recipe, "--resume", "--test")
    assert scored.code == 0, scored.stderr
    assert f"test: {settings.data.test}" in scored.stdout
    assert "not scored" not in scored.stdout


def test_predictions_can_be_read_whatever_the_source_kept(tmp_path: Path) -> None:
    """Columns of a table that mean something else in the file of predictions."""
    kept = {"label": ["a"], "spans": [1], "scope": {"x": 1}, "answer": "ignore", "note": "x"}
    rows = [
        {"tokens": [*d.text], "ner_tags": ["B-X", *["O"] * (len(d.text) - 1)], **kept}
        for d in SENTENCES
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    data = {"train": str(path), "dev": str(path), "format": "huggingface"}
    settings = make_settings(tmp_path, "lstm", {"data": data, "train": {"epochs": 1}})
    quiet(settings)
    found = load_corpus(settings.run.dir / "dev.predictions.jsonl").documents
    assert [d.text for d in found] == [d.text for d in load_corpus(path, format="huggingface")]
    assert all(d.meta["note"] == "x" for d in found)
