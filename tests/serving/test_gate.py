"""Keys, limits on bodies, slow bodies, draining, the log of requests."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any, TextIO, cast

import pytest

from helpers.serving import FakeEngine, Service, service
from nertune.serving.access import log_json
from nertune.serving.gate import Keys
from nertune.serving.limits import Limits

pytestmark = pytest.mark.anyio


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer("wrong"), 401),
        (bearer(""), 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Basic not-base64"}, 401),
        ({"authorization": "Bearer schlüssel".encode()}, 401),
        (basic("wrong"), 401),
        (bearer("secret"), 200),
        (basic("secret"), 200),
        (bearer("admin"), 200),
    ],
)
async def test_a_key_is_asked_for(headers: dict[str, Any], status: int) -> None:
    async with service(FakeEngine(), keys=Keys(api="secret", admin="admin")) as served:
        for method, path, body in (("POST", "/v1/tag", {"text": "a"}), ("GET", "/v1/models", None)):
            answer = await served.http.request(method, path, headers=headers, json=body)
            assert answer.status_code == status
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "no_key"
        unknown = await served.http.get("/anything", headers=headers)
        assert unknown.status_code == (401 if status == 401 else 404)
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/"):
            assert (await served.http.get(path)).status_code == 200


async def test_models_change_with_the_admin_key_alone() -> None:
    for keys, given, status in (
        (Keys(api="k", admin="a"), "k", 401),
        (Keys(api="k", admin="a"), "a", 404),
        (Keys(admin="a"), "", 401),
        (Keys(), "", 403),
        (Keys(api="k"), "k", 403),
    ):
        async with service(FakeEngine(), keys=keys) as served:
            for action in ("load", "unload"):
                answer = await served.http.post(f"/v1/models/zzz/{action}", headers=bearer(given))
                assert answer.status_code == status, (keys, given, action)


async def call(
    served: Service, messages: list[MutableMapping[str, Any]], *, hang: float = 60
) -> list[MutableMapping[str, Any]]:
    """Send a body in pieces, then nothing more for a while; what was answered."""
    sent: list[MutableMapping[str, Any]] = []
    scope = {
        "type": "http", "method": "POST", "path": "/v1/tag", "raw_path": b"/v1/tag",
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http", "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.3"}, "server": ("test", 80),
        "client": ("test", 1),
    }  # fmt: skip
    left = list(messages)
    end = asyncio.get_running_loop().time() + hang

    async def receive() -> MutableMapping[str, Any]:
        if left:
            return left.pop(0)
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await served.gate(scope, receive, send)
    return sent


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_body_that_hangs_is_given_up() -> None:
    async with service(FakeEngine(), limits=Limits(body_seconds=0.2)) as served:
        sent = await call(served, [piece(b'{"text": "a')])
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "slow_body"


async def test_a_body_without_length_is_stopped_at_the_limit() -> None:
    async with service(FakeEngine(), limits=Limits(max_body_bytes=1000)) as served:
        sent = await call(served, [piece(b"x" * 400) for _ in range(5)] + [piece(b"", more=False)])
    assert sent[0]["status"] == 413
    assert "1000" in json.loads(sent[1]["body"])["error"]["message"]


async def test_unread_bodies_share_a_bounded_room() -> None:
    limits = Limits(max_buffered_bytes=1000, body_seconds=0.5)
    async with service(FakeEngine(), limits=limits) as served:
        held = asyncio.create_task(call(served, [piece(b" " * 900)]))
        await asyncio.sleep(0.05)
        sent = await call(served, [piece(b" " * 200), piece(b"", more=False)])
        assert sent[0]["status"] == 503
        assert (await held)[0]["status"] == 408
        after = await call(served, [piece(b'{"text": "a"}' + b" " * 500, more=False)])
        assert after[0]["status"] == 200


async def test_a_client_that_leaves_while_it_sends_is_forgotten() -> None:
    async with service(FakeEngine()) as served:
        sent = await call(served, [piece(b'{"text"')], hang=0.01)
        assert not sent
        assert served.gate.num_requests == 0


async def test_a_client_that_leaves_while_it_waits_drops_its_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine(["a"], seconds=0.3)
    limits = Limits(batch_tokens=10, queue_batches=100)
    body = json.dumps({"texts": ["x" * 20] * 20}).encode()
    async with service(engine, limits=limits) as served:
        engine.batches.clear()
        with caplog.at_level(logging.INFO, "nertune.access"):
            await call(served, [piece(body, more=False)], hang=0.1)
        assert (await served.tag(text="y")).status_code == 200
    assert len(engine.batches) <= 4
    assert '"status": 499' in caplog.text


async def test_too_many_requests_at_once_are_refused() -> None:
    engine = FakeEngine(["a"], seconds=0.3)
    limits = Limits(max_requests=3, queue_batches=100)
    async with service(engine, limits=limits) as served:
        answers = await asyncio.gather(*(served.tag(text="x") for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 3
        assert (await served.tag(text="x")).status_code == 200


async def test_while_it_drains_nothing_new_is_let_in() -> None:
    engine = FakeEngine(["a"], seconds=0.2)
    async with service(engine) as served:
        accepted = asyncio.create_task(served.tag(text="x"))
        await asyncio.sleep(0.1)
        served.gate.is_draining = True
        refused = await served.tag(text="y")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"] == "5"
        assert (await served.http.get("/readyz")).status_code == 503
        assert (await served.http.get("/livez")).status_code == 200
        assert (await accepted).status_code == 200


async def test_requests_are_logged_without_their_texts(caplog: pytest.LogCaptureFixture) -> None:
    async with service(FakeEngine()) as served:
        with caplog.at_level(logging.INFO, "nertune.access"):
            await served.tag(texts=["geheim", "geheimer"], model="b")
            await served.http.post("/v1/tag?text=geheim", content=b'{"text": "geheim", "x": 1}',
                                   headers={"content-type": "application/json"})  # fmt: skip
            await served.http.get("/v1/geheim")
            await served.http.post("/v1/documents", content=b'{"text": "geheim"}\ngeheim')
    lines = [json.loads(f"{{{record.getMessage()}}}") for record in caplog.records]
    for line in lines:
        assert 0 <= line.pop("seconds") < 10
    assert lines == [
        {"method": "POST", "path": "/v1/tag", "status": 200, "model": "b", "texts": 2,
         "characters": 14},
        {"method": "POST", "path": "/v1/tag", "status": 422, "error": "invalid_request"},
        {"method": "GET", "path": "other", "status": 404, "error": "no_such_path"},
        {"method": "POST", "path": "/v1/documents", "status": 200, "model": "a", "texts": 1,
         "characters": 6},
    ]  # fmt: skip
    assert "geheim" not in caplog.text


async def test_metrics_count_what_was_done() -> None:
    async with service(FakeEngine()) as served:
        for _ in range(3):
            await served.tag(texts=["abc", "de"], model="b")
        await served.tag(text="a", model="nobody")
        await served.http.get("/a/path/that/is/not/there")
        text = (await served.http.get("/metrics")).text
    for line in (
        'nertune_requests_total{method="POST",path="/v1/tag",status="200"} 3.0',
        'nertune_requests_total{method="POST",path="/v1/tag",status="404"} 1.0',
        'nertune_requests_total{method="GET",path="other",status="404"} 1.0',
        'nertune_texts_total{model="b"} 6.0',
        'nertune_characters_total{model="b"} 15.0',
        "nertune_queue_tokens 0.0",
        "nertune_batch_texts_sum 6.0",
        "nertune_models 2.0",
        "nertune_requests_in_flight 0.0",
    ):
        assert line in text, line
    assert "nobody" not in text


class Stuck:
    """A stream whose reader hangs until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.written: list[str] = []

    def write(self, text: str) -> None:
        self.go.wait(30)
        self.written.append(text)

    def flush(self) -> None:
        pass


@pytest.fixture
def loggers() -> Iterator[None]:
    """The loggers that `log_json` takes over are as they were."""
    names = ("nertune.access", "nertune", "uvicorn.error", "asyncio")
    found = [logging.getLogger(name) for name in names]
    before = [(log, [*log.handlers], log.propagate, log.level) for log in found]
    yield
    for log, handlers, propagate, level in before:
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


@pytest.mark.usefixtures("loggers")
async def test_a_log_that_nobody_reads_holds_up_nothing() -> None:
    stream = Stuck()
    with log_json(cast("TextIO", stream)):
        async with service(FakeEngine()) as served:
            for _ in range(30):
                assert (await served.tag(text="geheim")).status_code == 200
        logging.getLogger("nertune.serving").error("a fault")
        stream.go.set()
    lines = [json.loads(line) for line in stream.written]
    assert [line.get("status") for line in lines] == [200] * 30 + [None]
    assert lines[0]["time"].endswith("Z")
    assert (lines[-1]["level"], lines[-1]["message"]) == ("error", "a fault")
