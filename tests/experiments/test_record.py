"""What is kept of a run and of the machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import environment_of_children
from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.corpus import load_corpus
from nertune.experiments.record import (
    describe_data,
    first_difference,
    peak_memory_bytes,
    software_versions,
)
from nertune.storage.atomic import write_json


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"text": "王", "none": None})
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "王", "none": None}
    assert "王" in path.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        write_json(path, {"path": Path()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "王", "none": None}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_full_disk_leaves_the_older_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"old": True})
    write_text = Path.write_text

    def write_half(target: Path, text: str, **options: str) -> int:
        write_text(target, text[: len(text) // 2], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": True})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": True}


def test_what_is_said_about_data(tmp_path: Path) -> None:
    corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl"))
    assert describe_data(corpus) == {
        "path": str(tmp_path / "a.jsonl"),
        "sha256": corpus.sha256,
        "documents": 8,
        "entities": sum(len(d.entities) for d in SENTENCES),
        "join": "auto",
        "scheme": "auto",
        "offsets": "auto",
        "p95_characters": max(len(d.text) for d in SENTENCES),
    }
    (tmp_path / "a.conll").write_text("one O\ntwo O\n", encoding="utf-8")
    described = describe_data(load_corpus(tmp_path / "a.conll"))  # as it was read
    assert (described["join"], described["scheme"]) == ("space", "BIO")


def test_versions() -> None:
    versions = software_versions()
    assert versions["python"] == platform.python_version()
    assert {"torch", "transformers", "peft", "accelerate", "numpy"} < versions.keys()
    assert all(version[0].isdigit() for version in versions.values())


def test_peak_memory_is_the_process_alone_and_grows_with_it() -> None:
    code = """
from nertune.experiments.record import peak_memory_bytes
before = peak_memory_bytes("cpu")
held = b"x" * (before + 50 * 2**20)
grown = peak_memory_bytes("cpu")
del held
print(before, grown, peak_memory_bytes("cpu"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=environment_of_children(),
        check=True,
    )
    before, grown, after = map(int, done.stdout.split())
    assert 5 * 2**20 < before < peak_memory_bytes("cpu")  # not that of the process above it
    assert grown > before + 50 * 2**20
    assert after > 0.95 * grown  # a peak does not fall; the kernel counts in batches of pages


def test_a_peak_can_begin_anew() -> None:
    script = """
from nertune.experiments.record import forget_peak_memory, peak_memory_bytes
held = bytearray(200 * 2**20)
high = peak_memory_bytes("cpu")
del held
forget_peak_memory()
print(high, peak_memory_bytes("cpu"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    high, low = map(int, done.stdout.split())
    if Path("/proc/self/clear_refs").exists():
        assert low < high - 150 * 2**20
    else:
        assert low >= high


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"train": {"warmup": 0.1}}, {"train": {"warmup": 0.2}}, "train.warmup was 0.1, is 0.2"),
        ({"a": 1, "b": {}}, {"a": 1, "b": {"c": [2]}}, "b.c was absent, is [2]"),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": None}}, "a.y was absent, is null"),
        ({"a": 0.1 * 0.003}, {"a": 0.0003}, ""),  # of a rate that was translated
    ],
)
def test_the_first_difference_is_named(old: object, new: object, told: str) -> None:
    assert first_difference(old, new) == told


def test_where_the_system_does_not_say_it_the_peak_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, where a run must not end for want of it."""
    from nertune.experiments.record import peak_memory_bytes

    def gone(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", gone)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_bytes("cpu") is None
