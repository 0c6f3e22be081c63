"""brat standoff: a folder with NAME.txt and NAME.ann for each document; offsets count code points.

    T1<TAB>PER 0 2<TAB>王明

Only text-bound annotations (`T`) are entities; relations, events, attributes and notes are skipped
and counted, but for one note: `#nertune<TAB>Scope document<TAB>labels=PER complete=false` says of
what the document is labelled (`scope_text`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
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
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.data.formats.scope_text import parse_scope, spell_scope
from nertune.data.formats.values import say_counts
from nertune.errors import DataError
from nertune.storage.files import decode_text, shorten, split_lines
from nertune.types import Document, Entity, Scope

__all__ = ["Brat"]

_SCOPE = "#nertune\tScope document\t"
_SPAN = re.compile(r"\d+ \d+(;\d+ \d+)*")
_LINE_END = re.compile(r"\s*\n\s*")
_UNSAFE = re.compile(r"[^\w.-]+")


class Brat(Format):
    """Pairs of a text and its annotations, in a folder."""

    name = "brat"
    title = "brat standoff"
    suffixes = (".ann",)
    holds = Holds(overlap=True, fragments=True, scope="all")
    container = "folder"

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether a folder has a `.txt` for some `.ann`, or only folders inside have."""
        files = set(seen.files)
        pairs = [n for n in seen.files if n.endswith(".ann") and f"{n[:-4]}.txt" in files]
        if any("/" not in name for name in pairs) or (pairs and seen.holds_only(".txt", ".ann")):
            return "the folder has pairs of .txt and .ann files"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents in the order of their names, those of folders inside included."""
        folder = source.path if source.path.is_dir() else source.path.parent
        seen: Counter[str] = Counter()
        files = [source.path]
        if source.path.is_dir():
            files = _visible(folder, ".ann")
            alone = [p for p in _visible(folder, ".txt") if not p.with_suffix(".ann").is_file()]
            seen[".txt files without an .ann file, which are not read"] += len(alone)
        for file in files:
            name = file.relative_to(folder).with_suffix("").as_posix()
            text = _read(file.with_suffix(".txt"))
            entities: list[Entity] = []
            scope = Scope()
            if not options.ignore_tags:
                lines = split_lines(_read(file))
                for number, line in enumerate(lines, 1):
                    if (found := _scope(line, number, file, text)) is not None:
                        scope = found
                    elif (entity := _entity(line, number, file, text, seen)) is not None:
                        entities.append(entity)
            unique = {entity.key: entity for entity in entities}
            if len(unique) < len(entities):
                seen["identical entities dropped"] += len(entities) - len(unique)
            yield Document(text, tuple(unique.values()), name, meta={"id": name}, scope=scope)
        findings.notices += say_counts(seen)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """Two files a document, numbered so that their order stays."""
        for number, document in enumerate(documents, 1):
            about = _UNSAFE.sub("-", document.id).strip(".-")[:80]
            name = f"{number:06d}" + (f"-{about}" if about else "")
            # A reader takes one leading U+FEFF for a byte order mark.
            mark = "\ufeff" if document.text.startswith("\ufeff") else ""
            (target / f"{name}.txt").write_bytes((mark + document.text).encode())
            lines = [
                f"T{i}\t{entity.label} {_offsets(document, entity)}\t{_flat(document, entity)}\n"
                for i, entity in enumerate(document.entities, 1)
            ]
            if document.scope != Scope():
                lines.append(f"{_SCOPE}{spell_scope(document.scope)}\n")
            (target / f"{name}.ann").write_bytes("".join(lines).encode())

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without entities whose labels have white space; a text with a NUL is no text file."""
        if "\0" in document.text:
            return lose(document, "its text holds a NUL")
        document, losses = keep_entities(document, _refuse_label)
        text = document.text
        document, dropped = keep_entities(document, lambda e: _refuse_fragments(e, text))
        losses += dropped
        fitted = fit(document, self.holds, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _visible(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder and of folders in it that end so, sorted; no hidden ones."""
    found = sorted(folder.rglob(f"*{suffix}"))
    return [p for p in found if not any(n.startswith(".") for n in p.relative_to(folder).parts)]


def _read(path: Path) -> str:
    """A file's text; an empty file is an empty text."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    return decode_text(data, path) if data else ""


def _refuse_label(entity: Entity) -> str:
    is_word = len(entity.label.split()) == 1 and entity.label.strip() == entity.label
    return "" if is_word and "\0" not in entity.label else "a label is one word in this format"


def _offsets(document: Document, entity: Entity) -> str:
    """A span, in a fragment a line, as brat itself writes what goes over line ends."""
    lines = [line for span in entity.spans for line in _lines(document.text, *span)]
    return ";".join(f"{start} {end}" for start, end in lines)


def _lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """A span cut at its line ends; whole if one of them stands at its ends."""
    lines = []
    position = start
    for piece in text[start:end].split("\n"):
        lines.append((position, position + len(piece)))
        position += len(piece) + 1
    if any(a == b for a, b in (lines[0], lines[-1])):
        return [(start, end)]
    return [(a, b) for a, b in lines if a < b]


def _flat(document: Document, entity: Entity) -> str:
    surface = " ".join(document.text[start:end] for start, end in entity.spans)
    return surface.replace("\n", " ").replace("\r", " ")


def _refuse_fragments(entity: Entity, text: str) -> str:
    parted = [text[one[1] : other[0]] for one, other in pairwise(entity.fragments)]
    if any(map(_LINE_END.fullmatch, parted)):
        return "only line ends part its fragments, which the format joins"
    return ""


def _scope(line: str, number: int, path: Path, text: str) -> Scope | None:
    """The scope that a line says; `None` where it says none."""
    if not line.startswith(_SCOPE):
        return None
    try:
        scope = parse_scope(line.removeprefix(_SCOPE))
    except ValueError as error:
        raise DataError(f"{_SCOPE.strip()}: {error}", path=path, line=number) from error
    if scope.unknown and scope.unknown[-1][1] > len(text):
        told = f"an unknown span reaches beyond the text of {len(text)} characters"
        raise DataError(told, path=path, line=number)
    return scope


def _entity(line: str, number: int, path: Path, text: str, seen: Counter[str]) -> Entity | None:
    """The entity of a line; `None` where it has none."""
    if not line.strip():
        return None
    if not re.match(r"T\S*\t", line):
        seen["annotations that are no entities, which are not read"] += 1
        return None
    fields = line.split("\t", 2)
    label, _, given = fields[1].partition(" ")
    if not label or not _SPAN.fullmatch(given):
        told = f"expected T1, a TAB, 'LABEL START END', a TAB and the text, got {shorten(line)}"
        raise DataError(told, path=path, line=number)
    fragments = [(int(a), int(b)) for a, b in (span.split(" ") for span in given.split(";"))]
    if not all(a < b <= len(text) for a, b in fragments):
        told = f"{label} [{given}] is empty or reaches beyond the text of {len(text)} characters"
        raise DataError(told, path=path, line=number)
    told = " ".join(text[a:b] for a, b in fragments)
    if len(fields) == 3 and told.split() != fields[2].split():
        raise DataError(
            f"{label} [{given}] says its text is {shorten(fields[2])}, but there stands "
            f"{shorten(told)}: do both files belong together?",
            path=path,
            line=number,
        )
    spans: list[tuple[int, int]] = []
    for start, end in sorted(fragments):
        if spans and _LINE_END.fullmatch(text[spans[-1][1] : start]):
            spans[-1] = (spans[-1][0], end)  # brat cuts an entity at line ends
        else:
            spans.append((start, end))
    return Entity.of_fragments(spans, label)
