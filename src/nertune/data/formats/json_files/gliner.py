"""GLiNER's JSON: tokens, and spans of tokens whose end is included.

[{"tokenized_text": ["王明", "在", "京"], "ner": [[0, 0, "person"], [2, 2, "location"]]}]
"""

from __future__ import annotations

from collections import Counter
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
from nertune.data.formats.json_files.token_spans import read_texts, token_span
from nertune.data.formats.json_files.values import WriteArray, fit_keys, seen_keys
from nertune.data.formats.tables.tokens import in_tokens
from nertune.data.formats.values import say_counts
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan
from nertune.types import Document

__all__ = ["Gliner"]

_TOKENS, _SPANS = "tokenized_text", "ner"


class Gliner(Format):
    """What GLiNER (Zaratiana et al., 2024) is trained on; other keys, e.g. `ner_labels`, are kept.

    An array, or an object a line.
    """

    name = "gliner"
    title = "GLiNER JSON"
    holds = Holds(
        overlap=True,
        tokens="required",
        ids=True,
        metadata=True,
        text="tokens",
        offsets="token",
        end="inclusive",
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first object has GLiNER's keys."""
        is_it = seen_keys(seen, _TOKENS, _SPANS)
        return 'its first object has "tokenized_text" and "ner"' if is_it else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The sentences; what joins tokens is that of the whole file."""
        seen: Counter[str] = Counter()
        for found in read_texts(source, _TOKENS, options, findings, seen):
            spans: list[TokenSpan] = []
            if not options.ignore_tags:
                spans = _spans(found.record.get(_SPANS), found.num_tokens, source.path, found.line)
            meta = {k: v for k, v in found.record.items() if k not in (_TOKENS, _SPANS)}
            yield found.text.document(spans, found.name, meta)
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One array, a sentence a line."""
        array = WriteArray(target)
        for document in documents:
            tokens, found = in_tokens(document, options)
            spans = [[span.first, span.last - 1, span.label] for span in found]
            array.add({_TOKENS: tokens, _SPANS: spans, **document.meta})
        array.close()

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        return fit_keys(document, self.holds, options, (_TOKENS, _SPANS))


def _spans(values: Any, num_tokens: int, path: Path, line: int) -> list[TokenSpan]:
    if not isinstance(values, list) or not all(
        isinstance(value, list) and len(value) == 3 for value in values
    ):
        raise DataError('"ner" is not a list of [start, end, label]', path=path, line=line)
    return [
        token_span(start, end, label, num_tokens, path, line, is_inclusive=True)
        for start, end, label in values
    ]
