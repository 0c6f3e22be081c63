"""A run that is killed again and again, and resumed, ends as an uninterrupted one: to the bit."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.children import KILLED, Bomb, kill_when, train_in_child
from helpers.commands import run, run_process
from helpers.tiny import SENTENCES, make_settings, session_folder, tiny_bert, write_jsonl
from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings
from nertune.errors import CheckpointError, ConfigError
from nertune.experiments.train import train
from nertune.training.checkpoint import CheckpointStore

# Each kind of tagger with another optimizer, schedule and batching, so that all state counts.
RUNS: dict[str, dict[str, Any]] = {
    "full": {"optimizer": "adamw", "schedule": "cosine"},
    "lora": {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "head_learning_rate": 0.05,
        "accumulate": 2,
    },
    "lora-crf": {"optimizer": "adamw", "checkpoint_steps": 1, "accumulate": 3},
    "lstm": {"optimizer": "adam", "schedule": "constant", "clip_norm": 0},
    "lstm-crf": {"optimizer": "adamw", "weight_decay": 0.1},
}

# One after the other: each run goes on where the one before was killed.
TRAINING = (
    Bomb("nertune.training.trainer:rate_factor", call=1),  # before anything was saved
    Bomb("nertune.training.trainer:rate_factor", call=5),  # in the middle of an epoch
    Bomb("nertune.training.checkpoint:save_file", call=2, half_file=1),  # half a weight file
    Bomb("nertune.training.checkpoint:hash_file", call=3),  # all written but not summed up
    Bomb("nertune.training.checkpoint:flush", call=7),  # renamed, folder not flushed
    Bomb("nertune.training.checkpoint:shutil.rmtree"),  # two checkpoints side by side
    Bomb("nertune.experiments.progress:RunLog.on_epoch", after=True),  # logged, not saved
    Bomb("nertune.experiments.progress:RunLog.on_epoch"),  # scored, not logged
    Bomb("nertune.experiments.progress:RunLog.on_resume", after=True),  # while resuming
)
FINISHING = (
    Bomb("nertune.experiments.train:_score_split", after=True),  # trained, dev scored
    Bomb("nertune.artifacts.save:_write_weights", after=True),  # half a model folder
    Bomb("nertune.artifacts.save:model_card"),
    Bomb("nertune.experiments.train:save_model", after=True),  # a model but no record
    Bomb("nertune.experiments.folder:write_json"),
)


def run_settings(folder: Path, variant: str, name: str, **train_values: Any) -> Settings:
    """`RUNS[variant]` in `folder/name`."""
    common = {"epochs": 5, "batch_tokens": 30, "patience": 0}
    common |= {"checkpoint_steps": 2, "checkpoint_minutes": 0}
    overrides = {
        "run": {"dir": str(folder / name)},
        "train": common | RUNS[variant] | train_values,
    }
    return make_settings(folder, variant, overrides)


@cache
def uninterrupted(variant: str) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = session_folder() / f"uninterrupted-{variant}"
    folder.mkdir()
    settings = run_settings(folder, variant, "run")
    assert train_in_child(settings) == 0
    return settings.run.dir


def read_log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def without_times(values: Any) -> Any:
    """Without what measures time or memory, and may differ."""
    clocks = {"seconds", "tokens_per_second", "peak_memory_bytes"}
    if isinstance(values, dict):
        return {k: without_times(v) for k, v in values.items() if k not in clocks}
    return [without_times(v) for v in values] if isinstance(values, list) else values


def assert_same_run(found: Path, expected: Path) -> None:
    """Weights, predictions, scores and log are the same, and nothing else lies about."""
    assert {p.name for p in found.iterdir()} == {p.name for p in expected.iterdir()}
    hashes, wanted = read_manifest(found / "model").files, read_manifest(expected / "model").files
    for name in ("adapter_config.json",):  # peft writes a set of names, in any order
        hashes.pop(name, None)
        wanted.pop(name, None)
    assert any(name.endswith(".safetensors") for name in wanted)
    assert hashes == wanted
    for split in ("dev", "test"):
        name = f"{split}.predictions.jsonl"
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert without_times(read_log(found)) == without_times(read_log(expected))
    one, other = (
        without_times(json.loads((folder / "record.json").read_text(encoding="utf-8")))
        for folder in (found, expected)
    )
    for record in (one, other):
        record["settings"]["run"].pop("dir")
        record["settings"].pop("data")
        for split in record["data"].values():
            split.pop("path")
    assert one == other


def tear_log(folder: Path) -> None:
    """A line that the kill cut in two."""
    with (folder / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "batch", "epo')


@pytest.mark.parametrize("variant", RUNS)
def test_killed_everywhere_equals_uninterrupted(variant: str, tmp_path: Path) -> None:
    expected = uninterrupted(variant)
    settings = run_settings(tmp_path, variant, "run")
    bombs = TRAINING + FINISHING * (variant in ("lora-crf", "lstm"))  # the end is alike for all
    for number, bomb in enumerate(bombs):
        assert train_in_child(settings, resume=number > 0, bomb=bomb) == KILLED, bomb
        assert not (settings.run.dir / "record.json").exists()
        tear_log(settings.run.dir)
    assert train_in_child(settings, resume=True) == 0
    assert_same_run(settings.run.dir, expected)
    assert not (settings.run.dir / "checkpoints").exists()


@pytest.mark.parametrize("variant", ["lora-crf", "lstm"])
def test_killed_from_outside_at_random_moments(variant: str, tmp_path: Path) -> None:
    """SIGKILL from another process, whenever the log or the checkpoints say that it is time."""
    expected = uninterrupted(variant)
    settings = run_settings(tmp_path, variant, "run")
    folder, draw = settings.run.dir, random.Random(variant)

    def at_draft() -> Callable[[], bool]:
        """A new one: a killed run may have left its own."""
        old = set((folder / "checkpoints").glob(".draft-*"))
        return lambda: bool(set((folder / "checkpoints").glob(".draft-*")) - old)

    def at_line(number: int) -> Callable[[], bool]:
        log = folder / "log.jsonl"
        return lambda: log.exists() and log.read_bytes().count(b"\n") >= number

    early, late = draw.randint(1, 4), draw.randint(6, 9)
    assert kill_when(settings, at_line(early), resume=True) == KILLED
    codes = [kill_when(settings, at_draft(), resume=True)]
    codes += [kill_when(settings, at_line(late), resume=True)]
    codes += [kill_when(settings, at_draft(), resume=True)]
    assert KILLED in codes  # later ones may come too late
    assert train_in_child(settings, resume=True) == 0
    assert_same_run(folder, expected)


def test_the_command_line_killed_and_resumed(tmp_path: Path) -> None:
    """The same through `nertune train`, in a process that nobody prepared."""
    expected = uninterrupted("full")
    settings = run_settings(tmp_path, "full", "run")
    recipe = tmp_path / "full.toml"
    recipe.write_text(as_toml(settings), encoding="utf-8")
    assert train_in_child(settings, bomb=TRAINING[1]) == KILLED
    refused = run("train", recipe)
    assert refused.code == 2
    assert "holds an unfinished run; use --resume" in refused.error
    done = run_process("train", recipe, "--resume", "--test", "--json")
    assert done.code == 0, done.stderr
    assert "resumed: epoch" in done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    assert_same_run(settings.run.dir, expected)


def as_toml(settings: Settings) -> str:
    """A recipe that says the same as these settings."""
    lines = []
    for section, values in settings.to_dict().items():
        lines.append(f"[{section}]")
        # JSON's strings, numbers, booleans and lists are TOML's too.
        lines += [f"{key} = {json.dumps(v)}" for key, v in values.items() if v not in (None, {})]
    return "\n".join(lines) + "\n"


# What may not be resumed


@cache
def killed_once() -> Path:
    """The folder with data and run of a run that was killed in its second epoch."""
    folder = session_folder() / "killed"
    folder.mkdir()
    bomb = Bomb("nertune.training.trainer:rate_factor", call=9)
    assert train_in_child(run_settings(folder, "lstm-crf", "run"), bomb=bomb) == KILLED
    return folder


@pytest.fixture
def killed(tmp_path: Path) -> Settings:
    """A copy of it, with a checkpoint in the middle of an epoch."""
    shutil.copytree(killed_once(), tmp_path, dirs_exist_ok=True)
    return run_settings(tmp_path, "lstm-crf", "run")


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    part = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: part})


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        ("train", {"learning_rate": 0.02}, "train.learning_rate was 0.01 and is 0.02 now"),
        ("train", {"epochs": 9}, "train.epochs was 5 and is 9 now"),
        ("run", {"seed": 5}, "run.seed"),
        ("lstm", {"dropout": 0.2}, "lstm.dropout"),
        ("lstm", {"hidden_size": 8}, "lstm.hidden_size"),
        ("model", {"decoder": "softmax"}, "model.decoder"),
        ("data", {"dev": ""}, "data.dev"),
    ],
)
def test_other_settings_are_refused_by_name(
    section: str, values: dict[str, Any], key: str, killed: Settings
) -> None:
    before = (killed.run.dir / "log.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=key) as caught:
        train(changed(killed, section, **values), resume=True)
    assert "\n" not in str(caught.value)
    assert (killed.run.dir / "log.jsonl").read_bytes() == before


def test_other_data_are_refused(killed: Settings) -> None:
    write_jsonl(Path(killed.data.train), SENTENCES[:7])
    with pytest.raises(CheckpointError, match=r"data\.train"):
        train(killed, resume=True)


def test_another_dev_file_with_the_same_name_is_refused(killed: Settings) -> None:
    other = write_jsonl(killed.run.dir.parent / "dev.jsonl", SENTENCES[::-1])
    with pytest.raises(CheckpointError, match=r"data\.dev"):
        train(changed(killed, "data", dev=str(other)), resume=True)


def test_another_encoder_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """Under LoRA the frozen base is in no checkpoint."""
    base = tmp_path / "base"
    shutil.copytree(tiny_bert(), base)
    settings = changed(run_settings(tmp_path, "lora", "run"), "model", encoder=str(base))
    bomb = Bomb("nertune.training.trainer:rate_factor", call=9)
    assert train_in_child(settings, bomb=bomb) == KILLED
    shutil.copy(tiny_bert(seed=1) / "model.safetensors", base)
    with pytest.raises(CheckpointError, match="encoder"):
        train(settings, resume=True)


def test_the_same_data_elsewhere_may_be_resumed(killed: Settings) -> None:
    moved = Path(killed.data.train).rename(killed.run.dir.parent / "moved.jsonl")
    settings = changed(killed, "data", train=str(moved), dev=str(moved), test=str(moved))
    train(settings, score_test=True, resume=True)
    assert_same_run(killed.run.dir, uninterrupted("lstm-crf"))


def checkpoint_folder(settings: Settings) -> Path:
    return max((settings.run.dir / "checkpoints").glob("step-*"))


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
        return
    middle = len(data) // 2
    path.write_bytes(
        {
            "empty": b"",
            "truncated": data[:-1],
            "longer": data + b"\0",
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "list": b"[]",
            "null": b"null",
            "no keys": b"{}",
            "binary": b"\xff\xfe\0",
        }[how]
    )


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "longer", "flipped"])
@pytest.mark.parametrize("name", ["weights", "best", "optimizer", "rng"])
def test_a_damaged_tensor_file(name: str, how: str, killed: Settings) -> None:
    damage(checkpoint_folder(killed) / f"{name}.safetensors", how)
    assert_refused(killed)


@pytest.mark.parametrize(
    "how", ["missing", "empty", "truncated", "flipped", "list", "null", "no keys", "binary"]
)
def test_a_damaged_state(how: str, killed: Settings) -> None:
    damage(checkpoint_folder(killed) / "state.json", how)
    assert_refused(killed)


def assert_refused(settings: Settings) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(settings, resume=True)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert str(settings.run.dir) in message
    assert "--overwrite" in message


def test_files_that_are_no_checkpoints_do_not_matter(killed: Settings) -> None:
    folder = killed.run.dir / "checkpoints"
    (folder / ".draft-1").mkdir(exist_ok=True)
    (folder / ".draft-1" / "weights.safetensors").write_bytes(b"half")
    train(killed, score_test=True, resume=True)
    assert_same_run(killed.run.dir, uninterrupted("lstm-crf"))


# Runs that are there already


def test_a_finished_run(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, "lstm", "run", epochs=1)
    first = train(settings)
    with pytest.raises(ConfigError, match="holds a finished run; use --overwrite"):
        train(settings)
    before = (settings.run.dir / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(settings, resume=True) == json.loads(json.dumps(first))
    assert (settings.run.dir / "model" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(CheckpointError, match=r"train\.epochs = 1, not 2"):
        train(changed(settings, "train", epochs=2), resume=True)
    again = train(settings, overwrite=True)
    assert without_times(again) == without_times(first)
    with pytest.raises(ConfigError, match="exclude each other"):
        train(settings, resume=True, overwrite=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settings": 1}'])
def test_a_damaged_record(text: str, tmp_path: Path) -> None:
    settings = run_settings(tmp_path, "lstm", "run", epochs=1)
    settings.run.dir.mkdir()
    (settings.run.dir / "record.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"record\.json") as caught:
        train(settings, resume=True)
    assert "\n" not in str(caught.value)


def test_overwrite_starts_again_and_spares_what_is_not_the_runs(killed: Settings) -> None:
    (killed.run.dir / "notes.txt").write_text("mine")
    train(killed, score_test=True, overwrite=True)
    assert (killed.run.dir / "notes.txt").read_text() == "mine"
    (killed.run.dir / "notes.txt").unlink()
    assert_same_run(killed.run.dir, uninterrupted("lstm-crf"))


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, "lstm", "run")
    assert train_in_child(settings, bomb=TRAINING[0]) == KILLED
    assert CheckpointStore(settings.run.dir / "checkpoints").latest() is None
    train(settings, score_test=True, resume=True)
    assert_same_run(settings.run.dir, uninterrupted("lstm"))
