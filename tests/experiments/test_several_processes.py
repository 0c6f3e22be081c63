"""Training in several processes: the same weights as one process that accumulates as much."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from helpers.artifacts import edit_json
from helpers.commands import environment_of_children, run
from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from nertune.config.run import parse_settings
from nertune.experiments.train import train

# In every process; rank 0 says what came of each run.
SCRIPT = """
import json, os, sys
from pathlib import Path
from nertune.config.run import parse_settings
from nertune.errors import NertuneError
from nertune.experiments.train import train
from nertune.storage.processes import leave_group

folder, rank = Path(sys.argv[1]), os.environ["RANK"]
told = []
for values in json.loads((folder / "runs.json").read_text()):
    other = values.pop("rank 1", {})
    values |= other if rank == "1" else {}
    try:
        record = train(parse_settings(values))
        told.append([record.get("processes"), record.get("status")])
    except NertuneError as error:
        told.append([type(error).__name__, str(error)])
(folder / f"told-{rank}.json").write_text(json.dumps(told))
leave_group()
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"tuning": "full"},
    "full-crf": {"tuning": "full", "decoder": "crf"},
    "lora": {"tuning": "lora"},
    "lora-crf": {"tuning": "lora", "decoder": "crf"},
    "top": {"tuning": "top", "top_layers": 1},  # the layers below run once
    "lstm-crf": {"emitter": "lstm", "decoder": "crf", "unit": "char"},
}


def launch(number: int, *arguments: object) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(number),
         "--master_port", str(port), *map(str, arguments)],
        env=environment_of_children(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


def even_bert(folder: Path) -> Path:
    """Without dropout, which each process draws for itself."""
    copy = Path(shutil.copytree(tiny_bert(), folder / "bert"))
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    edit_json(copy / "config.json", lambda values: values.update(dropout))
    return copy


def values_of(folder: Path, name: str, variant: str, **train_values: Any) -> dict[str, Any]:
    data = folder / "data.jsonl"
    if not data.exists():
        write_jsonl(data, SENTENCES[:7])
    model = VARIANTS[variant]
    if "emitter" not in model:
        model = {**model, "encoder": str(folder / "bert")}
    values = {
        "run": {"dir": str(folder / name), "device": "cpu"},
        "data": {"train": str(data), "dev": str(data)},
        "model": model,
        "train": {"epochs": 3, "batch_tokens": 30, "patience": 0, **train_values},
    }
    if model.get("tuning") == "lora":
        values["lora"] = {"dropout": 0.0}
    if "emitter" in model:
        values["lstm"] = {"dropout": 0.0, "unknown": 0.0, "hidden_size": 8, "embedding_size": 8}
    return values


def weights(run_folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted((run_folder / "model").rglob("*.safetensors")):
        found |= {f"{path.name}/{name}": tensor for name, tensor in load_file(path).items()}
    return found


def apart(one: Path, other: Path) -> float:
    """The largest difference of two runs' weights."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert a
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def losses(run_folder: Path) -> list[float]:
    record = json.loads((run_folder / "record.json").read_text())
    return [epoch["loss"] for epoch in record["epochs"]]


def test_two_processes_equal_one_of_twice_the_batch(tmp_path: Path) -> None:
    """To 1e-5, with an odd number of batches; and what one process refuses, both do."""
    even_bert(tmp_path)
    runs = [values_of(tmp_path, f"two-{variant}", variant) for variant in VARIANTS]
    absent = values_of(tmp_path, "absent", "lstm-crf")
    absent["data"] = {"train": str(tmp_path / "absent.jsonl")}
    other = values_of(tmp_path, "other", "lstm-crf")
    other["rank 1"] = {"train": {**other["train"], "learning_rate": 0.5}}
    (tmp_path / "runs.json").write_text(json.dumps([*runs, runs[0], absent, other]))
    (tmp_path / "script.py").write_text(SCRIPT)
    code, _, stderr = finish(launch(2, tmp_path / "script.py", tmp_path))
    assert code == 0, stderr
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    number = len(VARIANTS)
    assert told[0][:number] == [[2, "finished"]] * number
    assert told[1][: number + 1] == [[None, None]] * (number + 1)
    assert told[0][number][0] == "ConfigError"
    assert "holds a finished run" in told[0][number][1]
    assert [names[-2][0] for names in told] == ["DataError"] * 2
    assert ["the processes differ in data, set" in names[-1][1] for names in told] == [True] * 2
    for variant in VARIANTS:
        values = values_of(tmp_path, f"one-{variant}", variant, accumulate=2)
        record = train(parse_settings(values))
        assert record["processes"] == 1
        one, two = tmp_path / f"one-{variant}", tmp_path / f"two-{variant}"
        assert apart(one, two) < 1e-5, variant
        assert losses(two) == pytest.approx(losses(one), rel=1e-5)
        assert (one / "dev.predictions.jsonl").read_bytes() == (
            two / "dev.predictions.jsonl"
        ).read_bytes()
        assert [p.name for p in sorted(two.iterdir())] == [p.name for p in sorted(one.iterdir())]


RECIPE = """
[run]
dir = {folder}
device = "cpu"
[data]
train = {data}
dev = {data}
[model]
emitter = "lstm"
unit = "char"
decoder = "crf"
[lstm]
hidden_size = 8
embedding_size = 8
[train]
epochs = 400
batch_tokens = 30
patience = 0
checkpoint_steps = 5
"""


def test_one_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    """The run is resumed by as many processes to the weights of one that nothing disturbed."""
    data = json.dumps(str(write_jsonl(tmp_path / "data.jsonl", SENTENCES[:7])))
    recipes = {}
    for name in ("killed", "whole"):
        recipes[name] = tmp_path / f"{name}.toml"
        folder = json.dumps(str(tmp_path / name))
        recipes[name].write_text(RECIPE.format(folder=folder, data=data))
    command = ("-m", "nertune", "train")
    process = launch(2, *command, recipes["killed"])
    checkpoints = tmp_path / "killed" / "checkpoints"
    until = time.monotonic() + 120
    while not list(checkpoints.glob("step-*")) and time.monotonic() < until:
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    second = [p for p in workers if p.environ().get("RANK") == "1"]
    second[0].send_signal(signal.SIGKILL)
    code, _, stderr = finish(process)
    assert code != 0
    assert not psutil.wait_procs(workers, timeout=30)[1]
    assert not (tmp_path / "killed" / "record.json").exists(), "killed too late"
    alone = run("train", recipes["killed"], "--resume")
    assert alone.code == 2
    assert "cannot resume: processes was 2 and is 1 now" in alone.error
    for arguments in ((recipes["killed"], "--resume"), (recipes["whole"],)):
        code, stdout, stderr = finish(launch(2, *command, *arguments))
        assert code == 0, stderr
        assert stdout.count("micro-F1") == 1  # the first process alone tells
        assert stderr.count("2 processes train together") == 1
        assert ("resumed: epoch" in stderr) == ("--resume" in arguments)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert apart(tmp_path / "killed", tmp_path / "whole") == 0


def test_an_error_of_a_person_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.toml"
    recipe.write_text('[data]\ntrain = "absent.jsonl"\n')
    code, _, stderr = finish(launch(2, "-m", "nertune", "train", recipe))
    assert code != 0
    assert "absent.jsonl" in stderr
    own = [line for line in stderr.splitlines() if "nertune/" in line and "File" in line]
    assert not own, stderr  # no traceback of ours
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]
