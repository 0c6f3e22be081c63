"""Tagged documents as Arrow tables: one row a document.

| column     | type                                                                      |
|------------|---------------------------------------------------------------------------|
| `id`       | string                                                                    |
| `text`     | string                                                                    |
| `entities` | list of `{start, end, label, text, score}`; offsets count code points     |
| `metadata` | string: what else the source said, as JSON                                |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

from nertune.data.formats.tables.parquet import import_arrow
from nertune.types import Document

__all__ = ["TableWriter", "entities_type", "entity_rows", "to_table"]


def entities_type() -> Any:
    """The Arrow type of the entities of a document."""
    pa, _ = import_arrow()
    names = {"start": pa.int64(), "end": pa.int64(), "label": pa.string(), "text": pa.string(),
             "score": pa.float64()}  # fmt: skip
    return pa.list_(pa.struct(list(names.items())))


def entity_rows(document: Document) -> list[dict[str, Any]]:
    """The entities of a document as plain values."""
    return [
        {"start": e.start, "end": e.end, "label": e.label, "text": document.surface(e),
         "score": e.score}
        for e in document.entities
    ]  # fmt: skip


def to_table(documents: Sequence[Document]) -> bytes:
    """An Arrow stream of one table."""
    pa, _ = import_arrow()
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("entities", entities_type()),
         ("metadata", pa.string())]
    )  # fmt: skip
    rows = [
        {
            "id": str(document.meta.get("id", document.id)),
            "text": document.text,
            "entities": entity_rows(document),
            "metadata": json.dumps(
                {k: v for k, v in document.meta.items() if k != "id"}, ensure_ascii=False
            ),
        }
        for document in documents
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return bytes(sink.getvalue())


class TableWriter:
    """Writes Arrow streams to a parquet file, in one row group.

    Args:
        stream: where to; it stays open.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._tables: list[Any] = []

    def add(self, data: bytes) -> None:
        """Add what `to_table` gave, one stream or several."""
        pa, _ = import_arrow()
        source = pa.BufferReader(data)
        while source.tell() < len(data):
            self._tables.append(pa.ipc.open_stream(source).read_all())

    def close(self) -> None:
        """Write them."""
        pa, parquet = import_arrow()
        parquet.write_table(pa.concat_tables(self._tables).combine_chunks(), self._stream)
