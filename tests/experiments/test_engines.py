"""Runs that Ray computes are runs like others."""

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
from nertune.errors import ConfigError
from nertune.experiments.processes.engines import LOCAL, RunEngine, open_engine
from nertune.experiments.processes.ray_relay import passed_on

RECIPE = """
[data]
train = {data}
dev = {data}
[model]
emitter = "lstm"
unit = "char"
[lstm]
embedding_size = 16
hidden_size = 16
layers = 1
[train]
epochs = {epochs}
learning_rate = 0.02
"""


def write_recipe(folder: Path, epochs: int = 3) -> Path:
    data = json.dumps(str(write_jsonl(folder / "data.jsonl")))
    path = folder / "a.toml"
    path.write_text(RECIPE.format(data=data, epochs=epochs), encoding="utf-8")
    return path


def test_names_that_are_no_engine() -> None:
    with pytest.raises(ConfigError, match="'dask': expected local or ray"), open_engine("dask", 1):
        pass
    with pytest.raises(ConfigError, match="add --engine ray"), open_engine("local", 1, "auto"):
        pass


def test_the_environment_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert LOCAL.environment(1) == dict(os.environ)
    on_ray = RunEngine("10.0.0.1:6379", cpus=3, gpus=1)
    assert on_ray.environment(2)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = on_ray.environment(2)
    assert given["OMP_NUM_THREADS"] == "5"
    *_, job = on_ray.command(["python", "-c", "0"])
    told = json.loads(job)
    assert (told["address"], told["cpus"], told["gpus"]) == ("10.0.0.1:6379", 3, 1)
    assert "environment" not in told  # other users see the command
    there = passed_on(given)
    assert there["HF_HUB_OFFLINE"] == "1"
    assert there["OMP_NUM_THREADS"] == "5"
    assert "SECRET" not in there
    assert LOCAL.command(["python", "-c", "0"]) == ["python", "-c", "0"]


@pytest.mark.slow
class TestRay:
    @pytest.fixture(autouse=True)
    def _needs_ray(self) -> None:
        pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def test_a_comparison_gives_what_it_gives_here(self, tmp_path: Path) -> None:
        found = {}
        for engine in ("local", "ray"):
            done = run("compare", write_recipe(tmp_path), "--seeds", 2, "--workers", 2,
                       "--engine", engine, "-o", tmp_path / engine, "--json")  # fmt: skip
            assert done.code == 0, done.stderr
            records = sorted((tmp_path / engine).rglob("record.json"))
            assert len(records) == 2
            found[engine] = [json.loads(p.read_text())["epochs"][-1]["loss"] for p in records]
        assert found["ray"] == pytest.approx(found["local"], abs=1e-6)

    def test_a_sweep(self, tmp_path: Path) -> None:
        done = run("sweep", write_recipe(tmp_path), "--trials", 3, "--workers", 2, "--engine",
                   "ray", "-o", tmp_path / "out", "--json")  # fmt: skip
        assert done.code == 0, done.stderr
        assert [t["state"] for t in json.loads(done.stdout)["trials"]].count("complete") >= 2

    def test_a_run_that_fails_says_why(self, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path)
        done = run("compare", recipe, "--engine", "ray", "--seeds", 1, "-o", tmp_path / "out",
                   "--set", "run.device=mps")  # fmt: skip
        assert done.code == 2
        assert done.error.startswith("error: a, seed 1: ")
        assert "Traceback" not in done.stderr

    def test_it_ends_with_what_started_it(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "nertune", "compare", str(write_recipe(tmp_path, 9999)),
                   "--engine", "ray", "--seeds", "1", "-o", str(tmp_path / "out")]  # fmt: skip
        process = subprocess.Popen(
            command, env=environment_of_children(), stderr=subprocess.DEVNULL
        )
        try:
            training = _wait_for(tmp_path / "out")
            process.send_signal(signal.SIGKILL)
            process.wait()
            psutil.wait_procs(training, timeout=60)
            assert not [p for p in training if p.is_running()]
        finally:
            process.kill()


def _wait_for(output: Path) -> list[psutil.Process]:
    """The processes that train into a folder, once they have begun."""
    for _ in range(600):
        time.sleep(0.2)
        if any(output.rglob("log.jsonl")):
            found = [p for p in psutil.process_iter(["cmdline"])
                     if f"{output}" in " ".join(p.info["cmdline"] or ())
                     and " train " in " ".join(p.info["cmdline"])]  # fmt: skip
            assert found
            return found
    raise AssertionError("no run has begun")
