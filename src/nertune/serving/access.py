"""Who asked for what, as one line of JSON a request; no text ever, and no query."""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO

__all__ = ["RequestInfo", "current_request", "log_json", "log_request"]

_ACCESS = logging.getLogger("nertune.access")
_MOST_LINES = 10_000  # that wait to be written
_END_SECONDS = 2.0


@dataclass(slots=True)
class RequestInfo:
    """What is known of the request that is being answered.

    Attributes:
        method, path: the path as the service defines it, e.g. `/v1/models/{name}/load`.
        started: by `time.perf_counter`.
        model: that answered.
        texts, characters: that were tagged.
        error: the code of the answer, where that is an error.
    """

    method: str = ""
    path: str = ""
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    texts: int = 0
    characters: int = 0
    error: str = ""


current_request: ContextVar[RequestInfo | None] = ContextVar("current_request", default=None)
"""Filled in by whoever learns something about it."""


def log_request(info: RequestInfo, status: int) -> None:
    """Log an answered request; 499 stands for a client that left before."""
    values = {
        "method": info.method,
        "path": info.path,
        "status": status,
        "seconds": round(time.perf_counter() - info.started, 4),
    }
    if info.model:
        values |= {"model": info.model, "texts": info.texts, "characters": info.characters}
    if info.error:
        values["error"] = info.error
    _ACCESS.info("%s", json.dumps(values, ensure_ascii=False)[1:-1])


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = json.dumps({"time": f"{moment}.{int(record.msecs):03d}Z"})[1:-1]
        if record.name == _ACCESS.name:
            return f"{{{head}, {record.getMessage()}}}"
        rest = {"level": record.levelname.lower(), "message": record.getMessage()}
        return f"{{{head}, {json.dumps(rest, ensure_ascii=False)[1:-1]}}}"


class _Background(logging.Handler):
    """Writes in a thread of its own: a reader of the log that hangs must not hold up the service.

    Lines that find no room are dropped, and their number is written in their place.
    """

    def __init__(self, stream: TextIO):
        super().__init__()
        self.setFormatter(_Lines())
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._num_dropped = 0
        self._thread = threading.Thread(target=self._write, name="nertune-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line into the queue."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._num_dropped += 1

    def end(self) -> None:
        """Write what is left, where that can be done soon."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=_END_SECONDS)
        self._thread.join(_END_SECONDS)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._num_dropped = self._num_dropped, 0
            with suppress(OSError, ValueError):  # nobody reads it any more
                if dropped:
                    self._stream.write(json.dumps({"level": "warning", "dropped": dropped}) + "\n")
                self._stream.write(line + "\n")
                self._stream.flush()


@contextmanager
def log_json(stream: TextIO | None = None) -> Iterator[None]:
    """Write requests, warnings and errors of the service to a stream, a line of JSON each."""
    handler = _Background(stream or sys.stderr)
    for name, level in (
        ("nertune.access", logging.INFO),
        ("nertune", logging.WARNING),
        ("uvicorn.error", logging.WARNING),
        ("asyncio", logging.WARNING),
    ):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.propagate = False
        log.setLevel(level)
    try:
        yield
    finally:
        handler.end()
