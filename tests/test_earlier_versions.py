"""What nertune 0.1.0 wrote stays usable: recipes, records, artifacts (tests/fixtures/v0.1.0)."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run
from helpers.shown import logged
from nertune.comparison.compare import RunOptions, compare
from nertune.config.pretrain import missing_settings, parse_pretrain_settings
from nertune.config.run import load_settings, settings_of_record
from nertune.data.corpus import load_corpus
from nertune.errors import CheckpointError, TrainingError
from nertune.experiments.processes.subprocess import RunRequest
from nertune.experiments.record import first_difference
from nertune.inference.predictor import Predictor
from nertune.training.checkpoint import Checkpoint, refuse_other_run

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


def resumed(name: str, folder: Path, change: Callable[[dict[str, Any]], object] = len) -> str:
    """What `train RECIPE --resume` says in a copy of a finished run of 0.1.0."""
    shutil.copytree(FOLDER / "runs" / name, folder / "run")
    path = folder / "run" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record["settings"])
    path.write_text(json.dumps(record), encoding="utf-8")
    places = (f"run.dir={folder / 'run'}", "run.device=cpu", "run.threads=1")
    sets = [part for place in places for part in ("--set", place)]
    return run("train", FOLDER / f"{name}.toml", "--resume", *sets).stderr


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_finished(name: str, tmp_path: Path) -> None:
    """Its rates have other names today, and the settings that came since have their defaults."""
    assert "finished before, nothing to do" in resumed(name, tmp_path)


@pytest.mark.parametrize(
    "removed", [("train", "compile"), ("lora", "dora"), ("data", "join"), ("model", "stride"),
                ("peft", None)],
)  # fmt: skip
def test_a_setting_that_a_record_lacks_has_its_default(
    removed: tuple[str, str | None], tmp_path: Path
) -> None:
    """As of a version before the setting was there."""
    section, key = removed

    def change(settings: dict[str, Any]) -> None:
        settings.pop(section) if key is None else settings[section].pop(key)

    assert "finished before, nothing to do" in resumed("lora-crf", tmp_path, change)


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("train", "brightness", 0.5, "train.brightness = 0.5, which this version does not know"),
        ("glow", "way", "up", "glow.way = 'up', which this version does not know"),
        ("train", "compile", True, "train.compile = True, not False"),
        ("train", "adapter_rate", 0.02, "train.learning_rate = 0.02, not 0.03"),
    ],
)
def test_what_a_record_has_otherwise_is_named(
    section: str, key: str, value: Any, told: str, tmp_path: Path
) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings.setdefault(section, {})[key] = value

    said = resumed("lora-crf", tmp_path, change)
    assert f"the finished run had {told}" in said
    assert "--overwrite" in said


@pytest.mark.parametrize("name", RUNS)
def test_a_records_settings_are_those_of_its_recipe(name: str) -> None:
    record = json.loads((FOLDER / "runs" / name / "record.json").read_text(encoding="utf-8"))
    kept = settings_of_record(record["settings"])
    settings = load_settings(FOLDER / f"{name}.toml", ["run.device=cpu", "run.threads=1"])
    now = settings.to_dict()
    assert first_difference(kept | {"run": {}}, now | {"run": {}}) == ""
    assert settings_of_record(kept) == kept


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_comparison_takes_runs_of_0_1_0(is_finished: bool, tmp_path: Path) -> None:
    """Those that were killed too, by the request that was noted beside them."""
    folder = tmp_path / "out" / "runs" / "full" / "seed-987"
    folder.parent.mkdir(parents=True)
    shutil.copytree(FOLDER / "runs" / "full", folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    if not is_finished:
        (folder / "record.json").unlink()
        settings = record["settings"]
        del settings["run"]["dir"], settings["run"]["name"]
        data = {split: found["sha256"] for split, found in record["data"].items()}
        stamp = {"settings": settings, "data": data, "encoder": record["encoder_sha256"]}
        folder.with_name("seed-987.request.json").write_text(json.dumps(stamp))

    def never(request: RunRequest) -> None:
        raise TrainingError(f"asked to {request.start}")

    expected = pytest.raises(TrainingError, match="asked to resume")
    with logged() as said, contextlib.nullcontext() if is_finished else expected:
        compare(
            [FOLDER / "full.toml"], seeds=1, output=tmp_path / "out",
            options=RunOptions(
                first_seed=987, run=never, overrides=["run.device=cpu", "run.threads=1"]
            ),
        )  # fmt: skip
    assert any(("reused" if is_finished else "resuming") in line for line in said)


def test_a_checkpoint_of_0_1_0_is_of_the_same_run(tmp_path: Path) -> None:
    """Its fingerprint has the old names, and lacks what came later."""
    record = json.loads((FOLDER / "runs" / "full" / "record.json").read_text(encoding="utf-8"))
    flat = {f"{s}.{k}": v for s, keys in record["settings"].items() for k, v in keys.items()}
    before = {k: v for k, v in flat.items() if not k.startswith(("run.", "data."))} | {"x": 1}
    settings = load_settings(FOLDER / "full.toml").to_dict()
    now = {f"{s}.{k}": v for s in ("model", "lstm", "lora", "peft", "train")
           for k, v in settings[s].items()} | {"x": 1}  # fmt: skip
    del before["train.compile"]
    refuse_other_run(checkpoint_of(before), now)
    for other in (before | {"train.rate": 0.03}, before | {"x": 2}, before | {"train.new": 1}):
        with pytest.raises(CheckpointError, match=r"(learning_rate|x|train\.new) was"):
            refuse_other_run(checkpoint_of(other), now)


def checkpoint_of(fingerprint: dict[str, Any]) -> Checkpoint:
    return Checkpoint(1, {"fingerprint": fingerprint}, {}, {}, {}, {})


def test_a_pretraining_that_lacks_a_setting_has_its_default() -> None:
    settings = parse_pretrain_settings(
        {"files": ["a.txt"], "output": "out", "from_scratch": "tiny", "tokens": 1000}
    )
    kept = settings.to_dict()
    del kept["pretrain"]["embedding_factor"], kept["pretrain"]["storage"]
    assert settings.of_record(kept) == settings.to_dict()
    assert missing_settings(kept["pretrain"]) == {"embedding_factor": 2.0, "storage": "fp32"}
