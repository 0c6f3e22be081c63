"""What the library logs, as the lines of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console

from nertune.experiments.progress import notify

__all__ = ["print_logs"]


class _ToConsole(logging.Handler):
    def __init__(self, console: Console):
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        notify(self._console, record.getMessage())


@contextlib.contextmanager
def print_logs(console: Console) -> Iterator[None]:
    """Print what `logging.getLogger("nertune")` gets inside, notices included."""
    log = logging.getLogger("nertune")
    handler, level = _ToConsole(console), log.level
    log.addHandler(handler)
    if not log.isEnabledFor(logging.INFO):
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
