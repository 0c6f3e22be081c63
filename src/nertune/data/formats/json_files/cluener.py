"""CLUENER's JSON lines: labels, then surfaces, then spans whose end is included.

{"text": "王明在京", "label": {"name": {"王明": [[0, 1]]}, "address": {"京": [[3, 3]]}}}
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
    documents_of,
    dump_record,
    fit_keys,
    read_span,
    require_text,
    seen_object,
)
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Cluener"]

_KEYS = ("text", "label")


class Cluener(Format):
    """CLUENER (Xu et al., 2020), and what else has its form."""

    name = "cluener"
    title = "CLUENER JSON lines"
    holds = Holds(overlap=True, ids=True, metadata=True, end="inclusive")

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first line has an object under `label`."""
        record = seen_object(seen)
        if record is None or not isinstance(record.get("label"), dict) or "text" not in record:
            return None
        return 'its first line has an object under "label"'

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records; each surface has to stand where its spans say."""
        return documents_of(source, options, _KEYS, _entities)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line."""
        for document in documents:
            labels: dict[str, dict[str, list[list[int]]]] = {}
            for entity in document.entities:
                surfaces = labels.setdefault(entity.label, {})
                spans = surfaces.setdefault(document.surface(entity), [])
                spans.append([entity.start, entity.end - 1])
            record = {"text": document.text, "label": labels, **document.meta}
            target.write(dump_record(record) + "\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        return fit_keys(document, self.holds, options, _KEYS)


def _entities(record: Record, text: str, path: Path, line: int) -> Iterator[Entity]:
    labels = record.get("label") or {}
    if not isinstance(labels, dict) or not all(isinstance(v, dict) for v in labels.values()):
        told = '"label" is not an object of objects: {label: {surface: [[start, end]]}}'
        raise DataError(told, path=path, line=line)
    for label, surfaces in labels.items():
        require_text(label, "a label", path, line)
        for surface, spans in surfaces.items():
            if not label or not isinstance(spans, list):
                told = f"expected a list of spans of {shorten(surface)}, with a label"
                raise DataError(told, path=path, line=line)
            for span in spans:
                if not isinstance(span, list) or len(span) != 2:
                    told = f"a span of {shorten(surface)} is not [start, end]"
                    raise DataError(told, path=path, line=line)
                start, end = read_span(span[0], span[1], path, line, is_inclusive=True)
                if text[start:end] != surface or end > len(text):
                    told = (
                        f"{label} {span} says its text is {shorten(surface)}, but there stands "
                        f"{shorten(text[start:end])} (the end is included)"
                    )
                    raise DataError(told, path=path, line=line)
                yield Entity(start, end, label)
