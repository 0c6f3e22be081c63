"""No library that nertune imports reports to its maker."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import nertune
from nertune.storage.telemetry import _SWITCHES, forbid_telemetry

SOURCE = Path(nertune.__file__).parent
REPORTS = re.compile(r"^( *)(?:import|from) (onnxruntime|ray)\b", re.MULTILINE)


def test_it_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _SWITCHES:
        monkeypatch.delenv(name, raising=False)
    forbid_telemetry()
    assert {name: os.environ[name] for name in _SWITCHES} == _SWITCHES


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _SWITCHES:
        monkeypatch.setenv(name, "own")
    forbid_telemetry()
    assert {os.environ[name] for name in _SWITCHES} == {"own"}


def test_it_is_forbidden_before_each_import() -> None:
    """At the first import in a process; the others follow one of these."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if REPORTS.search(path.read_text(encoding="utf-8"))
    }
    first = {"models/graphs/onnx.py", "storage/ray_cluster.py"}
    assert first <= found
    after = {"export/onnx.py", "models/graphs/quantization.py"}  # behind `need_onnx`
    assert found - first - after == set()
    for name in first:
        text = (SOURCE / name).read_text(encoding="utf-8")
        for match in re.finditer(r"try:\n +import (onnxruntime|ray|onnx)\b", text):
            before = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
            assert before.strip() == "forbid_telemetry()", (name, match[0])
