"""What a command shows on stderr while it works."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from rich.console import Console
from rich.progress import TimeRemainingColumn

from nertune.cli.display import PretrainingBar, TrainingBar
from nertune.cli.log import notify, show_log, show_warnings
from nertune.experiments.notices import keep_quiet
from nertune.training.observer import Observers
from nertune.training.progress import EpochReport

LOG = logging.getLogger("nertune")


def report(epoch: int, f1: float | None = 0.5) -> EpochReport:
    dev = None if f1 is None else {"precision": 0.25, "recall": 0.75, "f1": f1}
    return EpochReport(epoch=epoch, loss=1.25, seconds=2.04, tokens_per_second=1234.5, dev=dev)


def shown(*, terminal: bool, name: str = "lora") -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, color_system=None)
    with TrainingBar(console) as bar:
        told = Observers([bar])
        told.on_begin(name, 12)
        told.on_resume(3, 7)
        told.on_batch(3, 10, 40, 1.5, 9876.0)
        told.on_epoch(report(3), is_best=True)
        told.on_batch(4, 10, 40, 1.5, 9876.0)
        told.on_epoch(report(4), is_best=False)
    return stream.getvalue()


def test_nothing_where_there_is_no_terminal() -> None:
    assert shown(terminal=False) == ""


@pytest.mark.parametrize("name", ["lora", "[/lora]", "[bold]", ":smile:"])
def test_a_bar_on_a_terminal(name: str) -> None:
    text = shown(terminal=True, name=name)
    assert name in text
    # Behind the last line above the bar; earlier states are drawn only if time allows.
    assert "epoch 4/12  loss 1.5000  dev F1 0.5000  9,876 units/s" in text
    assert text.count("\n") < 8


@pytest.mark.parametrize("message", ["a [/b] [red]c", ":smile: 100 %", "x" * 300, "王\t小明"])
def test_a_notice_is_printed_as_it_is(message: str) -> None:
    stream = io.StringIO()
    notify(Console(file=stream, width=80), message)
    # rich lays out tabs by where they stand.
    assert stream.getvalue().split() == message.split()
    assert "\t" in message or stream.getvalue() == message + "\n"
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("bar_type", [TrainingBar, PretrainingBar])
def test_what_is_left_at_the_end_is_nothing(
    bar_type: type[TrainingBar] | type[PretrainingBar],
) -> None:
    """And not the time that it took, under the word "left"."""
    bar = bar_type(Console(file=io.StringIO(), force_terminal=True, width=120))._progress
    now = 0.0
    (task,) = bar.tasks
    bar.get_time = task._get_time = lambda: now
    bar.reset(task.id, total=100)
    for done in range(0, 101, 10):
        now = 12.0 * done
        bar.update(task.id, completed=done)
    assert task.finished
    assert task.elapsed == 1200
    shown = [str(column(task)) for column in bar.columns if isinstance(column, TimeRemainingColumn)]
    assert shown == ["00:00"]


def test_the_log_is_shown_inside_alone() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    before = LOG.level, list(LOG.handlers)
    with show_log(console):
        LOG.info("a notice")
        LOG.warning("take care")
        LOG.warning("take care")
        with keep_quiet():
            LOG.warning("of a trial")
    LOG.info("behind it")
    assert stream.getvalue().splitlines() == ["a notice", "warning: take care"]
    assert (LOG.level, list(LOG.handlers)) == before


def test_the_same_is_not_shown_twice() -> None:
    """A command's own display takes the place of the one for warnings, and gives it back."""
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    before = list(LOG.handlers)
    LOG.handlers.clear()
    try:
        show_warnings(console)
        with warnings.catch_warnings(), show_log(console):
            LOG.warning("one")
        LOG.warning("two")
        LOG.info("three")
    finally:
        LOG.handlers[:] = before
    assert stream.getvalue().splitlines() == ["warning: one", "warning: two"]
