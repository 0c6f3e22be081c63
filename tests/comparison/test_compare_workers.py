"""`compare --workers`: runs at the same time give what they give one after the other."""

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
from helpers.tiny import write_jsonl
from nertune.comparison.compare import compare
from nertune.comparison.runs import RunOptions
from nertune.errors import TrainingError
from nertune.experiments.processes.subprocess import RunRequest, run_in_subprocess

RECIPE = """
[data]
train = {data}
dev = {data}
[model]
emitter = "lstm"
unit = "char"
{more}
[lstm]
embedding_size = 16
hidden_size = 16
layers = 1
[train]
epochs = {epochs}
batch_tokens = 60
learning_rate = 0.02
"""


def recipe(folder: Path, name: str, more: str = "", epochs: int = 8) -> Path:
    data = json.dumps(str(write_jsonl(folder / "data.jsonl")))
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(data=data, more=more, epochs=epochs), encoding="utf-8")
    return path


def test_the_same_as_one_after_the_other(tmp_path: Path) -> None:
    recipes = (recipe(tmp_path, "a"), recipe(tmp_path, "b", 'decoder = "crf"'))
    made = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        done = run("compare", *recipes, "--seeds", 1, "-o", out, "--workers", workers, "--json")
        assert done.code == 0, done.stderr
        made[workers] = json.loads(done.stdout)
        records = [json.loads(p.read_text()) for p in sorted(out.rglob("seed-1/record.json"))]
        assert [r["side_by_side"] for r in records] == [workers] * 2
        made[workers]["epochs"] = [[e["loss"] for e in r["epochs"]] for r in records]
        assert ("times and memory cannot be compared" in done.stdout) == (workers == 2)
    assert "a, seed 1: epoch" in done.stderr.replace("  ", " ")
    for one, other in zip(made[1]["epochs"], made[2]["epochs"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)  # the number of threads may differ
    reused = run("compare", *recipes, "--seeds", 1, "-o", tmp_path / "2")
    assert "times and memory cannot be" in " ".join(reused.stdout.split())


def test_one_that_fails_stops_the_others(tmp_path: Path) -> None:
    slow = recipe(tmp_path, "slow", epochs=100_000)
    bad = recipe(tmp_path, "bad")
    bad.write_text(bad.read_text() + '[run]\ndevice = "mps"\n')
    done = run("compare", slow, bad, "--seeds", 1, "-o", tmp_path / "out", "--workers", 2)
    assert done.code == 2
    assert "bad, seed 1: " in done.error
    left = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
    assert not [line for line in left if str(tmp_path) in line]


def test_one_that_is_about_to_start_when_another_fails(tmp_path: Path) -> None:
    """It starts after the others have been stopped, and must not go on to its end."""
    started: list[str] = []

    def do(request: RunRequest) -> None:
        if request.name == "bad":
            raise TrainingError("bad: fails")
        time.sleep(0.3)
        started.append(request.name)
        run_in_subprocess(request)

    paths = [recipe(tmp_path, "late", epochs=100_000), recipe(tmp_path, "bad")]
    options = RunOptions(run=do, workers=2)
    with pytest.raises(TrainingError, match="bad: fails"):
        compare(paths, seeds=1, output=tmp_path / "out", options=options)
    assert started == ["late"]


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    paths = [recipe(tmp_path, name, epochs=100_000) for name in ("a", "b")]
    process = subprocess.Popen(
        [sys.executable, "-m", "nertune", "compare", *map(str, paths), "--seeds", "1", "-o",
         str(tmp_path / "out"), "--workers", "2"],
        env=environment_of_children(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list((tmp_path / "out").rglob("log.jsonl"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    runs = psutil.Process(process.pid).children(recursive=True)
    assert len(runs) == 2
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command (without --fresh) continues it" in told
    assert "Traceback" not in told
    assert not psutil.wait_procs(runs, timeout=10)[1]
