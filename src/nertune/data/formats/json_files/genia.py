"""GENIA-like JSON lines: tokens, and mentions of tokens whose end is excluded; they may be nested.

    {"tokens": ["人民", "医院"], "doc_id": "d", "sent_id": "d-1", "entity_mentions": [{"start": 0,
     "end": 2, "entity_type": "ORG", "text": "人民 医院"}]}

Corpora of nested entities and of events (ACE, ERE) are passed on in this form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
from nertune.data.formats.json_files.records import Record
from nertune.data.formats.json_files.token_spans import TokenRecord, read_texts, token_span
from nertune.data.formats.json_files.values import dump_record, fit_keys, given_id, seen_keys
from nertune.data.formats.tables.tokens import in_tokens
from nertune.data.formats.values import say_counts
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["Genia"]

_TOKENS, _MENTIONS = "tokens", "entity_mentions"
_NAMES = {"sent_id": "id", "doc_id": "document"}  # and what they are to a document
_MENTION = ("start", "end", "entity_type", "text")


class Genia(Format):
    """Sentences with mentions; an object a line, or an array."""

    name = "genia"
    title = "GENIA-like JSON lines"
    holds = Holds(
        overlap=True, tokens="required", ids=True, metadata=True, text="tokens", offsets="token"
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first object has tokens and mentions."""
        is_it = seen_keys(seen, _TOKENS, _MENTIONS)
        return 'its first object has "tokens" and "entity_mentions"' if is_it else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The sentences; each knows its document, and what joins tokens is that of the file."""
        seen: Counter[str] = Counter()
        for found in read_texts(source, _TOKENS, options, findings, seen):
            spans = [] if options.ignore_tags else list(_spans(found, source.path, seen))
            meta = _meta(found.record)
            name = given_id(meta, source.path, found.line) if "id" in meta else found.name
            yield found.text.document(spans, name, meta)
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line."""
        for document in documents:
            tokens, found = in_tokens(document, options)
            mentions = [
                {
                    "start": span.first,
                    "end": span.last,
                    "entity_type": span.label,
                    "text": " ".join(tokens[span.first : span.last]),
                }
                for span in found
            ]
            record = {_TOKENS: tokens, **_keys(document.meta), _MENTIONS: mentions}
            target.write(dump_record(record) + "\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        taken = [key for key, name in _NAMES.items() if name not in document.meta]
        return fit_keys(document, self.holds, options, (_TOKENS, _MENTIONS, *taken))


def _meta(record: Record) -> dict[str, Any]:
    """What else a record says: `sent_id` as `id` and `doc_id` as `document`, unless it has both."""
    return {
        key if (name := _NAMES.get(key, key)) != key and name in record else name: value
        for key, value in record.items()
        if key not in (_TOKENS, _MENTIONS)
    }


def _keys(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The keys under which metadata is written; the inverse of `_meta`."""
    keys = {name: key for key, name in _NAMES.items() if key not in meta}
    return {keys.get(name, name): value for name, value in meta.items()}


def _spans(found: TokenRecord, path: Path, seen: Counter[str]) -> Iterator[TokenSpan]:
    line, mentions = found.line, found.record.get(_MENTIONS)
    if not isinstance(mentions, list) or not all(isinstance(m, dict) for m in mentions):
        raise DataError('"entity_mentions" is not a list of objects', path=path, line=line)
    for mention in mentions:
        start, end, label = (mention.get(key) for key in _MENTION[:3])
        count = found.num_tokens
        span = token_span(start, end, label, count, path, line, is_inclusive=False)
        surface, there = mention.get("text"), found.tokens[span.first : span.last]
        if isinstance(surface, str) and "".join(surface.split()) != "".join("".join(there).split()):
            told = (
                f"{label} [{start}, {end}] says its text is {shorten(surface)}, but there stands "
                f"{shorten(' '.join(there))} (the end is excluded)"
            )
            raise DataError(told, path=path, line=line)
        if others := [key for key in mention if key not in _MENTION]:
            keys = ", ".join(map(shorten, sorted(others)))
            seen[f"mentions with other keys, which are not read: {keys}"] += 1
        yield span
