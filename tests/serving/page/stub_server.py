"""A server that answers as `nertune serve` does, with names from a list instead of a model."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from itertools import accumulate
from typing import Any

PAGE = files("nertune").joinpath("serving", "page", "index.html")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:"
)
EVIL = "<img src=x onerror=\"document.title='broken'\">"
LABELS = ["PERSON", "LOCATION", "ORGANIZATION", "TIME"]

# Of each model: surface, label, score. They differ in every way that two models can.
NAMES: dict[str, list[tuple[str, str, float]]] = {
    "news": [
        ("王小明", "PERSON", 0.98), ("北京大学", "ORGANIZATION", 0.91), ("昨天", "TIME", 0.55),
        ("林小满", "PERSON", 0.97), ("深圳", "LOCATION", 0.93), ("云雀科技", "ORGANIZATION", 0.71),
        ("武汉", "LOCATION", 0.88), ("José", "PERSON", 0.64), ("ليلى حداد", "PERSON", 0.95),
        ("الإسكندرية", "LOCATION", 0.9), ("沈砚秋", "PERSON", 0.99), ("兰州", "LOCATION", 0.96),
        ("👩‍🔬", "PERSON", 0.31), ("Harriet Okonkwo", "PERSON", 0.99), ("Lisbon", "LOCATION", 0.9),
        ("Zoe\u0301", "PERSON", 0.8), ("王明", "PERSON", 0.9), ("南京", "LOCATION", 0.8),
    ],
    "law": [
        ("王小明", "PERSON", 0.93), ("北京", "LOCATION", 0.87), ("昨天", "TIME", 0.5),
        ("林小满", "ORGANIZATION", 0.52), ("深圳", "LOCATION", 0.9), ("云雀", "ORGANIZATION", 0.6),
        ("坐高铁", "TIME", 0.4), ("沈砚秋", "PERSON", 0.99), ("黄河水利", "LOCATION", 0.5),
        ("兰州", "LOCATION", 0.96), ("ليلى", "PERSON", 0.7),
    ],
    "nested": [
        ("北京大学第三医院", "ORGANIZATION", 0.9), ("北京大学", "ORGANIZATION", 0.8),
        ("北京", "LOCATION", 0.95), ("大学第三", "TIME", 0.3), ("苏州市", "LOCATION", 0.9),
        ("苏州市工业园区", "LOCATION", 0.85), ("上海", "LOCATION", 0.93),
        ("上海交通大学医学院附属瑞金医院", "ORGANIZATION", 0.9),
        ("上海交通大学", "ORGANIZATION", 0.7),
        ("广州市", "LOCATION", 0.9), ("广州市妇女儿童医疗中心", "ORGANIZATION", 0.8),
    ],
    EVIL: [("王小明", EVIL, 0.9)],
    "wide": [(sign, f"类型-{sign}", 0.9) for sign in "甲乙丙丁戊己庚辛壬癸子丑寅卯"],
}  # fmt: skip


def places(text: str, unit: str) -> list[int]:
    """For each code point, how many units stand before it; the length of the text at the end."""
    encoding = {"codepoint": "utf-32-le", "utf16": "utf-16-le", "byte": "utf-8"}[unit]
    size = {"codepoint": 4, "utf16": 2, "byte": 1}[unit]
    return [0, *accumulate(len(character.encode(encoding)) // size for character in text)]


def find_entities(text: str, model: str, unit: str) -> list[dict[str, Any]]:
    found, place_of = [], places(text, unit)
    for surface, label, score in NAMES[model]:
        start = text.find(surface)
        while start >= 0:
            end = start + len(surface)
            found.append(
                {"start": place_of[start], "end": place_of[end], "label": label, "text": surface,
                 "score": score}
            )  # fmt: skip
            start = text.find(surface, end)
    return sorted(found, key=lambda e: (e["start"], e["end"], e["label"]))


def labels_of(model: str) -> list[str]:
    found = list(dict.fromkeys(label for _, label, _ in NAMES[model]))
    return LABELS if set(found) <= set(LABELS) else found


def refusal(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


class StubServer(ThreadingHTTPServer):
    """The server; its attributes say how it misbehaves.

    Attributes:
        models: names of those that it lists.
        busy: requests of /v1/tag that are answered with 503 before one is served.
        key: what requests under /v1 must carry; empty: nothing.
        hold: where it is set, requests of /v1/tag wait for it.
        reply: where it is set, what /v1/tag answers: status and body.
        requests: bodies of /v1/tag, in order.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.reset()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        self.models = list(NAMES)
        self.busy = 0
        self.key = ""
        self.hold: threading.Event | None = None
        self.reply: tuple[int, Any] | None = None
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves is no error."""


class Handler(BaseHTTPRequestHandler):
    server: StubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests print what they need."""

    def answer(self, status: int, body: Any, **headers: str) -> None:
        payload = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
        self.send(status, payload, "application/json", **headers)

    def send(self, status: int, payload: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def is_refused(self) -> bool:
        key = self.server.key
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self.answer(401, refusal("unauthorized", "give a key"), WWW_Authenticate="Bearer")
        return True

    def do_GET(self) -> None:
        if self.path == "/":
            policy = {"Content_Security_Policy": POLICY}
            self.send(200, PAGE.read_bytes(), "text/html; charset=utf-8", **policy)
        elif self.path == "/v1/models" and not self.is_refused():
            about = {"encoder": "bert-tiny", "method": "lora", "unit": "char", "decoder": "softmax"}
            models = [
                {"name": name, "labels": labels_of(name), **about, "mixes": True, "why_not": ""}
                for name in self.server.models
            ]  # fmt: skip
            self.answer(200, {"default": "news", "models": models})
        elif not self.path.startswith("/v1/models"):
            self.answer(404, refusal("not_found", "there is nothing here"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.is_refused():
            return
        hold = self.server.hold  # a test may set it to nothing once it sees the request
        self.server.requests.append(body)
        if hold is not None:
            hold.wait(20)
        if self.server.busy:
            self.server.busy -= 1
            self.answer(503, refusal("busy", "the queue is full"), Retry_After="1")
        elif self.server.reply is not None:
            self.answer(*self.server.reply)
        else:
            unit = body.get("offsets", "codepoint")
            texts = body.get("texts") or [body["text"]]
            model = body.get("model", "news")
            found = [{"entities": find_entities(text, model, unit)} for text in texts]
            self.answer(200, {"model": model, "offsets": unit, "documents": found})
