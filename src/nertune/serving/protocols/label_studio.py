"""Label Studio's ML backend: predictions for its tasks, and what annotators finish.

Label Studio appends `/health`, `/setup`, `/predict` and `/webhook` to the URL that a user gives,
`http://HOST:8000/label-studio` or, for another model than the first one,
`http://HOST:8000/label-studio/MODEL`. It makes the webhook itself when the backend is connected,
and sends all its events to it.

Offsets count Unicode code points: Label Studio's editor converts between them and the UTF-16 units
of the browser (`charsToCodePoints` in its `selection-tools.js`). Versions of 2021 did not.

Sources: github.com/HumanSignal/label-studio, `label_studio/ml/api_connector.py` and `ml/models.py`
(requests and how answers are read), `label_studio/webhooks` (events);
github.com/HumanSignal/label-studio-ml-backend, `label_studio_ml/api.py`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from nertune.errors import RequestError
from nertune.inference.mixed import ServedModel
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.protocols.exchange import in_thread, refusing, require_store, tag_each
from nertune.serving.protocols.label_studio_events import Event, keep_event
from nertune.serving.protocols.labelling_config import ShownText, read_labelling_config
from nertune.serving.tagging import Tagging
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["SetupRequest", "TasksRequest", "router"]

_LOG = logging.getLogger("nertune")


class TasksRequest(BaseModel):
    """Tasks without predictions, and the project's labelling interface; other keys are not used."""

    tasks: list[dict[str, Any]]
    label_config: str


class SetupRequest(BaseModel):
    """What comes when a backend is connected, and before predictions; other keys are not used."""

    schema_: str = Field(alias="schema")


def router(serve: Tagging, store: AnnotationStore | None = None) -> APIRouter:
    """The endpoints.

    Args:
        serve: tags.
        store: keeps what annotators finish; `None` refuses it.
    """
    api = APIRouter(tags=["Label Studio"])
    for prefix, chosen in (("/label-studio", _first), ("/label-studio/{model}", _named)):
        api.include_router(_endpoints(serve, store, prefix, Depends(chosen)))
    return api


def _first() -> None:
    """The default model."""


def _named(model: str) -> str:
    return model


def _endpoints(
    serve: Tagging, store: AnnotationStore | None, prefix: str, chosen: Any
) -> APIRouter:
    """The endpoints of one model; `chosen` gives its name to each."""
    api = APIRouter(prefix=prefix)  # given to `include_router`, it is in no log

    @api.get("/health")
    async def health(model: str | None = chosen) -> dict[str, Any]:
        """Whether predictions can be asked for."""
        return {"status": "UP", "model_class": serve.find(model).name}

    @api.post("/setup")
    async def setup(body: SetupRequest, model: str | None = chosen) -> dict[str, Any]:
        """Check the labelling interface, and say which model answers."""
        served = serve.find(model)
        with refusing("labelling_interface"):
            texts = read_labelling_config(body.schema_)
        return {"model_version": served.name, "notices": _compare(served, texts)}

    @api.post("/predict")
    async def predict(
        body: TasksRequest, request: Request, model: str | None = chosen
    ) -> dict[str, Any]:
        """Predictions for tasks, one a task, in their order."""
        served = serve.find(model)
        with refusing("labelling_interface"):
            texts = read_labelling_config(body.label_config)
        return await _Answer(served, texts).predict(serve, body.tasks, request)

    @api.post("/webhook")
    async def webhook(body: Event, model: str | None = chosen) -> dict[str, Any]:
        """Keep an annotation that was finished or changed, forget one that was deleted."""
        serve.find(model)
        if not body.is_about_annotations:
            return {"status": "ok", "result": f"nothing is done at {shorten(body.action)}"}
        kept = require_store(store)
        told = await in_thread(lambda: keep_event(kept, body), code="annotation")
        return {"status": "ok", "result": told}

    return api


def _compare(served: ServedModel, texts: Sequence[ShownText]) -> list[str]:
    """What of the model's labels the project cannot show; also a warning in the log."""
    missing = [label for label in served.labels if not any(text.find(label) for text in texts)]
    if not missing:
        return []
    told = (
        f"model {served.name!r} finds {', '.join(missing)}, which the labelling interface lacks: "
        "these entities are left out of predictions. Add "
        f'<Label value="{missing[0]}"/>, or name it on one of its labels: '
        f'<Label value="…" predicted_values="{missing[0]}"/>'
    )
    _LOG.warning("Label Studio: %s", told)
    return [told]


class _Answer:
    """Predictions for the tasks of one request.

    Args:
        served: the model.
        texts: what the labelling interface shows.
    """

    def __init__(self, served: ServedModel, texts: Sequence[ShownText]):
        self._model = served.name
        self._texts = texts
        self._left_out: Counter[str] = Counter()

    async def predict(
        self, serve: Tagging, tasks: Sequence[dict[str, Any]], request: Request
    ) -> dict[str, Any]:
        given = [_texts_of(task, self._texts) for task in tasks]
        documents = [Document(text) for found in given if isinstance(found, list) for text in found]
        tagged = await tag_each(serve, documents, self._model, request.is_disconnected)
        results = []
        for found in given:
            if isinstance(found, list):
                own, tagged = tagged[: len(found)], tagged[len(found) :]
                results.append(self._prediction(own))
            else:
                results.append(self._failure(found))
        failed = sum("error" in result for result in results)
        if failed:
            _LOG.warning("Label Studio: %d of %d tasks get no prediction", failed, len(tasks))
        notices = [
            f"{count} entities {label} left out: the labelling interface has no such label"
            for label, count in sorted(self._left_out.items())
        ]
        for notice in notices:
            _LOG.warning("Label Studio: %s", notice)
        return {"results": results, "model_version": self._model, "notices": notices}

    def _prediction(self, tagged: Sequence[Document | RequestError]) -> dict[str, Any]:
        """The prediction of a task, whose score is that of its least probable entity."""
        regions: list[dict[str, Any]] = []
        for text, document in zip(self._texts, tagged, strict=True):
            if isinstance(document, RequestError):
                return self._failure(document)
            regions += self._regions(document, text, len(regions))
        scores = [region["score"] for region in regions if "score" in region]
        return {
            "result": regions,
            "score": min(scores, default=None),
            "model_version": self._model,
        }

    def _regions(self, document: Document, text: ShownText, behind: int) -> list[dict[str, Any]]:
        regions: list[dict[str, Any]] = []
        for entity in document.entities:
            found = text.find(entity.label)
            if found is None:
                self._left_out[entity.label] += 1
                continue
            name, label = found
            span = {"start": entity.start, "end": entity.end}
            region = {
                "id": f"nertune{behind + len(regions)}",
                "from_name": name,
                "to_name": text.name,
                "type": "labels",
                "value": {**span, "text": document.surface(entity), "labels": [label]},
            }
            regions.append(region if entity.score is None else {**region, "score": entity.score})
        return regions

    def _failure(self, error: RequestError) -> dict[str, Any]:
        """Without `result`, so that Label Studio saves no empty prediction."""
        told = {"code": error.code, "message": str(error)}
        return {"error": told, "model_version": self._model}


def _texts_of(task: dict[str, Any], texts: Sequence[ShownText]) -> list[str] | RequestError:
    """The texts that a task shows, or why it has none."""
    data = task.get("data")
    found = []
    for text in texts:
        value = data.get(text.key) if isinstance(data, dict) else None
        if not isinstance(value, str):
            return RequestError(
                f"task {shorten(str(task.get('id')))} has no text in its data under {text.key!r}",
                status=422,
                code="no_text",
            )
        found.append(value)
    return found
