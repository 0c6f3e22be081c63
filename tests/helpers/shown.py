"""What nertune logs, as lines or as a command shows it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from nertune.cli.log import show_log
from nertune.config.pretrain import PretrainSettings
from nertune.config.run import Settings
from nertune.experiments.pretraining.pretrain import pretrain as run_pretraining
from nertune.experiments.train import train as run_training

__all__ = ["logged", "pretrain", "train"]


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that nertune logs inside, warnings among them."""
    lines: list[str] = []

    class _Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("nertune"), _Collect(logging.INFO)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def train(settings: Settings, *, console: Console, **options: Any) -> dict[str, Any]:
    """Train as the command does, what it says on a console."""
    with show_log(console):
        return run_training(settings, **options)


def pretrain(settings: PretrainSettings, *, console: Console, **options: Any) -> dict[str, Any]:
    """Pre-train as the command does, what it says on a console."""
    with show_log(console):
        return run_pretraining(settings, **options)
