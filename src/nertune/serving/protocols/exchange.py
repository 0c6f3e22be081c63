"""What the protocols share: how a request is refused, and how texts are tagged one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from nertune.errors import ConfigError, DataError, RequestError
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.tagging import ClientGone, Tagging
from nertune.types import Document

__all__ = ["in_thread", "refusing", "require_store", "tag_each"]

_CHUNK = 16  # texts that wait for each other, so that many do not push others out of the queue
_ALL_FAIL = ("unknown_model", "overloaded", "deadline", "client_left")  # whatever the text
_Result = TypeVar("_Result")


@contextmanager
def refusing(code: str, *, status: int = 422) -> Iterator[None]:
    """Turn errors about data into the refusal of a request.

    Raises:
        RequestError: with that code and status.
    """
    try:
        yield
    except (DataError, ConfigError) as error:
        raise RequestError(str(error), status=status, code=code) from error


async def in_thread(function: Callable[[], _Result], *, code: str, status: int = 422) -> _Result:
    """Call a function that reads or writes files beside the event loop.

    Raises:
        RequestError: it raises an error about data.
    """
    with refusing(code, status=status):
        return await asyncio.to_thread(function)


def require_store(store: AnnotationStore | None) -> AnnotationStore:
    """The store.

    Raises:
        RequestError: the server keeps no annotations.
    """
    if store is None:
        raise RequestError(
            "this server keeps no annotations, so nothing was saved; start it with "
            "--annotations FOLDER",
            status=403,
            code="no_annotations_folder",
        )
    return store


async def tag_each(
    serve: Tagging, documents: Sequence[Document], model: str | None, client_gone: ClientGone
) -> list[Document | RequestError]:
    """Tag documents, in order; one that cannot be tagged gives its error, its neighbours do not.

    Raises:
        RequestError: the server cannot answer at all: too much work, no such model.
    """
    found: list[Document | RequestError] = []
    for first in range(0, len(documents), _CHUNK):
        found += await _tag_chunk(serve, documents[first : first + _CHUNK], model, client_gone)
    return found


async def _tag_chunk(
    serve: Tagging, documents: Sequence[Document], model: str | None, client_gone: ClientGone
) -> list[Document | RequestError]:
    try:
        return list(await serve.tag(documents, model, client_gone=client_gone))
    except RequestError as error:
        if error.code in _ALL_FAIL:
            raise
        if len(documents) == 1:
            return [error]
    alone = [await _tag_chunk(serve, [document], model, client_gone) for document in documents]
    return [found for one in alone for found in one]
