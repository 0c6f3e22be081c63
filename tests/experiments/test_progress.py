"""What a run says while it goes: lines on stderr, and a log that is never wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.shown import logged
from nertune.experiments.progress import EpochLines, RunLog
from nertune.training.progress import EpochReport


def report(epoch: int, f1: float | None = 0.5) -> EpochReport:
    dev = None if f1 is None else {"precision": 0.25, "recall": 0.75, "f1": f1}
    return EpochReport(epoch=epoch, loss=1.25, seconds=2.04, tokens_per_second=1234.5, dev=dev)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_epochs(log: RunLog, epochs: range, batches: int = 40) -> None:
    for epoch in epochs:
        for done in range(20, batches + 1, 20):
            log.on_batch(epoch, done, batches, 1.0, 10.0)
        log.on_epoch(report(epoch), is_best=True)


def events(path: Path) -> list[tuple[str, int, int]]:
    return [(line["event"], line["epoch"], line.get("batch", 0)) for line in read(path)]


def test_the_lines_of_a_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.on_batch(1, 20, 33, 1.5, 99.0)
    log.on_epoch(report(1), is_best=True)
    # Without closing it: a killed run's log is whole up to its last line.
    assert read(tmp_path / "log.jsonl") == [
        {"event": "batch", "epoch": 1, "batch": 20, "batches": 33, "loss": 1.5,
         "tokens_per_second": 99.0},
        {"event": "epoch", "epoch": 1, "loss": 1.25, "seconds": 2.04, "tokens_per_second": 1234.5,
         "dev": {"precision": 0.25, "recall": 0.75, "f1": 0.5}, "best": True},
    ]  # fmt: skip
    log.close()


@pytest.mark.parametrize(
    ("epoch", "batch", "kept"),
    [
        (1, 0, []),
        (2, 0, [("batch", 1, 20), ("batch", 1, 40), ("epoch", 1, 0)]),
        (2, 20, [("batch", 1, 20), ("batch", 1, 40), ("epoch", 1, 0), ("batch", 2, 20)]),
        (2, 33, [("batch", 1, 20), ("batch", 1, 40), ("epoch", 1, 0), ("batch", 2, 20)]),
    ],
)
def test_resuming_drops_what_the_checkpoint_does_not_hold(
    epoch: int, batch: int, kept: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    write_epochs(RunLog(path), range(1, 3))
    with path.open("a") as stream:
        stream.write('{"event": "bat')  # cut off by the kill
    log = RunLog(path)
    log.on_resume(epoch, batch)
    assert events(path) == kept
    log.on_batch(epoch, 40, 40, 1.0, 10.0)
    assert events(path) == [*kept, ("batch", epoch, 40)]
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_new_run_replaces_an_older_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_epochs(RunLog(path), range(1, 3))
    write_epochs(RunLog(path), range(1, 2))
    assert len(events(path)) == 3


def test_resuming_without_a_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.on_resume(3, 0)
    write_epochs(log, range(3, 4))
    assert events(tmp_path / "log.jsonl")[0] == ("batch", 3, 20)


def test_a_tracker_gets_the_same(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    log = RunLog(tmp_path / "log.jsonl", track=lambda values, step: told.append((step, values)))
    write_epochs(log, range(1, 3))
    assert [step for step, _ in told] == [20, 40, 40, 60, 80, 80]
    assert told[0][1] == {"train/loss": 1.0, "train/tokens_per_second": 10.0}
    assert told[2][1]["dev/f1"] == 0.5
    assert told[2][1]["epoch/loss"] == 1.25


def lines_of(f1: float | None = 0.5) -> list[str]:
    lines = EpochLines()
    with logged() as said:
        lines.on_begin("lora", 12)
        lines.on_resume(3, 7)
        lines.on_batch(3, 10, 40, 1.5, 9876.0)
        lines.on_epoch(report(3, f1), is_best=True)
        lines.on_epoch(report(4, f1), is_best=False)
    return said


def test_a_line_per_epoch() -> None:
    assert lines_of() == [
        "resumed: epoch 3, 7 batches done",
        "epoch  3/12  loss 1.2500  dev P 0.2500 R 0.7500 F1 0.5000 *  2.0 s  1,234 units/s",
        "epoch  4/12  loss 1.2500  dev P 0.2500 R 0.7500 F1 0.5000  2.0 s  1,234 units/s",
    ]


def test_without_dev_no_scores_are_shown() -> None:
    assert not any("dev" in line for line in lines_of(f1=None))
