"""Documents as a pandas table, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nertune.errors import DataError, MissingDependencyError
from nertune.types import Document

if TYPE_CHECKING:
    import pandas

__all__ = ["from_pandas", "to_pandas"]


def to_pandas(documents: Iterable[Document], *, by: str = "document") -> pandas.DataFrame:
    """A table of documents, or of their entities.

    Args:
        documents: any number.
        by: `"document"` gives a row a document with the keys of `Document.to_dict`, which
            `from_pandas` reads; `"entity"` a row an entity: `document` (the id), `index` (the
            document's place, from 0), `start`, `end`, `label`, `surface`, `score` and
            `fragments` (empty but for discontinuous entities).

    Raises:
        ValueError: `by` is neither.
        MissingDependencyError: pandas is not installed.
    """
    pandas = _pandas()
    if by == "document":
        rows = [document.to_dict() for document in documents]
        return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=["text", "entities"])
    if by != "entity":
        raise ValueError(f"by: got {by!r}; expected 'document' or 'entity'")
    found = [
        (document.id, index, e.start, e.end, e.label, document.surface(e), e.score, e.fragments)
        for index, document in enumerate(documents)
        for e in document.entities
    ]
    columns = ["document", "index", "start", "end", "label", "surface", "score", "fragments"]
    return pandas.DataFrame(found, columns=columns)


def from_pandas(frame: pandas.DataFrame) -> list[Document]:
    """The documents of a table with a row a document.

    Args:
        frame: has a column `text`, and perhaps `entities` (lists as `Document.from_dict` takes
            them), `id`, `tokens` and `meta`; what is missing in a row is left out. Further columns
            become part of `meta`.

    Raises:
        DataError: there is no column `text`, or a row is no document; it names the row.
    """
    pandas = _pandas()
    if "text" not in frame.columns:
        found = ", ".join(map(str, frame.columns)) or "none"
        raise DataError(f"the table has no column 'text'; its columns: {found}")
    known = ("text", "entities", "id", "tokens", "meta")
    documents = []
    for number, row in enumerate(frame.to_dict(orient="records")):
        values = {
            str(key): value
            for key, value in row.items()
            if not (pandas.api.types.is_scalar(value) and pandas.isna(value))
        }
        further = {key: value for key, value in values.items() if key not in known}
        try:
            meta = {**values.get("meta", {}), **further}
            documents.append(Document.from_dict({**values, "meta": meta}))
        except (TypeError, ValueError) as error:
            raise DataError(f"row {number} of the table: {error}") from error
    return documents


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError("pandas", extra="pandas", purpose="tables") from error
    return pandas
