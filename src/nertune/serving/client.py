"""A tagger that is served elsewhere, used as a `Predictor` is."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from nertune.data.sentences import tag_by_sentence
from nertune.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    RequestError,
    ServerError,
)
from nertune.storage.files import shorten
from nertune.tokens.units import Unit, cut_visible
from nertune.types import Document, Entity

if TYPE_CHECKING:
    import httpx

__all__ = ["API_KEY", "Client"]

API_KEY = "NERTUNE_API_KEY"
"""The environment variable with the key."""

_MOST_TEXTS = 32  # of a request: so many share batches, and are computed before its deadline
_MOST_CHARACTERS = 20_000
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0  # seconds before a request is sent again
_PASSING = frozenset({429, 502, 503, 504})  # of a proxy, or of a server that starts
_BUSY = frozenset({"overloaded", "draining"})


class Client:
    """Tags texts on a nertune server.

    Several requests are under way at once; answers come in order. A server that has too much work
    is asked again when it says so, one that is restarted after a while.

    Args:
        url: of the server, e.g. `http://127.0.0.1:8000`.
        model: the name of one of its models; `None` takes its default.
        api_key: what the server asks for; `None` takes the environment's `NERTUNE_API_KEY`.
        timeout: seconds to wait for an answer.
        patience: seconds for which a request is sent again.
        connections: requests under way at once.

    Raises:
        ConfigError: `url` is no address, or the key cannot be sent.
        MissingDependencyError: httpx is not installed.

    Example:
        >>> with Client("http://127.0.0.1:8000") as client:                   # doctest: +SKIP
        ...     client.tag("我在北京。").entities
        (Entity(2, 4, 'LOCATION', 0.98),)
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 90.0,
        patience: float = 120.0,
        connections: int = 4,
    ):
        try:
            import httpx
        except ImportError as error:
            purpose = "a client of nertune's server"
            raise MissingDependencyError("httpx", extra="serve", purpose=purpose) from error
        self.url, is_local = _check_url(url)
        self._key = os.environ.get(API_KEY, "") if api_key is None else api_key
        if not self._key.isascii() or not self._key.isprintable():
            raise ConfigError(f"the API key (or {API_KEY}) holds what no header can")
        self._patience = patience
        self._connections = connections
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
            trust_env=not is_local,  # no proxy on the way to this machine
        )
        self._asked = model
        self._model: Mapping[str, Any] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can find.

        Raises:
            ServerError, RequestError: as for `models`.
        """
        return tuple(sorted(self._describe()["labels"]))

    def models(self) -> list[dict[str, Any]]:
        """What the server says of its models, the default one first.

        Raises:
            ServerError: it cannot be reached, or is no nertune server.
            RequestError: it refuses, e.g. since it asks for a key.
        """
        answer = self._ask("GET", "/v1/models", None, threading.Event(), patience=0.0)
        models = answer.get("models")
        known = ("name", "labels", "unit")
        if not isinstance(models, list) or not all(
            isinstance(model, dict) and all(key in model for key in known) for model in models
        ):
            raise _no_server(self.url, "its /v1/models lists no models")
        return models

    def tag(self, text: str) -> Document:
        """Tag one text; entities carry their probability."""
        return next(self.tag_documents([Document(text)]))

    def tag_texts(self, texts: Iterable[str]) -> Iterator[Document]:
        """Tag texts, in order, holding a bounded number of them at a time."""
        return self.tag_documents(Document(text) for text in texts)

    def tag_documents(
        self, documents: Iterable[Document], *, with_scores: bool = True
    ) -> Iterator[Document]:
        """Tag documents, in order; their own entities are replaced by the predicted ones.

        Raises:
            ServerError: the server cannot be reached, or is no nertune server.
            RequestError: it refuses a text, or has too much work for longer than `patience`.
            DataError: a text holds half a surrogate pair.
        """
        self._describe()
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._connections, thread_name_prefix="nertune-client")
        waiting: deque[Future[list[Document]]] = deque()
        try:
            for chunk in _chunks(documents):
                waiting.append(pool.submit(self._tag_chunk, chunk, with_scores, stop))
                while len(waiting) > self._connections:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def tag_sentences(self, documents: Sequence[Document]) -> Iterator[Document]:
        """Tag documents a sentence at a time."""
        return tag_by_sentence(documents, self.tag_documents)

    def tag_batches(
        self,
        batches: Iterable[Sequence[Document]],
        *,
        by_sentence: bool = False,
        min_score: float = 0.0,
    ) -> Iterator[Document]:
        """Tag documents, each batch as soon as it comes.

        Args:
            batches: documents, some at a time.
            by_sentence: tag a sentence at a time.
            min_score: leave out entities whose probability is lower.
        """
        for batch in batches:
            for document in self.tag_sentences(batch) if by_sentence else self.tag_documents(batch):
                kept = [e for e in document.entities if (e.score or 0.0) >= min_score]
                yield document.with_entities(kept) if min_score else document

    def visible_units(self, document: Document) -> list[tuple[int, int]]:
        """The units that the model labels in a document, without those of white space."""
        return cut_visible(document.text, cast("Unit", self._describe()["unit"]))

    # Requests

    def _describe(self) -> Mapping[str, Any]:
        with self._lock:
            if self._model is None:
                models = self.models()
                named = {model["name"]: model for model in models}
                if not named:
                    raise _no_server(self.url, "it serves no model")
                if self._asked is not None and self._asked not in named:
                    raise ConfigError(
                        f"{self.url} serves no model {self._asked!r}; it serves {', '.join(named)}"
                    )
                self._model = models[0] if self._asked is None else named[self._asked]
            return self._model

    def _tag_chunk(
        self, documents: Sequence[Document], with_scores: bool, stop: threading.Event
    ) -> list[Document]:
        body = {"texts": [d.text for d in documents], "model": self._describe()["name"]}
        try:
            answer = self._ask("POST", "/v1/tag", body, stop, patience=self._patience)
        except RequestError as error:
            is_about_texts = error.code not in _BUSY and error.status not in (401, 403, 404)
            if len(documents) > 1 and is_about_texts and not stop.is_set():
                # One of them, or so many: each alone tells which.
                alone = [self._tag_chunk([one], with_scores, stop) for one in documents]
                return [tagged for found in alone for tagged in found]
            id = documents[0].id if len(documents) == 1 else ""
            told = f"{id}: {error}" if id else str(error)
            raise RequestError(told, status=error.status, code=error.code) from error
        found = answer.get("documents")
        if not isinstance(found, list) or len(found) != len(documents):
            raise _no_server(self.url, f"it answers {len(documents)} texts with other than that")
        try:
            return [
                document.with_predictions(_entity(e, with_scores) for e in one["entities"])
                for document, one in zip(documents, found, strict=True)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise _no_server(self.url, f"an entity is none ({error})") from error

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        stop: threading.Event,
        *,
        patience: float,
    ) -> dict[str, Any]:
        """An answer, in JSON; the request is sent again where that may help."""
        import httpx

        content = None if body is None else _encode(body)
        end = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            wait = 0.0
            failure: ServerError | RequestError
            try:
                headers = {} if content is None else {"content-type": "application/json"}
                response = self._http.request(
                    method, self.url + path, content=content, headers=headers
                )
            except httpx.TimeoutException as error:
                failure = ServerError(f"{self.url} did not answer in time: {_told(error)}")
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failure = ServerError(
                    f"{self.url} cannot be reached ({_told(error)}): is the server running, and is "
                    "this its address? `nertune serve MODEL` starts one"
                )
            else:
                if response.is_success:
                    return _values(response, self.url)
                failure = _explain(response, self.url)
                if not _is_passing(response, failure):
                    raise failure
                wait = _retry_after(response)
            wait = max(wait, pause * random.uniform(0.5, 1.0))
            if time.monotonic() + wait > end or stop.wait(wait):
                raise failure
            pause = min(2 * pause, _LONGEST_PAUSE)


def _check_url(url: str) -> tuple[str, bool]:
    """The address without a slash at its end, and whether it is this machine."""
    told = url if "//" in url else f"http://{url}"
    try:
        parts = urlsplit(told)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is no address of a server, e.g. http://127.0.0.1:8000")
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    return told.rstrip("/"), is_local


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        characters += len(document.text)
        if chunk and (len(chunk) == _MOST_TEXTS or characters > _MOST_CHARACTERS):
            yield chunk
            chunk, characters = [], len(document.text)
        chunk.append(document)
    if chunk:
        yield chunk


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        told = "a text holds half a surrogate pair, which is no character, and cannot be sent"
        raise DataError(told) from error


def _entity(values: Mapping[str, Any], with_scores: bool) -> Entity:
    fragments = tuple((start, end) for start, end in values.get("fragments") or ())
    score = values.get("score") if with_scores else None
    return Entity(values["start"], values["end"], values["label"], score, fragments)


def _values(response: httpx.Response, url: str) -> dict[str, Any]:
    try:
        values = response.json()
    except ValueError as error:
        raise _no_server(url, _kind(response)) from error
    if not isinstance(values, dict):
        raise _no_server(url, "it answers JSON that is no object")
    return values


def _explain(response: httpx.Response, url: str) -> ServerError | RequestError:
    """What an answer that refuses says, where a nertune server said it."""
    try:
        told = response.json()["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return _no_server(url, _kind(response))
    if response.status_code == 401:
        sent = "authorization" in response.request.headers
        asked = f"another key than that in {API_KEY}: set it" if sent else f"a key: set {API_KEY}"
        message = f"{url} asks for {asked} to the server's"
    return RequestError(message, status=response.status_code, code=code)


def _is_passing(response: httpx.Response, failure: ServerError | RequestError) -> bool:
    """Whether the same request may be accepted later."""
    if isinstance(failure, RequestError):
        return failure.code in _BUSY
    return response.status_code in _PASSING


def _retry_after(response: httpx.Response) -> float:
    """Seconds, where the answer says some."""
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else 0.0


def _kind(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "no type").partition(";")[0]
    where = response.headers.get("location")
    to = f", and sends on to {shorten(where)}" if where else ""
    return f"it answers with status {response.status_code} and {kind}{to}"


def _no_server(url: str, told: str) -> ServerError:
    return ServerError(f"{url} is no nertune server: {told}; check the address")


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
