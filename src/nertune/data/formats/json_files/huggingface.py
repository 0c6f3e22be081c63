"""Tables of the Hugging Face hub as JSON lines or one array: a row a sentence.

    {"id": "0", "tokens": ["王明", "在", "京"], "ner_tags": ["B-PER", "O", "B-LOC"]}

Tags are names, or integers. The names of integers are those of the option `tags`, of the answer of
the hub's dataset server that the file is (`{"features": …, "rows": …}`), or of the
`dataset_info.json` beside the file. Names are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
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
from nertune.data.formats.json_files.records import Record, stream_records
from nertune.data.formats.json_files.values import (
    RecordIds,
    dump_record,
    first_record,
    fit_keys,
    seen_keys,
)
from nertune.data.formats.tables.names import (
    BESIDE,
    find_columns,
    settle_names,
    to_tags,
)
from nertune.data.formats.tables.rows import Row, documents_of_rows, part_io_neighbours, to_row
from nertune.data.formats.tables.tokens import require_tokens
from nertune.errors import DataError
from nertune.types import Document

__all__ = ["HuggingFace"]

_TOKENS, _TAGS = "tokens", "ner_tags"


class HuggingFace(Format):
    """Rows of `tokens` and `ner_tags`, as `datasets.load_dataset("json", …)` reads them."""

    name = "huggingface"
    title = "Hugging Face table, JSON"
    holds = Holds(tokens="required", ids=True, metadata=True, text="tokens", offsets="none")
    options = MappingProxyType(
        {
            "tags": "the names of tags that are integers, in order: O,B-PER,I-PER",
            "columns": "those of tokens and of tags: tokens,ner_tags",
        }
    )

    beside = BESIDE

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first row has tokens and tags, also inside the dataset server's answer."""
        record = first_record(seen)
        if record is not None and isinstance(record.get("rows"), list) and "features" in record:
            rows = [item.get("row") for item in record["rows"][:1] if isinstance(item, dict)]
            is_it = all(isinstance(row, dict) and {_TOKENS, _TAGS} <= set(row) for row in rows)
            return 'its "rows" have "tokens" and "ner_tags"' if rows and is_it else None
        is_answer = record is None and seen_keys(seen, "features", "rows", _TOKENS, _TAGS)
        if is_answer or seen_keys(seen, _TOKENS, _TAGS):
            return 'its rows have "tokens" and "ner_tags"'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The rows; the scheme and what joins tokens are those of the whole file."""
        rows = partial(_rows, source.reopenable(), options, findings)
        return documents_of_rows(rows, options, findings, source.path)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line, with the names of tags."""
        for document in documents:
            tokens, tags = to_row(document, options)
            given = {"id": document.meta["id"]} if "id" in document.meta else {}
            record = {**given, _TOKENS: tokens, _TAGS: tags, **document.meta}
            target.write(dump_record(record) + "\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        fitted = fit_keys(document, self.holds, options, (_TOKENS, _TAGS))
        return part_io_neighbours(fitted, options)


def _rows(source: Source, options: ReadOptions, findings: Findings) -> Iterator[Row]:
    path, ids = source.path, RecordIds(source.path)
    columns = ("", "")
    names: Sequence[str] | None = None
    for line, record, features in _records(source):
        if not columns[0]:
            asked = options.more.get("columns", "")
            columns = find_columns(list(record), asked, path, tags=not options.ignore_tags)
            names = settle_names(options, features, columns[1], path, findings)
        for column in columns[: 1 if options.ignore_tags else 2]:
            if column not in record:
                raise DataError(f"the row has no {column!r}", path=path, line=line)
        tokens = require_tokens(record[columns[0]], repr(columns[0]), path, line)
        tags: list[str] = []
        if not options.ignore_tags:
            tags = to_tags(record[columns[1]], names, columns[1], path, line)
        meta = {key: value for key, value in record.items() if key not in columns}
        yield Row(line, tokens, tags, ids.of(record, line), meta)


def _records(source: Source) -> Iterator[tuple[int, Record, Any]]:
    """The rows with their lines, and what the file itself says of its columns."""
    for line, record in stream_records(source):
        rows = record.get("rows")
        if not isinstance(rows, list) or "features" not in record:
            yield line, record, None
            continue
        for item in rows:
            row = item.get("row") if isinstance(item, dict) else None
            if not isinstance(row, dict):
                told = 'one of "rows" is not an object with a "row"'
                raise DataError(told, path=source.path, line=line)
            yield line, row, record["features"]
