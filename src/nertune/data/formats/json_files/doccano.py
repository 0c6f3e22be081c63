"""doccano's JSONL: `{"id": 1, "text": "王明在京", "label": [[0, 2, "PER"]]}`.

| written by                      | entities                                                     |
|---------------------------------|--------------------------------------------------------------|
| doccano, to import and export   | `"label": [[start, end, label], …]`                          |
| older ones, other tools         | the same under `labels` or `spans`                           |
| doccano, projects of relations  | `"entities": [{"id", "label", "start_offset", "end_offset"}]`|

doccano counts offsets in UTF-16 units, and in graphemes where a project has "Count grapheme
clusters as one character"; its versions of 2019 and 2020 counted code points. No file says which.
Graphemes are those of the library `regex`, whose Unicode is newer than doccano's: they differ in
emojis that came after Unicode 10 and in Indic conjuncts.

A file with the key `Comments`, which doccano's exports have, is recognised; it is written as well.
Others are read as `jsonl`, which knows all these keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import Any, cast, get_args

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
from nertune.data.formats.json_files.values import (
    dump_record,
    fit_keys,
    keep_whole_units,
    seen_object,
)
from nertune.data.formats.jsonl import Jsonl
from nertune.data.formats.offsets import Offsets, count_units
from nertune.types import Document

__all__ = ["Doccano"]

_KEYS = ("label", "labels", "spans", "entities")
_COMMENTS = "Comments"
_TAKEN = ("text", "ents", *_KEYS)
_UNITS = tuple(unit for unit in get_args(Offsets) if unit != "auto")


class Doccano(Format):
    """What doccano imports and exports as JSONL for sequence labelling."""

    name = "doccano"
    title = "doccano JSONL"
    holds = Holds(overlap=True, ids=True, metadata=True, offsets="utf16")
    options = MappingProxyType(
        {
            "unit": "what offsets count: utf16 (default), grapheme, codepoint or byte",
            "key": "where entities are written: label (default), labels, spans, or entities, with "
            "objects as projects of relations have them",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first line has doccano's key `Comments`."""
        record = seen_object(seen)
        if record is None or "text" not in record or not any(key in record for key in _KEYS):
            return None
        if isinstance(record.get(_COMMENTS), list):
            return 'its first line is a JSON object with a text and "Comments"'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records, of any version.

        `offsets`, or the option `unit`, says what they count. `auto` takes code points or UTF-16
        units, whichever fits; where both fit and differ, UTF-16 units.

        Raises:
            DataError: a line is not such an object, or there is none.
            ConfigError: an option has an unknown value.
        """
        if "unit" in options.more:
            options = replace(options, offsets=_unit(options))
        if options.like.offsets == "auto":
            options = replace(options, like=replace(options.like, offsets="utf16"))
        related = 0
        for document in Jsonl().read(source, replace(options, more={}), findings):
            related += bool(document.meta.get("relations"))
            yield _without_empty_comments(document)
        if related:
            findings.notices.append(
                f"{related} records have relations, which stay in the metadata; the ids of "
                "entities, which they name, are not kept"
            )

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line.

        Raises:
            ConfigError: an option has an unknown value.
        """
        unit, key = _unit(options), options.more.get("key", "label")
        check_choice("key", key, _KEYS)
        ids = count(1)
        for document in documents:
            places = count_units(document.text, unit)
            spans: list[Any] = []
            for entity in document.entities:
                start, end = places[entity.start], places[entity.end]
                if key == "entities":
                    about = {"id": next(ids), "label": entity.label}
                    spans.append({**about, "start_offset": start, "end_offset": end})
                else:
                    spans.append([start, end, entity.label])
            record = {"text": document.text, key: spans, **document.meta}
            target.write(dump_record({_COMMENTS: [], **record}))
            target.write("\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here, or entities inside a grapheme.

        Raises:
            ConfigError: an option has an unknown value.
        """
        document, losses = keep_whole_units(document, _unit(options))
        taken = (*_TAKEN, _COMMENTS) if document.meta.get(_COMMENTS) == [] else _TAKEN
        fitted = fit_keys(document, self.holds, options, taken)
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _without_empty_comments(document: Document) -> Document:
    if document.meta.get(_COMMENTS) != []:
        return document
    return replace(document, meta={k: v for k, v in document.meta.items() if k != _COMMENTS})


def _unit(options: ReadOptions | WriteOptions) -> Offsets:
    unit = options.more.get("unit", "utf16")
    check_choice("unit", unit, _UNITS)
    return cast("Offsets", unit)
