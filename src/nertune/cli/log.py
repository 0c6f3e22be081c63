"""The library's log, as a command shows it on stderr."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

__all__ = ["notify", "show_left_out", "show_log", "show_warnings"]


def notify(console: Console, message: str) -> None:
    """One plain line."""
    console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)


class _ToConsole(logging.Handler):
    """Shows what the library logs; a warning stands out, and is shown once."""

    def __init__(self, console: Console, level: int):
        super().__init__(level)
        self._console = console
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        line = record.getMessage()
        if record.levelno < logging.WARNING:
            notify(self._console, line)
        elif line not in self._warned:
            self._warned.add(line)
            self._console.print(
                f"warning: {line}",
                style="bold yellow", markup=False, emoji=False, highlight=False, soft_wrap=True,
            )  # fmt: skip


def show_left_out(files: Sequence[Path], console: Console) -> None:
    """Say which files of folders are not read, since they are of no format."""
    if files:
        told = f"{len(files)} files left out, which are of no format (first: {files[0]})"
        console.print(told, markup=False, soft_wrap=True)


def show_warnings(console: Console) -> None:
    """Print what nertune warns of from now on; in the place of an earlier such display."""
    log = logging.getLogger("nertune")
    for handler in [h for h in log.handlers if isinstance(h, _ToConsole)]:
        log.removeHandler(handler)
    if not log.handlers:  # an application's own handlers stay as they are
        log.addHandler(_ToConsole(console, logging.WARNING))


@contextlib.contextmanager
def show_log(console: Console, level: int = logging.INFO) -> Iterator[None]:
    """Print what `logging.getLogger("nertune")` gets from this level on.

    Inside, no other such display prints the same; an application's own handlers stay as they are.
    """
    log = logging.getLogger("nertune")
    before, threshold = [h for h in log.handlers if isinstance(h, _ToConsole)], log.level
    handler = _ToConsole(console, level)
    for other in before:
        log.removeHandler(other)
    log.addHandler(handler)
    if not log.isEnabledFor(level):
        log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(threshold)
        for other in before:
            log.addHandler(other)
