"""A format of another package: one module, to be registered by one line. It is CSV of spans."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
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
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.errors import DataError
from nertune.types import Document, Entity

HEADER = ["text", "spans"]


class Csv(Format):
    """A row a document: its text, then start, end and label of each entity."""

    name = "csv"
    title = "CSV of spans"
    suffixes = (".csv",)
    holds = Holds(overlap=True)

    def recognise(self, seen: Glimpse) -> str | None:
        return "it begins with the row text,spans" if seen.first == ",".join(HEADER) else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        rows = csv.reader(io.StringIO(source.read_text(), newline=""))
        if next(rows) != HEADER:
            raise DataError("expected the row text,spans", path=source.path, line=1)
        for text, *spans in rows:
            try:
                entities = [
                    Entity(int(spans[i]), int(spans[i + 1]), spans[i + 2])
                    for i in range(0, len(spans), 3)
                ]
                found = () if options.ignore_tags else tuple(entities)
                yield Document(text, found, f"{source.path.name}:{rows.line_num}")
            except (ValueError, IndexError) as error:
                raise DataError(str(error), path=source.path, line=rows.line_num) from error

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        rows = csv.writer(target, lineterminator="\n")
        rows.writerow(HEADER)
        for document in documents:
            rows.writerow([document.text, *(value for e in document.entities for value in e.key)])

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        if "\0" in document.text:
            return lose(document, "a file of text holds no NUL")
        document, losses = keep_entities(document, lambda e: "a NUL" if "\0" in e.label else "")
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))
