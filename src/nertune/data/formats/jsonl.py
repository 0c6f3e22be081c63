"""JSONL spans: one JSON object a line with a text and its entities.

| written by            | entities                                                           |
|-----------------------|--------------------------------------------------------------------|
| nertune, many tools   | `"entities": [[start, end, label], …]`                             |
| nertune, predictions  | `"entities": [{"start", "end", "label", "text", "score"}, …]`      |
| doccano               | `"label": [[start, end, label], …]`                                |
| doccano, relations    | `"entities": [{"start_offset", "end_offset", "label", …}, …]`      |

Offsets count Unicode code points, half-open. Other keys are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from nertune.data.files import shorten, split_lines
from nertune.data.statistics import has_overlap
from nertune.errors import DataError
from nertune.types import Document, Entity

__all__ = ["JsonlFile", "document_to_json", "read", "write"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_KEYS = ("entities", "label", "labels")
_START, _END = ("start", "start_offset"), ("end", "end_offset")
_EXAMPLE = '{"text": "王明在京", "entities": [[0, 2, "PERSON"]]}'


@dataclass(frozen=True, slots=True)
class JsonlFile:
    """What a JSONL file holds.

    Attributes:
        documents: one per line that is not blank.
        notices: what was dropped or assumed, for the user to read.
    """

    documents: tuple[Document, ...]
    notices: tuple[str, ...]


class _Problem(ValueError):
    """What is wrong with a line."""


def read(text: str, path: Path) -> JsonlFile:
    """Read JSONL spans. Overlapping entities are kept, identical ones are read once.

    Args:
        text: the file's text.
        path: its name, for ids and messages.

    Raises:
        DataError: a line is not such an object, or there is none.
    """
    documents: list[Document] = []
    num_bare = num_repeated = num_overlapping = 0
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip(" \t\r"):
            continue
        try:
            record = _parse(line)
            content = _text(record)
            spans = _spans(record)
            entities = [_entity(span, content) for span in spans or ()]
        except _Problem as problem:
            raise DataError(str(problem), path=path, line=number) from problem.__cause__
        unique = {entity.key: entity for entity in reversed(entities)}
        document = Document(content, tuple(unique.values()), f"{path.name}:{number}")
        documents.append(document)
        num_bare += spans is None
        num_repeated += len(entities) - len(unique)
        num_overlapping += has_overlap(document)
    if not documents:
        raise DataError("the file holds no sentence", path=path)
    counted = (
        (num_bare, 'records without "entities" or "label", read as texts without entities'),
        (num_repeated, "identical entities dropped (same span and label in one text)"),
        (num_overlapping, "texts with overlapping entities, of which a tagger can learn one each"),
    )
    return JsonlFile(tuple(documents), tuple(f"{n} {what}" for n, what in counted if n))


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        hint = (
            "; for one JSON array, or objects over several lines: jq -c '.[]' or jq -c '.'"
            if line.strip() in ("[", "{", "[{")
            else ""
        )
        raise _Problem(
            f"not JSON ({error.msg} at character {error.pos + 1} of {shorten(line)}): "
            f"expected one object a line{hint}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _Problem(f"this JSON cannot be read ({error})") from error
    if not isinstance(record, dict):
        hint = "; split it with jq -c '.[]'" if isinstance(record, list) else ""
        raise _Problem(
            f"expected one JSON object a line such as {_EXAMPLE}, got {_kind(record)}{hint}"
        )
    return record


def _text(record: dict[str, Any]) -> str:
    if "text" not in record:
        keys = ", ".join(map(shorten, record)) or "none"
        raise _Problem(f'the object has no "text" (its keys: {keys}), expected e.g. {_EXAMPLE}')
    text = record["text"]
    if not isinstance(text, str):
        raise _Problem(f'"text" is {_kind(text)}, expected a string')
    return _checked(text, '"text"')


def _checked(value: str, name: str) -> str:
    if half := _SURROGATE.search(value):
        raise _Problem(
            f"{name} holds half a surrogate pair (\\u{ord(half[0]):04x} at character "
            f"{half.start() + 1}), which is no character"
        )
    return value


def _spans(record: dict[str, Any]) -> list[Any] | None:
    """The list of entities; `None` where the record names none."""
    given = [key for key in _KEYS if key in record]
    if not given:
        return None
    if len(given) > 1 and any(record[key] for key in given[1:]):
        raise _Problem(
            f"both {given[0]!r} and {given[1]!r} are given: keep the one that holds the entities"
        )
    spans = record[given[0]]
    if not isinstance(spans, list):
        raise _Problem(f'"{given[0]}" is {_kind(spans)}, expected a list of [start, end, label]')
    return spans


def _entity(span: Any, text: str) -> Entity:
    if isinstance(span, dict):
        start, end = _first_of(span, _START), _first_of(span, _END)
        label, score = span.get("label"), span.get("score")
    elif isinstance(span, list) and len(span) == 3:
        (start, end, label), score = span, None
    else:
        raise _Problem(f"an entity is {_show(span)}, expected [start, end, label]")
    shown = _show(span)
    if type(start) is not int or type(end) is not int:
        raise _Problem(f"offsets of {shown} are not both integers")
    if not isinstance(label, str) or not label:
        raise _Problem(f"the label of {shown} is {_kind(label)}, expected a non-empty string")
    if end <= start:
        kind = "empty" if end == start else "reversed"
        raise _Problem(f"the span of {shown} is {kind}: expected start < end (the end is excluded)")
    if start < 0 or end > len(text):
        raise _Problem(
            f"{shown} is out of range: the text has {len(text)} characters, and offsets count "
            "Unicode code points, not bytes or UTF-16 units"
        )
    surface = span.get("text") if isinstance(span, dict) else None
    if isinstance(surface, str) and surface != text[start:end]:
        raise _Problem(
            f"{shown} says its text is {shorten(surface)}, but there stands "
            f"{shorten(text[start:end])}: offsets count Unicode code points"
        )
    return Entity(start, end, _checked(label, "a label"), _score(score, shown))


def _first_of(span: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((span[name] for name in names if name in span), None)


def _score(score: Any, shown: str) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise _Problem(f"the score of {shown} is not a number from 0 to 1")
    return float(score)


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null or missing"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    name = names.get(type(value), "a number")
    return "an empty string" if value == "" else name


def _show(span: Any) -> str:
    text = json.dumps(span, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:80]}…"


def document_to_json(document: Document) -> dict[str, Any]:
    """A document with predicted entities, as `nertune predict` prints it.

    Returns:
        `{"text", "entities": [{"start", "end", "label", "text", "score"}]}`, where `score` is
        left out if the entity has none.
    """
    return {
        "text": document.text,
        "entities": [
            {
                "start": entity.start,
                "end": entity.end,
                "label": entity.label,
                "text": document.surface(entity),
                **({} if entity.score is None else {"score": entity.score}),
            }
            for entity in document.entities
        ],
    }


def write(stream: TextIO, documents: Iterable[Document], *, predictions: bool = False) -> None:
    """Write one object a line.

    Args:
        stream: where to.
        documents: what to write.
        predictions: write entities as objects with text and score, else as `[start, end, label]`.

    Raises:
        DataError: a text holds half a surrogate pair, which UTF-8 cannot.
    """
    for document in documents:
        record = document_to_json(document)
        if not predictions:
            record["entities"] = [list(entity.key) for entity in document.entities]
        line = json.dumps(record, ensure_ascii=False)
        if _SURROGATE.search(line):
            name = document.id or shorten(document.text)
            raise DataError(
                f"document {name} cannot be written: it holds half a surrogate pair, which is no "
                "character"
            )
        stream.write(line + "\n")
