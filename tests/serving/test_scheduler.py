"""The queue: batches, fairness, watermark, deadlines, faults that stay where they are."""

from __future__ import annotations

import asyncio

import pytest

from helpers.serving import FakeEngine, service
from nertune.errors import RequestError
from nertune.serving.limits import Limits
from nertune.types import Document

pytestmark = pytest.mark.anyio


async def test_requests_share_a_batch() -> None:
    engine = FakeEngine(["a", "b"])
    async with service(engine, limits=Limits(wait_seconds=0.2)) as served:
        engine.batches.clear()
        asked = [served.tag(text=f"text {i}", model="ab"[i % 2]) for i in range(10)]
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 10
    assert [len(batch) for batch in engine.batches] == [10]
    assert {name for _, name in engine.batches[0]} == {"a", "b"}
    for i, answer in enumerate(answers):
        assert answer.json()["documents"][0]["entities"][0]["text"] == f"text {i}"


async def test_a_lone_request_does_not_wait_long() -> None:
    async with service(FakeEngine()) as served:
        await served.tag(text="a")
        started = asyncio.get_running_loop().time()
        for _ in range(10):
            await served.tag(text="a")
        assert asyncio.get_running_loop().time() - started < 1.0


async def test_batches_keep_to_their_budget_and_sort_by_length() -> None:
    engine = FakeEngine(seconds=0.02)
    limits = Limits(batch_tokens=120, queue_batches=100, wait_seconds=0.05)
    lengths = [50, 3, 40, 7, 200, 20, 1, 60, 11, 5]
    async with service(engine, limits=limits) as served:
        engine.batches.clear()
        answer = await served.tag(texts=["x" * n for n in lengths])
    assert answer.status_code == 200
    found = [document["entities"][0]["end"] for document in answer.json()["documents"]]
    assert found == lengths
    sizes = [[len(text) for text, _ in batch] for batch in engine.batches]
    assert [n for batch in sizes for n in batch] == sorted(lengths)
    assert all(sum(n + 2 for n in batch) <= 120 or len(batch) == 1 for batch in sizes)
    assert len(sizes) == 3


async def test_a_model_with_much_work_does_not_hold_up_another() -> None:
    engine = FakeEngine(["a", "b"], seconds=0.02)
    limits = Limits(batch_tokens=100, queue_batches=100, wait_seconds=0.01, max_texts=1000)
    async with service(engine, limits=limits) as served:
        engine.batches.clear()
        much = asyncio.create_task(served.tag(texts=["x" * 18] * 100, model="a"))
        await asyncio.sleep(0.05)
        little = await served.tag(text="y" * 18, model="b")
        done_before = sum(len(batch) for batch in engine.batches)
        assert little.status_code == 200
        assert not much.done()
        assert (await much).status_code == 200
    # What was cut into batches when it came is computed before it, and no more.
    assert done_before <= 40


async def test_past_the_watermark_requests_are_refused_until_there_is_room() -> None:
    engine = FakeEngine(["a"], seconds=0.3)
    limits = Limits(batch_tokens=100, queue_batches=2)
    async with service(engine, limits=limits) as served:
        asked = [asyncio.create_task(served.tag(text="x" * 60)) for _ in range(12)]
        answers = await asyncio.gather(*asked)
        later = await served.tag(text="x")
        metrics = (await served.http.get("/metrics")).text
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert 4 <= statuses.count(200) <= 6
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert later.status_code == 200
    assert f'nertune_refused_total{{reason="overloaded"}} {statuses.count(503)}.0' in metrics


async def test_a_flood_for_one_model_leaves_room_for_another() -> None:
    engine = FakeEngine(["a", "b"], seconds=0.2)
    limits = Limits(batch_tokens=100, queue_batches=2)
    async with service(engine, limits=limits) as served:
        flood = [asyncio.create_task(served.tag(text="x" * 60, model="a")) for _ in range(12)]
        await asyncio.sleep(0.05)
        other = await served.tag(text="y" * 10, model="b")
        statuses = [answer.status_code for answer in await asyncio.gather(*flood)]
    assert 503 in statuses
    assert other.status_code == 200


async def test_a_fault_stays_with_the_text_that_causes_it() -> None:
    engine = FakeEngine(["a"])
    async with service(engine, limits=Limits(wait_seconds=0.2)) as served:
        engine.batches.clear()
        texts = ["one", "BOOM", "three", "REFUSE", "five"]
        answers = await asyncio.gather(*(served.tag(text=text) for text in texts))
        together = await served.tag(texts=["one", "REFUSE"])
    assert len(engine.batches[0]) == 5
    assert [answer.status_code for answer in answers] == [200, 500, 200, 503, 200]
    assert answers[1].json()["error"]["code"] == "internal"
    assert "BOOM" not in answers[1].text
    assert together.json()["error"]["message"] == "text 1 (counted from 0): not this one"


async def test_what_is_not_answered_in_time_is_given_up() -> None:
    engine = FakeEngine(["a"])
    limits = Limits(deadline_seconds=0.5, batch_tokens=1000)
    async with service(engine, limits=limits) as served:
        engine.seconds = 0.8
        slow = await served.tag(text="slow")
        assert slow.status_code == 504
        assert slow.json()["error"]["code"] == "deadline"
        engine.seconds = 0.0
        await asyncio.sleep(1.0)
        assert (await served.tag(text="fast")).status_code == 200


async def test_work_is_dropped_when_the_client_has_left() -> None:
    engine = FakeEngine(["a"], seconds=0.3)
    limits = Limits(batch_tokens=10, queue_batches=100)
    async with service(engine, limits=limits) as served:
        engine.batches.clear()

        async def gone() -> bool:
            return True

        with pytest.raises(RequestError, match="left"):
            await served.tagging.tag([Document("x" * 20)] * 20, client_gone=gone)
        assert (await served.tag(text="y")).status_code == 200
        metrics = (await served.http.get("/metrics")).text
    assert len(engine.batches) <= 4  # one or two were on their way
    assert "nertune_queue_texts 0.0" in metrics
    name = "nertune_dropped_texts_total "
    (dropped,) = (line for line in metrics.splitlines() if line.startswith(name))
    assert float(dropped.removeprefix(name)) >= 18


async def test_batches_follow_the_measured_speed() -> None:
    engine = FakeEngine(["a"], seconds=0.1)
    async with service(engine, limits=Limits(batch_seconds=0.2)) as served:
        before = served.tagging.scheduler.batch_tokens
        engine.seconds = 0.001
        for _ in range(12):
            assert (await served.tag(texts=["x" * 4000] * 3)).status_code == 200
        assert served.tagging.scheduler.batch_tokens > 2 * before


async def test_a_batch_is_as_long_as_the_longest_text_of_late() -> None:
    engine = FakeEngine(["a"], seconds=0.1)
    async with service(engine, limits=Limits(batch_seconds=0.05)) as served:
        scheduler = served.tagging.scheduler
        usual = scheduler.batch_tokens
        assert (await served.tag(text="x" * 3 * usual)).status_code == 200
        assert scheduler.batch_tokens > 2 * usual
        engine.seconds = 0.0
        for _ in range(250):
            assert (await served.tag(text="x")).status_code == 200
        assert scheduler.batch_tokens < 2 * usual


async def test_unloading_waits_for_accepted_texts() -> None:
    engine = FakeEngine(["a", "b"], seconds=0.2)
    async with service(engine) as served:
        asked = asyncio.create_task(served.tag(text="x", model="b"))
        await asyncio.sleep(0.1)
        await served.tagging.unload("b")
        assert asked.done()
        assert (await asked).status_code == 200
        assert engine.names == ("a",)
        assert (await served.tag(text="x", model="b")).status_code == 404
