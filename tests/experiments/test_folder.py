"""A run's folder: what may be in it before, and what a kill may leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import make_settings
from nertune.config.run import Settings
from nertune.errors import ConfigError
from nertune.experiments.folder import RunFolder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, "lstm")


def prepare(
    path: Path, settings: Settings, *, resume: bool = False, overwrite: bool = False
) -> None:
    assert RunFolder(path).prepare(settings, resume=resume, overwrite=overwrite) is None


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path, settings: Settings) -> None:
    prepare(tmp_path / "a" / "b" / "c", settings)
    assert list((tmp_path / "a" / "b" / "c").iterdir()) == []
    prepare(tmp_path / "a" / "b" / "c", settings, resume=True)


def test_the_paths_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = [folder.model, folder.record, folder.log, folder.checkpoints, folder.predictions("dev")]
    assert [path.name for path in names] == [
        "model",
        "record.json",
        "log.jsonl",
        "checkpoints",
        "dev.predictions.jsonl",
    ]


def test_a_file_in_the_place(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=r"run\.dir: .*file") as caught:
            prepare(path, settings, overwrite=True)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_no_file_system_takes(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"run\.dir: .* cannot be written to: File name too long"):
        prepare(tmp_path / ("王" * 200), settings)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files")
def test_a_folder_that_cannot_be_written_to(settings: Settings) -> None:
    """Said before training, not by a traceback behind it."""
    with pytest.raises(ConfigError, match=r"run\.dir: /proc cannot be written to"):
        prepare(Path("/proc"), settings)
    with pytest.raises(ConfigError, match="cannot be written to"):
        prepare(Path("/proc/run"), settings)


DRAFTS = (".model-x7", ".record.json.99", ".dev.predictions.jsonl.99.part", "log.draft")


@pytest.mark.parametrize("choice", ["resume", "overwrite", "new"])
def test_drafts_of_a_killed_run_go(choice: str, tmp_path: Path, settings: Settings) -> None:
    for name in DRAFTS[1:]:
        (tmp_path / name).write_text("half")
    (tmp_path / DRAFTS[0]).mkdir()
    (tmp_path / DRAFTS[0] / "model.safetensors").write_text("half")
    mine = [".gitignore", "notes.txt", ".modelling", "record.json.bak"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    prepare(tmp_path, settings, resume=choice == "resume", overwrite=choice == "overwrite")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*mine, "data.jsonl"])


def test_overwrite_removes_what_a_run_writes_and_nothing_else(
    tmp_path: Path, settings: Settings
) -> None:
    files = ["record.json", "log.jsonl", "dev.predictions.jsonl", "test.predictions.jsonl"]
    for name in [*files, "notes.txt", "train.predictions.jsonl"]:
        (tmp_path / name).write_text("{}")
    for name in ["model", "checkpoints", "tensorboard", "models"]:
        (tmp_path / name).mkdir()
    prepare(tmp_path, settings, overwrite=True)
    left = {p.name for p in tmp_path.iterdir()} - {"data.jsonl"}
    assert left == {"notes.txt", "train.predictions.jsonl", "models"}


def test_an_unfinished_run_is_not_overwritten_by_mistake(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match=r"unfinished run; use --resume .* --overwrite"):
        prepare(tmp_path, settings)
    prepare(tmp_path, settings, resume=True)
    assert (tmp_path / "checkpoints").is_dir()


def test_a_finished_run_is_neither(tmp_path: Path, settings: Settings) -> None:
    folder = RunFolder(tmp_path / "run")
    prepare(folder.path, settings)
    folder.checkpoints.mkdir()
    folder.finish({"settings": settings.to_dict(), "status": "finished"})
    assert [p.name for p in folder.path.iterdir()] == ["record.json"]  # no draft, no checkpoints
    with pytest.raises(ConfigError, match="holds a finished run; use --overwrite"):
        prepare(folder.path, settings)
    found = folder.prepare(settings, resume=True, overwrite=False)
    assert found is not None
    assert found["status"] == "finished"


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    """flock is held by a process, so the second one must be another process."""
    pytest.importorskip("fcntl")
    folder = RunFolder(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from nertune.experiments.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print('in')"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    with folder.locked():
        refused = subprocess.run(command, capture_output=True, text=True)
    assert "another process is at work in" in refused.stderr
    assert refused.stdout == ""
    allowed = subprocess.run(command, capture_output=True, text=True)
    assert allowed.stdout == "in\n", allowed.stderr
    assert list(folder.path.iterdir()) == []


def test_a_lock_whose_file_has_gone_guards_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holds it; B has opened its file when A leaves; C comes then: B and C are not both in."""
    fcntl = pytest.importorskip("fcntl")
    folder = RunFolder(tmp_path / "run")
    first = folder.locked()
    first.__enter__()
    plain, left = fcntl.flock, []

    def late(stream: Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not left:
            left.append(True)
            first.__exit__(None, None, None)
        plain(stream, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        second = folder.locked()
        second.__enter__()
    assert left
    with pytest.raises(ConfigError, match="another process is at work"):
        folder.locked().__enter__()
    second.__exit__(None, None, None)
    with folder.locked():
        pass
    assert list(folder.path.iterdir()) == []


def test_a_process_that_is_killed_lets_go_of_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    code = (
        "import os, signal, sys; from pathlib import Path; from nertune.experiments.folder import "
        "RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False)
    assert (folder.path / ".lock").exists()
    with folder.locked():
        pass


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_of_someone_else_is_not_replaced(
    overwrite: bool, tmp_path: Path, settings: Settings
) -> None:
    """E.g. a downloaded encoder in `model/`: a run would have put its own there."""
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"a BERT")
    with pytest.raises(ConfigError, match=r"model was not written by a run of nertune"):
        RunFolder(tmp_path).prepare(settings, resume=False, overwrite=overwrite)
    assert weights.read_bytes() == b"a BERT"
    (tmp_path / "model" / "nertune.json").touch()
    RunFolder(tmp_path).prepare(settings, resume=False, overwrite=overwrite)
    assert weights.exists() != overwrite


def test_what_is_checked_stays_until_its_successor_begins(
    tmp_path: Path, settings: Settings
) -> None:
    folder = RunFolder(tmp_path / "run")
    prepare(folder.path, settings)
    folder.model.mkdir()
    folder.finish({"settings": settings.to_dict(), "status": "finished"})
    assert folder.check(settings, resume=False, overwrite=True) is None
    assert folder.record.exists()
    folder.begin(overwrite=True)
    assert not folder.record.exists()
    assert not folder.model.exists()


def test_the_record_goes_first(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between leaves no record of a model that is not there."""
    folder = RunFolder(tmp_path / "run")
    prepare(folder.path, settings)
    folder.model.mkdir()
    folder.finish({"settings": settings.to_dict(), "status": "finished"})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nertune.experiments.folder.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.remove_run()
    assert not folder.record.exists()
