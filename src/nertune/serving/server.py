"""The process: socket, signals, and connections that hang."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nertune.errors import ConfigError
from nertune.serving.gate import Gate
from nertune.serving.limits import Limits

__all__ = ["bind", "build_server", "is_loopback"]

_HEADER_BYTES = 32 << 10


def bind(host: str, port: int) -> socket.socket:
    """A socket for the service, before anything slow is loaded.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host}: is no address of this machine ({error})") from error
    found = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        reasons = {
            errno.EADDRINUSE: f"port {port} is in use; choose another with --port",
            errno.EACCES: f"port {port} needs more rights; choose one above 1023 with --port",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine; see --host",
        }
        told = reasons.get(error.errno or 0, str(error))
        raise ConfigError(f"cannot listen: {told}") from error
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build_server(gate: Gate, limits: Limits, ready: Callable[[], None]) -> uvicorn.Server:
    """A server that runs until SIGTERM or SIGINT, then answers what was accepted.

    Args:
        gate: the application.
        limits: how long to wait for whom.
        ready: called when requests are accepted.
    """
    config = uvicorn.Config(
        gate,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, int(limits.header_seconds)),
        timeout_graceful_shutdown=5,  # by then all is answered, or has had `drain_seconds`
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    return _Server(config, gate, limits, ready)


class _Server(uvicorn.Server):
    """Answers what was let in before it closes the door."""

    def __init__(
        self, config: uvicorn.Config, gate: Gate, limits: Limits, ready: Callable[[], None]
    ):
        super().__init__(config)
        self._gate = gate
        self._limits = limits
        self._ready = ready
        self._draining: asyncio.Task[None] | None = None
        self._asyncio_loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        self._asyncio_loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one ends at once."""
        if self._gate.is_draining or self._asyncio_loop is None:
            self.force_exit = sig == signal.SIGINT
            self.should_exit = True
            return
        self._gate.is_draining = True
        self._asyncio_loop.call_soon_threadsafe(self._begin_to_drain)

    def _begin_to_drain(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        end = asyncio.get_running_loop().time() + self._limits.drain_seconds
        while self._gate.num_requests and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        self.should_exit = True


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which ends connections that wait for nothing."""

    class Patient(H11Protocol):
        _headers: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_headers()
            elif self._headers is None:  # a request that begins on a connection that was used
                self._wait_for_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_headers()
            if self._writing is not None:
                self._writing.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing = self.loop.call_later(limits.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            # Closing waits until the client has taken everything; that may be never.
            self.loop.call_later(limits.write_seconds, self.transport.abort)

        def _wait_for_headers(self) -> None:
            self._headers = self.loop.call_later(limits.header_seconds, self.transport.abort)

        def _stop_headers(self) -> None:
            if self._headers is not None:
                self._headers.cancel()
                self._headers = None

    return Patient
