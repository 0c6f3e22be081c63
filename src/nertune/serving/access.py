"""Who asked for what, as one line of JSON a request; no text ever, and no query."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO

__all__ = ["RequestInfo", "current_request", "log_json", "log_request"]

_ACCESS = logging.getLogger("nertune.access")


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


def log_json(stream: TextIO | None = None) -> None:
    """Write requests, warnings and errors of the service to a stream, a line of JSON each."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines())
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
