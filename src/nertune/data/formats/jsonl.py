"""JSONL spans: one JSON object a line with a text and its entities.

| written by            | entities                                                           |
|-----------------------|--------------------------------------------------------------------|
| nertune, many tools   | `"entities": [[start, end, label], …]`                             |
| nertune, predictions  | `"entities": [{"start", "end", "label", "text", "score"}, …]`      |
| doccano               | `"label": [[start, end, label], …]`                                |
| doccano, relations    | `"entities": [{"start_offset", "end_offset", "label", …}, …]`      |
| Prodigy, without more | `"spans": [{"start", "end", "label", …}, …]`                       |
| spaCy, `Doc.to_json`  | `"ents": [{"start", "end", "label"}, …]`                           |
| spaCy, older          | `["text", {"entities": [[start, end, label], …]}]`                 |

A discontinuous entity is an object with `"fragments": [[start, end], …]` beside start and end.
Source tokens are `"tokens": [[start, end], …]`.

Offsets are half-open. They count Unicode code points, or what `offsets` says: see
`formats.offsets`. A record's other keys become `Document.meta` and are written again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TextIO

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
    check_choice,
)
from nertune.data.formats.fitting import fit
from nertune.data.formats.offsets import (
    MisplacedSpan,
    Offsets,
    Span,
    count_units,
    place,
    place_all,
)
from nertune.data.formats.values import Loss, Reading, name_by_id
from nertune.data.statistics import has_overlap
from nertune.errors import DataError
from nertune.storage.files import shorten, split_lines
from nertune.types import Document, Entity, Fragments

__all__ = ["Jsonl", "JsonlFile", "document_to_json", "dump", "read", "write"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_KEYS = ("entities", "label", "labels", "spans", "ents")
_NO_ENTITIES = ("tokens", "sents", "relations")  # of Prodigy, spaCy, doccano: hold offsets, too
_TAKEN = ("text", "entities")  # keys that are written
_START, _END = ("start", "start_offset"), ("end", "end_offset")
_OFFSET_NAME = re.compile("start|begin|end|stop|offset", re.IGNORECASE)
_EXAMPLE = '{"text": "王明在京", "entities": [[0, 2, "PERSON"]]}'
_NOT_GOLD = ("reject", "ignore")  # Prodigy's answers that say nothing about the entities


@dataclass(frozen=True, slots=True)
class JsonlFile:
    """What a JSONL file holds.

    Attributes:
        documents: one per line that is not blank.
        notices: what was dropped or assumed, for the user to read.
        offsets: what the offsets count; `auto` where every unit gives the same entities.
    """

    documents: tuple[Document, ...]
    notices: tuple[str, ...]
    offsets: Offsets = "auto"


class _Problem(ValueError):
    """What is wrong with a line."""


class _Record(NamedTuple):
    """One line. `key` names what held the entities, and is empty where nothing does."""

    line: int
    text: str
    key: str
    spans: list[Span]
    meta: dict[str, Any]


class Jsonl(Format):
    """JSONL spans.

    Args:
        name: `jsonl`, or `predictions`, which are written with scores whether asked for or not.
    """

    holds = Holds(
        overlap=True, fragments=True, scores=True, tokens="optional", ids=True, metadata=True
    )
    options = MappingProxyType({"tokens": "whether source tokens are written: yes (default) or no"})
    general = True  # any record with a text

    def __init__(self, name: str = "jsonl"):
        self.name = name
        self._is_main = name == "jsonl"
        self.title = "JSONL spans" if self._is_main else "JSONL spans with scores"
        self.suffixes = (".jsonl", ".json", ".ndjson") if self._is_main else ()
        self.reads = self._is_main
        self.read_as = "" if self._is_main else "jsonl"

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first line is an object with a text, or what older versions of spaCy had."""
        line = seen.first.strip()
        if re.search(r'"label"\s*:\s*\{|"Comments"\s*:\s*\[|^\{\s*"%', line):
            return None  # CLUENER's, doccano's, a CAS
        has_text = re.search(r'"text"\s*:', line) is not None
        if line.startswith("{") and has_text and (seen.is_first_cut or line[-1:] == "}"):
            return "its first line is a JSON object with a text"
        is_pair = line.startswith('["') and '"entities"' in line
        if is_pair and (seen.is_first_cut or line.endswith("}]")):
            return "its first line is a JSON array of a text and its entities"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records; what offsets count is the same in the whole file."""
        file = read(source.read_text(), source.path, options)
        findings.reading = Reading(offsets=file.offsets)
        findings.notices += file.notices
        return iter(file.documents)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line."""
        predictions = options.scores or not self._is_main
        write(target, documents, predictions=predictions, tokens=_writes_tokens(options))

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        taken = [k for k, v in document.meta.items() if k in _TAKEN or (k in _KEYS and _is_list(v))]
        if "tokens" in document.meta and (
            document.tokens is not None or _tokens(document.meta, document.text) is not None
        ):
            taken.append("tokens")
        losses = [Loss(document.id, "metadata", f"its key {shorten(key)}") for key in taken]
        if taken:
            meta = {k: v for k, v in document.meta.items() if k not in taken}
            document = replace(document, meta=meta)
        if document.tokens == () and document.text:  # in other files, an empty list says nothing
            losses.append(Loss(document.id, "tokens", "that it has no source token"))
            document = replace(document, tokens=None)
        scores = options.scores or not self._is_main
        holds = self.holds if _writes_tokens(options) else replace(self.holds, tokens="none")
        fitted = fit(document, holds, replace(options, scores=scores))
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _writes_tokens(options: WriteOptions) -> bool:
    value = options.more.get("tokens", "yes")
    check_choice("tokens", value, ("yes", "no"))
    return value == "yes"


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def read(text: str, path: Path, options: ReadOptions | None = None) -> JsonlFile:
    """Read JSONL spans. Overlapping entities are kept, identical ones are read once.

    Args:
        text: the file's text.
        path: its name, for ids and messages.
        options: `offsets` `auto` finds out what they count, see `formats.offsets.place_all`; with
            `ignore_tags` the texts are read alone, whatever else a record says.

    Raises:
        DataError: a line is not such an object, or there is none.
    """
    options = options or ReadOptions()
    records, rejected = _read_records(text, path, ignore_tags=options.ignore_tags)
    if options.ignore_tags:
        return JsonlFile(tuple(_document(r, [], path) for r in records), ())
    try:
        asked, preferred = options.offsets, options.like.offsets
        placed = place_all([(r.text, r.spans) for r in records], asked, preferred)
    except MisplacedSpan as error:
        raise DataError(str(error), path=path, line=records[error.record].line) from error
    pairs = list(zip(records, placed.entities, strict=True))
    documents = tuple(_document(record, found, path, placed.offsets) for record, found in pairs)
    notices = _say_missing(records)
    if rejected:
        notices.append(
            f"{len(rejected)} records skipped that Prodigy's user rejected or ignored "
            f"(first: line {rejected[0]})"
        )
    notices += _say_offsets(records, placed.offsets, placed.ambiguous, asked)
    num_repeated = sum(len(found) - len({e.key for e in found}) for found in placed.entities)
    num_overlapping = sum(map(has_overlap, documents))
    counted = (
        (num_repeated, "identical entities dropped (same span and label in one text)"),
        (num_overlapping, "texts with overlapping entities, of which a tagger can learn one each"),
    )
    notices += [f"{n} {what}" for n, what in counted if n]
    return JsonlFile(documents, tuple(notices), placed.offsets)


def _read_records(text: str, path: Path, *, ignore_tags: bool) -> tuple[list[_Record], list[int]]:
    """The records, and the lines of those that are no gold."""
    records: list[_Record] = []
    rejected: list[int] = []
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip(" \t\r"):
            continue
        try:
            record = _read_record(line, number, ignore_tags)
        except _Problem as problem:
            raise DataError(str(problem), path=path, line=number) from problem.__cause__
        if not ignore_tags and record.meta.get("answer") in _NOT_GOLD:
            rejected.append(number)
        else:
            records.append(record)
    if not records:
        why = f": all {len(rejected)} records are rejected or ignored" if rejected else ""
        raise DataError(f"the file holds no sentence{why}", path=path)
    return records, rejected


def _document(
    record: _Record, entities: Sequence[Entity], path: Path, offsets: Offsets = "auto"
) -> Document:
    unique = {entity.key: entity for entity in reversed(entities)}
    name = name_by_id(record.meta.get("id"), f"{path.name}:{record.line}")
    tokens, meta = _tokens(record.meta, record.text, offsets), record.meta
    if tokens is not None:
        meta = {key: value for key, value in meta.items() if key != "tokens"}
    return Document(record.text, tuple(unique.values()), name, tokens, meta)


def _tokens(meta: Mapping[str, Any], text: str, offsets: Offsets = "codepoint") -> Fragments | None:
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


# What a file does not say


def _say_missing(records: Sequence[_Record]) -> list[str]:
    """Records that name no entities, and lists of spans under keys that are not read."""
    notices = []
    if bare := [record for record in records if not record.key]:
        known = ", ".join(_KEYS)
        if len(bare) == len(records):
            keys = ", ".join(map(shorten, bare[0].meta)) or "none"
            notices.append(
                f"{len(bare)} records, and none names entities (in one of {known}): read as texts "
                f"without entities (other keys of line {bare[0].line}: {keys})"
            )
        else:
            s = "" if len(bare) == 1 else "s"
            notices.append(
                f"{len(bare)} record{s} without any of {known} among {len(records)}, read as "
                f"text{s} without entities (first: line {bare[0].line})"
            )
    unread = [(r, key) for r in records if r.key and not r.spans for key in _span_keys(r.meta)]
    if unread:
        first, key = unread[0]
        notices.append(
            f'{len(unread)} records whose "{first.key}" is empty hold what look like spans under '
            f"another key, which is not read (first: line {first.line}, {shorten(key)})"
        )
    return notices


def _say_offsets(
    records: Sequence[_Record], offsets: Offsets, ambiguous: Sequence[int], asked: Offsets
) -> list[str]:
    """How offsets were understood, where that is not plain."""
    if asked != "auto":
        return []
    read_as = {"codepoint": "code points", "utf16": "UTF-16 units"}
    if ambiguous:
        other: Offsets = "utf16" if offsets == "codepoint" else "codepoint"
        record = records[ambiguous[0]]
        span, found, instead = next(
            (span, here, there)
            for span in record.spans
            for here, there in [
                (place(span, record.text, offsets), place(span, record.text, other))
            ]
            if here.key != there.key
        )
        return [
            f"offsets of {len(ambiguous)} records may count code points or UTF-16 units, and "
            f"nothing in the file decides: read as {read_as[offsets]} (first: line {record.line}, "
            f"{span.label} {shorten(record.text[found.start : found.end])}, as {read_as[other]} "
            f"{shorten(record.text[instead.start : instead.end])}); say which with offsets "
            "codepoint or utf16"
        ]
    if offsets == "utf16":
        return ["offsets read as UTF-16 units: as code points they do not fit the texts"]
    return []


# A line to a record


def _read_record(line: str, number: int, ignore_tags: bool) -> _Record:
    record = _parse(line)
    text = _text(record)
    key = "" if ignore_tags else _find_key(record)
    meta = {name: value for name, value in record.items() if name not in ("text", key)}
    if ignore_tags:
        for name in _KEYS:
            if isinstance(meta.get(name), list):
                del meta[name]  # the answer has entities of its own
        return _Record(number, text, "", [], meta)
    if not key and (unknown := _span_keys(record)):
        raise _Problem(
            f"the key {shorten(unknown[0])} holds what look like entities "
            f"({_show(record[unknown[0]], 60)}), but entities are read from {', '.join(_KEYS)}: "
            f'rename the key to "entities" with [start, end, label] (offsets count code points, '
            'the end is excluded), or add "entities": [] if the text has none'
        )
    spans = [_span(span) for span in record[key]] if key else []
    return _Record(number, text, key, spans, meta)


def _parse(line: str) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        begun = line.strip()[:1] if error.pos >= len(line.rstrip()) else ""
        advice = {"[": "one JSON array: jq -c '.[]'", "{": "objects over several lines: jq -c ."}
        hint = f"; if the file holds {advice[begun]} FILE > FILE.jsonl" if begun in advice else ""
        raise _Problem(
            f"not JSON ({error.msg} at character {error.pos + 1} of {shorten(line)}): "
            f"expected one object a line{hint}"
        ) from error
    except _Problem:
        raise
    except (ValueError, RecursionError) as error:
        raise _Problem(f"this JSON cannot be read ({error})") from error
    if isinstance(record, list) and len(record) == 2 and isinstance(record[0], str):
        text, rest = record
        if isinstance(rest, dict) and "text" not in rest:  # spaCy's older training data
            return {"text": text, **rest}
    if not isinstance(record, dict):
        inside = isinstance(record, list) and all(isinstance(item, dict | list) for item in record)
        hint = "; if the file holds one JSON array: jq -c '.[]' FILE > FILE.jsonl" if inside else ""
        raise _Problem(
            f"expected one JSON object a line such as {_EXAMPLE}, got {_kind(record)}{hint}"
        )
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, without a second value of one key, which `json` would take silently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Problem(f"the key {shorten(twice)} stands twice in one object: keep one of them")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _text(record: dict[str, Any]) -> str:
    if "text" not in record:
        keys = ", ".join(map(shorten, record)) or "none"
        raise _Problem(f'the object has no "text" (its keys: {keys}), expected e.g. {_EXAMPLE}')
    text = record["text"]
    if not isinstance(text, str):
        raise _Problem(f'"text" is {_kind(text)}, expected a string')
    return _checked(text, '"text"')


def _checked(value: str, name: str) -> str:
    if half := _SURROGATE.search(value):
        raise _Problem(
            f"{name} holds half a surrogate pair (\\u{ord(half[0]):04x} at character "
            f"{half.start() + 1}), which is no character"
        )
    return value


def _find_key(record: dict[str, Any]) -> str:
    """The key that holds the entities; empty where the record names none."""
    given = [key for key in _KEYS if key in record]
    lists = [key for key in given if isinstance(record[key], list)]
    if not given:
        return ""
    if not lists:
        value = record[given[0]]
        raise _Problem(
            f'"{given[0]}" is {_kind(value)}, expected a list of [start, end, label]; if it is not '
            'about entities, rename the key, and add "entities": [] if the text has none'
        )
    if len(lists) > 1 and any(record[key] for key in lists[1:]):
        raise _Problem(
            f"both {lists[0]!r} and {lists[1]!r} are given: keep the one that holds the entities"
        )
    return lists[0]


def _span_keys(record: dict[str, Any]) -> list[str]:
    """Keys, other than the known ones, that hold what look like spans."""
    known = (*_KEYS, *_NO_ENTITIES)
    return [key for key, value in record.items() if key not in known and _holds_spans(value)]


def _holds_spans(value: Any) -> bool:
    if isinstance(value, dict):
        offsets = [v for k, v in value.items() if type(v) is int and _OFFSET_NAME.match(k)]
        return len(offsets) >= 2 or any(map(_holds_spans, value.values()))
    if not isinstance(value, list):
        return False
    kinds = [type(item) for item in value]
    is_span = kinds in ([int, int], [int, int, str], [str, int, int])
    return is_span or any(_holds_spans(item) for item in value if isinstance(item, dict | list))


def _span(span: Any) -> Span:
    if isinstance(span, dict):
        start, end = _first_of(span, _START), _first_of(span, _END)
        label, score, surface = span.get("label"), span.get("score"), span.get("text")
    elif isinstance(span, list) and len(span) == 3:
        (start, end, label), score, surface = span, None, None
    else:
        raise _Problem(f"an entity is {_show(span)}, expected [start, end, label]")
    if type(start) is not int or type(end) is not int:
        raise _Problem(f"offsets of {_show(span)} are not both integers")
    if not isinstance(label, str) or not label:
        raise _Problem(f"the label of {_show(span)} is {_kind(label)}, expected a non-empty string")
    if end <= start:
        kind = "empty" if end == start else "reversed"
        raise _Problem(
            f"the span of {_show(span)} is {kind}: expected start < end (the end is excluded)"
        )
    surface = surface if isinstance(surface, str) else None
    fragments = _fragments(span) if isinstance(span, dict) else ()
    if fragments and (fragments[0][0], fragments[-1][1]) != (start, end):
        raise _Problem(f"the fragments of {_show(span)} do not reach from its start to its end")
    label = _checked(label, "a label")
    shown = partial(_show, span)  # thousands are never shown
    return Span(start, end, label, _score(score, span), surface, shown, fragments)


def _fragments(span: dict[str, Any]) -> Fragments:
    """The parts of a discontinuous entity, in order; nothing for any other."""
    given = span.get("fragments")
    if given is None or given == []:
        return ()
    pairs = isinstance(given, list) and all(
        isinstance(part, list) and [type(offset) for offset in part] == [int, int] for part in given
    )
    if not pairs or not all(start < end for start, end in given):
        raise _Problem(
            f'"fragments" of {_show(span)} is not a list of [start, end] with start < end'
        )
    found = tuple(sorted((start, end) for start, end in given))
    if any(other[0] <= one[1] for one, other in pairwise(found)):
        raise _Problem(f"the fragments of {_show(span)} touch or overlap")
    return found if len(found) > 1 else ()


def _first_of(span: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((span[name] for name in names if name in span), None)


def _score(score: Any, span: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise _Problem(f"the score of {_show(span)} is not a number from 0 to 1")
    return float(score)


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null or missing"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    name = names.get(type(value), "a number")
    return "an empty string" if value == "" else name


def _show(span: Any, limit: int = 80) -> str:
    text = json.dumps(span, ensure_ascii=True)
    return text if len(text) <= limit else f"{text[:limit]}…"


# Documents to lines


def document_to_json(document: Document) -> dict[str, Any]:
    """A document with predicted entities, as `nertune predict` prints it.

    Returns:
        `{"text", "entities": [{"start", "end", "label", "text", "score"}]}`, where `score` is
        left out if the entity has none; behind them what the source said, its `id` included. A
        discontinuous entity has `fragments`, a list of `[start, end]`, too.
    """
    entities = [
        {
            "start": entity.start,
            "end": entity.end,
            "label": entity.label,
            "text": document.surface(entity),
            **({} if entity.score is None else {"score": entity.score}),
            **_fragments_to_json(entity),
        }
        for entity in document.entities
    ]
    return {"text": document.text, "entities": entities, **_others(document)}


def _fragments_to_json(entity: Entity) -> dict[str, Any]:
    return {"fragments": [list(span) for span in entity.fragments]} if entity.fragments else {}


def _others(document: Document) -> dict[str, Any]:
    return {k: v for k, v in document.meta.items() if k not in _TAKEN}


def write(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    predictions: bool = False,
    tokens: bool = False,
) -> None:
    """Write one object a line.

    Args:
        stream: where to.
        documents: what to write.
        predictions: write entities as objects with text and score, else as `[start, end, label]`.
        tokens: write source tokens as `[[start, end], …]`.

    Raises:
        DataError: a text or label holds half a surrogate pair, which UTF-8 cannot.
    """
    for document in documents:
        record = document_to_json(document)
        if not predictions:
            record["entities"] = [
                {"start": entity.start, "end": entity.end, "label": entity.label}
                | _fragments_to_json(entity)
                if entity.fragments
                else [entity.start, entity.end, entity.label]
                for entity in document.entities
            ]
        if tokens and document.tokens is not None:
            record["tokens"] = [list(token) for token in document.tokens]
        stream.write(dump(record, document) + "\n")


def dump(record: dict[str, Any], document: Document) -> str:
    """A record as one line of JSON.

    Raises:
        DataError: the text or a label holds half a surrogate pair.
    """
    line = json.dumps(record, ensure_ascii=False)
    if not _SURROGATE.search(line):
        return line
    if any(map(_SURROGATE.search, [document.text, *(e.label for e in document.entities)])):
        name = document.id or shorten(document.text)
        raise DataError(
            f"document {name} cannot be written: it holds half a surrogate pair, which is no "
            "character"
        )
    return json.dumps(record)  # what else the source said comes back escaped, as it came
