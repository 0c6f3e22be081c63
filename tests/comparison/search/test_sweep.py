"""A search: what it tries, what it keeps, what it refuses, and that a kill loses one trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from helpers import commands
from helpers.shown import logged
from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from nertune.comparison.search import sweep as module
from nertune.comparison.search.sweep import SweepBudget, sweep
from nertune.config.run import load_settings
from nertune.errors import ConfigError, TrainingError
from nertune.training.progress import EpochReport

optuna = pytest.importorskip("optuna")

RECIPE = """
[data]
train = "{data}"
dev = "{data}"
test = "{folder}/there-is-no-such-file.jsonl"

[model]
encoder = "{encoder}"
tuning = "lora"
unit = "char"

[train]
epochs = 3
batch_tokens = 40
learning_rate = 1e-4
head_learning_rate = 1e-4
"""
FAST = ["train.learning_rate=0.02", "train.head_learning_rate=0.02"]
SPACE = """
[space]
"train.learning_rate" = {low = 1e-3, high = 1e-1, log = true}
"lora.rank" = [2, 4]
"lora.targets" = [["qv"], ["all-linear"]]
"lora.alpha" = {low = 4, high = 16, step = 4}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, SPACE)


def write_recipe(folder: Path, space: str) -> Path:
    data = write_jsonl(folder / "data.jsonl")
    path = folder / "lora.toml"
    text = RECIPE.format(data=data, folder=folder, encoder=tiny_bert()) + space
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sweep_finds_better_and_writes_a_recipe(recipe: Path, tmp_path: Path) -> None:
    with logged() as said:
        result = sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=7, confirm=1))
    assert len(result.trials) == 7
    assert result.base.number == 0
    assert result.base.values == {}
    assert result.best.f1 is not None
    assert result.base.f1 is not None
    assert result.best.f1 > result.base.f1  # a rate of 1e-4 is far too low
    assert "points against the recipe" in result.verdict
    assert "with 1 further seed " in result.verdict
    for trial in result.trials[1:]:
        assert trial.values.keys() == {
            "train.learning_rate",
            "lora.rank",
            "lora.targets",
            "lora.alpha",
        }
        assert 1e-3 <= trial.values["train.learning_rate"] <= 1e-1
        assert trial.values["lora.alpha"] in (4, 8, 12, 16)
        assert trial.values["lora.targets"] in (["qv"], ["all-linear"])
    for trial in result.trials:
        if trial.state == "complete":  # Python, PyTorch and a tiny model
            assert 50 * 2**20 < (trial.peak_bytes or 0) < 8 * 2**30
    # The winner can be trained as it stands, and has its test file back.
    values = tomllib.loads(result.winner.read_text(encoding="utf-8"))
    assert values["train"]["learning_rate"] == result.best.values["train.learning_rate"]
    assert values["data"]["test"].endswith("there-is-no-such-file.jsonl")
    assert load_settings(result.winner).lora.rank == result.best.values["lora.rank"]
    described = json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))
    assert described["best"] == result.best.number
    assert not list((tmp_path / "out" / "trials").glob("*/model"))
    assert any("the recipe as it stands" in line for line in said)


@pytest.mark.slow
def test_the_same_sweep_gives_the_same_trials(recipe: Path, tmp_path: Path) -> None:
    one = sweep(recipe, output=tmp_path / "one", budget=SweepBudget(trials=4))
    sweep(recipe, output=tmp_path / "two", budget=SweepBudget(trials=2))
    two = sweep(recipe, output=tmp_path / "two", resume=True, budget=SweepBudget(trials=4))
    assert [t.values for t in one.trials] == [t.values for t in two.trials]
    assert [t.f1 for t in one.trials] == [t.f1 for t in two.trials]


@pytest.mark.slow
def test_more_trials_confirm_another_winner_anew(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = sweep(recipe, output=output, budget=SweepBudget(trials=1, confirm=1))
    assert first.best.number == 0
    later = sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=6, confirm=1))
    assert later.best.number > 0
    folders = sorted(path.name for path in (output / "confirm").iterdir())
    assert folders == ["0000-988", f"{later.best.number:04d}-988"]
    assert later.confirmed["base"] == first.confirmed["base"]
    record = json.loads((output / "confirm" / folders[1] / "record.json").read_text())
    assert record["settings"]["train"]["learning_rate"] == later.best.values["train.learning_rate"]


def test_nothing_better_is_said_to_be_so(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path, '\n[space]\n"train.learning_rate" = {low = 1e-8, high = 1e-7}\n'
    )
    changes = ["model.tuning=full", *FAST, "train.epochs=25"]
    result = sweep(recipe, output=tmp_path / "out", overrides=changes, budget=SweepBudget(trials=3))
    assert result.best is result.base
    assert "none of 3 trials beats the recipe as it stands" in result.verdict
    assert load_settings(result.winner).train.learning_rate == 0.02


def test_a_trial_that_is_behind_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STARTUP", 1)
    recipe = write_recipe(tmp_path, '\n[space]\n"train.learning_rate" = [1e-9, 1e-8]\n')
    changes = ["model.tuning=full", *FAST, "train.epochs=25"]
    result = sweep(recipe, output=tmp_path / "out", overrides=changes, budget=SweepBudget(trials=3))
    assert "pruned" in {t.state for t in result.trials[1:]}
    assert result.best is result.base


def test_time_ends_it(recipe: Path, tmp_path: Path) -> None:
    result = sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=500, minutes=1e-6))
    assert [t.number for t in result.trials] == [0]
    assert result.base.f1 is not None


def test_time_does_not_undo_a_run_in_its_last_epoch() -> None:
    class Asked:
        def report(self, *_: float) -> None:
            pass

        def should_prune(self) -> bool:
            return False

    begun = module._Begun(Asked(), {}, may_prune=True)
    watch = module._Watch(begun, optuna, 0.0, threading.RLock())
    watch.last = 2
    dev = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    with pytest.raises(optuna.TrialPruned):
        watch.on_epoch(EpochReport(1, 1.0, 1.0, 1.0, dev), is_best=True)
    watch.on_epoch(EpochReport(2, 1.0, 1.0, 1.0, dev), is_best=True)
    assert watch.best == 0.5


def test_a_recipe_that_failed_is_tried_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError("the encoder cannot be fetched")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", fail)
        with pytest.raises(ConfigError, match="cannot be fetched"):
            sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=1))
    result = sweep(recipe, output=tmp_path / "out", resume=True, budget=SweepBudget(trials=1))
    assert [trial.state for trial in result.trials] == ["failed", "complete"]
    assert result.best is result.base


def test_a_failing_confirmation_leaves_the_winner(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._train

    def fail(
        values: Any, chosen: Any, folder: Path, watch: Any = None, *, seed: Any = None, **more: Any
    ) -> Any:
        if seed == 989:
            assert (tmp_path / "out" / "best.toml").exists()
            raise TrainingError("the loss is no longer finite")
        return real(values, chosen, folder, watch, seed=seed, **more)

    monkeypatch.setattr(module, "_train", fail)
    with logged() as said:
        result = sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=2, confirm=2))
    assert {name: len(found) for name, found in result.confirmed.items()} == {"base": 1, "best": 1}
    assert "base, seed 989, is left out: the loss is no longer finite" in said
    described = json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))
    assert described["confirmed"] == result.confirmed
    assert result.difference is not None
    assert result.difference.num_seeds == 1
    lead = result.confirmed["best"][0] - result.confirmed["base"][0]
    assert result.difference.difference == pytest.approx(lead)


def test_importance_is_of_the_trials_that_were_drawn_and_finished() -> None:
    study = optuna.create_study(direction="maximize")
    space = {"rate": optuna.distributions.FloatDistribution(0.0, 1.0),
             "rank": optuna.distributions.CategoricalDistribution([1, 2])}  # fmt: skip

    def add(value: float, rate: float, rank: int, state: str = "COMPLETE") -> None:
        study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState[state], value=value, distributions=space,
            params={"rate": rate, "rank": rank},
        ))  # fmt: skip

    study.add_trial(optuna.trial.create_trial(value=2.0))  # the recipe as it stands
    for number in range(9):
        add(number / 10, number / 10, 1 + number % 2)
    for number in range(9):
        add(0.0, number / 10, 1 + number % 2, "PRUNED")
    assert module._importance(study, optuna) == {}  # nine are too few
    for number in range(9, 20):
        add(number / 10, number / 20, 1 + number % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = module._importance(study, optuna)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert shares["rate"] > 0.7 > shares["rank"]


def test_where_nothing_was_learnt_nothing_is_important() -> None:
    study = optuna.create_study(direction="maximize")
    space = {"rate": optuna.distributions.FloatDistribution(0.0, 1.0)}
    for number in range(12):
        study.add_trial(optuna.trial.create_trial(
            value=0.0, params={"rate": number / 12}, distributions=space
        ))  # fmt: skip
    assert module._importance(study, optuna) == {}


def test_a_broken_trial_does_not_end_it(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, '\n[space]\n"model.max_pieces" = [40, 5000]\n')
    with logged() as said:
        result = sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=6))
    failed = [t for t in result.trials if t.state == "failed"]
    assert failed
    assert all(t.values == {"model.max_pieces": 5000} for t in failed)
    assert any("the encoder has 64 positions" in line for line in said)


def test_a_killed_sweep_loses_one_trial(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "nertune", "sweep", str(recipe), "-o", str(output)]
    command += ["--trials", "4", "--set", "train.epochs=4"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "trial 2:" in line:  # two are done
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(
        [*command, "--resume", "--json"],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    result = json.loads(done.stdout)
    states = [t["state"] for t in result["trials"]]
    assert states.count("failed") == 1
    assert len(states) == 5
    assert "trial 2 was lost" in done.stderr


def test_options_of_a_peft_method_can_be_searched(tmp_path: Path) -> None:
    space = '\n[space]\n"peft.options.r" = [4, 8]\n'
    recipe = write_recipe(tmp_path, space)
    changes = [
        "model.tuning=peft",
        "peft.method=vera",
        "train.learning_rate=0.01",
        "train.epochs=1",
    ]
    result = sweep(recipe, output=tmp_path / "out", overrides=changes, budget=SweepBudget(trials=2))
    assert result.trials[1].values["peft.options.r"] in (4, 8)


def test_a_space_that_cannot_be_leaves_nothing_behind(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, '\n[space]\n"train.rat" = [0.1, 0.2]\n')
    with pytest.raises(ConfigError, match=r"unknown key train\.rat"):
        sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=2))
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_there_is_no_figure(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = commands.run("sweep", recipe, "-o", tmp_path / "out", "--trials", 1)
    assert done.code == 0, done.stderr
    assert (tmp_path / "out" / "best.toml").exists()
    assert not (tmp_path / "out" / "sweep.png").exists()
    assert "nertune[report]" in done.stderr


def test_the_command_draws_a_figure(recipe: Path, tmp_path: Path) -> None:
    assert commands.run("sweep", recipe, "-o", tmp_path / "out", "--trials", 1).code == 0
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 10_000


def test_another_sweep_in_the_folder_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match="holds no sweep to resume"):
        sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=1))
    sweep(recipe, output=output, budget=SweepBudget(trials=1))
    with pytest.raises(ConfigError, match="holds a sweep already; resume it with --resume"):
        sweep(recipe, output=output, budget=SweepBudget(trials=1))
    with pytest.raises(ConfigError, match=r"other settings: train.epochs was 3, is 2"):
        sweep(
            recipe,
            output=output,
            resume=True,
            overrides=["train.epochs=2"],
            budget=SweepBudget(trials=1),
        )
    with monkeypatch.context() as patch:
        patch.setattr(module, "encoder_hash", lambda settings: "other weights in the folder")
        with pytest.raises(ConfigError, match="other encoder"):
            sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=2))
    with monkeypatch.context() as patch:
        patch.setattr(module, "encoder_hash", lambda settings: None)  # not known for the moment
        sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=1))
    write_jsonl(tmp_path / "data.jsonl", SENTENCES[:5])
    with pytest.raises(ConfigError, match="other data"):
        sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=1))


def test_a_sweep_of_0_1_0_goes_on(tmp_path: Path) -> None:
    """Its recipe, its space and its plan have the old names of the rates."""
    recipe = write_recipe(tmp_path, '\n[space]\n"train.rate" = [0.01, 0.02]\n')
    text = (
        recipe.read_text(encoding="utf-8")
        .replace("head_learning_rate = 1e-4\n", "")
        .replace("epochs = 3", "epochs = 15")
    )
    recipe.write_text(text.replace("learning_rate = 1e-4", "rate = 1e-4"), encoding="utf-8")
    output = tmp_path / "out"
    sweep(recipe, output=output, budget=SweepBudget(trials=1))
    path = output / module._DESCRIPTION
    plan = json.loads(path.read_text(encoding="utf-8"))
    train = plan["settings"]["train"]
    assert (train.pop("learning_rate"), train.pop("head_learning_rate")) == (1e-4, 1e-4)
    train |= {"rate": 1e-4, "head_rate": None, "adapter_rate": None, "encoder_factor": None,
              "crf_rate": train.pop("crf_learning_rate")}  # fmt: skip
    path.write_text(json.dumps(plan), encoding="utf-8")

    result = sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=3))
    assert result.best.number > 0  # a rate of 1e-4 is far too low
    chosen = result.best.values["train.rate"]
    winner = tomllib.loads(result.winner.read_text(encoding="utf-8"))["train"]
    assert winner["learning_rate"] == winner["head_learning_rate"] == chosen
    assert "rate" not in winner

    plan["space"] = {"train.encoder_factor": {"low": 0.02, "high": 0.5}}  # of its default space
    path.write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"of other space: train\.encoder_factor was .* is absent"
    ):
        sweep(recipe, output=output, resume=True, budget=SweepBudget(trials=3))
