"""Training under a launcher of several processes: told at once, where it would hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import run, run_process
from helpers.tiny import make_settings
from nertune.errors import ConfigError
from nertune.experiments.train import train
from nertune.storage.processes import refuse_many_processes

TORCHRUN = {
    "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511",
}  # fmt: skip


@pytest.mark.parametrize("rank", ["0", "1"])
def test_under_torchrun_other_commands_say_so_at_once(rank: str, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'[run]\ndir = "{tmp_path}/run"\n[data]\ntrain = "sample:train"\n'
        '[model]\nemitter = "lstm"\n[train]\nepochs = 1\n'
    )
    ranks = {"RANK": rank, "LOCAL_RANK": rank}
    # Nothing heavy is imported before: it is said at once, and no process group can be waited for.
    before = "import sys; sys.modules['torch'] = sys.modules['accelerate'] = None"
    done = run_process("compare", recipe, environment=TORCHRUN | ranks, before=before)
    assert done.code == 2
    assert done.stderr.count("\n") == 1
    assert "this works in one process, but WORLD_SIZE=2 is set" in done.error
    assert "unset WORLD_SIZE" in done.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but not RANK: start several processes with"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2 is set: start several processes"),
    ],
)
def test_a_number_of_processes_without_a_launcher(
    environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    """They would wait for each other in vain."""
    before = "import sys; sys.modules['torch'] = sys.modules['accelerate'] = None"
    done = run_process("train", tmp_path / "x.toml", environment=environment, before=before)
    assert done.code == 2
    assert done.stderr.count("\n") == 1
    assert message in done.error


@pytest.mark.parametrize(
    "command", ["train", "compare", "sweep", "advise", "pretrain", "self-train"]
)
def test_all_commands_that_train(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    more = {
        "advise": ["--minutes", 1],
        "self-train": ["--unlabelled", tmp_path / "absent.txt"],
        "pretrain": ["--encoder", "mini-zh", "--minutes", 1, "-o", tmp_path / "out"],
    }.get(command, [])
    done = run(command, tmp_path / "absent.toml", *more)
    assert done.code == 2
    assert "WORLD_SIZE=2 is set" in done.error


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_from_python_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigError, match=f"{name}=2 is set"):
        train(make_settings(tmp_path, "lstm"))


@pytest.mark.parametrize("size", ["", "1", "0", "two"])
def test_one_process_is_none_too_many(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    refuse_many_processes()
