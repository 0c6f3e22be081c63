"""BioC JSON: a collection of documents, see `formats.bioc`.

    {"source": "", "date": "", "key": "", "infons": {}, "documents": [{"id": "7", "infons": {},
      "passages": [{"offset": 0, "infons": {}, "text": "王明在京", "sentences": [], "annotations":
      [{"id": "T1", "infons": {"type": "PER"}, "text": "王明", "locations": [{"offset": 0,
      "length": 2}]}], "relations": []}], "annotations": [], "relations": []}]}

An array of collections is read as well, a document a line, and what PubTator 3 exports.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.bioc import Place, document_of, record_of
from nertune.data.formats.json_files.records import stream_records
from nertune.data.formats.json_files.values import (
    Record,
    RecordIds,
    dump_record,
    first_record,
)
from nertune.data.formats.values import Reading, say_counts
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["BiocJson"]

_LISTS = ("documents", "PubTator3")
_HEADER = (
    '{"bioctype": "BioCCollection", "source": "", "date": "", "key": "", "version": "1.0", '
    '"infons": {}, "documents": ['
)
_HAS_TEXT = re.compile(r'\{\s*"text"\s*:')
_PASSAGES = re.compile(r'"passages"\s*:\s*\[')
_INFONS = re.compile(r'"infons"\s*:\s*\{')


class BiocJson(Format):
    """Collections of documents with passages and annotations."""

    name = "bioc-json"
    title = "BioC JSON"
    suffixes = (".bioc.json",)
    holds = Holds(overlap=True, fragments=True, scores=True, ids=True, metadata=True)

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is JSON of passages with infons."""
        text, record = seen.text.lstrip(), first_record(seen)
        if (record is not None and "text" in record) or _HAS_TEXT.match(text):
            return None  # JSONL
        if text.startswith(("{", "[")) and _PASSAGES.search(text) and _INFONS.search(text):
            return "it is JSON of passages with infons"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents of all collections."""
        seen: Counter[str] = Counter()
        offsets = "codepoint" if options.offsets == "auto" else options.offsets
        findings.reading = Reading(offsets=offsets)
        for record, where in _records(source, seen):
            yield document_of(record, where, options, seen)
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One collection, a document a line."""
        target.write(_HEADER)
        between = "\n"
        for document in documents:
            target.write(between + dump_record(record_of(document, _can_write)))
            between = ",\n"
        target.write("\n]}\n")


def _can_write(value: Any) -> bool:
    """Whether it is a plain value."""
    return isinstance(value, str | int | float)


def _records(source: Source, seen: Counter[str]) -> Iterator[tuple[Record, Place]]:
    """The documents of a file, and where they stand."""
    path = source.path
    ids = RecordIds(path)
    for line, record in stream_records(source):
        name = next((key for key in _LISTS if key in record), "")
        if not name and "passages" not in record:
            keys = shorten(", ".join(record))
            told = f"expected a collection with documents, or a document with passages, got {keys}"
            raise DataError(told, path=path, line=line)
        if not name:
            yield record, Place(path, line, ids.of({}, line))
            continue
        if any(record.get(key) for key in ("source", "date", "key", "infons")):
            seen["collections of which source, date, key and infons are not read"] += 1
        documents = record[name]
        if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
            raise DataError(f'"{name}" is no array of objects', path=path, line=line)
        for document in documents:
            yield document, Place(path, line, ids.of({}, line))
