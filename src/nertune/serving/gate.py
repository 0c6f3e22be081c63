"""What stands before the endpoints: keys, limits, time limits, the log of requests.

Plain ASGI, so that what is not let in costs little, and nothing hides a client that leaves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from nertune.errors import RequestError
from nertune.serving.access import RequestInfo, current_request, log_request
from nertune.serving.limits import Limits
from nertune.serving.metrics import Metrics
from nertune.serving.scheduler import where

__all__ = ["Gate", "Keys", "error_body", "error_headers", "find_key"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

_LOG = logging.getLogger("nertune.serving")
_OPEN = frozenset({"/", "/livez", "/readyz", "/metrics", "/openapi.json"})
"""Paths that need no key and are answered while the server drains: none of them tags."""
_STREAMED = "/v1/documents"
_DISCARDED_BYTES = 32 << 20  # of a refused body, so that its sender reads the answer
_DISCARD_SECONDS = 5.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_LEFT = 499  # as nginx logs it; nobody gets it


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may ask.

    Attributes:
        api: of all requests that tag; empty asks for none.
        admin: of those that load and unload models; empty forbids them.
    """

    api: str = field(default="", repr=False)
    admin: str = field(default="", repr=False)

    def allows(self, given: str) -> bool:
        """Whether a request with this key may tag."""
        return not self.api or _is_key(given, self.api) or self.allows_admin(given)

    def allows_admin(self, given: str) -> bool:
        """Whether a request with this key may change the models."""
        return bool(self.admin) and _is_key(given, self.admin)


def _is_key(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def find_key(scope: MutableMapping[str, Any]) -> str:
    """The key of a request: a Bearer token, or the password of Basic authentication.

    Tools that send no token of their own can mostly send a password.
    """
    given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
    kind, _, value = given.decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return str(value.strip())
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def error_body(error: RequestError) -> bytes:
    """The answer to a request that is refused."""
    content = {"error": {"code": error.code, "message": str(error)}}
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def error_headers(error: RequestError) -> dict[str, str]:
    """What goes with it."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


class Gate:
    """Lets requests in.

    Args:
        app: the endpoints.
        limits: bounds.
        metrics: counts.
        keys: who may ask.

    Attributes:
        is_draining: new requests are refused, those that were let in are answered.
        num_requests: that were let in and are not yet answered.
    """

    def __init__(self, app: _App, limits: Limits, metrics: Metrics, keys: Keys):
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._keys = keys
        self._buffered_bytes = 0
        self._num_streams = 0
        self.is_draining = False
        self.num_requests = 0

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        info = RequestInfo(method=scope["method"] if scope["method"] in _METHODS else "other")
        token = current_request.set(info)
        answer = _Answer(send)
        try:
            await self._let_in(scope, receive, answer)
        except RequestError as error:
            await self._refuse(error, info, receive, answer)
        except Exception as error:
            _LOG.error("a request failed: %s", where(error))
            await self._refuse(_unexpected(), info, receive, answer)
        finally:
            current_request.reset(token)
            self._note(info, scope, answer)

    async def _let_in(
        self, scope: MutableMapping[str, Any], receive: _Receive, answer: _Answer
    ) -> None:
        if scope["path"] in _OPEN:
            await self._app(scope, receive, answer.send)
            return
        self._check(scope)
        self.num_requests += 1
        self._metrics.requests_in_flight.inc()
        try:
            if scope["path"] == _STREAMED:
                await self._stream(scope, receive, answer)
                return
            held = [0]
            try:
                body = await self._read(scope, receive, answer, held)
                await self._app(scope, _Replay(body, receive), answer.send)
            finally:
                self._buffered_bytes -= held[0]
        finally:
            self.num_requests -= 1
            self._metrics.requests_in_flight.dec()

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        """What can be said before the body is read."""
        if not self._keys.allows(find_key(scope)):
            raise RequestError(
                "this server asks for a key: send the header 'Authorization: Bearer KEY'",
                status=401,
                code="no_key",
            )
        if self.is_draining:
            raise RequestError(
                "the server is shutting down; send the request again in a moment",
                status=503,
                code="draining",
                retry_after=5,
            )
        if self.num_requests >= self._limits.max_requests:
            raise RequestError(
                f"{self.num_requests} requests are being answered, and no more are taken; "
                "send the request again in 1 s",
                status=503,
                code="overloaded",
                retry_after=1,
            )
        coded = next((v for k, v in scope["headers"] if k == b"content-encoding"), b"identity")
        if coded.lower() not in (b"", b"identity"):
            raise RequestError(
                "the body is compressed (Content-Encoding); send it as it is",
                status=415,
                code="compressed",
            )

    async def _stream(
        self, scope: MutableMapping[str, Any], receive: _Receive, answer: _Answer
    ) -> None:
        if self._num_streams >= self._limits.max_streams:
            raise RequestError(
                f"{self._num_streams} streams of documents are being answered, and no more are "
                "taken; send the request again in 5 s",
                status=503,
                code="overloaded",
                retry_after=5,
            )
        self._num_streams += 1
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._num_streams -= 1

    async def _read(
        self,
        scope: MutableMapping[str, Any],
        receive: _Receive,
        answer: _Answer,
        held: list[int],
    ) -> bytes:
        """The body, within its limits; `held` says how much of the shared room it takes."""
        most = self._limits.max_body_bytes
        told = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
        if told.isdigit() and int(told) > most:
            raise self._too_long(f"{int(told)}")
        parts = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("the client left", status=_CLIENT_LEFT, code="left")
                    parts += message.get("body", b"")
                    self._buffered_bytes += len(parts) - held[0]
                    held[0] = len(parts)
                    if len(parts) > most:
                        raise self._too_long(f"more than {most}")
                    if not message.get("more_body", False):
                        answer.has_read_all = True
                        return bytes(parts)
                    if self._buffered_bytes > self._limits.max_buffered_bytes:
                        raise RequestError(
                            "the server holds as many unread requests as it can; send the "
                            "request again in 1 s",
                            status=503,
                            code="overloaded",
                            retry_after=1,
                        )
        except TimeoutError:
            answer.has_given_up = True
            raise RequestError(
                f"the body did not come within {self._limits.body_seconds:g} s",
                status=408,
                code="slow_body",
            ) from None

    def _too_long(self, got: str) -> RequestError:
        return RequestError(
            f"the body has {got} bytes, and the server takes {self._limits.max_body_bytes}; send "
            "the texts in several requests, or to /v1/documents",
            status=413,
            code="body_too_long",
        )

    async def _refuse(
        self, error: RequestError, info: RequestInfo, receive: _Receive, answer: _Answer
    ) -> None:
        info.error = error.code
        if error.status == 503:
            self._metrics.refused.labels(error.code).inc()
        if answer.status:  # it has begun: all that is left is to cut it off
            answer.is_cut_off = True
            return
        if error.status == _CLIENT_LEFT:
            answer.status = _CLIENT_LEFT
            return
        body = error_body(error)
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        headers |= error_headers(error)
        if not answer.has_read_all:
            await _discard(receive, answer)
            headers["connection"] = "close"
        pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
        await answer.send({"type": "http.response.start", "status": error.status, "headers": pairs})
        await answer.send({"type": "http.response.body", "body": body})

    def _note(self, info: RequestInfo, scope: MutableMapping[str, Any], answer: _Answer) -> None:
        info.path = _template(scope)
        status = answer.status or _CLIENT_LEFT
        log_request(info, status)
        seconds = asyncio.get_running_loop().time() - answer.started
        self._metrics.requests.labels(info.path, info.method, str(status)).inc()
        self._metrics.seconds.labels(info.path).observe(seconds)


def _template(scope: MutableMapping[str, Any]) -> str:
    """The path as the service defines it: one that it does not define may hold anything."""
    path = getattr(scope.get("route"), "path", "")
    if path:
        return str(path)
    return scope["path"] if scope["path"] in {*_OPEN, _STREAMED, "/v1/tag"} else "other"


async def _discard(receive: _Receive, answer: _Answer) -> None:
    """Read on for a while: a client that still sends would not see the answer."""
    left = _DISCARDED_BYTES
    if answer.has_given_up:
        return
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class _Answer:
    """Sends, and remembers what was sent."""

    def __init__(self, send: _Send):
        self._send = send
        self.started = asyncio.get_running_loop().time()
        self.status = 0
        self.has_read_all = False
        self.has_given_up = False
        self.is_cut_off = False

    async def send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Replay:
    """`receive` that gives a body that was read before; then only that the client left."""

    def __init__(self, body: bytes, receive: _Receive):
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> _Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _unexpected() -> RequestError:
    return RequestError(
        "the server failed, which is its own fault; its log says where", status=500,
        code="internal",
    )  # fmt: skip
