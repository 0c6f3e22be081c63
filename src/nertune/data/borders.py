"""Which source document each text was cut from, where the source says it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nertune.types import Document

__all__ = ["BORDER_KEYS", "number_sources"]

BORDER_KEYS = ("document", "document_id", "doc_id")
"""Keys of `Document.meta` that name a source document; the first that stands everywhere counts."""


def number_sources(documents: Sequence[Document]) -> list[int] | None:
    """The number of each text's source document.

    Returns:
        Numbers counted from 0 in the order of first occurrence; `None` where the borders are not
        known (a text without the key, or one value for all) or every text is a document of its own.
    """
    for key in BORDER_KEYS:
        values = [document.meta.get(key) for document in documents]
        if None in values:
            continue
        numbers: dict[str, int] = {}
        found = [numbers.setdefault(json.dumps(v, sort_keys=True), len(numbers)) for v in values]
        if 1 < len(numbers) < len(found):
            return found
    return None
