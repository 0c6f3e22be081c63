"""A run in a process of its own, with a command that stands in for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from nertune.errors import TrainingError
from nertune.experiments.processes import subprocess as child
from nertune.experiments.processes.subprocess import RunRequest, run_in_subprocess


def request(folder: Path, **changes: object) -> RunRequest:
    values: dict[str, object] = {
        "name": "bert", "recipe": folder / "none.toml", "seed": 7, "folder": folder / "in a 夹",
        "overrides": ("train.epochs=1",), "start": "new",
    }  # fmt: skip
    return RunRequest(**(values | changes))  # type: ignore[arg-type]


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> list[list[str]]:
    """Run this Python code in the place of `nertune train`; gives the commands asked for."""
    asked: list[list[str]] = []
    run = child._run

    def replaced(command: list[str], environment: dict[str, str], prefix: str) -> tuple[int, str]:
        asked.append(command)
        return run([sys.executable, "-c", code], environment, prefix)

    monkeypatch.setattr(child, "_run", replaced)
    return asked


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch, "pass")
    run_in_subprocess(request(tmp_path))
    run_in_subprocess(request(tmp_path, start="resume"))
    first, second = asked
    assert first[1:4] == ["-m", "nertune", "train"]
    assert [first[i + 1] for i, word in enumerate(first) if word == "--set"] == [
        "train.epochs=1",
        "run.seed=7",
        f'run.dir="{tmp_path}/in a 夹"',
    ]
    assert "--resume" not in first
    assert second[-1] == "--resume"
    run_in_subprocess(request(tmp_path, start="resume", score_test=True))
    assert "--test" not in (*first, *second)
    assert asked[2][-2:] == ["--resume", "--test"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.stderr.write('error: bad file\\n'); sys.exit(2)", "bad file"),
        ("raise SystemExit(3)", "the run ended with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (often: out of mem"),
    ],
    ids=["user error", "other code", "killed"],
)
def test_a_run_that_fails_says_why(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, code)
    with pytest.raises(TrainingError) as caught:
        run_in_subprocess(request(tmp_path))
    assert str(caught.value).startswith("bert, seed 7: ")
    assert message in str(caught.value)


def test_messages_go_on_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "import sys; sys.stderr.buffer.write('第一 ✓\\n'.encode())")
    run_in_subprocess(request(tmp_path))
    assert "第一 ✓" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_takes_the_run_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "pid"
    stand_in(
        monkeypatch,
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('interrupted; go on with --resume'))\n"
        "sys.stderr.write('epoch 1\\n')\n"
        f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    )
    monkeypatch.setattr(child, "_GRACE_SECONDS", 1.0)

    def interrupt() -> None:
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)  # not to the run, as a terminal's Ctrl-C would

    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_subprocess(request(tmp_path))
    assert time.monotonic() - started < 50  # it did not end by itself
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    # How to go on is for the caller to say.
    assert capsys.readouterr().err == "epoch 1\n"


def test_the_real_command_reports_a_users_mistake_in_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.toml"
    recipe.write_text("[data]\ntrain = 'x'\n[trian]\nepochs = 2\n")
    with pytest.raises(
        TrainingError, match=r"bert, seed 7: .*unknown section \[trian\]; did you mean"
    ):
        run_in_subprocess(request(tmp_path, recipe=recipe))
