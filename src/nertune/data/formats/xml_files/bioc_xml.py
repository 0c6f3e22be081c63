"""BioC XML: a collection of documents, see `formats.bioc`.

<collection><source/><date/><key/>
  <document><id>7</id>
    <passage><offset>0</offset><text>王明在京</text>
      <annotation id="T1"><infon key="type">PER</infon>
        <location offset="0" length="2"/><text>王明</text></annotation></passage>
  </document></collection>
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

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
from nertune.data.formats.bioc import Place, document_of, record_of
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.data.formats.values import Reading, say_counts
from nertune.data.formats.xml_parsing import (
    escape_attribute,
    escape_text,
    iterate_elements,
    seen_tags,
    unwritable,
)
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["BiocXml"]

Record = dict[str, Any]
_HEADER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<collection>\n<source></source>\n<date></date>\n<key></key>\n"
)
_NUMBER = re.compile(r"\s*([0-9]{1,12})\s*")
_LISTS = {
    "passage": "passages",
    "sentence": "sentences",
    "annotation": "annotations",
    "relation": "relations",
    "location": "locations",
}


class BiocXml(Format):
    """Collections of documents with passages and annotations."""

    name = "bioc-xml"
    title = "BioC XML"
    suffixes = (".bioc.xml",)
    holds = Holds(overlap=True, fragments=True, scores=True, ids=True, metadata=True)

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is XML of a collection with documents."""
        tags = seen_tags(seen)
        if tags[:1] == ["collection"] and {"document", "passage"} <= set(tags):
            return "it is XML of a collection with documents of passages"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents, each as soon as it is read."""
        seen: Counter[str] = Counter()
        offsets = "codepoint" if options.offsets == "auto" else options.offsets
        findings.reading = Reading(offsets=offsets)
        path, has_more = source.path, False
        children = iterate_elements(source, lambda tag, depth: depth == 2, root="collection")
        for line, element in children:
            if element.tag == "document":
                where = Place(path, line, f"{path.name}:{line}")
                yield document_of(_record(element, path, line), where, options, seen)
            else:
                has_more |= bool((element.text or "").strip())
        seen["collections of which source, date, key and infons are not read"] += has_more
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One collection, a document a line."""
        target.write(_HEADER)
        for document in documents:
            target.write("".join(_markup("document", record_of(document, _can_write))) + "\n")
        target.write("</collection>\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without what XML cannot hold: most control characters."""
        if found := unwritable(document.text):
            return lose(document, f"its text holds {found}, which XML cannot")
        document, losses = keep_entities(document, _refuse_label)
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _refuse_label(entity: Entity) -> str:
    found = unwritable(entity.label)
    return f"its label holds {found}, which XML cannot" if found else ""


def _can_write(value: Any) -> bool:
    return isinstance(value, str) and not unwritable(value)


def _record(element: Element, path: Path, line: int) -> Record:
    """An element of a document as the JSON has it."""
    record: Record = {}
    for name in ("id", "offset", "length"):
        if name in element.attrib:
            record[name] = element.attrib[name]
    infons: dict[str, str] = {}
    for child in element:
        if child.tag == "infon":
            key = child.attrib.get("key", "")
            if key in infons:
                told = f"the infon {shorten(key)} stands twice in one {element.tag}"
                raise DataError(f"{told}: keep one of them", path=path, line=line)
            infons[key] = _text(child)
        elif child.tag in ("id", "offset", "text"):
            record[child.tag] = _text(child)
        elif child.tag in _LISTS:
            record.setdefault(_LISTS[child.tag], []).append(_record(child, path, line))
    if infons:
        record["infons"] = infons
    for name in ("offset", "length"):
        if name in record and (match := _NUMBER.fullmatch(record[name])) is not None:
            record[name] = int(match[1])
    return record


def _text(element: Element) -> str:
    return "".join(element.itertext())


def _markup(tag: str, record: Record) -> Iterator[str]:
    """A record as XML, in the order of the DTD."""
    yield f'<{tag} id="{escape_attribute(record["id"])}">' if tag == "annotation" else f"<{tag}>"
    if tag == "document":
        yield f"<id>{escape_text(record['id'])}</id>"
    for key, value in record["infons"].items():
        yield f'<infon key="{escape_attribute(key)}">{escape_text(value)}</infon>'
    if tag in ("passage", "sentence"):
        yield f"<offset>{record['offset']}</offset>"
    for location in record.get("locations", ()):
        yield f'<location offset="{location["offset"]}" length="{location["length"]}"/>'
    if "text" in record and not record.get("sentences"):
        yield f"<text>{escape_text(record['text'])}</text>"
    for name, key in _LISTS.items():
        if name in ("passage", "sentence", "annotation"):
            for inner in record.get(key, ()):
                yield from _markup(name, inner)
    yield f"</{tag}>"
