"""The queue: requests of many clients, in batches, through one computing thread.

All state belongs to the event loop; only `Engine` is called in the thread. A batch is formed when
the device is idle and somebody has waited `wait_seconds`, or as soon as a full one is there. While
it is computed, the next full one stands ready, so that the device does not wait for the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from nertune.errors import DataError, ModelError, NertuneError, RequestError, TokenizerError
from nertune.serving.engine import Engine
from nertune.serving.limits import Limits
from nertune.serving.metrics import Metrics
from nertune.types import Document

__all__ = ["Job", "Scheduler", "explain", "where"]

_LOG = logging.getLogger("nertune.serving")
_Result = TypeVar("_Result")

_POOL_BATCHES = 4  # texts are sorted by length within so many batches
_MOST_FLYING = 2  # batches given to the thread: one computes, one stands ready
_FEWEST_TOKENS, _MOST_TOKENS = 1024, 1 << 17  # of a batch whose size follows the measured speed
_MOST_STRETCH = 8  # times the usual size, for long texts
_FORGETTING = 0.98  # of the longest text's length, with every batch
_WARM_UP = "王小明昨天到了北京。nertune tags texts. " * 12
_SHARED = 1.5  # times the high watermark: for models that have less than their share of the queue
_SMOOTHING = 0.2  # weight of the newest measurement
_COUNTED_CHARACTERS = 20_000  # longer texts are not tokenized once more to be counted


class Job:
    """The texts of one request on their way.

    Attributes:
        answer: done when all texts are; each is a document or what went wrong with it.
        deadline: by `time.monotonic`; after it nothing is computed.
        is_dropped: nobody waits for it any more.
    """

    def __init__(self, num_documents: int, deadline: float):
        self.answer: asyncio.Future[list[Document | NertuneError]] = (
            asyncio.get_running_loop().create_future()
        )
        self.deadline = deadline
        self.is_dropped = False
        self._found: list[Document | NertuneError | None] = [None] * num_documents
        self._missing = num_documents
        if not num_documents:
            self.answer.set_result([])

    def drop(self) -> None:
        """Compute no more of it."""
        self.is_dropped = True

    def put(self, index: int, found: Document | NertuneError) -> None:
        """One text is done."""
        self._found[index] = found
        self._missing -= 1
        if not self._missing and not self.answer.done():
            self.answer.set_result([one for one in self._found if one is not None])


@dataclass(slots=True, eq=False)
class _Item:
    """A text in the queue. `tokens` is an estimate, `since` when it came."""

    job: Job
    index: int
    document: Document
    name: str
    tokens: int
    since: float


@dataclass(slots=True)
class _Load:
    """What is accepted of a model's texts, and not yet answered."""

    tokens: int = 0
    texts: int = 0


class _Meter:
    """Tokens a character of each model, and tokens a second of the device, as measured."""

    def __init__(self) -> None:
        self._per_character: dict[str, float] = {}
        self.per_second = 0.0

    def tokens(self, document: Document, name: str) -> int:
        return 2 + math.ceil(len(document.text) * self._per_character.get(name, 1.0))

    def learn_tokens(self, name: str, characters: int, tokens: int) -> None:
        if characters:
            before = self._per_character.get(name)
            found = max(0.0, tokens - 2) / characters
            self._per_character[name] = found if before is None else _smooth(before, found)

    def learn_speed(self, tokens: int, seconds: float) -> None:
        found = tokens / max(seconds, 1e-6)
        self.per_second = _smooth(self.per_second, found) if self.per_second else found


def _smooth(before: float, found: float) -> float:
    return before + _SMOOTHING * (found - before)


class Scheduler:
    """Accepts texts, computes them in batches, and answers.

    Args:
        engine: tags; called in one thread, never by two at once.
        limits: how much is accepted, and how long anything may take.
        metrics: counts.
    """

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics):
        self.engine = engine
        self._limits = limits
        self._metrics = metrics
        self._meter = _Meter()
        self._thread = ThreadPoolExecutor(1, "nertune-compute")
        self._queues: dict[str, deque[_Item]] = {}
        self._ready: deque[list[_Item]] = deque()  # batches, cut from one pool
        self._queued_tokens = 0
        self._outstanding_tokens = 0
        self._loads: dict[str, _Load] = {}
        self._longest_tokens = 0.0  # of the texts of late
        self._num_flying = 0
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    # What the service asks of it

    async def start(self) -> None:
        """Measure the speed once, and begin to compute."""
        await self.call(self._warm_up)
        self._loop_task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Compute nothing more; what is computed now is waited for."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def is_running(self) -> bool:
        """Whether texts are computed."""
        return self._loop_task is not None and not self._loop_task.done()

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a full batch."""
        if self._limits.batch_tokens:
            return self._limits.batch_tokens
        usual = self._meter.per_second * self._limits.batch_seconds
        # A text is computed at once, so that a batch is not shorter than the longest of them.
        wanted = max(usual, min(self._longest_tokens, _MOST_STRETCH * usual))
        return min(max(int(wanted), _FEWEST_TOKENS), _MOST_TOKENS)

    def submit(self, documents: Sequence[Document], name: str, *, seconds: float) -> Job:
        """Accept texts.

        Args:
            documents: the texts.
            name: the model.
            seconds: after which they need not be computed any more.

        Raises:
            RequestError: the queue is past its high watermark.
        """
        if not self._accepts(name):
            raise RequestError(
                "the server has more work than it can answer in time; send the request again in "
                f"{self.retry_seconds} s",
                status=503,
                code="overloaded",
                retry_after=self.retry_seconds,
            )
        now = time.monotonic()
        job = Job(len(documents), now + seconds)
        queue = self._queues.setdefault(name, deque()) if documents else deque()
        load = self._loads.setdefault(name, _Load())
        for index, document in enumerate(documents):
            tokens = self._meter.tokens(document, name)
            queue.append(_Item(job, index, document, name, tokens, now))
            self._queued_tokens += tokens
            self._outstanding_tokens += tokens
            load.tokens += tokens
            load.texts += 1
            self._longest_tokens = max(self._longest_tokens, tokens)
        self._tell()
        return job

    def _accepts(self, name: str) -> bool:
        """Whether the queue has room; a model that has less than its share finds some more."""
        most = self._limits.queue_batches * self.batch_tokens
        if self._outstanding_tokens < most:
            return True
        others = [load for other, load in self._loads.items() if load.texts and other != name]
        own = self._loads.get(name, _Load()).tokens
        is_behind = own < most / (len(others) + 1)
        return is_behind and self._outstanding_tokens < _SHARED * most

    @property
    def retry_seconds(self) -> int:
        """Whole seconds until the work that is accepted by now should be done."""
        return max(1, math.ceil(self._outstanding_tokens / max(self._meter.per_second, 1.0)))

    async def room(self) -> None:
        """Wait until the queue is half empty: for streams, which can wait."""
        while self._outstanding_tokens >= self._limits.queue_batches * self.batch_tokens / 2:
            self._freed.clear()
            await self._freed.wait()

    async def call(self, function: Callable[[], _Result]) -> _Result:
        """Call a function in the computing thread, behind the batches that were given to it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def idle(self, name: str) -> None:
        """Wait until no accepted text of a model is left."""
        while name in self._loads and self._loads[name].texts:
            self._freed.clear()
            await self._freed.wait()

    # Batches

    async def _run(self) -> None:
        while True:
            delay = self._delay()
            if delay == 0:
                self._start(self._next_batch())
                continue
            self._changed.clear()
            with_timeout = asyncio.wait_for(self._changed.wait(), delay)
            try:
                await with_timeout
            except TimeoutError:
                continue

    def _delay(self) -> float | None:
        """Seconds until the next batch is to be started; `None`: until something changes."""
        if self._num_flying >= _MOST_FLYING or not (self._ready or self._queued_tokens):
            return None
        if self._ready or self._queued_tokens >= self.batch_tokens:
            return 0
        if self._num_flying:
            return None  # what comes meanwhile joins the batch
        oldest = min(queue[0].since for queue in self._queues.values())
        return max(0.0, oldest + self._limits.wait_seconds - time.monotonic())

    def _next_batch(self) -> list[_Item]:
        if not self._ready:
            pool = sorted(self._take_pool(), key=lambda item: item.tokens)
            self._ready.extend(_cut(pool, self.batch_tokens))
        return self._ready.popleft() if self._ready else []

    def _take_pool(self) -> list[_Item]:
        """A few batches of what waits, each next text from the model that has had the least."""
        budget = _POOL_BATCHES * self.batch_tokens
        taken = dict.fromkeys(self._queues, 0)
        pool: list[_Item] = []
        while self._queues and budget > 0:
            name = min(self._queues, key=taken.__getitem__)
            item = self._queues[name].popleft()
            if not self._queues[name]:
                del self._queues[name]
            taken[name] += item.tokens
            budget -= item.tokens
            self._queued_tokens -= item.tokens
            pool.append(item)
        return pool

    def _start(self, batch: list[_Item]) -> None:
        live = [item for item in batch if self._is_wanted(item)]
        for item in batch:
            if not self._is_wanted(item):
                self._finish(item, _too_late())
        self._metrics.dropped.inc(len(batch) - len(live))
        if not live:
            return
        self._num_flying += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._compute, live)
        future.add_done_callback(lambda done: self._deliver(live, done))

    @staticmethod
    def _is_wanted(item: _Item) -> bool:
        return not item.job.is_dropped and time.monotonic() < item.job.deadline

    def _deliver(
        self, batch: list[_Item], done: asyncio.Future[list[Document | NertuneError]]
    ) -> None:
        self._num_flying -= 1
        self._longest_tokens *= _FORGETTING
        failed = done.cancelled() or done.exception() is not None
        found = [_unexpected()] * len(batch) if failed else done.result()
        for item, one in zip(batch, found, strict=True):
            self._finish(item, one)
        self._tell()

    def _finish(self, item: _Item, found: Document | NertuneError) -> None:
        self._outstanding_tokens -= item.tokens
        load = self._loads[item.name]
        load.tokens -= item.tokens
        load.texts -= 1
        item.job.put(item.index, found)
        self._freed.set()
        self._tell()

    def _tell(self) -> None:
        self._metrics.full_batch_tokens.set(self.batch_tokens)
        self._metrics.queue_tokens.set(self._outstanding_tokens)
        self._metrics.queue_texts.set(sum(load.texts for load in self._loads.values()))
        self._changed.set()

    # In the computing thread

    def _compute(self, batch: list[_Item]) -> list[Document | NertuneError]:
        wanted = [item for item in batch if self._is_wanted(item)]
        self._metrics.dropped.inc(len(batch) - len(wanted))
        counted = [item for item in wanted if len(item.document.text) <= _COUNTED_CHARACTERS]
        if counted:  # before it is tagged: the engine keeps what it found out for that
            self._count(counted[-1].document, counted[-1].name)
        started = time.perf_counter()
        tagged = iter(self._tag(wanted) if wanted else [])
        if wanted:
            self._learn(wanted, time.perf_counter() - started)
        kept = set(map(id, wanted))
        return [next(tagged) if id(item) in kept else _too_late() for item in batch]

    def _learn(self, batch: list[_Item], seconds: float) -> None:
        tokens = sum(item.tokens for item in batch)
        self._metrics.tokens.inc(tokens)
        self._metrics.batch_tokens.observe(tokens)
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.batch_seconds.observe(seconds)
        if 2 * tokens >= self.batch_tokens:  # a small one tells more of what a call costs
            self._meter.learn_speed(tokens, seconds)

    def _count(self, document: Document, name: str) -> int:
        try:
            tokens = self.engine.count_tokens(document, name)
        except (NertuneError, KeyError):  # then the batch said so, too
            return 0
        self._meter.learn_tokens(name, len(document.text), tokens)
        return tokens

    def _tag(self, batch: Sequence[_Item]) -> list[Document | NertuneError]:
        """A text at which the engine fails altogether fails alone."""
        try:
            return self.engine.tag([i.document for i in batch], [i.name for i in batch])
        except NertuneError as error:
            if len(batch) == 1:
                return [error]
        except Exception as error:
            if len(batch) == 1:
                _LOG.error("a text could not be tagged: %s", where(error))
                return [_unexpected()]
        half = len(batch) // 2
        return self._tag(batch[:half]) + self._tag(batch[half:])

    def _warm_up(self) -> None:
        document = Document(_WARM_UP)
        for name in self.engine.names[:1]:
            for size in (1, 8):  # the first call is slower than those that follow
                tokens = size * self._count(document, name)
                started = time.perf_counter()
                self.engine.tag([document] * size, name)
                seconds = time.perf_counter() - started
            self._meter.learn_speed(tokens, seconds)
            self._meter.learn_speed(tokens, seconds)


def _cut(pool: Sequence[_Item], budget: int) -> list[list[_Item]]:
    """Batches of at most `budget` tokens; a longer text is alone."""
    batches: list[list[_Item]] = []
    size = 0
    for item in pool:
        if not batches or size + item.tokens > budget:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += item.tokens
    return batches


def _too_late() -> RequestError:
    return RequestError(
        "the time for this request is over; send fewer or shorter texts at once, or try later",
        status=504,
        code="deadline",
    )


def _unexpected() -> RequestError:
    return RequestError(
        "the server failed at this text, which is a fault of the server; its log says where",
        status=500,
        code="internal",
    )


def where(error: Exception) -> str:
    """Kind and place of an error; never its message, which may hold a text."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    return f"{type(error).__name__} at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"


def explain(error: NertuneError) -> RequestError:
    """What a client hears of an error of the engine."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, (DataError, TokenizerError)):
        return RequestError(str(error), status=422, code="text_refused")
    if isinstance(error, ModelError):
        return RequestError(f"the model cannot answer: {error}", status=503, code="model_failed")
    return RequestError(str(error), status=503, code="cannot_answer")
