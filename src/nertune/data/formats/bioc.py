"""What BioC's XML and JSON have in common: documents of passages, with annotations by offsets.

Both become the records that the JSON has: `id`, `infons` and `passages` of a document; `offset`,
`infons` and `text` or `sentences` of a passage; `infons`, `text` and `locations` of an annotation,
several of a discontinuous one. The infon `type` is the label, `score` the score.

Offsets count in the document. Its text places each passage at its offset, with line ends in the
gaps, as the validator of the `bioc` library does; sentences of a passage have spaces between. The
DTD of BioC wants offsets in bytes, the `bioc` library and the services of NCBI count code points:
the texts of a document's annotations decide. Code points are written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.data.formats.base import ReadOptions
from nertune.data.formats.offsets import MisplacedSpan, Offsets, Span, place
from nertune.data.formats.values import as_probability
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Place", "document_of", "record_of"]

Record = dict[str, Any]
_OWN = "nertune"  # the infon of metadata that BioC has no place for
_TAKEN = ("id", "passages", "infons", _OWN)  # of metadata: no infons
_KNOWN = {"bioctype", "id", "infons", "passages", "annotations", "relations"}  # of documents
_MOST_FILLED = 20_000
_LARGEST = 10**12
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNITS: dict[Offsets, str] = {"byte": "UTF-8 bytes", "utf16": "UTF-16 units"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document stands, for messages: a file, a line, and what to call it without an id."""

    path: Path
    line: int
    name: str


class _Problem(ValueError):
    """What is wrong with a document."""


def document_of(record: Record, where: Place, options: ReadOptions, seen: Counter[str]) -> Document:
    """A document of its record.

    Args:
        record: as the JSON has it.
        where: it stands.
        options: what the user asked for.
        seen: counts what is not read.

    Raises:
        DataError: it is not as described, or an annotation does not fit its text.
    """
    given = record.get("id")
    has_id = (isinstance(given, str) and given != "") or type(given) is int
    units: tuple[Offsets, ...] = (options.offsets,)
    if options.offsets == "auto":
        units = ("codepoint", "byte", "utf16")
    first: Exception | None = None
    for unit in units:
        try:
            text, passages = _lay_out(record, unit)
            entities = [] if options.ignore_tags else list(_entities(record, text, unit))
            meta = _meta(record, passages)
            counts = _count(record, ignore_tags=options.ignore_tags)
        except (_Problem, MisplacedSpan) as error:
            first = first or error
            continue
        if options.offsets == "auto" and unit != "codepoint":
            seen[f"documents whose offsets count {_UNITS[unit]}, since only so they fit"] += 1
        break
    else:
        name = f"document {shorten(str(given))}: " if has_id else ""
        raise DataError(f"{name}{first}", path=where.path, line=where.line) from first
    seen.update(counts)
    unique = {entity.key: entity for entity in reversed(entities)}
    seen["identical entities dropped"] += len(entities) - len(unique)
    name = str(meta["id"]) if meta.get("id") not in (None, "") else where.name
    return Document(text, tuple(unique.values()), name, meta=meta)


def _items(record: Record, key: str) -> list[Record]:
    """A list of objects under a key; empty where there is none."""
    found = record.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _Problem(f'"{key}" is no array of objects')
    return found


def _infons(record: Record) -> Record:
    found = record.get("infons")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Problem('"infons" is no object')
    return found


def _text(record: Record, what: str) -> str | None:
    found = record.get("text")
    if found is not None and not isinstance(found, str):
        raise _Problem(f"the text of {what} is not a string")
    if found and _SURROGATE.search(found):
        raise _Problem(f"the text of {what} holds half a surrogate pair, which is no character")
    return found


def _number(record: Record, key: str, what: str) -> int:
    found = record.get(key)
    if type(found) is not int or not 0 <= found <= _LARGEST:
        raise _Problem(f"the {key} of {what} is no count: {shorten(str(found))}")
    return found


class _Layout:
    """The text of a document, as far as it has been laid out.

    Args:
        unit: what offsets count.
    """

    def __init__(self, unit: Offsets):
        self._unit = unit
        self._parts: list[str] = []
        self._units = self._filled = 0  # how long the text is, in that unit; of it in gaps
        self.length = 0

    def add(self, text: str, offset: int, filler: str, what: str) -> Record:
        """Add a text at its offset; where it stands in code points."""
        if text:
            gap = offset - self._units
            if gap < 0:
                raise _Problem(
                    f"{what} at offset {offset} begins before the end ({self._units}) of the one "
                    "before it"
                )
            self._filled += gap
            if self._filled > _MOST_FILLED:
                raise _Problem(f"{what} at offset {offset} leaves a gap of {gap}: is it damaged?")
            self._parts += (filler * gap, text)
            self.length += gap + len(text)
            self._units = offset + _measure(text, self._unit)
        return {"offset": self.length - len(text), "length": len(text)}

    @property
    def text(self) -> str:
        return "".join(self._parts)


def _measure(text: str, unit: Offsets) -> int:
    if unit == "byte":
        return len(text.encode())
    if unit == "utf16":
        return len(text.encode("utf-16-le")) // 2
    return len(text)


def _lay_out(record: Record, unit: Offsets) -> tuple[str, list[Record]]:
    """A document's text, and its passages; none where one without infons holds all of the text.

    Raises:
        _Problem: a part is not as described, or begins before the end of the one before.
    """
    layout = _Layout(unit)
    passages: list[Record] = []
    for number, passage in enumerate(_items(record, "passages"), 1):
        what = f"passage {number}"
        offset = _number(passage, "offset", what)
        text, infons = _text(passage, what), _infons(passage)
        sentences: list[Record] = []
        inner = [] if text else _items(passage, "sentences")
        for position, sentence in enumerate(inner):
            name = f"sentence {position + 1} of {what}"
            start = _number(sentence, "offset", name)
            filler = " " if position else "\n"
            found = layout.add(_text(sentence, name) or "", start, filler, name)
            about = _infons(sentence)
            sentences.append(found | ({"infons": about} if about else {}))
        if sentences:
            begin, end = sentences[0]["offset"], layout.length
            found = {"offset": begin, "length": end - begin}
        else:
            found = layout.add(text or "", offset, "\n", what)
        found |= {"infons": infons} if infons else {}
        passages.append(found | ({"sentences": sentences} if sentences else {}))
    if passages == [{"offset": 0, "length": layout.length}]:
        passages = []
    return layout.text, passages


def _annotations(record: Record) -> Iterator[Record]:
    """Those of a document, its passages and their sentences."""
    yield from _items(record, "annotations")
    for passage in _items(record, "passages"):
        yield from _items(passage, "annotations")
        for sentence in _items(passage, "sentences"):
            yield from _items(sentence, "annotations")


def _entities(record: Record, text: str, unit: Offsets) -> Iterator[Entity]:
    for annotation in _annotations(record):
        shown = f"annotation {shorten(str(annotation.get('id')))}"
        infons, surface = _infons(annotation), _text(annotation, shown)
        label = infons.get("type")
        locations = _items(annotation, "locations")
        if not label or not locations:
            continue
        if not isinstance(label, str) or _SURROGATE.search(label):
            raise _Problem(f"the type of {shown} is not a string of characters")
        spans = []
        for location in locations:
            start = _number(location, "offset", shown)
            spans.append((start, start + _number(location, "length", shown)))
            if spans[-1][0] == spans[-1][1]:
                raise _Problem(f"{shown} has a location of no length")
        start, end = min(a for a, _ in spans), max(b for _, b in spans)
        shown = f"{shown}, {label} [{start}, {end}]"
        score = as_probability(infons.get("score"))
        one = Span(start, end, label, score, surface, shown)
        yield place(one, text, unit) if len(spans) == 1 else _place_parts(one, spans, text, unit)


def _place_parts(span: Span, spans: list[tuple[int, int]], text: str, unit: Offsets) -> Entity:
    """A discontinuous entity, of which a file has all the text between, or its parts in any order.

    Raises:
        MisplacedSpan: it does not fit the text.
    """
    whole = place(span._replace(surface=None), text, unit)
    if span.surface == text[whole.start : whole.end]:  # as the `bioc` library has it
        span = span._replace(surface=None)
    try:
        return place(span._replace(fragments=tuple(spans)), text, unit)
    except MisplacedSpan:
        return place(span._replace(fragments=tuple(sorted(spans))), text, unit)


def _count(record: Record, *, ignore_tags: bool) -> Counter[str]:
    """What is not read."""
    seen: Counter[str] = Counter()
    seen["documents with other keys, which are not read"] += bool(set(record) - _KNOWN)
    passages = _items(record, "passages")
    sentences = [s for passage in passages for s in _items(passage, "sentences")]
    told = "passages with a text and sentences, of which the text is read"
    seen[told] += sum(bool(p.get("text") and p.get("sentences")) for p in passages)
    if ignore_tags:
        return seen
    for part in (record, *passages, *sentences):
        seen["relations, which are not read"] += len(_items(part, "relations"))
    for annotation in _annotations(record):
        infons = _infons(annotation)
        others = {key for key, value in infons.items() if value not in (None, "")} - {"type"}
        if as_probability(infons.get("score")) is not None:
            others.discard("score")
        if not infons.get("type"):
            seen["annotations without a type, which are not read"] += 1
        elif not annotation.get("locations"):
            seen["annotations without a location, which are not read"] += 1
        elif others:
            seen["annotations with other infons than their type, which are not read"] += 1
    return seen


def _meta(record: Record, passages: list[Record]) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    if record.get("id") not in (None, ""):
        meta["id"] = record["id"]
    infons = _infons(record)
    own = _own(infons.get(_OWN))
    taken: Record = {}
    for key, value in infons.items():
        if key not in _TAKEN:
            meta[key] = value
        elif key != _OWN or own is None:
            taken[key] = value
    if taken:
        meta["infons"] = taken
    if passages:
        meta["passages"] = passages
    return meta | (own or {})


def _own(given: Any) -> dict[str, Any] | None:
    """The metadata that nertune wrote; `None` where it is something else."""
    try:
        found = json.loads(given) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def record_of(document: Document, can_write: Callable[[Any], bool]) -> Record:
    """The record of a document, which `document_of` reads.

    Args:
        document: the document; its passages are those of its metadata where they fit its text.
        can_write: whether an infon's key or value, or an id, can be written as it is.
    """
    record: Record = {"bioctype": "BioCDocument", "id": "", "infons": {}, "passages": []}
    meta = document.meta
    if can_write(meta.get("id")) and meta["id"] != "":
        record["id"] = meta["id"]
    record["infons"] = {
        key: value
        for key, value in meta.items()
        if key not in _TAKEN and can_write(key) and can_write(value)
    }
    passages = _passages(document, can_write)
    if passages is None:
        passages = [_part("BioCPassage", 0, document.text, {})]
    record["passages"] = passages
    record |= {"annotations": [], "relations": []}
    read = _meta(record, _lay_out(record, "codepoint")[1])
    missing = {k: v for k, v in meta.items() if k not in read or not _same(read[k], v)}
    if missing:
        line = json.dumps(missing, ensure_ascii=False)
        record["infons"][_OWN] = line if can_write(line) else json.dumps(missing)
    for number, entity in enumerate(document.entities, 1):
        _holder(record, entity)["annotations"].append(_annotation(number, entity, document))
    return record


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _part(kind: str, offset: int, text: str, infons: Mapping[str, Any]) -> Record:
    part: Record = {"bioctype": kind, "offset": offset, "infons": dict(infons), "text": text}
    if kind == "BioCPassage":
        part["sentences"] = []
    return part | {"annotations": [], "relations": []}


def _passages(document: Document, can_write: Callable[[Any], bool]) -> list[Record] | None:
    """The passages that the metadata names; `None` if they are not read again as they are."""
    given = document.meta.get("passages")
    if not isinstance(given, list):
        return None
    try:
        passages = [_passage(about, document.text, can_write) for about in given]
        text, again = _lay_out({"passages": passages}, "codepoint")
    except (_Problem, KeyError, TypeError, AttributeError, ValueError):
        return None  # metadata may be anything
    return passages if text == document.text and _same(again, given) else None


def _passage(about: Record, text: str, can_write: Callable[[Any], bool]) -> Record:
    """A passage as the metadata describes it.

    Raises:
        _Problem: infons cannot be written.
    """
    start, end = about["offset"], about["offset"] + about["length"]
    infons = about.get("infons", {})
    if not all(can_write(item) for pair in infons.items() for item in pair):
        raise _Problem("infons cannot be written")
    passage = _part("BioCPassage", start, text[start:end], infons)
    for inner in about.get("sentences", ()):
        if "sentences" in inner:
            raise _Problem("a sentence has no sentences")
        sentence = _passage(inner, text, can_write)
        part = _part("BioCSentence", sentence["offset"], sentence["text"], sentence["infons"])
        passage["sentences"].append(part)
    if passage["sentences"]:
        passage["text"] = ""
    return passage


def _holder(record: Record, entity: Entity) -> Record:
    """The sentence, passage or document that holds all of an entity."""
    for passage in record["passages"]:
        for part in (*passage["sentences"], passage):
            if part["offset"] <= entity.start and entity.end <= part["offset"] + len(part["text"]):
                return part  # type: ignore[no-any-return]
    return record


def _annotation(number: int, entity: Entity, document: Document) -> Record:
    infons = {"type": entity.label}
    if entity.score is not None:
        infons["score"] = repr(float(entity.score))
    return {
        "id": f"T{number}",
        "infons": infons,
        "text": document.text[entity.start : entity.end],
        "locations": [{"offset": a, "length": b - a} for a, b in entity.spans],
    }
