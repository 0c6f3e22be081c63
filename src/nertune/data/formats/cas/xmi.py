"""UIMA CAS as XMI, as INCEpTION and DKPro export it: a file for each document.

    <xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="http:///uima/cas.ecore"
      xmlns:ner="http:///de/tudarmstadt/ukp/dkpro/core/api/ner/type.ecore">
      <ner:NamedEntity xmi:id="2" sofa="1" begin="0" end="2" value="PER"/>
      <cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" sofaString="王明在京。"/>
      <cas:View sofa="1" members="2"/></xmi:XMI>

The type system stands beside it in `TypeSystem.xml`, or with it in a ZIP archive; without one, the
names of types have to do. Offsets count UTF-16 units.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
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
from nertune.data.formats.fitting import keep_entities, lose
from nertune.data.formats.folders import document_files, new_name
from nertune.data.formats.layers import LAYER_OPTIONS
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.values import Reading
from nertune.data.formats.xml_parsing import (
    escape_attribute,
    escape_text,
    iterate_elements,
    seen_tags,
    unwritable,
)
from nertune.errors import DataError
from nertune.storage.archives import UNPACKING_ERRORS
from nertune.storage.compression import unpacked_name
from nertune.types import Document, Entity

__all__ = ["CasXmi", "read_type_system", "read_views"]

_XMI = "{http://www.omg.org/XMI}"
_CAS = "{http:///uima/cas.ecore}"
_TYPE_SYSTEM = "TypeSystem.xml"
_OF_TYPES = "{http://uima.apache.org/resourceSpecifier}"
_NAMESPACE = re.compile(r"\{http:///(.*)\.ecore\}(.*)")
_NUMBER = re.compile(r"-?[0-9]{1,15}")
_NO_NAMESPACE = "uima.noNamespace."
_ZIP = b"PK\x03\x04"
_MOST_UNPACKED = 1 << 26  # bytes of a file in an archive, or 100 times the archive


class CasXmi(Format):
    """A file a document, with one type system for all of them."""

    name = "cas-xmi"
    title = "UIMA CAS XMI"
    suffixes = (".xmi",)
    holds = HOLDS
    container = "folder"
    options = LAYER_OPTIONS

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is XMI with UIMA's types, an archive that holds some, or a folder with it."""
        if seen.files:
            names = [unpacked_name(name) for name in seen.files]
            top = any(name.endswith(".xmi") and "/" not in name for name in names)
            if top or (seen.holds_only(".xmi", ".xml") and ".xmi" in {n[-4:] for n in names}):
                return "the folder has .xmi files"
            return None
        if seen.head.startswith(_ZIP) and b".xmi" in seen.head:
            return "it is a ZIP archive with an .xmi file"
        if "http:///uima/" in seen.text and seen_tags(seen)[:1] == [f"{_XMI}XMI"]:
            return "it is XMI with types of UIMA"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents in the order of their files' names, those of folders inside included."""
        reader = DocumentReader(options)
        offsets: Offsets = "utf16" if options.offsets == "auto" else options.offsets
        findings.reading = Reading(offsets=offsets)
        last: tuple[Path | None, Types] = (None, Types())
        for name, file, type_system in _files(source):
            if type_system is None:
                types = Types()
                reader.seen[f"files without a {_TYPE_SYSTEM}, read by the names of types"] += 1
            elif type_system.path == last[0]:
                types = last[1]
            else:
                types = read_type_system(type_system)
                last = (type_system.path, types)
            cas = read_views(file).cas(types, offsets, reader.seen, file.path)
            yield reader.document(cas, name, file.path)
        findings.notices += reader.notices(source.path)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A file a document, numbered so that their order stays, and the type system."""
        (target / _TYPE_SYSTEM).write_bytes("".join(_type_system(options)).encode())
        for number, document in enumerate(documents, 1):
            name = f"{new_name(number, document)}.xmi"
            (target / name).write_bytes("".join(_written(document, options)).encode())

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without the control characters that XML cannot hold."""
        if told := unwritable(document.text):
            return lose(document, f"its text holds {told}, which XML cannot hold")
        document, losses = keep_entities(document, _refuse_label)
        fitted = fit_to_cas(document, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _refuse_label(entity: Entity) -> str:
    told = unwritable(entity.label)
    return f"its label holds {told}, which XML cannot hold" if told else ""


def _files(source: Source) -> Iterator[tuple[str, Source, Source | None]]:
    """The files, each with its name and its type system."""
    if not source.path.is_dir() and source.glimpse().head.startswith(_ZIP):
        yield from _members(source)
        return
    for name, file in document_files(source, ".xmi"):
        beside = file.path.with_name(_TYPE_SYSTEM)
        yield name, file, Source(beside) if beside.is_file() else None


def _members(source: Source) -> Iterator[tuple[str, Source, Source | None]]:
    """The files of an archive."""
    data = source.read_bytes()
    limit = max(_MOST_UNPACKED, 100 * len(data))

    def unpack(name: str) -> Source:
        if archive.getinfo(name).file_size > limit:
            raise DataError(f"{name} in it is larger than {limit} bytes: unpack it", path=path)
        return Source(path / name, archive.read(name))

    path = source.path
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            found = sorted({name for name in names if name.endswith(".xmi")})
            if not found:
                raise DataError("the archive holds no .xmi file", path=path)
            for name in found:
                beside = str(PurePosixPath(name).with_name(_TYPE_SYSTEM))
                types = unpack(beside) if beside in names else None
                yield name.removesuffix(".xmi"), unpack(name), types
    except UNPACKING_ERRORS as error:
        told = f"this archive cannot be unpacked ({error}): is it damaged or encrypted?"
        raise DataError(told, path=path) from error


def read_views(source: Source) -> Views:
    """The views of an XMI file.

    Raises:
        DataError: the file is damaged, or something with a span is no annotation of UIMA.
    """
    views = Views()
    path = source.path
    for line, element in iterate_elements(source, lambda _, depth: depth == 2, root=f"{_XMI}XMI"):
        values = element.attrib
        id = values.pop(f"{_XMI}id", "")
        if element.tag == f"{_CAS}Sofa":
            views.texts[id] = (values.get("sofaID", ""), values.get("sofaString"))
        elif element.tag == f"{_CAS}View":
            views.add_members(values.get("sofa", ""), values.get("members", "").split())
        elif "begin" in values and "end" in values:
            found = _NAMESPACE.fullmatch(element.tag)
            begin, end = values.pop("begin"), values.pop("end")
            if found is None or not _NUMBER.fullmatch(begin) or not _NUMBER.fullmatch(end):
                told = f"{element.tag} [{begin}, {end}) is no annotation of UIMA"
                raise DataError(told, path=path, line=line)
            type = f"{found[1].replace('/', '.')}.{found[2]}".removeprefix(_NO_NAMESPACE)
            sofa = values.pop("sofa", "")
            annotation = Annotation(type, int(begin), int(end), values, line)
            views.annotations.append((id, sofa, annotation))
    return views


def read_type_system(source: Source) -> Types:
    """The types that a `TypeSystem.xml` describes.

    Raises:
        DataError: the file is damaged, or no description of types.
    """
    types = Types()
    wanted = f"{_OF_TYPES}typeDescription"
    root = f"{_OF_TYPES}typeSystemDescription"
    for _, element in iterate_elements(source, lambda tag, _: tag == wanted, root=root):
        name = (element.findtext(f"{_OF_TYPES}name") or "").strip()
        parent = (element.findtext(f"{_OF_TYPES}supertypeName") or "").strip()
        if name and parent:
            types.parents[name] = parent
        types.ranges[name] = {
            (feature.findtext(f"{_OF_TYPES}name") or "").strip(): (
                feature.findtext(f"{_OF_TYPES}rangeTypeName") or ""
            ).strip()
            for feature in element.iter(f"{_OF_TYPES}featureDescription")
        }
    return types


def _type_system(options: WriteOptions) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<typeSystemDescription xmlns="'
    yield f'{_OF_TYPES[1:-1]}">\n<types>\n'
    for name, (parent, ranges) in features_of(options).items():
        yield f"<typeDescription><name>{escape_text(name)}</name><description/>"
        yield f"<supertypeName>{parent}</supertypeName>\n<features>\n"
        for feature, value in ranges.items():
            yield f"<featureDescription><name>{feature}</name><description/>"
            yield f"<rangeTypeName>{value}</rangeTypeName></featureDescription>\n"
        yield "</features></typeDescription>\n"
    yield "</types>\n</typeSystemDescription>\n"


def _written(document: Document, options: WriteOptions) -> Iterator[str]:
    if told := unwritable(document.text):
        raise DataError(f"document {document.id!r} holds {told}, which XML cannot hold")
    packages = dict.fromkeys(type.rpartition(".")[0] for type in features_of(options))
    prefixes = {package: f"t{number}" for number, package in enumerate(packages)}
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<xmi:XMI xmlns:xmi="http://www.omg.org/XMI"'
    yield ' xmlns:cas="http:///uima/cas.ecore"'
    for package, prefix in prefixes.items():
        yield f' xmlns:{prefix}="http:///{package.replace(".", "/")}.ecore"'
    yield ' xmi:version="2.0">\n<cas:NULL xmi:id="0"/>\n'
    last = 1
    for last, fs in enumerate(structures(document, options), 2):
        package, _, short = fs.type.rpartition(".")
        yield f'<{prefixes[package]}:{short} xmi:id="{last}" sofa="1"'
        yield f' begin="{fs.begin}" end="{fs.end}"'
        for name, value in fs.features.items():
            text = value if isinstance(value, str) else repr(value)
            if told := unwritable(text):
                where = f"document {document.id!r}, {name}"
                raise DataError(f"{where} holds {told}, which XML cannot hold")
            yield f' {name}="{escape_attribute(text)}"'
        yield "/>\n"
    yield '<cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" mimeType="text/plain"'
    yield f' sofaString="{escape_attribute(document.text)}"/>\n'
    members = " ".join(map(str, range(2, last + 1)))
    yield f'<cas:View sofa="1" members="{members}"/>\n</xmi:XMI>\n'
