"""Connections that hang are ended: while headers come, and while an answer is taken."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import httpx
import pytest

from helpers.serving import FakeEngine, in_thread
from nertune.serving.app import build_app
from nertune.serving.limits import Limits
from nertune.serving.server import bind
from nertune.serving.tagging import Tagging

LIMITS = Limits(header_seconds=1.0, body_seconds=1.0, write_seconds=1.0, max_texts=10_000)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with bind("127.0.0.1", 0) as listener:
        gate = build_app(Tagging(FakeEngine(["a"]), LIMITS))
        with in_thread(gate, listener, LIMITS) as address:
            yield address


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_ended(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def sends_until_ended(client: socket.socket, data: bytes, *, pause: float = 0.0) -> bool:
    """Send the same again and again, until that fails, or for ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            client.sendall(data)
        except TimeoutError:  # the client's own
            return False
        except OSError:
            return True
        time.sleep(pause)
    return False


def in_flight(url: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    name = "nertune_requests_in_flight "
    return float(next(s for s in text.splitlines() if s.startswith(name)).removeprefix(name))


def test_who_sends_nothing_is_ended(url: str) -> None:
    with connect(url) as client:
        started = time.monotonic()
        assert is_ended(client)
        assert time.monotonic() - started < 10


def test_headers_that_drip_are_ended(url: str) -> None:
    with connect(url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n")
        started = time.monotonic()
        assert sends_until_ended(client, b"x", pause=0.1)
        assert time.monotonic() - started < 8


def test_headers_that_drip_on_a_used_connection_are_ended(url: str) -> None:
    with connect(url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while b'"ok"' not in received:
            received += client.recv(4096)
        client.sendall(b"GET /livez HTT")
        started = time.monotonic()
        assert is_ended(client)
        assert time.monotonic() - started < 10


def test_a_connection_serves_many_requests(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    client = HTTPConnection(host, int(port), timeout=20)
    client.connect()
    client.auto_open = 0  # a connection that was ended is not opened again
    for _ in range(4):
        client.request("POST", "/v1/tag", '{"text": "a"}', {"content-type": "application/json"})
        answer = client.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        time.sleep(0.4)
    client.close()


def test_an_answer_that_is_not_taken_is_given_up(url: str) -> None:
    """The client reads nothing of megabytes; its connection and its memory are let go."""
    line = json.dumps({"text": "x" * 50_000}).encode() + b"\n"
    with connect(url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = b"POST /v1/documents HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(head)
        client.settimeout(3.0)
        chunk = f"{len(line):x}\r\n".encode() + line + b"\r\n"
        started = time.monotonic()
        assert sends_until_ended(client, chunk)
        assert time.monotonic() - started < 15
        end = time.monotonic() + 10
        while in_flight(url) and time.monotonic() < end:
            time.sleep(0.1)
        assert in_flight(url) == 0
