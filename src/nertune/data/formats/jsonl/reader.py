"""Files of JSON lines to documents, without holding more than a part of a large one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nertune.data.formats.base import Findings, ReadOptions, Source
from nertune.data.formats.jsonl.records import (
    KEYS,
    Problem,
    Record,
    looks_like_scope,
    read_record,
    span_keys,
)
from nertune.data.formats.offsets import (
    Counted,
    MisplacedSpan,
    Offsets,
    UnitChoice,
    UnitVote,
    count_units,
    explain_misfit,
    place,
)
from nertune.data.formats.source import Part
from nertune.data.formats.values import Reading, name_by_id, plural
from nertune.data.statistics import has_overlap
from nertune.errors import DataError
from nertune.storage.files import decode_text, shorten, split_lines
from nertune.types import Document, Entity, Fragments, Scope

__all__ = ["NOT_GOLD", "documents", "read_scope", "read_tokens"]

NOT_GOLD = ("reject", "ignore")
"""Prodigy's answers that say nothing about the entities."""
_READ_AS = {"codepoint": "code points", "utf16": "UTF-16 units"}


def documents(source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
    """Read JSONL spans. Overlapping entities are kept, identical ones are read once.

    A file with characters beyond U+FFFF is read twice where it has to be found out what offsets
    count.

    Args:
        source: the file; a pipe is read whole.
        options: `offsets` `auto` finds out what they count, see `formats.offsets.UnitVote`; with
            `ignore_tags` the texts are read alone, whatever else a record says.
        findings: gets what was decided and dropped.

    Raises:
        DataError: a line is not such an object, or there is none.
    """
    records = _Records(source.reopenable(), ignore_tags=options.ignore_tags, reject=options.reject)
    choice = UnitChoice(options.offsets)
    if options.offsets == "auto" and not options.ignore_tags and source.may_hold_astral():
        vote = UnitVote("auto", options.like.offsets)
        for record in records:
            vote.add(records.counted(record))
        choice = vote.settle()
    findings.reading = Reading(offsets="auto" if options.ignore_tags else choice.offsets)
    seen = _Seen()
    for record in records:
        entities = records.place(record, choice.offsets, options.offsets)
        scope = records.scope(record, choice.offsets)
        document = _document(record, entities, source.path.name, choice.offsets)
        document = document if scope is None else replace(document, scope=scope)
        seen.add(record, entities, document)
        yield document
    if not options.ignore_tags:
        asked = options.offsets
        findings.notices += [*seen.say_missing(), *records.say_rejected()]
        findings.notices += [*_say_offsets(choice, asked), *seen.say_repeated()]


class _Records:
    """The records of a file, which can be gone through again and again; a small file is held."""

    def __init__(
        self,
        source: Source,
        *,
        ignore_tags: bool,
        reject: Callable[[DataError], None] | None = None,
    ):
        self._source, self._ignore_tags, self._reject = source, ignore_tags, reject
        self._held: list[Record] | None = None
        self._num_rejected = self._first_rejected = 0  # records that are no gold; a line

    def __iter__(self) -> Iterator[Record]:
        return self._read() if self._held is None else iter(self._held)

    def _read(self) -> Iterator[Record]:
        held: list[Record] | None = None
        num_read = num_rejected = first_rejected = 0
        for part in self._parts():
            held = [] if part.is_whole else None
            for number, line in enumerate(split_lines(part.text), part.first):
                if not line.strip(" \t\r"):
                    continue
                try:
                    record = read_record(line, number, ignore_tags=self._ignore_tags)
                except Problem as problem:
                    refusal = self._refuse(problem, number)
                    if self._reject is None:
                        raise refusal from problem.__cause__
                    self._reject(refusal)
                    num_read += 1
                    continue
                if not self._ignore_tags and record.meta.get("answer") in NOT_GOLD:
                    num_rejected += 1
                    first_rejected = first_rejected or number
                    continue
                num_read += 1
                if held is not None:
                    held.append(record)
                yield record
        self._num_rejected, self._first_rejected = num_rejected, first_rejected
        if not num_read:
            why = f": all {num_rejected} records are rejected or ignored" if num_rejected else ""
            raise DataError(f"the file holds no sentence{why}", path=self._source.path)
        self._held = held

    def _parts(self) -> Iterator[Part]:
        """Parts of the text; where lines are rejected, those that are UTF-8."""
        if self._reject is None:
            yield from self._source.text_parts(by_line=True)
            return
        for number, line in enumerate(self._source.stream_lines(), 1):
            try:
                text = decode_text(line, self._source.path, first_line=number)
            except DataError as error:
                if error.line is None:
                    raise
                self._reject(error)
                text = ""
            yield Part(text, number, is_last=False)

    def counted(self, record: Record) -> Counted:
        """A record with its spans checked.

        Raises:
            DataError: one is no span.
        """
        try:
            return Counted(record.line, record.text, record.spans)
        except Problem as problem:
            raise self._refuse(problem, record.line) from problem.__cause__

    def place(self, record: Record, offsets: Offsets, asked: Offsets) -> list[Entity]:
        """The entities of a record.

        Raises:
            DataError: one is no span, or does not fit the text.
        """
        if self._ignore_tags or not record.given:
            return []
        if offsets in ("auto", "codepoint") and (found := _place_plain(record)) is not None:
            return found
        counted = self.counted(record)
        try:
            return [place(span, record.text, offsets) for span in counted.spans]
        except MisplacedSpan as error:
            told = explain_misfit(error, map(self.counted, self), asked, offsets)
            raise DataError(told, path=self._source.path, line=record.line) from error

    def scope(self, record: Record, offsets: Offsets) -> Scope | None:
        """Of what a record is labelled; `None` where it does not say it.

        Raises:
            DataError: its scope is none, or has spans beyond the text.
        """
        try:
            return read_scope(record.meta, record.text, offsets)
        except ValueError as error:
            raise DataError(str(error), path=self._source.path, line=record.line) from error

    def say_rejected(self) -> list[str]:
        """What was skipped, when all was gone through."""
        if not self._num_rejected:
            return []
        return [
            f"{self._num_rejected} records skipped that Prodigy's user rejected or ignored "
            f"(first: line {self._first_rejected})"
        ]

    def _refuse(self, problem: Problem, line: int) -> DataError:
        return DataError(str(problem), path=self._source.path, line=line)


def _place_plain(record: Record) -> list[Entity] | None:
    """The entities where all are plain: `[start, end, label]` within the text; else nothing."""
    length = len(record.text)
    found = []
    for span in record.given:
        if type(span) is not list or len(span) != 3:
            return None
        start, end, label = span
        is_span = type(start) is int and type(end) is int and 0 <= start < end <= length
        # Half a surrogate pair is not printable: it is refused where each span is checked.
        if not is_span or type(label) is not str or not label.isprintable() or not label:
            return None
        found.append(Entity(start, end, label))
    return found


def _document(record: Record, entities: list[Entity], file: str, offsets: Offsets) -> Document:
    unique = {entity.key: entity for entity in reversed(entities)}
    name = name_by_id(record.meta.get("id"), f"{file}:{record.line}")
    tokens, meta = read_tokens(record.meta, record.text, offsets), record.meta
    if tokens is not None:
        meta = {key: value for key, value in meta.items() if key != "tokens"}
    if isinstance(meta.get("scope"), dict):
        meta = {key: value for key, value in meta.items() if key != "scope"}
    return Document(record.text, tuple(unique.values()), name, tokens, meta)


def read_scope(meta: Mapping[str, Any], text: str, offsets: Offsets = "codepoint") -> Scope | None:
    """The scope that a record's key `scope` says; `None` where there is none, or other metadata.

    Its unknown spans count what the offsets of entities count.

    Raises:
        ValueError: a key or value of it is not known, a span is not in the text, or it is a list or
            words that look like a scope.
    """
    value = meta.get("scope")
    if not looks_like_scope(value):
        return None
    if not isinstance(value, dict):
        raise ValueError(
            'scope: expected an object, e.g. {"labels": ["PER"]}, got '
            f"{shorten(str(value))}; if it is not about entities, rename the key"
        )
    try:
        scope = Scope.from_dict(value)
    except ValueError as error:
        raise ValueError(f"{error}; if it is not about entities, rename the key") from error
    spans = scope.unknown
    if spans and offsets not in ("auto", "codepoint"):
        places = {place: i for i, place in enumerate(count_units(text, offsets)) if place >= 0}
        spans = tuple((places.get(a, -1), places.get(b, -1)) for a, b in spans)
    for (start, end), given in zip(spans, scope.unknown, strict=True):
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"scope: the unknown span {list(given)} is not in the text of {len(text)} "
                "characters, or cuts one"
            )
    return Scope(scope.labels, scope.complete, spans)


def read_tokens(
    meta: Mapping[str, Any], text: str, offsets: Offsets = "codepoint"
) -> Fragments | None:
    """Source tokens as `[[start, end], …]`; `None` where the key says anything else.

    They count what the offsets of entities count.
    """
    value = meta.get("tokens")
    if not isinstance(value, list) or bool(value) != bool(text):
        return None
    if value and offsets not in ("auto", "codepoint"):
        places = {place: i for i, place in enumerate(count_units(text, offsets)) if place >= 0}
        if not all(isinstance(pair, list) and set(map(type, pair)) == {int} for pair in value):
            return None
        value = [[places.get(offset, -1) for offset in pair] for pair in value]
    position = 0
    for pair in value:
        if not isinstance(pair, list) or [type(offset) for offset in pair] != [int, int]:
            return None
        if not position <= pair[0] < pair[1] <= len(text):
            return None
        position = pair[1]
    return tuple((start, end) for start, end in value)


class _Seen:
    """What a file does not say, and what it says twice; counted record by record."""

    def __init__(self) -> None:
        self._num_records = self._num_bare = self._num_unread = 0
        self._bare: Record | None = None
        self._unread: tuple[Record, str] | None = None
        self._num_repeated = self._num_overlapping = 0

    def add(self, record: Record, entities: list[Entity], document: Document) -> None:
        """Look at one more record."""
        self._num_records += 1
        if not record.key:
            self._num_bare += 1
            self._bare = self._bare or record
        elif not record.given:
            for key in span_keys(record.meta):
                self._num_unread += 1
                self._unread = self._unread or (record, key)
        self._num_repeated += len(entities) - len(document.entities)
        self._num_overlapping += has_overlap(document)

    def say_missing(self) -> list[str]:
        """Records that name no entities, and lists of spans under keys that are not read."""
        notices = []
        if (bare := self._bare) is not None:
            known = ", ".join(KEYS)
            if self._num_bare == self._num_records:
                keys = ", ".join(map(shorten, bare.meta)) or "none"
                notices.append(
                    f"{self._num_bare} records, and none names entities (in one of {known}): read "
                    f"as texts without entities (other keys of line {bare.line}: {keys})"
                )
            else:
                s = plural(self._num_bare)
                notices.append(
                    f"{self._num_bare} record{s} without any of {known} among "
                    f"{self._num_records}, read as text{s} without entities (first: line "
                    f"{bare.line})"
                )
        if self._unread is not None:
            record, key = self._unread
            notices.append(
                f'{self._num_unread} records whose "{record.key}" is empty hold what look like '
                f"spans under another key, which is not read (first: line {record.line}, "
                f"{shorten(key)})"
            )
        return notices

    def say_repeated(self) -> list[str]:
        """What stands there twice, and what overlaps."""
        counted = (
            (self._num_repeated, "identical entities dropped (same span and label in one text)"),
            (
                self._num_overlapping,
                "texts with overlapping entities, of which a tagger can learn one each",
            ),
        )
        return [f"{n} {what}" for n, what in counted if n]


def _say_offsets(choice: UnitChoice, asked: Offsets) -> list[str]:
    """How offsets were understood, where that is not plain."""
    if asked != "auto":
        return []
    if choice.ambiguous is None:
        is_utf16 = choice.offsets == "utf16"
        return ["offsets read as UTF-16 units: as code points they do not fit the texts"] * is_utf16
    other: Offsets = "utf16" if choice.offsets == "codepoint" else "codepoint"
    line, text, spans = choice.ambiguous
    span, found, instead = next(
        (span, here, there)
        for span in spans
        for here, there in [(place(span, text, choice.offsets), place(span, text, other))]
        if here.key != there.key
    )
    return [
        f"offsets of {choice.num_ambiguous} records may count code points or UTF-16 units, and "
        f"nothing in the file decides: read as {_READ_AS[choice.offsets]} (first: line {line}, "
        f"{span.label} {shorten(text[found.start : found.end])}, as {_READ_AS[other]} "
        f"{shorten(text[instead.start : instead.end])}); say which with offsets codepoint or utf16"
    ]
