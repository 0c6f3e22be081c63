"""Texts in, documents out: what the endpoints and the annotation tools' protocols call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from nertune.artifacts.manifest import MANIFEST
from nertune.errors import ModelError, NertuneError, RequestError
from nertune.inference.mixed import ServedModel
from nertune.serving.access import current_request
from nertune.serving.engine import Engine
from nertune.serving.limits import Limits
from nertune.serving.metrics import Metrics
from nertune.serving.scheduler import Job, Scheduler, explain
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["ClientGone", "Tagging", "is_model_name"]

ClientGone = Callable[[], Awaitable[bool]]
"""Whether the client has left, e.g. `Request.is_disconnected`."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"\w[\w.-]{0,99}")
_GONE_SECONDS = 0.1  # how often a client is looked for


def is_model_name(name: str) -> bool:
    """Whether a model can be called so: letters, digits, `_`, `.` and `-`, not at the start."""
    return _NAME.fullmatch(name) is not None


class Tagging:
    """The service without HTTP.

    Args:
        engine: tags.
        limits: what is accepted.
        metrics: counts.
        models: the folder whose models may be loaded by name; `None` for none.

    Every method belongs to one event loop; `start` comes first.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits | None = None,
        *,
        metrics: Metrics | None = None,
        models: Path | None = None,
    ):
        self.limits = limits or Limits()
        self.metrics = metrics or Metrics()
        self.scheduler = Scheduler(engine, self.limits, self.metrics)
        self._engine = engine
        self._models_folder = models
        self._models = {name: engine.describe(name) for name in engine.names}
        self._default = engine.names[0]
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Begin to compute."""
        self.metrics.models.set(len(self._models))
        await self.scheduler.start()

    async def stop(self) -> None:
        """Compute nothing more."""
        await self.scheduler.stop()

    @property
    def default(self) -> str:
        """The model that answers requests which name none."""
        return self._default

    def models(self) -> tuple[ServedModel, ...]:
        """The models that can be asked, the default one first."""
        return tuple(self._models.values())

    def find(self, model: str | None) -> ServedModel:
        """The model of a name, the default one for none.

        Raises:
            RequestError: there is none of this name.
        """
        found = self._models.get(self._default if model is None else model)
        if found is None:
            raise RequestError(
                f"there is no model {shorten(str(model))}; there are {', '.join(self._models)} "
                "(GET /v1/models lists them)",
                status=404,
                code="unknown_model",
            )
        return found

    def check(self, text: str, *, index: int | None = None) -> None:
        """Refuse a text that cannot be tagged.

        Args:
            text: the text.
            index: which of several it is, for the message.

        Raises:
            RequestError: it is too long, or holds half a surrogate pair.
        """
        which = "the text" if index is None else f"text {index} (counted from 0)"
        if len(text) > self.limits.max_characters:
            raise RequestError(
                f"{which} has {len(text)} characters, and the server takes "
                f"{self.limits.max_characters}; cut it into parts",
                status=413,
                code="text_too_long",
            )
        if half := _SURROGATE.search(text):
            raise RequestError(
                f"{which} holds half a surrogate pair (\\u{ord(half[0]):04x} at character "
                f"{half.start()}), which is no character; send the text as UTF-8 or with whole "
                "pairs",
                status=422,
                code="not_unicode",
            )

    def submit(self, document: Document, model: str, *, seconds: float) -> Job:
        """Put one checked text into the queue, whose room the caller has waited for.

        Raises:
            RequestError: see `Scheduler.submit`.
        """
        job = self.scheduler.submit([document], model, seconds=seconds)
        self._note(model, [document])
        return job

    async def tag(
        self,
        documents: Sequence[Document],
        model: str | None = None,
        *,
        client_gone: ClientGone | None = None,
    ) -> list[Document]:
        """Tag documents, in order; their own entities are replaced by those that are found.

        Args:
            documents: the texts of one request.
            model: its name; `None` takes the default one.
            client_gone: asked now and then; when it says so, the work is dropped.

        Raises:
            RequestError: the request is refused, or it cannot be answered in time.
        """
        name = self.find(model).name
        if len(documents) > self.limits.max_texts:
            raise RequestError(
                f"{len(documents)} texts in one request, and the server takes "
                f"{self.limits.max_texts}; send them in several, or to /v1/documents",
                status=413,
                code="too_many_texts",
            )
        for index, document in enumerate(documents):
            self.check(document.text, index=None if len(documents) == 1 else index)
        try:
            job = self.scheduler.submit(documents, name, seconds=self.limits.deadline_seconds)
        except RequestError as error:
            self.metrics.refused.labels(error.code).inc()
            raise
        self._note(name, documents)
        try:
            found = await self._answer(job, client_gone)
        finally:
            job.drop()
        return _documents(found)

    async def _answer(
        self, job: Job, client_gone: ClientGone | None
    ) -> list[Document | NertuneError]:
        """Wait for a job; it may be given up when the time is over or nobody waits."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.deadline_seconds
        while True:
            left = end - loop.time()
            pause = left if client_gone is None else min(left, _GONE_SECONDS)
            done, _ = await asyncio.wait({job.answer}, timeout=max(0.0, pause))
            if done:
                return job.answer.result()
            if client_gone is not None and await client_gone():
                raise RequestError("the client left", status=499, code="client_left")
            if loop.time() >= end:
                raise RequestError(
                    f"not answered within {self.limits.deadline_seconds:g} s; send fewer or "
                    "shorter texts at once, or try later",
                    status=504,
                    code="deadline",
                )

    def _note(self, name: str, documents: Iterable[Document]) -> None:
        texts = characters = 0
        for document in documents:
            texts += 1
            characters += len(document.text)
        self.metrics.texts.labels(name).inc(texts)
        self.metrics.characters.labels(name).inc(characters)
        if (info := current_request.get()) is not None:
            info.model = name
            info.texts += texts
            info.characters += characters

    # Models come and go

    async def load(self, name: str) -> ServedModel:
        """Load the model of that name in the folder of models.

        Raises:
            RequestError: there is no such folder, it cannot be loaded, or the name is taken.
        """
        async with self._changing:
            if name in self._models:
                raise RequestError(
                    f"model {name!r} is loaded already; unload it first to read it again",
                    status=409,
                    code="already_loaded",
                )
            folder = self._folder(name)
            try:
                await asyncio.to_thread(self._engine.add, name, folder)
                self._models[name] = self._engine.describe(name)
            except NertuneError as error:
                raise RequestError(str(error), status=422, code="cannot_load") from error
            self.metrics.models.set(len(self._models))
            return self._models[name]

    def _folder(self, name: str) -> Path:
        if self._models_folder is None:
            raise RequestError(
                "no folder of models is served: start the server with --models FOLDER",
                status=404,
                code="no_models_folder",
            )
        folder = self._models_folder / name
        marks = (MANIFEST, f"model/{MANIFEST}", "config.json")
        # `is_model_name` leaves no way out of the folder.
        if not is_model_name(name) or not any((folder / mark).is_file() for mark in marks):
            raise RequestError(
                f"the folder of models holds no model {shorten(name)}", status=404,
                code="no_such_folder",
            )  # fmt: skip
        return folder

    async def unload(self, name: str) -> None:
        """Forget a model when its accepted texts are answered.

        Raises:
            RequestError: there is none of this name, or it is the default one.
        """
        async with self._changing:
            if self.find(name).name == self._default:
                raise RequestError(
                    f"model {name!r} is the default one, which stays; start the server with "
                    "another model first",
                    status=409,
                    code="default_model",
                )
            del self._models[name]
            await self.scheduler.idle(name)
            try:
                await asyncio.to_thread(self._engine.remove, name)
            except ModelError as error:
                raise RequestError(str(error), status=422, code="cannot_unload") from error
            self.metrics.models.set(len(self._models))


def _documents(found: Sequence[Document | NertuneError]) -> list[Document]:
    """The documents, or the first error with the number of its text."""
    documents = []
    for index, one in enumerate(found):
        if isinstance(one, Document):
            documents.append(one)
            continue
        told = explain(one)
        where = "" if len(found) == 1 else f"text {index} (counted from 0): "
        raise RequestError(
            f"{where}{told}", status=told.status, code=told.code, retry_after=told.retry_after
        )
    return documents
