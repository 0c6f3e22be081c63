"""`nertune annotate` as a user sees it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from helpers.annotation import tiny_model, write_texts
from helpers.commands import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts in several files, one of them packed, and a file that is none."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / "a.txt", 300)
    (folder / "b.txt.gz").write_bytes(gzip.compress("王小明在北京。\n".encode() + b"\xff\n"))
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    return folder


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("annotate", folder, "-o", out, "--model", tiny_model(), "--workers", "1")
    done = run(*command)
    assert done.code == 0, done.stderr
    assert "1 files left out, which are of no format" in done.stderr
    assert "301 documents in 1 shard; 1 cannot be read" in done.stderr
    assert f"{out}: 301 documents with " in done.stdout
    assert f"1 rejected, see {out / 'rejects.jsonl'}" in done.stdout
    assert "units/s" in done.stdout
    again = run(*command)
    assert again.code == 2
    assert "holds an annotation: use --resume" in again.error
    before = (out / "shards" / "shard-00001.jsonl").read_bytes()
    resumed = run(*command, "--resume", "--json")
    said = json.loads(resumed.stdout)
    assert said["documents"] == 301
    assert said["this_start"]["units"] == 0
    assert (out / "shards" / "shard-00001.jsonl").read_bytes() == before
    read = run("data", "inspect", out / "shards", "--json")
    assert read.code == 0, read.stderr


def test_a_dry_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("annotate", folder, "-o", out, "--model", tiny_model(), "--workers", "2",
               "--dry-run")  # fmt: skip
    done = run(*command, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["documents"], said["rejects"], said["files"], said["workers"]) == (301, 1, 2, 2)
    assert said["seconds"] > 0
    assert said["bytes"] > said["characters"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "spark"), "--engine 'spark': expected local or ray"),
        (("--format", "csv"), "--format 'csv': expected jsonl or parquet"),
        (("--backend", "tf"), "backend 'tf': expected auto, torch"),
        (("--address", "auto"), "add --engine ray"),
        (("--input-format", "nope"), "nope"),
        (("--option", "x=1"), "format lines has no option 'x'"),
        (("--resume", "--overwrite"), "exclude each other"),
    ],
)
def test_what_is_refused(
    options: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run("annotate", folder / "a.txt", "-o", out, "--model", tiny_model(), *options)
    assert done.code == 2
    assert message in done.error
    assert not list(out.rglob("shard-*"))


def test_nothing_is_tagged_twice(folder: Path, tmp_path: Path) -> None:
    inside = run("annotate", folder, "-o", folder / "out", "--model", tiny_model())
    assert inside.code == 2
    assert "lies in the input" in inside.error
    command = ("annotate", folder / "a.txt", folder / "*.txt", "-o", tmp_path / "out", "--model")
    twice = run(*command, tiny_model())
    assert twice.code == 2
    assert "a.txt is named twice" in twice.error
    own = run("annotate", tmp_path / "out", "-o", tmp_path / "out", "--model", tiny_model())
    assert own.code == 2
    assert not (folder / "out").exists()


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("annotate", folder / "none.txt", "-o", out, "--model", tiny_model())
    assert done.code == 2
    assert "none.txt: no such file" in done.error
    done = run("annotate", folder / "a.txt", "-o", out, "--model", tmp_path / "none")
    assert done.code == 2
    assert "no such folder" in done.error
    assert not out.exists()
