"""`benchmarks/encoder.sh` on a CPU with a tiny model: every way runs, stops and resumes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import environment_of_children
from helpers.raw_text import made_up_lines, write_text

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "encoder.sh"
SMALL = (
    "--set layers=1 --set hidden=32 --set heads=2 --set vocabulary=300 --set batch_tokens=256 "
    "--set held_out=0.1 --set device=cpu --set precision=fp32 --set compile=no --set sample=1"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a script for Linux")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A text, the folder of a run, and word tags: every second line is one name."""
    lines = made_up_lines()
    tags = [f"{len(line)}:{'PER' if i % 2 else 'n'}" for i, line in enumerate(lines)]
    text = write_text(tmp_path / "text.txt", lines)
    return [str(text), str(tmp_path / "run"), str(write_text(tmp_path / "text.tags", tags))]


def environment(more: str, **changes: str) -> dict[str, str]:
    nertune = f"{sys.executable} -m nertune"
    values = {"NERTUNE": nertune, "MORE": f"{SMALL} {more}", "NICE": "0"}
    return environment_of_children() | values | changes


def run(*arguments: str, more: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(more, **changes)
    )


def record_of(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "record.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_prepared_on_one_machine_and_trained_on_another(inputs: list[str]) -> None:
    folder = Path(inputs[1])
    done = run("prepare", *inputs)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"prepared"}
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "prepared").glob("block*")}
    assert len(before) == 2
    done = run("gpu", *inputs, MINUTES="0.002")
    assert done.returncode == 0, done.stderr
    assert "learning the vocabulary" not in done.stderr
    assert before == {p.name: p.stat().st_mtime_ns for p in (folder / "prepared").glob("block*")}
    record = record_of(inputs[1])
    settings = record["settings"]["pretrain"]
    assert (settings["long_length"], settings["minutes"]) == (256, 0.002)
    assert record["plan"].keys() == {"tokens", "tokens_per_second"}
    assert record["word_tags"]["entity_tags"] == ["PER"]
    assert "holds a run of gpu already" in run("prepare", *inputs).stderr


@pytest.mark.slow
def test_a_gpu_run_stops_in_time_and_resumes(inputs: list[str]) -> None:
    done = run("gpu", *inputs, MINUTES="0.2", LIMIT="6")
    assert done.returncode == 124, done.stderr
    done = run("gpu", *inputs, MINUTES="0.2", LIMIT="250")
    assert done.returncode == 0, done.stderr
    assert record_of(inputs[1])["status"] == "finished"


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups")
def test_the_lowest_priority_and_an_end_with_the_script(tmp_path: Path) -> None:
    stub = tmp_path / "stub.sh"
    stub.write_text("echo $$; cat /proc/self/autogroup; nice; exec sleep 1000\n", encoding="utf-8")
    values = {"NERTUNE": f"bash {stub}", "NICE": "19"}
    command = ["bash", str(SCRIPT), "silver", "text", str(tmp_path), "tags"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment("", **values)
    ) as script:
        assert script.stdout is not None
        child, autogroup, nice = (script.stdout.readline().strip() for _ in range(3))
        assert autogroup.endswith(" nice 19")
        assert nice == "19"
        assert autogroup.split()[0] not in Path("/proc/self/autogroup").read_text()
        assert Path(f"/proc/{child}").exists()
        script.send_signal(signal.SIGTERM)
        script.stdout.read()  # until the child, too, has closed it
        assert script.wait() == 143


@pytest.mark.slow
def test_the_bundled_encoders_own_way(inputs: list[str]) -> None:
    pytest.importorskip("jieba")
    done = run("cpu", *inputs[:2], more="--tokens 600")
    assert done.returncode == 0, done.stderr
    record = record_of(inputs[1])
    assert record["settings"]["pretrain"]["words"] == "jieba"
    assert record["tokens"] >= 600


@pytest.mark.parametrize("arguments", ["", "cpu a", "silver a b", "tpu a b c"])
def test_wrong_arguments(arguments: str) -> None:
    done = run(*arguments.split())
    assert done.returncode == 2
    assert "expected: " in done.stderr
