"""The client, against a server that answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nertune.errors import ConfigError, DataError, NertuneError, RequestError, ServerError
from nertune.serving.client import Client
from nertune.types import Document, Entity, Scope

MODELS = {
    "default": "news",
    "models": [
        {"name": "news", "labels": ["LOC", "PER"], "unit": "char"},
        {"name": "law", "labels": ["LAW"], "unit": "word"},
    ],
}
Answer = tuple[int, dict[str, str], bytes]


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, {"content-type": "application/json", **headers}, json.dumps(value).encode()


def refusal(status: int, code: str, message: str = "no", **headers: str) -> Answer:
    return as_json({"error": {"code": code, "message": message}}, status, **headers)


def find(body: dict[str, Any]) -> Answer:
    """Every 王 is a person."""
    documents = []
    for text in body["texts"]:
        found = [
            {"start": i, "end": i + 1, "label": "PER", "text": "王", "score": 1 / (i + 3)}
            for i, c in enumerate(text)
            if c == "王"
        ]
        documents.append({"entities": found})
    return as_json({"model": body["model"], "offsets": "codepoint", "documents": documents})


class Scripted:
    """A server on a free port.

    Attributes:
        tag: answers `/v1/tag`, given the body.
        first: answers that come before those.
        bodies, headers: of the requests to `/v1/tag`.
    """

    def __init__(self) -> None:
        self.tag: Callable[[dict[str, Any]], Answer] = find
        self.models: Answer = as_json(MODELS)
        self.first: list[Answer] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                scripted.headers.append(dict(self.headers))
                self.reply(scripted.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                scripted.bodies.append(body)
                scripted.headers.append(dict(self.headers))
                self.reply(scripted.first.pop(0) if scripted.first else scripted.tag(body))

            def reply(self, answer: Answer) -> None:
                status, headers, content = answer
                if status == 0:  # the connection breaks
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:  # clients that were told to be impatient
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    found = Scripted()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nertune.serving.client._FIRST_PAUSE", 0.01)
    monkeypatch.delenv("NERTUNE_API_KEY", raising=False)


def test_it_tags_as_a_predictor_does(server: Scripted) -> None:
    with Client(server.url) as client:
        assert client.labels == ("LOC", "PER")
        assert client.tag("小王").entities == (Entity(1, 2, "PER", 0.25),)
        given = Document("王 a", (Entity(2, 3, "LOC"),), "d7", ((0, 1), (2, 3)), {"id": "d7"})
        (tagged,) = client.tag_documents([replace(given, scope=Scope(("LOC",)))])
        assert tagged == given.with_entities([Entity(0, 1, "PER", 1 / 3)])
        (plain,) = client.tag_documents([given], with_scores=False)
        assert plain.entities == (Entity(0, 1, "PER"),)
        assert client.visible_units(given) == [(0, 1), (2, 3)]
        assert list(client.tag_texts([])) == []
    assert all(body["model"] == "news" for body in server.bodies)


def test_many_texts_come_in_order_and_a_few_at_a_time(server: Scripted) -> None:
    """The later request may be answered first; only so many texts are taken ahead."""

    def slow_first(body: dict[str, Any]) -> Answer:
        time.sleep(0.2 if body is server.bodies[0] else 0)
        return find(body)

    server.tag = slow_first
    taken = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            taken.append(number)
            yield "。" * (number % 7) + "王"

    with Client(server.url) as client:
        found = client.tag_texts(texts())
        first = next(found)
        assert len(taken) <= 6 * 32 + 1
        starts = [document.entities[0].start for document in (first, *found)]
    assert starts == [number % 7 for number in range(1000)]
    assert max(len(body["texts"]) for body in server.bodies) == 32


def test_long_texts_are_sent_alone(server: Scripted) -> None:
    with Client(server.url) as client:
        list(client.tag_texts(["x" * 15_000, "y" * 15_000, "z"]))
    assert sorted(len(body["texts"]) for body in server.bodies) == [1, 2]


def test_sentences_and_a_least_score(server: Scripted) -> None:
    with Client(server.url) as client:
        (tagged,) = client.tag_batches(
            [[Document("小王。 小小王。")]], by_sentence=True, min_score=0.25
        )
    assert tagged.entities == (Entity(1, 2, "PER", 0.25),)
    assert server.bodies[0]["texts"] == ["小王。", "小小王。"]


def test_a_busy_server_is_asked_again_when_it_says(server: Scripted) -> None:
    server.first = [refusal(503, "overloaded", retry_after="1"), refusal(503, "draining")]
    begun = time.monotonic()
    with Client(server.url) as client:
        assert client.tag("王").entities
    assert time.monotonic() - begun >= 1.0
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [0, 502])
def test_a_server_that_restarts_is_asked_again(server: Scripted, status: int) -> None:
    """Its connections break; a proxy in front of it answers 502."""
    server.first = [(status, {"content-type": "text/html"}, b"<p>Bad gateway")] * 2
    with Client(server.url) as client:
        assert client.tag("王").entities


def test_patience_ends(server: Scripted) -> None:
    server.tag = lambda _: refusal(503, "overloaded", "too much work", retry_after="30")
    with (
        Client(server.url, patience=0.5) as client,
        pytest.raises(RequestError, match="too much work") as caught,
    ):
        list(client.tag_texts(["a", "b"]))
    assert caught.value.status == 503
    assert len(server.bodies) == 1  # also of two texts: neither is asked for alone


def test_one_refused_text_is_named(server: Scripted) -> None:
    """The texts beside it are answered first."""

    def refuse(body: dict[str, Any]) -> Answer:
        bad = any("!" in text for text in body["texts"])
        return refusal(413, "text_too_long", "the text is too long") if bad else find(body)

    server.tag = refuse
    documents = [Document(text, id=text) for text in ("王", "x!", "王")]
    with Client(server.url) as client, pytest.raises(RequestError, match="x!: the text is too"):
        list(client.tag_documents(documents))


def test_a_client_that_is_given_up_asks_no_more(server: Scripted) -> None:
    def only_first(body: dict[str, Any]) -> Answer:
        return find(body) if body["texts"][0] == "0" else refusal(503, "overloaded")

    server.tag = only_first
    client = Client(server.url, patience=20)
    found = client.tag_texts(f"{n}" for n in range(10_000))
    next(found)
    begun = time.monotonic()
    found.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 2
    before = len(server.bodies)
    time.sleep(0.3)
    assert len(server.bodies) == before
    client.close()


def test_keys(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NERTUNE_API_KEY", "of-the-environment")
    with Client(server.url) as client, Client(server.url, api_key="given") as other:
        client.tag("王")
        other.tag("王")
    sent = [headers.get("authorization") for headers in server.headers]
    assert sent == ["Bearer of-the-environment"] * 2 + ["Bearer given"] * 2
    server.models = refusal(401, "no_key", "this server asks for a key")
    with pytest.raises(RequestError, match="asks for another key than that in NERTUNE_API_KEY"):
        Client(server.url).tag("王")
    with pytest.raises(RequestError, match="asks for a key: set NERTUNE_API_KEY to the server's"):
        Client(server.url, api_key="").tag("王")
    with pytest.raises(ConfigError, match="holds what no header can"):
        Client(server.url, api_key="a\nb")


def test_models(server: Scripted) -> None:
    with Client(server.url, model="law") as client:
        assert client.labels == ("LAW",)
        assert client.visible_units(Document("ab cd")) == [(0, 2), (3, 5)]
        client.tag("王")
    assert server.bodies[0]["model"] == "law"
    with pytest.raises(ConfigError, match="serves no model 'x'; it serves news, law"):
        Client(server.url, model="x").tag("王")


def test_a_server_that_is_away() -> None:
    """It is told at once, not after `patience`."""
    begun = time.monotonic()
    with pytest.raises(ServerError, match=r"cannot be reached \(.*\): is the server running"):
        Client("127.0.0.1:9").tag("王")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ((200, {"content-type": "text/html"}, b"<p>Hello"), "status 200 and text/html"),
        ((404, {"content-type": "text/html"}, b""), "status 404 and text/html"),
        ((301, {"location": "https://elsewhere/"}, b""), "sends on to 'https://elsewhere/'"),
        (as_json([1]), "JSON that is no object"),
        (as_json({"models": ["a"]}), "lists no models"),
        (as_json({"models": []}), "serves no model"),
        (as_json({"detail": "Not Found"}, 404), "status 404 and application/json"),
    ],
)
def test_what_is_no_nertune_server(server: Scripted, models: Answer, told: str) -> None:
    server.models = models
    with pytest.raises(ServerError, match="is no nertune server") as caught:
        Client(server.url).tag("王")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"documents": []},
        {"documents": [{}]},
        {"documents": [{"entities": [{"start": 0, "end": 9, "label": "PER"}]}]},
        {"documents": [{"entities": [{"start": 1, "end": 1, "label": "PER"}]}]},
        {"documents": [{"entities": [{"start": "0", "end": 1, "label": "PER"}]}]},
        {},
    ],
)
def test_answers_that_cannot_be_true(server: Scripted, answer: Any) -> None:
    server.tag = lambda _: as_json(answer)
    with pytest.raises(ServerError, match="is no nertune server"):
        Client(server.url).tag("王")


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:port", "http://x/?a=1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        Client(url)


def test_a_text_that_is_none(server: Scripted) -> None:
    with pytest.raises(DataError, match="half a surrogate pair"):
        Client(server.url).tag("\ud800")


def test_a_slow_server(server: Scripted) -> None:
    def sleep(body: dict[str, Any]) -> Answer:
        time.sleep(0.5)
        return find(body)

    server.tag = sleep
    with pytest.raises(NertuneError, match="did not answer in time"):
        Client(server.url, timeout=0.1, patience=0.2).tag("王")
