"""JSON records with their lines, and what is checked of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nertune.data.formats.fitting import fit, keep_entities
from nertune.data.formats.json_files.records import Record, stream_records
from nertune.data.formats.offsets import Offsets, count_units
from nertune.data.formats.source import Glimpse, Source
from nertune.data.formats.values import (
    Fitted,
    Holds,
    Loss,
    ReadOptions,
    WriteOptions,
    name_by_id,
)
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity, Scope

__all__ = [
    "Record",
    "RecordIds",
    "WriteArray",
    "documents_of",
    "dump_record",
    "first_record",
    "fit_keys",
    "given_id",
    "has_key",
    "keep_whole_units",
    "read_records",
    "read_span",
    "require_text",
    "seen_array",
    "seen_keys",
    "seen_object",
]

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(text: str, path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of a text; see `records.stream_records`.

    Args:
        text: the file's text.
        path: its name, for messages.

    Raises:
        DataError: it is no JSON, or holds something else than objects.
    """
    return stream_records(Source(path, text.encode())) if text else iter(())


def documents_of(
    source: Source,
    options: ReadOptions,
    keys: Sequence[str],
    entities: Callable[[Record, str, Path, int], Iterator[Entity]],
) -> Iterator[Document]:
    """A document of each record of a file, with its text under `text`.

    Args:
        source: the file.
        options: what the user asked for.
        keys: of a record that are no metadata.
        entities: those of a record, its text, the file and the line.

    Raises:
        DataError: a record has no text, or whatever `entities` refuses.
    """
    path = source.path
    ids = RecordIds(path)
    for line, record in stream_records(source):
        text = require_text(record.get("text"), '"text"', path, line)
        found = () if options.ignore_tags else tuple(entities(record, text, path, line))
        meta = {key: value for key, value in record.items() if key not in keys}
        yield Document(text, found, ids.of(record, line), meta=meta)


def require_text(value: Any, name: str, path: Path, line: int) -> str:
    """A value that has to be a string of characters.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, str):
        raise DataError(f"{name} is not a string", path=path, line=line)
    if _SURROGATE.search(value):
        told = f"{name} holds half a surrogate pair, which is no character"
        raise DataError(told, path=path, line=line)
    return value


def read_span(
    start: Any, end: Any, path: Path, line: int, *, is_inclusive: bool
) -> tuple[int, int]:
    """Offsets with the end excluded.

    Raises:
        DataError: they are no integers, or the span is empty or negative.
    """
    if type(start) is not int or type(end) is not int:
        told = f"offsets {shorten(json.dumps([start, end]))} are not both integers"
        raise DataError(told, path=path, line=line)
    last = end + 1 if is_inclusive else end
    if not 0 <= start < last:
        how = "included" if is_inclusive else "excluded"
        told = f"the span [{start}, {end}] is empty or negative (the end is {how} in this format)"
        raise DataError(told, path=path, line=line)
    return start, last


def given_id(record: Record, path: Path, line: int) -> str:
    """The id that the source gives, or file and line."""
    return name_by_id(record.get("id"), f"{path.name}:{line}")


class RecordIds:
    """The ids of a file's records: what the source gives, or file and line.

    The second record of a line is `x.json:1.2`, since one line may hold a whole array.
    """

    def __init__(self, path: Path):
        self._path = path
        self._line, self._count = 0, 0

    def of(self, record: Record, line: int) -> str:
        """The id of the next record."""
        self._count = self._count + 1 if line == self._line else 1
        self._line = line
        name = given_id(record, self._path, line)
        is_given = name != f"{self._path.name}:{line}"
        return name if is_given or self._count == 1 else f"{name}.{self._count}"


def first_record(seen: Glimpse) -> Record | None:
    """The first object of a file, or of the array that it is; `None` if it is none or cut off."""
    text = _first_object(seen)
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def seen_keys(seen: Glimpse, *keys: str) -> bool:
    """Whether the first object has all these keys; of one that is cut off, whether they occur."""
    record = first_record(seen)
    if record is not None:
        return all(key in record for key in keys)
    text = _first_object(seen)
    return not seen.is_whole and bool(text) and all(has_key(text, key) for key in keys)


def _first_object(seen: Glimpse) -> str:
    """A file's head from its first object on; empty where something else stands there."""
    found = re.match(r"\s*(?:\[\s*)?(?=\{)", seen.text)
    return seen.text[found.end() :] if found else ""


def seen_object(seen: Glimpse) -> Record | None:
    """The object of a file's first line; `None` if it is none or cut off."""
    try:
        value = json.loads(seen.first)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def seen_array(seen: Glimpse, *keys: str) -> bool:
    """Whether a file looks like an array of objects in which all these keys occur."""
    text = seen.text.lstrip()
    return re.match(r"\[\s*\{", text) is not None and all(has_key(text, key) for key in keys)


def has_key(text: str, key: str) -> bool:
    """Whether a key occurs in JSON, which may be cut off; the same word as a value is none."""
    return re.search(rf'(?<!\\)"{re.escape(key)}"\s*:', text) is not None


def dump_record(record: Record) -> str:
    """A record as one line of JSON; what no UTF-8 can hold is escaped."""
    line = json.dumps(record, ensure_ascii=False)
    return json.dumps(record) if _SURROGATE.search(line) else line


def fit_keys(
    document: Document, holds: Holds, options: WriteOptions, taken: tuple[str, ...]
) -> Fitted:
    """`fit` for a format whose records have keys of their own beside the metadata."""
    lost = [key for key in document.meta if key in taken]
    losses = tuple(Loss(document.id, "metadata", f"its key {shorten(key)}") for key in lost)
    if lost:
        meta = {key: value for key, value in document.meta.items() if key not in taken}
        document = replace(document, meta=meta)
    fitted = fit(document, holds, options)
    return Fitted(fitted.document, (*losses, *fitted.losses))


def keep_whole_units(document: Document, unit: Offsets) -> tuple[Document, list[Loss]]:
    """Without what no offsets in this unit can say: entities, unknown spans that cut a grapheme."""
    if unit != "grapheme":
        return document, []
    places = count_units(document.text, unit)

    def refuse(entity: Entity) -> str:
        bounds = [offset for span in entity.spans for offset in span]
        inside = any(places[offset] < 0 for offset in bounds)
        return "it begins or ends inside a grapheme" if inside else ""

    document, losses = keep_entities(document, refuse)
    if any(places[offset] < 0 for span in document.scope.unknown for offset in span):
        told = "its unknown spans cut a grapheme: all of its unmarked text is written as unknown"
        losses.append(Loss(document.id, "scope", told))
        document = replace(document, scope=Scope(document.scope.labels, False))
    return document, losses


class WriteArray:
    """Writes one array, an object a line, each as soon as it comes."""

    def __init__(self, stream: Any):
        self._stream = stream
        self._is_first = True

    def add(self, record: Record) -> None:
        """Write an object."""
        self._stream.write(("[\n" if self._is_first else ",\n") + dump_record(record))
        self._is_first = False

    def close(self) -> None:
        """Write the end of the array."""
        self._stream.write("[]\n" if self._is_first else "\n]\n")
