"""UIMA CAS as JSON 0.4, as INCEpTION and dkpro-cassis export it: a file for each document.

    {"%TYPES": {...}, "%FEATURE_STRUCTURES": [
      {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaID": "_InitialView", "sofaString": "王明在京。"},
      {"%ID": 2, "%TYPE": "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity", "@sofa": 1,
       "begin": 0, "end": 2, "value": "PER"}],
     "%VIEWS": {"_InitialView": {"%SOFA": 1, "%MEMBERS": [2]}}}

Offsets count UTF-16 units, unless the header (`%HEADER`) names another encoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.cas.model import Annotation, Types
from nertune.data.formats.cas.reading import DocumentReader
from nertune.data.formats.cas.views import Views
from nertune.data.formats.cas.writing import HOLDS, features_of, fit_to_cas, structures
from nertune.data.formats.folders import document_files, new_name
from nertune.data.formats.json_files.values import Record, read_records, require_text
from nertune.data.formats.layers import LAYER_OPTIONS
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.values import Reading
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["CasJson"]

_BEGIN = re.compile(r'\s*\{\s*"%(HEADER|TYPES|FEATURE_STRUCTURES)"\s*:')
_ENCODINGS: dict[str, Offsets] = {
    "utf-16": "utf16",
    "utf-32": "codepoint",
    "codepoints": "codepoint",
    "utf-8": "byte",
}
_SOFA = "uima.cas.Sofa"


class CasJson(Format):
    """A file a document: its types, and the feature structures of its views."""

    name = "cas-json"
    title = "UIMA CAS JSON 0.4"
    holds = HOLDS
    container = "folder"
    options = LAYER_OPTIONS

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether a file, or the first one of a folder, begins as such an object."""
        if found := _BEGIN.match(seen.text):
            return f'it is a JSON object with "%{found[1]}"'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents in the order of their files' names, those of folders inside included."""
        reader = DocumentReader(options)
        for name, file in document_files(source, ".json"):
            records = [record for _, record in read_records(file.read_text(), file.path)]
            if len(records) != 1 or "%FEATURE_STRUCTURES" not in records[0]:
                told = 'expected one JSON object with "%FEATURE_STRUCTURES"'
                raise DataError(told, path=file.path)
            record = records[0]
            offsets = options.offsets
            if offsets == "auto":
                offsets = _header_offsets(record, file.path)
            findings.reading = Reading(offsets=offsets)
            views = _views(record, file.path)
            cas = views.cas(_types(record), offsets, reader.seen, file.path)
            yield reader.document(cas, name, file.path)
        findings.notices += reader.notices(source.path)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A file a document, numbered so that their order stays."""
        types = _written_types(options)
        for number, document in enumerate(documents, 1):
            found = _written(document, options)
            members = [record["%ID"] for record in found[1:]]
            view = {"_InitialView": {"%SOFA": 1, "%MEMBERS": members}}
            cas = {"%TYPES": types, "%FEATURE_STRUCTURES": found, "%VIEWS": view}
            text = json.dumps(cas, ensure_ascii=False, indent=1)
            (target / f"{new_name(number, document)}.json").write_bytes(text.encode() + b"\n")

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Any text; tokens if there are some."""
        return fit_to_cas(document, options)


def _header_offsets(record: Record, path: Path) -> Offsets:
    """What offsets count, by the header.

    The specification has no name for that yet, but the values: encodings of Unicode.
    """
    header = record.get("%HEADER")
    values = list(header.values()) if isinstance(header, dict) else []
    for value in values:
        told = str(value).lower().replace("utf16", "utf-16").replace("utf8", "utf-8")
        if told in _ENCODINGS:
            return _ENCODINGS[told]
        if "grapheme" in told:
            raise DataError(f"offsets count {value}: export it with UTF-16 offsets", path=path)
    return "utf16"


def _views(record: Record, path: Path) -> Views:
    given = record["%FEATURE_STRUCTURES"]
    found = [{"%ID": id, **fs} for id, fs in given.items()] if isinstance(given, dict) else given
    if not isinstance(found, list) or not all(isinstance(fs, dict) for fs in found):
        raise DataError('"%FEATURE_STRUCTURES" is no list of objects', path=path)
    views = Views()
    for fs in found:
        id, kind = str(fs.get("%ID")), fs.get("%TYPE")
        if not isinstance(kind, str):
            told = f'a feature structure has no "%TYPE": {shorten(json.dumps(fs))}'
            raise DataError(told, path=path)
        if kind == _SOFA:
            text = fs.get("sofaString")
            if text is not None:
                text = require_text(text, f'the "sofaString" of {id}', path, 1)
            views.texts[id] = (str(fs.get("sofaID")), text)
            continue
        begin, end = fs.get("begin", fs.get("^begin")), fs.get("end", fs.get("^end"))
        if begin is None and end is None:
            continue  # no annotation
        if type(begin) is not int or type(end) is not int:
            told = f"{kind} {id}: offsets {shorten(json.dumps([begin, end]))} are not both integers"
            raise DataError(told, path=path)
        features = {
            name.removeprefix("#"): _text(value, f"{kind} {id}: {name}", path)
            for name, value in fs.items()
            if name[:1] not in ("%", "@", "^") and name not in ("begin", "end")
        }
        views.annotations.append((id, str(fs.get("@sofa")), Annotation(kind, begin, end, features)))
    _add_members(views, record.get("%VIEWS"), path)
    return views


def _text(value: Any, name: str, path: Path) -> Any:
    return require_text(value, name, path, 1) if isinstance(value, str) else value


def _add_members(views: Views, given: Any, path: Path) -> None:
    for view in given.values() if isinstance(given, dict) else ():
        members = view.get("%MEMBERS", []) if isinstance(view, dict) else None
        if not isinstance(members, list):
            raise DataError('a view has no list of "%MEMBERS"', path=path)
        views.add_members(str(view.get("%SOFA")), map(str, members))


def _types(record: Record) -> Types:
    types = Types()
    given = record.get("%TYPES")
    for name, about in given.items() if isinstance(given, dict) else ():
        if not isinstance(about, dict):
            continue
        if isinstance(about.get("%SUPER_TYPE"), str):
            types.parents[name] = about["%SUPER_TYPE"]
        types.ranges[name] = {
            feature: value["%RANGE"]
            for feature, value in about.items()
            if isinstance(value, dict) and isinstance(value.get("%RANGE"), str)
        }
    return types


def _written_types(options: WriteOptions) -> Mapping[str, Any]:
    return {
        name: {
            "%NAME": name,
            "%SUPER_TYPE": parent,
            **{feature: {"%NAME": feature, "%RANGE": value} for feature, value in ranges.items()},
        }
        for name, (parent, ranges) in features_of(options).items()
    }


def _written(document: Document, options: WriteOptions) -> list[Record]:
    """The feature structures of a document, the text first."""
    about = {"sofaNum": 1, "sofaID": "_InitialView", "mimeType": "text/plain"}
    found: list[Record] = [{"%ID": 1, "%TYPE": _SOFA, **about, "sofaString": document.text}]
    for id, fs in enumerate(structures(document, options), 2):
        span = {"@sofa": 1, "begin": fs.begin, "end": fs.end}
        found.append({"%ID": id, "%TYPE": fs.type, **span, **fs.features})
    return found
