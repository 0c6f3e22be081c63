"""doccano's JSONL: `{"id": 1, "text": "王明在京", "label": [[0, 2, "PER"]]}`.

Files of doccano are recognised and read as `jsonl`, which knows its keys. This format is for
writing what doccano imports, and for reading where its name is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.json_files.values import dump_record, fit_keys
from nertune.data.formats.jsonl import Jsonl
from nertune.types import Document

__all__ = ["Doccano"]

_KEYS = ("text", "label", "labels", "entities", "spans", "ents")


class Doccano(Format):
    """What doccano imports as JSONL for sequence labelling; offsets count code points."""

    name = "doccano"
    title = "doccano JSONL"
    holds = Holds(overlap=True, ids=True, metadata=True)

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records, of any version; `offsets` says what they count, `auto` finds out."""
        return Jsonl().read(source, options, findings)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line."""
        for document in documents:
            label = [list(entity.key) for entity in document.entities]
            target.write(dump_record({"text": document.text, "label": label, **document.meta}))
            target.write("\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        return fit_keys(document, self.holds, options, _KEYS)
