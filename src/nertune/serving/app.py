"""The HTTP interface: endpoints, and how errors are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from nertune import __version__
from nertune.errors import RequestError
from nertune.serving.access import current_request
from nertune.serving.documents import DocumentStream
from nertune.serving.gate import Gate, Keys, error_body, error_headers, find_key
from nertune.serving.protocols import doccano, inception, label_studio
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.schemas import (
    ErrorAnswer,
    ModelsAnswer,
    TagAnswer,
    TagRequest,
    answer_of,
    model_values,
)
from nertune.serving.tagging import Tagging

__all__ = ["build_app"]

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_REASONS = {
    400: "The body is no JSON.",
    401: "The key is missing or wrong.",
    403: "The server was started without an admin key.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    409: "The model is loaded already, or is the default one.",
    413: "The body, a text or the number of texts is too large.",
    415: "The body is compressed.",
    422: "The request or a text cannot be used; the message says why.",
    503: "The server is overloaded or shuts down, or the model fails; see Retry-After.",
    504: "The time for the request is over.",
}
_ALWAYS = (401, 408, 413, 415, 503)


def build_app(
    tagging: Tagging, keys: Keys | None = None, *, annotations: AnnotationStore | None = None
) -> Gate:
    """The service as an ASGI application.

    Args:
        tagging: tags; it is started and stopped with the application.
        keys: who may ask.
        annotations: keeps what annotators finish; `None` refuses it.
    """
    keys = keys or Keys()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await tagging.start()
        yield
        await tagging.stop()

    app = FastAPI(
        title="nertune",
        version=__version__,
        description="Finds named entities in texts.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    gate = Gate(app, tagging.limits, tagging.metrics, keys)
    _tell_errors(app)
    app.include_router(_health(tagging, gate))
    app.include_router(_api(tagging, gate))
    app.include_router(_admin(tagging, keys))
    for protocol in (label_studio, inception, doccano):
        app.include_router(protocol.router(tagging, annotations))
    return gate


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": ErrorAnswer, "description": _REASONS[status]}
        for status in sorted({*statuses, *_ALWAYS})
    }


def _api(tagging: Tagging, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/tag", response_model=TagAnswer, responses=_refusals(400, 404, 422, 504))
    async def tag(body: TagRequest, request: Request) -> Response:
        """Find entities in one text or several."""
        model = tagging.find(body.model)
        body.check_labels(model)
        documents = await tagging.tag(
            body.documents, model.name, client_gone=request.is_disconnected
        )
        return JSONResponse(answer_of(body, model.name, documents))

    @router.get("/models", response_model=ModelsAnswer, responses=_refusals())
    async def models() -> Response:
        """The models that can be asked."""
        return _models(tagging)

    @router.post(
        "/documents",
        response_class=Response,
        responses={
            200: {
                "description": "A line of JSON for each line that is not blank: the record with "
                "its entities, or an error with the number of its line.",
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            },
            **_refusals(404, 422),
        },
        openapi_extra={
            "requestBody": {
                "description": "Records with a text, one a line.",
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            }
        },
    )
    async def documents(
        request: Request, model: str | None = Query(None, description="A model's name.")
    ) -> Response:
        """Find entities in documents, streamed both ways: read the answer while you send."""
        name = tagging.find(model).name
        stream = DocumentStream(tagging, name, request.receive, lambda: gate.is_draining)
        return _Lines(stream)

    return router


class _Lines(Response):
    """An answer of lines. Unlike `StreamingResponse` it leaves the body's messages alone."""

    media_type = "application/x-ndjson"

    def __init__(self, stream: DocumentStream):
        super().__init__()
        self._stream = stream
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        answers = self._stream.answers()
        try:
            async for line in answers:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        finally:
            await answers.aclose()  # type: ignore[attr-defined]
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _admin(tagging: Tagging, keys: Keys) -> APIRouter:
    router = APIRouter(prefix="/v1/models")
    responses = _refusals(403, 404, 409, 422)

    def check(request: Request) -> None:
        if not keys.admin:
            raise RequestError(
                "models cannot be changed: the server was started without an admin key "
                "(--admin-key or NERTUNE_ADMIN_KEY)",
                status=403,
                code="no_admin",
            )
        if not keys.allows_admin(find_key(request.scope)):
            raise RequestError(
                "this needs the admin key: send the header 'Authorization: Bearer ADMIN_KEY'",
                status=401,
                code="no_key",
            )

    @router.post("/{name}/load", response_model=ModelsAnswer, responses=responses)
    async def load(name: str, request: Request) -> Response:
        """Load the model of that name in the folder of models."""
        check(request)
        await tagging.load(name)
        return _models(tagging)

    @router.post("/{name}/unload", response_model=ModelsAnswer, responses=responses)
    async def unload(name: str, request: Request) -> Response:
        """Forget a model when its accepted texts are answered."""
        check(request)
        await tagging.unload(name)
        return _models(tagging)

    return router


def _models(tagging: Tagging) -> Response:
    found = [model_values(model) for model in tagging.models()]
    return JSONResponse({"default": tagging.default, "models": found})


def _health(tagging: Tagging, gate: Gate) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> Response:
        """Whether the process should go on."""
        is_alive = tagging.scheduler.is_running
        return JSONResponse({"status": "ok" if is_alive else "stuck"}, 200 if is_alive else 503)

    @router.get("/readyz")
    async def readyz() -> Response:
        """Whether requests should be sent here."""
        is_ready = tagging.scheduler.is_running and not gate.is_draining
        return JSONResponse({"status": "ok" if is_ready else "draining"}, 200 if is_ready else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return PlainTextResponse(
            tagging.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @router.get("/")
    async def page() -> Response:
        """The page to try and correct."""
        found = files("nertune.serving") / "page" / "index.html"
        if not found.is_file():
            return PlainTextResponse("nertune: POST /v1/tag; see /openapi.json\n")
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return HTMLResponse(found.read_text(encoding="utf-8"), headers=headers)

    return router


def _tell_errors(app: FastAPI) -> None:
    def answer(error: RequestError) -> Response:
        if (info := current_request.get()) is not None:
            info.error = error.code
        return Response(error_body(error), error.status, error_headers(error), "application/json")

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return answer(_explain_invalid(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        codes = {400: "bad_json", 404: "no_such_path", 405: "no_such_method"}
        advice = {
            400: "the body cannot be read as JSON in UTF-8",
            404: "there is no such path; /openapi.json lists all",
            405: "this path does not take this method; /openapi.json lists all",
        }
        told = RequestError(
            advice.get(error.status_code, str(error.detail)),
            status=error.status_code,
            code=codes.get(error.status_code, "refused"),
        )
        response = answer(told)
        response.headers.update(error.headers or {})
        return response


def _explain_invalid(error: RequestValidationError) -> RequestError:
    """The first thing that is wrong with a request, without what it holds."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return RequestError(
            f"the body is no JSON: {reason} at character {first['loc'][-1]}",
            status=400,
            code="bad_json",
        )
    if first["type"] == "string_unicode":
        return RequestError(
            f"{place} holds half a surrogate pair, which is no character; send the text as UTF-8 "
            "or with whole pairs",
            status=422,
            code="not_unicode",
        )
    told = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] in ("model_attributes_type", "dict_type", "model_type"):
        told = "expected a JSON object, with the header 'Content-Type: application/json'"
    if first["type"] == "missing" and place == "the body":
        told = 'it is empty; expected e.g. {"text": "…"}'
    if first["type"] == "extra_forbidden":
        known = ", ".join(TagRequest.model_fields)
        told, place = f"no such key; there are {known}", f"{place:.80}"
    return RequestError(f"{place}: {told}", status=422, code="invalid_request")
