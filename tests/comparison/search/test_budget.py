"""The minutes of an advice."""

from __future__ import annotations

import time

import pytest

from nertune.comparison.search.budget import Clock, Until
from nertune.training.trainer import EpochReport, Pause


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch, loss=1.0, seconds=2.0, tokens_per_second=1.0, dev=None)


def test_the_clock_counts_earlier_lives() -> None:
    clock = Clock(100.0, before=30.0, started=time.monotonic() - 20)
    assert clock.spent == pytest.approx(50.0, abs=1)
    assert clock.left == pytest.approx(50.0, abs=1)


@pytest.mark.parametrize(("budget", "last"), [(100.0, 3), (-1.0, 1)])
def test_a_run_ends_with_its_epochs_or_with_the_time(budget: float, last: int) -> None:
    kept: list[int] = []
    until = Until(3, Clock(budget), lambda: kept.append(len(until.seconds)))
    for epoch in range(1, last):
        until.on_epoch(report(epoch), is_best=True)
    with pytest.raises(Pause):
        until.on_epoch(report(last), is_best=True)
    assert kept == list(range(1, last + 1))  # what was spent is on disk after each epoch
    assert until.seconds == [2.0] * last
