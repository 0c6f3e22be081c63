"""The worked example of docs/few-labels.md, word for word, with one epoch and one seed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from helpers.commands import run

PAGE = (Path(__file__).parent.parent / "docs" / "few-labels.md").read_text(encoding="utf-8")
SHORT = ["--set", "train.epochs=1"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_worked_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = PAGE.split("## A worked example")[1].split("\n## ")[0]
    commands = re.findall(r"^    nertune (.*)$", example, re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        arguments = shlex.split(command)
        if arguments[0] in ("train", "self-train", "distill") or arguments[:2] == ["data", "audit"]:
            arguments += SHORT
        if "--seeds" in arguments:
            arguments[arguments.index("--seeds") + 1] = "1"
        done = run(*arguments)
        assert done.code == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert (tmp_path / "tasks.json").is_file()
    assert (tmp_path / "runs" / "small" / "model" / "nertune.json").is_file()
    calibrating = PAGE.split("## Scores that can be relied on")[1].split("\n## ")[0]
    commands = re.findall(r"^    nertune (.*?)(?:\s{2,}#.*)?$", calibrating, re.MULTILINE)
    assert len(commands) == 3
    for command in commands[1:]:  # one epoch finds too little to calibrate on
        done = run(*shlex.split(command))
        assert done.code == 0, f"{command}\n{done.stderr}"
