"""`sweep --workers`: trials at the same time, in processes that end with the sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers.commands import environment_of_children, run
from helpers.shown import logged
from helpers.tiny import write_jsonl
from nertune.comparison.search.sweep import SweepBudget, sweep
from nertune.comparison.search.trial_process import TrialProcesses
from nertune.errors import NertuneError, TrainingError
from nertune.training.observer import Observer
from nertune.training.progress import EpochReport

pytest.importorskip("optuna")

RECIPE = """
[data]
train = {data}
dev = {data}
[model]
emitter = "lstm"
unit = "char"
[lstm]
embedding_size = 8
hidden_size = 8
layers = 1
[train]
epochs = {epochs}
batch_tokens = 60
learning_rate = 1e-5
[space]
"train.learning_rate" = {{low = 2e-2, high = 1e-1, log = true}}
"""


def write_recipe(folder: Path, *, epochs: int = 3, more: str = "") -> Path:
    data = json.dumps(str(write_jsonl(folder / "data.jsonl")))
    path = folder / "lstm.toml"
    path.write_text(RECIPE.format(data=data, epochs=epochs) + more, encoding="utf-8")
    return path


def values_of(folder: Path, **train_values: object) -> dict[str, object]:
    data = str(write_jsonl(folder / "data.jsonl"))
    lstm = {"hidden_size": 8, "embedding_size": 8, "layers": 1}
    return {
        "run": {"dir": str(folder / "run"), "device": "cpu"},
        "data": {"train": data, "dev": data},
        "model": {"emitter": "lstm", "unit": "char"},
        "lstm": lstm,
        "train": {"epochs": 3, **train_values},
    }


def of_sweeps(folder: Path) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "trial_process" in " ".join(p.cmdline())]


def test_a_sweep_of_two_at_a_time(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=12)
    budget = SweepBudget(trials=4, confirm=1, workers=2)
    with logged() as said:
        result = sweep(recipe, output=tmp_path / "out", budget=budget)
    assert len(result.trials) == 4
    assert [t.values for t in result.trials].count({}) == 1
    assert not result.base.values
    assert {t.state for t in result.trials} <= {"complete", "pruned"}
    assert {t.seconds for t in result.trials} == {t.peak_bytes for t in result.trials} == {None}
    assert result.best is not result.base
    assert len(result.confirmed["base"]) == len(result.confirmed["best"]) == 1
    assert "    trial 0: dev F1 0.0000" in said
    again = sweep(
        recipe, output=tmp_path / "out", resume=True, budget=SweepBudget(trials=5, workers=2)
    )
    assert len(again.trials) == 5
    done = run("sweep", recipe, "-o", tmp_path / "out", "--resume", "--trials", 5)
    assert done.code == 0, done.stderr


def test_it_gives_what_a_run_here_gives(tmp_path: Path) -> None:
    epochs: list[float] = []

    class Watch(Observer):
        def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
            epochs.append(report.loss)

    record = TrialProcesses(1).train(values_of(tmp_path), Watch())
    assert epochs == [epoch["loss"] for epoch in record["epochs"]]
    assert record["status"] == "finished"


def test_what_the_watch_raises_ends_the_process(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    class Watch(Observer):
        def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
            raise Enough

    with pytest.raises(Enough):
        TrialProcesses(2).train(values_of(tmp_path, epochs=100_000), Watch())
    assert not of_sweeps(tmp_path)


def test_errors_and_deaths(tmp_path: Path) -> None:
    processes = TrialProcesses(1)
    values = values_of(tmp_path)
    with pytest.raises(TrainingError, match=r"no_such\.jsonl"):
        processes.train({**values, "data": {"train": str(tmp_path / "no_such.jsonl")}})

    class Watch(Observer):
        def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
            for process in of_sweeps(tmp_path):
                process.kill()

    with pytest.raises(TrainingError, match=r"its process has ended \(signal 9\)"):
        processes.train(values_of(tmp_path, epochs=100_000), Watch())
    processes.stop()
    with pytest.raises(TrainingError, match="was stopped"):
        processes.train(values)


def test_a_recipe_that_fails_stops_the_others(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=100_000, more='[run]\ndevice = "mps"\n')
    with pytest.raises(NertuneError, match="mps"):
        sweep(recipe, output=tmp_path / "out", budget=SweepBudget(trials=4, workers=2))
    assert not of_sweeps(tmp_path)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_they_end_with_the_sweep(end: signal.Signals, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "nertune", "sweep", str(recipe), "-o", str(tmp_path / "out"),
         "--trials", "4", "--workers", "2"],
        env=environment_of_children(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list((tmp_path / "out").rglob("log.jsonl"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    trials = psutil.Process(process.pid).children(recursive=True)
    assert len(trials) == 2
    if end is signal.SIGINT:
        os.killpg(process.pid, end)
    else:
        process.kill()
    _, told = process.communicate(timeout=60)
    assert not psutil.wait_procs(trials, timeout=30)[1]
    if end is signal.SIGINT:
        assert process.returncode == 130
        assert "--resume continues it" in told
        assert "Traceback" not in told
