"""Documents to lines of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TextIO

from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity, Scope

__all__ = ["TAKEN", "document_to_json", "dump", "write"]

TAKEN = ("text", "entities")
"""Keys that are written."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def document_to_json(document: Document) -> dict[str, Any]:
    """A document with predicted entities, as `nertune predict` prints it.

    Returns:
        `{"text", "entities": [{"start", "end", "label", "text", "score"}]}`, where `score` is
        left out if the entity has none; behind them `scope`, if the document is partially labelled,
        and what the source said, its `id` included. A discontinuous entity has `fragments`, a list
        of `[start, end]`, too.
    """
    entities = [
        {
            "start": entity.start,
            "end": entity.end,
            "label": entity.label,
            "text": document.surface(entity),
            **({} if entity.score is None else {"score": entity.score}),
            **_fragments_to_json(entity),
        }
        for entity in document.entities
    ]
    scope = {} if document.scope == Scope() else {"scope": document.scope.to_dict()}
    return {"text": document.text, "entities": entities, **scope, **_others(document)}


def _fragments_to_json(entity: Entity) -> dict[str, Any]:
    return {"fragments": [list(span) for span in entity.fragments]} if entity.fragments else {}


def _others(document: Document) -> dict[str, Any]:
    taken = TAKEN if document.scope == Scope() else (*TAKEN, "scope")
    return {k: v for k, v in document.meta.items() if k not in taken}


def write(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    predictions: bool = False,
    tokens: bool = False,
) -> None:
    """Write one object a line.

    Args:
        stream: where to.
        documents: what to write.
        predictions: write entities as objects with text and score, else as `[start, end, label]`.
        tokens: write source tokens as `[[start, end], …]`.

    Raises:
        DataError: a text or label holds half a surrogate pair, which UTF-8 cannot.
    """
    for document in documents:
        record = document_to_json(document)
        if not predictions:
            record["entities"] = [
                {"start": entity.start, "end": entity.end, "label": entity.label}
                | _fragments_to_json(entity)
                if entity.fragments
                else [entity.start, entity.end, entity.label]
                for entity in document.entities
            ]
        if tokens and document.tokens is not None:
            record["tokens"] = [list(token) for token in document.tokens]
        stream.write(dump(record, document) + "\n")


def dump(record: dict[str, Any], document: Document) -> str:
    """A record as one line of JSON.

    Raises:
        DataError: the text or a label holds half a surrogate pair.
    """
    line = json.dumps(record, ensure_ascii=False)
    if not _SURROGATE.search(line):
        return line
    if any(map(_SURROGATE.search, [document.text, *(e.label for e in document.entities)])):
        name = document.id or shorten(document.text)
        raise DataError(
            f"document {name} cannot be written: it holds half a surrogate pair, which is no "
            "character"
        )
    return json.dumps(record)  # what else the source said comes back escaped, as it came
