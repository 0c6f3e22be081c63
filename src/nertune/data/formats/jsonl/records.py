"""A line of JSON to a record: its text, and its spans as they are given."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

from nertune.data.formats.offsets import Span
from nertune.data.formats.values import RepeatedKeyError, unique_keys
from nertune.storage.files import shorten
from nertune.types import Fragments

__all__ = ["KEYS", "Problem", "Record", "looks_like_scope", "read_record", "span_keys"]

KEYS = ("entities", "label", "labels", "spans", "ents")
"""What may hold the entities."""

_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_ENTITIES = ("tokens", "sents", "relations")  # of Prodigy, spaCy, doccano: hold offsets, too
_START, _END = ("start", "start_offset"), ("end", "end_offset")
_OFFSET_NAME = re.compile("start|begin|end|stop|offset", re.IGNORECASE)
_SCOPE_WORDS = re.compile(r"\b(labels|complete|unknown)\s*[=:]")
_EXAMPLE = '{"text": "王明在京", "entities": [[0, 2, "PERSON"]]}'


class Problem(ValueError):
    """What is wrong with a line."""


@dataclass(frozen=True)
class Record:
    """One line.

    Attributes:
        line: its number, counted from 1.
        text: its text.
        key: what held the entities; empty where nothing does.
        given: the entities as they stand there.
        meta: its other keys.
    """

    line: int
    text: str
    key: str
    given: list[Any]
    meta: dict[str, Any]

    @cached_property
    def spans(self) -> list[Span]:
        """The entities, checked, their offsets as they are given.

        Raises:
            Problem: one is no span.
        """
        return [_span(span) for span in self.given]


def looks_like_scope(value: Any) -> bool:
    """Whether what a record has under `scope` is meant as one, and not as other metadata."""
    return isinstance(value, dict | list) or (
        isinstance(value, str) and _SCOPE_WORDS.search(value) is not None
    )


def read_record(line: str, number: int, *, ignore_tags: bool) -> Record:
    """The record of a line.

    Args:
        line: the line.
        number: of it, counted from 1.
        ignore_tags: read the text alone.

    Raises:
        Problem: the line is no such object.
    """
    record = _parse(line)
    text = _text(record)
    key = "" if ignore_tags else _find_key(record)
    meta = {name: value for name, value in record.items() if name not in ("text", key)}
    if ignore_tags:
        for name in KEYS:
            if isinstance(meta.get(name), list):
                del meta[name]  # the answer has entities of its own
        if looks_like_scope(meta.get("scope")):
            del meta["scope"]
        return Record(number, text, "", [], meta)
    if not key and (unknown := span_keys(record)):
        raise Problem(
            f"the key {shorten(unknown[0])} holds what look like entities "
            f"({_show(record[unknown[0]], 60)}), but entities are read from {', '.join(KEYS)}: "
            f'rename the key to "entities" with [start, end, label] (offsets count code points, '
            'the end is excluded), or add "entities": [] if the text has none'
        )
    return Record(number, text, key, record[key] if key else [], meta)


def _parse(line: str) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        begun = line.strip()[:1] if error.pos >= len(line.rstrip()) else ""
        advice = {"[": "one JSON array: jq -c '.[]'", "{": "objects over several lines: jq -c ."}
        hint = f"; if the file holds {advice[begun]} FILE > FILE.jsonl" if begun in advice else ""
        raise Problem(
            f"not JSON ({error.msg} at character {error.pos + 1} of {shorten(line)}): "
            f"expected one object a line{hint}"
        ) from error
    except RepeatedKeyError as error:
        raise Problem(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Problem(f"this JSON cannot be read ({error})") from error
    if isinstance(record, list) and len(record) == 2 and isinstance(record[0], str):
        text, rest = record
        if isinstance(rest, dict) and "text" not in rest:  # spaCy's older training data
            return {"text": text, **rest}
    if not isinstance(record, dict):
        inside = isinstance(record, list) and all(isinstance(item, dict | list) for item in record)
        hint = "; if the file holds one JSON array: jq -c '.[]' FILE > FILE.jsonl" if inside else ""
        raise Problem(
            f"expected one JSON object a line such as {_EXAMPLE}, got {_kind(record)}{hint}"
        )
    return record


def _text(record: dict[str, Any]) -> str:
    if "text" not in record:
        keys = ", ".join(map(shorten, record)) or "none"
        raise Problem(f'the object has no "text" (its keys: {keys}), expected e.g. {_EXAMPLE}')
    text = record["text"]
    if not isinstance(text, str):
        raise Problem(f'"text" is {_kind(text)}, expected a string')
    return _checked(text, '"text"')


def _checked(value: str, name: str) -> str:
    if half := _SURROGATE.search(value):
        raise Problem(
            f"{name} holds half a surrogate pair (\\u{ord(half[0]):04x} at character "
            f"{half.start() + 1}), which is no character"
        )
    return value


def _find_key(record: dict[str, Any]) -> str:
    """The key that holds the entities; empty where the record names none."""
    given = [key for key in KEYS if key in record]
    lists = [key for key in given if isinstance(record[key], list)]
    if not given:
        return ""
    if not lists:
        value = record[given[0]]
        raise Problem(
            f'"{given[0]}" is {_kind(value)}, expected a list of [start, end, label]; if it is not '
            'about entities, rename the key, and add "entities": [] if the text has none'
        )
    if len(lists) > 1 and any(record[key] for key in lists[1:]):
        raise Problem(
            f"both {lists[0]!r} and {lists[1]!r} are given: keep the one that holds the entities"
        )
    return lists[0]


def span_keys(record: dict[str, Any]) -> list[str]:
    """Keys, other than the known ones, that hold what look like spans."""
    known = (*KEYS, *_NO_ENTITIES)
    return [key for key, value in record.items() if key not in known and _holds_spans(value)]


def _holds_spans(value: Any) -> bool:
    if isinstance(value, dict):
        offsets = [v for k, v in value.items() if type(v) is int and _OFFSET_NAME.match(k)]
        return len(offsets) >= 2 or any(map(_holds_spans, value.values()))
    if not isinstance(value, list):
        return False
    kinds = [type(item) for item in value]
    is_span = kinds in ([int, int], [int, int, str], [str, int, int])
    return is_span or any(_holds_spans(item) for item in value if isinstance(item, dict | list))


def _span(span: Any) -> Span:
    if isinstance(span, dict):
        start, end = _first_of(span, _START), _first_of(span, _END)
        label, score, surface = span.get("label"), span.get("score"), span.get("text")
    elif isinstance(span, list) and len(span) == 3:
        (start, end, label), score, surface = span, None, None
    else:
        raise Problem(f"an entity is {_show(span)}, expected [start, end, label]")
    if type(start) is not int or type(end) is not int:
        raise Problem(f"offsets of {_show(span)} are not both integers")
    if not isinstance(label, str) or not label:
        raise Problem(f"the label of {_show(span)} is {_kind(label)}, expected a non-empty string")
    if end <= start:
        kind = "empty" if end == start else "reversed"
        raise Problem(
            f"the span of {_show(span)} is {kind}: expected start < end (the end is excluded)"
        )
    surface = surface if isinstance(surface, str) else None
    fragments = _fragments(span) if isinstance(span, dict) else ()
    if fragments and (fragments[0][0], fragments[-1][1]) != (start, end):
        raise Problem(f"the fragments of {_show(span)} do not reach from its start to its end")
    label = _checked(label, "a label")
    shown = partial(_show, span)  # thousands are never shown
    return Span(start, end, label, _score(score, span), surface, shown, fragments)


def _fragments(span: dict[str, Any]) -> Fragments:
    """The parts of a discontinuous entity, in order; nothing for any other."""
    given = span.get("fragments")
    if given is None or given == []:
        return ()
    pairs = isinstance(given, list) and all(
        isinstance(part, list) and [type(offset) for offset in part] == [int, int] for part in given
    )
    if not pairs or not all(start < end for start, end in given):
        raise Problem(
            f'"fragments" of {_show(span)} is not a list of [start, end] with start < end'
        )
    found = tuple(sorted((start, end) for start, end in given))
    if any(other[0] <= one[1] for one, other in pairwise(found)):
        raise Problem(f"the fragments of {_show(span)} touch or overlap")
    return found if len(found) > 1 else ()


def _first_of(span: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((span[name] for name in names if name in span), None)


def _score(score: Any, span: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise Problem(f"the score of {_show(span)} is not a number from 0 to 1")
    return float(score)


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null or missing"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    name = names.get(type(value), "a number")
    return "an empty string" if value == "" else name


def _show(span: Any, limit: int = 80) -> str:
    text = json.dumps(span, ensure_ascii=True)
    return text if len(text) <= limit else f"{text[:limit]}…"
