"""A service in the test's own process, and one in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

import nertune
from helpers.tiny import make_predictor, make_settings, save_predictor, session_folder
from nertune.errors import NertuneError
from nertune.inference.mixed import ServedModel
from nertune.serving.app import build_app
from nertune.serving.engine import Engine
from nertune.serving.gate import Gate, Keys
from nertune.serving.limits import Limits
from nertune.serving.server import build_server
from nertune.serving.start import Computing, load_engine
from nertune.serving.tagging import Tagging
from nertune.types import Document, Entity

__all__ = ["FakeEngine", "Service", "in_thread", "make_engine", "service", "started", "tiny_models"]


@cache
def tiny_models() -> dict[str, Path]:
    """Saved taggers that were not trained: an adapter, another with a CRF, a full model."""
    found = {}
    for name, variant, seed in (
        ("news", "lora", 6), ("law", "lora-crf", 3), ("web", "full", 6),
    ):  # fmt: skip
        folder = session_folder() / f"served-{name}"
        folder.mkdir()
        settings = make_settings(folder, variant, {"run": {"seed": seed}})
        # More noise would make logits so large that the order of additions shows in the scores.
        save_predictor(folder / "model", make_predictor(settings, noise=0.2), settings)
        found[name] = folder / "model"
    return found


def make_engine(*names: str) -> Engine:
    """What serves the tiny models of these names, or all of them."""
    models = tiny_models()
    chosen = {name: str(models[name]) for name in names or models}
    return load_engine(chosen, Computing(device="cpu"))


class FakeEngine:
    """Finds one entity in every text, as slowly as it is told; remembers its batches.

    Texts that hold `BOOM` raise what no engine should, those that hold `REFUSE` are refused.
    """

    def __init__(self, names: Sequence[str] = ("a", "b"), seconds: float = 0.0):
        self.names = tuple(names)
        self.seconds = seconds
        self.batches: list[list[tuple[str, str]]] = []

    def describe(self, name: str) -> ServedModel:
        return ServedModel(name, ("X", "Y"), "none", "lora", "char", "softmax", True)

    def add(self, name: str, folder: str | Path) -> None:
        self.names = (*self.names, name)

    def remove(self, name: str) -> None:
        self.names = tuple(one for one in self.names if one != name)

    def count_tokens(self, document: Document, name: str) -> int:
        return len(document.text) + 2

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        given = [names] * len(documents) if isinstance(names, str) else list(names)
        self.batches.append([(d.text, n) for d, n in zip(documents, given, strict=True)])
        time.sleep(self.seconds)
        if any("BOOM" in document.text for document in documents):
            raise RuntimeError("a fault")
        return [self._tag(document) for document in documents]

    @staticmethod
    def _tag(document: Document) -> Document | NertuneError:
        if "REFUSE" in document.text:
            return NertuneError("not this one")
        found = (Entity(0, len(document.text), "X", 0.9),) if document.text else ()
        return document.with_entities(found)


class Service:
    """A client of an application in this process.

    Attributes:
        http: asks it.
        tagging: what it tags with.
        gate: the application.
    """

    def __init__(self, http: httpx.AsyncClient, tagging: Tagging, gate: Gate):
        self.http = http
        self.tagging = tagging
        self.gate = gate

    async def tag(self, **body: Any) -> httpx.Response:
        return await self.http.post("/v1/tag", json=body)


@asynccontextmanager
async def service(
    engine: Engine,
    *,
    limits: Limits | None = None,
    keys: Keys | None = None,
    models: Path | None = None,
) -> AsyncIterator[Service]:
    """The application with its computing thread."""
    tagging = Tagging(engine, limits, models=models)
    gate = build_app(tagging, keys)
    await tagging.start()
    transport = httpx.ASGITransport(gate)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Service(http, tagging, gate)
    finally:
        await tagging.stop()


@contextmanager
def in_thread(gate: Gate, listener: socket.socket, limits: Limits) -> Iterator[str]:
    """The server in a thread of this process; its address."""
    is_ready = threading.Event()
    server = build_server(gate, limits, is_ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert is_ready.wait(60)
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


class started:
    """`nertune serve` in a process of its own.

    Attributes:
        url: where it listens.
        process: the process.
    """

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None):
        code = "from nertune.cli.commands import main; main()"
        source = str(Path(nertune.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", *arguments, "--port", "0", "--device", "cpu"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        self.lines: list[str] = []
        self.url = ""
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if " on http://" in line:
                self.url = line.split(" on ")[1].split()[0]
                break
        assert self.url, "".join(self.lines)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._log += self.process.stderr

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def rest(self) -> list[str]:
        """What it wrote since it was ready, when it has ended."""
        self._reader.join(30)
        return self._log

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        if self._reader.ident is not None:
            self._reader.join(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
