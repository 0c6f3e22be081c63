"""`POST /v1/documents`: JSON lines in, JSON lines out, as `nertune predict` writes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run
from helpers.serving import FakeEngine, make_engine, service, tiny_models
from helpers.tiny import SENTENCES
from nertune.serving.documents import DocumentStream
from nertune.serving.limits import Limits
from nertune.serving.tagging import Tagging

pytestmark = pytest.mark.anyio

RECORDS: list[dict[str, Any]] = [
    {"text": document.text, "id": f"n{i}", "meta": {"from": "tiny"}, "entities": [[0, 1, "OLD"]]}
    for i, document in enumerate(SENTENCES)
]


def lines_of(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records)


@pytest.mark.parametrize("model", ["news", "law", "web"])
async def test_the_answer_is_what_predict_writes(model: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines_of(RECORDS))
    done = run("predict", str(tiny_models()[model]), "--file", str(tmp_path / "in.jsonl"),
               "--format", "jsonl", "--device", "cpu")  # fmt: skip
    assert done.code == 0
    async with service(make_engine()) as served:
        url = f"/v1/documents?model={model}"
        answer = await served.http.post(url, content=lines_of(RECORDS))
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    found = [json.loads(line) for line in answer.text.splitlines()]
    scores = [[e.pop("score") for one in answers for e in one["entities"]]
              for answers in (expected, found)]  # fmt: skip
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert found == expected
    assert [one["id"] for one in found] == [r["id"] for r in RECORDS]
    assert found[0]["meta"] == {"from": "tiny"}


async def test_a_bad_line_is_told_and_the_others_are_answered() -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "one", "id": 1}\r',
        b"",
        b"nonsense",
        b'{"no text": 1}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "' + b"x" * 60 + b'"}',
        b'{"text": "' + b"x" * 300 + b'"}',
        b"[" * 90,
        b'{"text": "REFUSE"}',
        b'{"text": ""}',
        b'{"text": "last", "tokens": [[0, 4]]}',
    ]
    limits = Limits(max_body_bytes=200, max_characters=50)
    async with service(FakeEngine(["a"]), limits=limits) as served:
        answer = await served.http.post("/v1/documents", content=b"\n".join(lines))
    assert answer.status_code == 200
    found = [json.loads(line) for line in answer.text.splitlines()]
    errors = {one["error"]["line"]: one["error"]["code"] for one in found if "error" in one}
    assert errors == {
        3: "bad_line", 4: "bad_line", 5: "bad_line", 6: "bad_line", 7: "text_too_long",
        8: "line_too_long", 9: "bad_line", 10: "cannot_answer",
    }  # fmt: skip
    assert all(one["error"]["message"] for one in found if "error" in one)
    assert "王明在京" in answer.text  # of an example, and not escaped
    assert found[0] == {"text": "one", "id": 1, "entities": [
        {"start": 0, "end": 3, "label": "X", "text": "one", "score": 0.9}]}  # fmt: skip
    assert [one["text"] for one in found if "text" in one] == ["one", "", "last"]
    assert found[-1]["tokens"] == [[0, 4]]


async def test_an_unknown_model_is_refused_before_anything_is_read() -> None:
    async with service(FakeEngine()) as served:
        answer = await served.http.post("/v1/documents?model=c", content=b"x")
        assert answer.status_code == 404
        empty = await served.http.post("/v1/documents", content=b"")
        assert (empty.status_code, empty.content) == (200, b"")


async def test_the_number_of_streams_is_bounded() -> None:
    limits = Limits(max_streams=1)
    async with service(FakeEngine(seconds=0.2), limits=limits) as served:
        asked = [served.http.post("/v1/documents", content=b'{"text": "a"}') for _ in range(2)]
        answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200, 503]


class Body:
    """A body of endless lines that counts what was taken of it."""

    def __init__(self, line: bytes, most: int):
        self.line, self.most, self.taken = line, most, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        self.taken += 1
        more = self.taken < self.most
        return {"type": "http.request", "body": self.line, "more_body": more}


async def take(answers: AsyncIterator[bytes], number: int) -> list[dict[str, Any]]:
    return [json.loads(await anext(answers)) for _ in range(number)]


async def test_what_is_not_taken_is_not_read() -> None:
    """Back-pressure: a client that takes no answers cannot make the server hold its documents."""
    body = Body(b'{"text": "' + b"x" * 9_980 + b'"}\n', most=5_000)
    tagging = Tagging(FakeEngine(["a"]))
    await tagging.start()
    try:
        answers = DocumentStream(tagging, "a", body, lambda: False).answers()
        assert len(await take(answers, 1)) == 1
        await asyncio.sleep(0.5)
        assert body.taken < 70  # half a megabyte
        await take(answers, 300)
        await asyncio.sleep(0.2)
        assert 300 < body.taken < 370
        await answers.aclose()  # type: ignore[attr-defined]
    finally:
        await tagging.stop()


async def test_a_stream_leaves_room_in_the_queue() -> None:
    limits = Limits(batch_tokens=1000, queue_batches=2)
    body = Body(b'{"text": "' + b"x" * 100 + b'"}\n', most=400)
    tagging = Tagging(FakeEngine(["a"], seconds=0.05), limits)
    await tagging.start()
    try:
        answers = DocumentStream(tagging, "a", body, lambda: False).answers()
        found = asyncio.create_task(take(answers, 400))
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert len(await tagging.tag([])) == 0  # would be refused past the watermark
        assert len(await found) == 400
    finally:
        await tagging.stop()


async def test_a_stream_that_stops_coming_is_ended_with_a_reason() -> None:
    async def receive() -> MutableMapping[str, Any]:
        if not sent:
            sent.append(1)
            return {"type": "http.request", "body": b'{"text": "a"}\n{"te', "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError

    sent: list[int] = []
    tagging = Tagging(FakeEngine(["a"]), Limits(body_seconds=0.3))
    await tagging.start()
    try:
        stream = DocumentStream(tagging, "a", receive, lambda: False)
        found = [json.loads(line) async for line in stream.answers()]
    finally:
        await tagging.stop()
    assert found[0]["text"] == "a"
    assert found[1]["error"]["code"] == "slow_body"
    assert found[1]["error"]["line"] == 2


async def test_a_draining_server_answers_what_it_read_and_says_where_it_stopped() -> None:
    body = Body(b'{"text": "a"}\n', most=10_000)
    tagging = Tagging(FakeEngine(["a"], seconds=0.05))
    await tagging.start()
    try:
        stream = DocumentStream(tagging, "a", body, lambda: body.taken >= 30)
        found = [json.loads(line) async for line in stream.answers()]
    finally:
        await tagging.stop()
    assert [one.get("text") for one in found] == ["a"] * 30 + [None]
    assert found[-1]["error"]["code"] == "draining"
    assert found[-1]["error"]["line"] == 31
