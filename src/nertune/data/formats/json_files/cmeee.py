"""CMeEE's JSON: one array of texts with entities, whose end is included.

[{"text": "淹溺者", "entities": [{"start_idx": 0, "end_idx": 1, "type": "dis", "entity": "淹溺"}]}]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.json_files.values import (
    Record,
    WriteArray,
    documents_of,
    fit_keys,
    read_span,
    require_text,
    seen_array,
)
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Cmeee"]

_KEYS = ("text", "entities")


class Cmeee(Format):
    """CMeEE and CMeEE-V2 (Zan et al., 2020; CBLUE)."""

    name = "cmeee"
    title = "CMeEE JSON"
    holds = Holds(overlap=True, ids=True, metadata=True, end="inclusive")

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is an array of objects with `start_idx`."""
        is_it = seen_array(seen, "text", "entities", "start_idx", "end_idx")
        return 'it is an array of objects with "start_idx" and "end_idx"' if is_it else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The texts; each surface has to stand where its span says."""
        return documents_of(source, options, _KEYS, _entities)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One array, a text a line."""
        array = WriteArray(target)
        for document in documents:
            entities = [
                {
                    "start_idx": entity.start,
                    "end_idx": entity.end - 1,
                    "type": entity.label,
                    "entity": document.surface(entity),
                }
                for entity in document.entities
            ]
            array.add({"text": document.text, "entities": entities, **document.meta})
        array.close()

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        return fit_keys(document, self.holds, options, _KEYS)


def _entities(record: Record, text: str, path: Path, line: int) -> Iterator[Entity]:
    values = record.get("entities")
    if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
        raise DataError('"entities" is not a list of objects', path=path, line=line)
    for value in values:
        start, end = value.get("start_idx"), value.get("end_idx")
        start, end = read_span(start, end, path, line, is_inclusive=True)
        label = require_text(value.get("type"), "a type", path, line)
        surface = value.get("entity", text[start:end])
        if end > len(text) or not label or text[start:end] != surface:
            told = (
                f"{label} [{start}, {end - 1}] says its text is {shorten(str(surface))}, but there "
                f"stands {shorten(text[start:end])} (the end is included)"
            )
            raise DataError(told, path=path, line=line)
        yield Entity(start, end, label)
