"""Parquet tables of `tokens` and `ner_tags`, as the Hugging Face `datasets` library has them.

Columns are those of `huggingface`, and are read row group by row group. Tags are names, or integers
whose names (a `ClassLabel`) are in the file's schema, or given by the option `tags`.

Written are `id`, `tokens`, `ner_tags`, and `metadata_json`: what else a document says, as JSON.
Tags are written as names. With the option `tags` they are a `ClassLabel`: give the same names for
every split, since `datasets` takes those of the first file for all.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
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
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.data.formats.tables.names import (
    find_columns,
    parse_names,
    settle_names,
    to_tags,
)
from nertune.data.formats.tables.rows import Row, documents_of_rows, part_io_neighbours, to_row
from nertune.data.formats.tables.tokens import in_tokens, require_tokens
from nertune.data.formats.values import name_by_id
from nertune.errors import DataError, MissingDependencyError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Parquet", "import_arrow"]

_ID, _TOKENS, _TAGS, _META = "id", "tokens", "ner_tags", "metadata_json"
_BATCH = 1000  # rows held at once when reading
_GROUP = 10_000  # rows of a row group that is written
_SURROGATE = re.compile("[\ud800-\udfff]")


class Parquet(Format):
    """Rows of `tokens` and `ner_tags`, as `datasets.load_dataset("parquet", …)` reads them."""

    name = "parquet"
    title = "Hugging Face table, parquet"
    suffixes = (".parquet",)
    container = "binary"
    holds = Holds(tokens="required", ids=True, metadata=True, text="tokens", offsets="none")
    options = MappingProxyType(
        {
            "tags": "the names of tags that are integers, in order: O,B-PER,I-PER",
            "columns": "those of tokens and of tags: tokens,ner_tags",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the file begins as parquet does."""
        return "it is a parquet file" if seen.head.startswith(b"PAR1") else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The rows; the scheme and what joins tokens are those of the whole file."""
        import_arrow()
        rows = partial(_rows, source.reopenable(), options, findings)
        return documents_of_rows(rows, options, findings, source.path)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One table, a row group as soon as its rows are there."""
        pa, pq = import_arrow()
        names = parse_names(options.more["tags"]) if options.more.get("tags") else None
        schema = _schema(names)
        rest = iter(documents)
        with pq.ParquetWriter(target, schema) as writer:
            while group := [_values(d, options, names) for d in islice(rest, _GROUP)]:
                writer.write_table(pa.Table.from_pylist(group, schema))

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without entities that have no name among those that the option `tags` gives."""
        fitted = part_io_neighbours(fit(document, self.holds, options), options)
        if fitted.document is None or not options.more.get("tags"):
            return fitted
        return _fit_names(fitted.document, fitted, options)


def _fit_names(document: Document, fitted: Fitted, options: WriteOptions) -> Fitted:
    names = set(parse_names(options.more["tags"]))
    if "O" not in names:
        return lose(document, "O is not among the names of tags", fitted.losses)
    losses = list(fitted.losses)
    while True:  # in some schemes an entity's tags depend on its neighbour
        _, tags = to_row(document, options)
        _, spans = in_tokens(document, options)
        nameless = {
            entity
            for entity, span in zip(document.entities, spans, strict=True)
            if not names.issuperset(tags[span.first : span.last])
        }
        if not nameless:
            return Fitted(document, tuple(losses))
        told = dict.fromkeys(nameless, "its tags are not among the names of tags")
        document, dropped = keep_entities(document, partial(_look_up, told))
        losses += dropped


def _look_up(reasons: Mapping[Entity, str], entity: Entity) -> str:
    return reasons.get(entity, "")


def import_arrow() -> tuple[Any, Any]:
    """Arrow, and its part for parquet.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError("pyarrow", extra="parquet", purpose="parquet") from error
    return pyarrow, parquet


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    """The file; what its library cannot read is a `DataError`."""
    pa, pq = import_arrow()
    failures = (pa.ArrowException, OSError, EOFError, ValueError, ArithmeticError, MemoryError)
    try:
        with source.open() as stream:
            whole = stream if stream.seekable() else io.BytesIO(source.read_bytes())
            yield pq.ParquetFile(whole, pre_buffer=False)
    except failures as error:
        first = str(error).split("\n", 1)[0]
        told = f"this parquet file cannot be read: {first[:200]}"
        raise DataError(told, path=source.path) from error


def _rows(source: Source, options: ReadOptions, findings: Findings) -> Iterator[Row]:
    path = source.path
    with _opened(source) as file:
        schema = file.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise DataError("two columns have the same name", path=path)
        asked, reads_tags = options.more.get("columns", ""), not options.ignore_tags
        token_column, tag_column = find_columns(schema.names, asked, path, tags=reads_tags)
        names = _names(schema, tag_column, options, path, findings)
        others = _other_columns(schema, (token_column, tag_column), findings)
        used = [token_column, *([tag_column] if reads_tags else []), *others]
        number = 0
        for batch in file.iter_batches(_BATCH, columns=used, use_threads=False):
            columns = {name: batch.column(name).to_pylist() for name in used}
            for i in range(batch.num_rows):
                number += 1
                where = (path, number)
                tokens = require_tokens(columns[token_column][i], repr(token_column), *where)
                tags: list[str] = []
                if reads_tags:
                    tags = to_tags(columns[tag_column][i], names, tag_column, *where)
                meta = _meta({name: columns[name][i] for name in others})
                name = name_by_id(meta.get(_ID), f"{path.name}:{number}")
                yield Row(number, tokens, tags, name, meta)


def _names(
    schema: Any, column: str, options: ReadOptions, path: Path, findings: Findings
) -> Sequence[str] | None:
    """The names of integers, in case the tags are such."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        described = {}
    info = described.get("info") if isinstance(described, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return settle_names(options, features, column, path, findings)


def _other_columns(schema: Any, known: tuple[str, str], findings: Findings) -> list[str]:
    """The columns that are metadata; those without a JSON value are said."""
    others = [field for field in schema if field.name not in known]
    left_out = [field.name for field in others if not _is_plain(field.type)]
    if left_out:
        columns = ", ".join(map(shorten, left_out))
        told = f"{len(left_out)} columns left out, whose values are not those of JSON: {columns}"
        if told not in findings.notices:
            findings.notices.append(told)
    return [field.name for field in others if field.name not in left_out]


def _is_plain(kind: Any) -> bool:
    """Whether the values of an Arrow type are those of JSON."""
    pa, _ = import_arrow()
    types = pa.types
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        return _is_plain(kind.value_type)
    if types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(kind.field(i).type) for i in range(kind.num_fields))
    tests = (types.is_null, types.is_boolean, types.is_integer, types.is_string)
    floats = (types.is_float32, types.is_float64, types.is_large_string)
    return any(test(kind) for test in (*tests, *floats))


def _meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a row; what has no value is left out."""
    meta = {k: v for k, v in values.items() if v is not None and v == v}  # NaN is unequal
    if isinstance(meta.get(_META), str):
        try:
            more = json.loads(meta[_META])
        except (ValueError, RecursionError):
            more = None
        if isinstance(more, dict):
            del meta[_META]
            meta |= more
    return meta


def _schema(names: Sequence[str] | None) -> Any:
    pa, _ = import_arrow()
    schema = pa.schema(
        {
            _ID: pa.string(),
            _TOKENS: pa.list_(pa.string()),
            _TAGS: pa.list_(pa.string() if names is None else pa.int64()),
            _META: pa.string(),
        }
    )
    if names is None:
        return schema
    text = {"dtype": "string", "_type": "Value"}
    features = {
        _ID: text,
        _TOKENS: {"feature": text, "_type": "Sequence"},
        _TAGS: {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "Sequence"},
        _META: text,
    }
    described = {"info": {"features": features}}
    return schema.with_metadata({"huggingface": json.dumps(described)})


def _values(
    document: Document, options: WriteOptions, names: Sequence[str] | None
) -> dict[str, Any]:
    """A document as a row of the table."""
    tokens, tags = to_row(document, options)
    meta = dict(document.meta)
    given = meta.get(_ID)
    text = str(given) if type(given) in (str, int) else None
    if text is not None and _SURROGATE.search(text):
        text = None  # no UTF-8, which JSON alone can hold
    if type(given) is str and text is not None:
        del meta[_ID]
    found: Sequence[str] | list[int] = tags
    if names is not None:
        places = {name: i for i, name in enumerate(names)}
        if unknown := set(tags) - set(places):
            told = f"document {document.id!r} cannot be written: the names of tags lack"
            raise DataError(f"{told} {', '.join(sorted(unknown))}")
        found = [places[tag] for tag in tags]
    more = json.dumps(meta, ensure_ascii=False) if meta else None
    if more is not None and _SURROGATE.search(more):
        more = json.dumps(meta)
    return {_ID: text, _TOKENS: tokens, _TAGS: found, _META: more}
