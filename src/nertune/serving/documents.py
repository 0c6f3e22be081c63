"""Documents as JSON lines, in and out at once, in bounded memory.

The reader takes a line, waits until the queue has room, and puts its document there; the writer
answers in order. Neither is more than a bounded number of characters ahead of the other: where the
client does not take answers, the writer waits, then the reader, then the client's own sending.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.data.formats.base import Findings, ReadOptions, Source, WriteOptions
from nertune.data.formats.jsonl import Jsonl
from nertune.errors import DataError, NertuneError, RequestError
from nertune.serving.scheduler import Job, explain
from nertune.serving.tagging import Tagging
from nertune.types import Document

__all__ = ["DocumentStream"]

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_AHEAD_CHARACTERS = 500_000  # of lines that were read and whose answers are not yet sent
_AHEAD_LINES = 1024
_LINE = Path("line")
_FORMAT = Jsonl()
_OPTIONS = WriteOptions(scores=True)


@dataclass(slots=True)
class _Line:
    """A line that was read: a document on its way, or what is wrong with it."""

    number: int
    characters: int
    job: Job | None = None
    error: RequestError | None = None


class _ClientLeft(Exception):
    """The connection is closed."""


class DocumentStream:
    """Answers one stream.

    Args:
        tagging: tags.
        model: the name of a model that is loaded.
        receive: gives the body.
        is_draining: whether the server is shutting down: then no further line is read.
    """

    def __init__(
        self, tagging: Tagging, model: str, receive: _Receive, is_draining: Callable[[], bool]
    ):
        self._tagging = tagging
        self._model = model
        self._receive = receive
        self._is_draining = is_draining
        self._lines: deque[_Line] = deque()
        self._characters = 0
        self._is_read = False
        self._has_left = False
        self._changed = asyncio.Event()

    async def answers(self) -> AsyncIterator[bytes]:
        """Lines of JSON, each as soon as it and all before it are done."""
        reader = asyncio.create_task(self._read())
        try:
            while True:
                if self._has_left:
                    return
                if self._lines:
                    line = self._lines[0]
                    answer = await self._answer(line)
                    self._lines.popleft()
                    self._characters -= line.characters
                    self._changed.set()
                    yield answer
                elif self._is_read:
                    return
                else:
                    await self._change()
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            for line in self._lines:
                if line.job is not None:
                    line.job.drop()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _answer(self, line: _Line) -> bytes:
        if line.job is not None:
            (found,) = await line.job.answer
            if isinstance(found, Document):
                return _write(found)
            line.error = explain(found)
        assert line.error is not None
        error = {"code": line.error.code, "message": str(line.error), "line": line.number}
        answer = json.dumps({"error": error}, ensure_ascii=False)
        return answer.encode("utf-8", "backslashreplace") + b"\n"

    # Reading

    async def _read(self) -> None:
        number = 0
        try:
            async for raw in self._raw_lines():
                number += 1
                if raw is not None and not raw.strip(b" \t\r\n"):
                    continue
                await self._take(raw, number)
        except RequestError as error:
            self._put(_Line(number + 1, 0, error=error))
        except _ClientLeft:
            self._has_left = True
        finally:
            self._is_read = True
            self._changed.set()

    def _put(self, line: _Line) -> None:
        self._lines.append(line)
        self._characters += line.characters
        self._changed.set()

    async def _take(self, raw: bytes | None, number: int) -> None:
        while len(self._lines) >= _AHEAD_LINES or self._characters > _AHEAD_CHARACTERS:
            await self._change()
        limits = self._tagging.limits
        try:
            if raw is None:
                raise RequestError(
                    f"the line has more than {limits.max_body_bytes} bytes", status=413,
                    code="line_too_long",
                )  # fmt: skip
            document = _parse(raw, first=number == 1)
            self._tagging.check(document.text)
        except RequestError as error:
            self._put(_Line(number, 0, error=error))
            return
        while True:
            await self._tagging.scheduler.room()
            # Accepted texts of a stream are answered however long its client takes.
            with suppress(RequestError):  # somebody else took the room
                job = self._tagging.submit(document, self._model, seconds=float("inf"))
                break
        self._put(_Line(number, len(raw or b""), job=job))

    async def _raw_lines(self) -> AsyncIterator[bytes | None]:
        """The lines of the body; `None` for one that is too long.

        Raises:
            RequestError: nothing came for too long, or the server shuts down.
            _ClientLeft: the connection was closed before the body ended.
        """
        most = self._tagging.limits.max_body_bytes
        rest = bytearray()
        is_too_long = False
        async for block in self._blocks():
            parts = block.split(b"\n")
            for index, part in enumerate(parts):
                if not is_too_long:
                    rest += part
                    is_too_long = len(rest) > most
                if is_too_long:
                    rest.clear()
                if index < len(parts) - 1:
                    yield None if is_too_long else bytes(rest)
                    rest.clear()
                    is_too_long = False
        if rest or is_too_long:
            yield None if is_too_long else bytes(rest)

    async def _blocks(self) -> AsyncIterator[bytes]:
        seconds = self._tagging.limits.body_seconds
        more = True
        while more:
            message = await self._next(seconds)
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def _next(self, seconds: float) -> MutableMapping[str, Any]:
        """The next part of the body; the server may begin to drain while it is waited for."""
        pending = asyncio.ensure_future(self._receive())
        waited = 0.0
        try:
            while waited < seconds:
                if self._is_draining():
                    raise RequestError(
                        "the server is shutting down; this line and those behind it were not "
                        "read, send them again in a moment",
                        status=503,
                        code="draining",
                    )
                done, _ = await asyncio.wait({pending}, timeout=min(1.0, seconds))
                if done:
                    return pending.result()
                waited += min(1.0, seconds)
        finally:
            pending.cancel()
        raise RequestError(
            f"nothing came for {seconds:g} s; this line and those behind it were not read",
            status=408,
            code="slow_body",
        )


def _parse(raw: bytes, *, first: bool) -> Document:
    """A document of a line.

    Raises:
        RequestError: the line holds none.
    """
    try:
        text = raw.decode("utf-8-sig" if first else "utf-8")
        source = Source(_LINE, text.encode())
        return next(_FORMAT.read(source, ReadOptions(ignore_tags=True), Findings()))
    except UnicodeDecodeError as error:
        told = f"not UTF-8 at byte {error.start}"
    except DataError as error:
        told = str(error).removeprefix(f"{_LINE}:1: ")
    except (NertuneError, ValueError, RecursionError) as error:
        told = str(error)
    raise RequestError(told, status=422, code="bad_line")


def _write(document: Document) -> bytes:
    """A line of `nertune predict --format jsonl`."""
    fitted = _FORMAT.fit(document, _OPTIONS).document
    assert fitted is not None
    stream = io.StringIO()
    _FORMAT.write([fitted], stream, _OPTIONS)
    return stream.getvalue().encode("utf-8")
