"""Prodigy's JSON lines: texts with tokens, spans and an answer.

    {"text": "王明在京", "tokens": [{"text": "王明", "start": 0, "end": 2, "id": 0, "ws": false}],
     "spans": [{"start": 0, "end": 2, "label": "PER", "token_start": 0, "token_end": 0}],
     "answer": "accept"}

Offsets count code points; `token_end` is included. A file with nothing of Prodigy's but `spans` is
read as `jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
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
from nertune.data.formats.json_files.records import Record, stream_records
from nertune.data.formats.json_files.values import (
    RecordIds,
    dump_record,
    first_record,
    fit_keys,
    read_span,
    require_text,
    seen_keys,
)
from nertune.data.formats.offsets import MisplacedSpan, Offsets, Span, place
from nertune.data.formats.values import Loss, Reading, say_counts
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Prodigy"]

_KEYS = ("text", "tokens", "spans")
_SIGNS = ("_input_hash", "_task_hash", "_view_id")
_ANSWERS = ("accept", "reject", "ignore")
_OTHERS = ("entities", "label", "labels", "ents")  # that hold the entities of other records
_TOKEN = ("text", "start", "end", "id", "ws")
_SPAN = ("text", "start", "end", "label", "token_start", "token_end", "score")


class Prodigy(Format):
    """Tasks of Prodigy's `ner` and `spans` recipes."""

    name = "prodigy"
    title = "Prodigy JSON lines"
    holds = Holds(overlap=True, scores=True, tokens="optional", ids=True, metadata=True)

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first record has a text, and hashes, an answer or tokens of Prodigy."""
        record = first_record(seen)
        if record is None:  # cut off
            is_it = seen_keys(seen, "text", "_input_hash", "_task_hash")
            return "its first record has Prodigy's hashes" if is_it else None
        if not isinstance(record.get("text"), str) or not isinstance(record.get("spans", []), list):
            return None
        if any(isinstance(record.get(key), list) for key in _OTHERS):
            return None
        if sign := next((key for key in _SIGNS if key in record), ""):
            return f'its first record has Prodigy\'s "{sign}"'
        if "spans" in record and record.get("answer") in _ANSWERS:
            return 'its first record has "spans" and an "answer" of Prodigy'
        if "spans" in record and _are_tokens(record.get("tokens")):
            return 'its first record has "spans" and tokens of Prodigy'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records that were not rejected or ignored, with their tokens."""
        path, ids = source.path, RecordIds(source.path)
        offsets: Offsets = "codepoint" if options.offsets == "auto" else options.offsets
        findings.reading = Reading(offsets=offsets)
        seen: Counter[str] = Counter()
        skipped: list[int] = []
        num_read = 0
        for line, record in stream_records(source):
            name = ids.of(record, line)
            text = require_text(record.get("text"), '"text"', path, line)
            if not options.ignore_tags and record.get("answer") in _ANSWERS[1:]:
                skipped.append(line)
                continue
            tokens = _tokens(record, text, offsets, path, line, seen)
            found: list[Entity] = []
            if not options.ignore_tags:
                found = list(_entities(record, text, offsets, path, line, seen))
            unique = {entity.key: entity for entity in reversed(found)}
            seen["identical entities dropped (same span and label)"] += len(found) - len(unique)
            meta = {key: value for key, value in record.items() if key not in _KEYS}
            yield Document(text, tuple(unique.values()), name, tokens, meta)
            num_read += 1
        if skipped and not num_read:
            told = f"all {len(skipped)} records are rejected or ignored"
            raise DataError(told, path=path)
        if skipped:
            findings.notices.append(
                f"{len(skipped)} records skipped that Prodigy's user rejected or ignored "
                f"(first: line {skipped[0]})"
            )
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A task a line; Prodigy adds what else it needs when it reads them."""
        for document in documents:
            tokens = {} if document.tokens is None else {"tokens": list(_token_values(document))}
            spans = list(_span_values(document))
            record = {"text": document.text, **document.meta, **tokens, "spans": spans}
            target.write(dump_record(record) + "\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys that mean something else, and without tokens that part an entity.

        An answer other than `accept` says that the entities are wrong.
        """
        taken = (*_KEYS, "answer") if document.meta.get("answer") in _ANSWERS[1:] else _KEYS
        fitted = fit_keys(document, self.holds, options, taken)
        document = fitted.document or document
        if fitted.document is None or document.tokens is None:
            return fitted
        starts, ends = _ends(document)
        parted = next(
            (e for e in document.entities if e.start not in starts or e.end not in ends), None
        )
        if parted is None:
            return fitted
        why = f"{parted.label} {shorten(document.surface(parted))} begins or ends inside a token"
        loss = Loss(document.id, "tokens", f"{len(document.tokens)} source tokens: {why}")
        return Fitted(replace(document, tokens=None), (*fitted.losses, loss))


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(token, dict) and {"start", "end", "id"} <= set(token) for token in value
    )


def _tokens(
    record: Record, text: str, offsets: Offsets, path: Path, line: int, seen: Counter[str]
) -> tuple[tuple[int, int], ...] | None:
    """A record's tokens, without those of a tokenizer's own (`[CLS]`), which cover nothing."""
    values = record.get("tokens")
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError('"tokens" is not a list of objects', path=path, line=line)
    found: list[tuple[int, int]] = []
    for value in values:
        start, end = value.get("start"), value.get("end")
        if type(start) is int and start == end:
            seen["tokens without characters left out"] += 1
            continue
        start, end = read_span(start, end, path, line, is_inclusive=False)
        token = _place(Span(start, end, "token", None, None, f"token [{start}, {end}]"), text,
                       offsets, path, line)  # fmt: skip
        if found and token.start < found[-1][1]:
            told = f"token [{start}, {end}] overlaps the one before it"
            raise DataError(told, path=path, line=line)
        found.append((token.start, token.end))
        _count_others(value, _TOKEN, "tokens", seen)
    return tuple(found)


def _count_others(value: Record, known: tuple[str, ...], what: str, seen: Counter[str]) -> None:
    if others := [key for key in value if key not in known]:
        keys = ", ".join(map(shorten, sorted(others)))
        seen[f"{what} with other keys, which are not read: {keys}"] += 1


def _entities(
    record: Record, text: str, offsets: Offsets, path: Path, line: int, seen: Counter[str]
) -> Iterator[Entity]:
    spans = record.get("spans")
    if spans is None:
        seen["records without spans, read as texts without entities"] += 1
        return
    if not isinstance(spans, list) or not all(isinstance(span, dict) for span in spans):
        raise DataError('"spans" is not a list of objects', path=path, line=line)
    for span in spans:
        start, end = read_span(span.get("start"), span.get("end"), path, line, is_inclusive=False)
        if span.get("label") is None:
            seen["spans without a label, which are not read"] += 1
            continue
        label = require_text(span["label"], "a label", path, line)
        if not label:
            raise DataError(f"the label of [{start}, {end}] is empty", path=path, line=line)
        _count_others(span, _SPAN, "spans", seen)
        given, surface = span.get("score"), span.get("text")
        is_score = type(given) in (int, float) and 0 <= given <= 1
        if given is not None and not is_score:
            seen["scores that are no probability, which are not read"] += 1
        yield _place(
            Span(
                start,
                end,
                label,
                float(given) if is_score else None,
                surface if isinstance(surface, str) else None,
                f"{label} [{start}, {end}]",
            ),
            text,
            offsets,
            path,
            line,
        )


def _place(span: Span, text: str, offsets: Offsets, path: Path, line: int) -> Entity:
    try:
        return place(span, text, offsets)
    except MisplacedSpan as error:
        raise DataError(str(error), path=path, line=line) from error


def _ends(document: Document) -> tuple[dict[int, int], dict[int, int]]:
    """The tokens that begin and that end at an offset."""
    tokens = document.tokens or ()
    starts = {start: i for i, (start, _) in enumerate(tokens)}
    return starts, {end: i for i, (_, end) in enumerate(tokens)}


def _token_values(document: Document) -> Iterator[Record]:
    text = document.text
    for number, (start, end) in enumerate(document.tokens or ()):
        is_apart = text[end : end + 1].isspace()
        yield {
            "text": text[start:end], "start": start, "end": end, "id": number, "ws": is_apart
        }  # fmt: skip


def _span_values(document: Document) -> Iterator[Record]:
    starts, ends = _ends(document)
    for entity in document.entities:
        value: Record = {"start": entity.start, "end": entity.end, "label": entity.label}
        if entity.start in starts and entity.end in ends:
            value |= {"token_start": starts[entity.start], "token_end": ends[entity.end]}
        if entity.score is not None:
            value["score"] = entity.score
        yield value
