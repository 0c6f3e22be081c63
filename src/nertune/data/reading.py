"""Data files to documents, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from nertune.data.formats.base import Findings, Format, ReadOptions, Source, check_options
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.recognition import recognise
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Reading, TagRepair
from nertune.data.several import keep_alike, sources_of
from nertune.errors import ConfigError, DataError
from nertune.types import Document

__all__ = ["DEFAULT_FORMAT", "CorpusReader"]

DEFAULT_FORMAT = "conll"
"""Of labelled files that say nothing; its reader explains what is wrong."""

_UNKNOWN = "neither content nor name says a format"


class CorpusReader:
    """The documents of a file, a folder, a pattern or an archive, read as they are asked for.

    Each `iter` reads from the beginning. Of formats that can be read in parts (most can) no more
    than a part is in memory. Several files are one corpus: ids and documents are those of a file,
    so that none is two.

    Args:
        path: the file, folder, pattern or archive.
        options: how to read it.
        format: a format's name; `auto` goes by the content, then by the name.

    Attributes:
        path: the file, or the name of all files.
        format: the format's name.
        reason: why it is read as that.
        reading: how it was read. Known when all was read, as what follows.
        style: the layout, as the format's reader left it; `None` where it has none.
        repairs: tags that broke the scheme and were repaired.
        notices: what was recognised, skipped, dropped or repaired, for the user to read.

    Raises:
        DataError: the file or, while reading, a line of it cannot be used; the message names both.
        ConfigError: `format` or an option is unknown.
    """

    def __init__(self, path: str | Path, options: ReadOptions, *, format: str = "auto"):
        if options.offsets not in (units := get_args(Offsets)):
            choices = ", ".join(units[:-1])
            told = f"offsets={options.offsets!r} is unknown, expected {choices} or {units[-1]}"
            raise ConfigError(told)
        if options.join == "auto":
            options = replace(options, join=options.like.join)
        self._options, self._asked = options, format
        sources, left_out = sources_of(Path(path))
        if format == "auto" and len(sources) > 1:
            sources, others = keep_alike(sources, lambda s: recognise(s, entities=True) is not None)
            left_out = sorted([*left_out, *others])
        self._sources = [s if s.path.is_dir() else s.reopenable() for s in sources]
        self._left_out = left_out
        self.path = sources[0].path if len(sources) == 1 else Path(path)
        self._root = _root_of(self.path)
        self._first = _choose_format(self._sources[0], format)
        self.format, self.reason = self._first.format.name, self._first.reason
        self.reading = Reading()
        self.style: Any = None
        self.repairs: list[TagRepair] = []
        self.notices: list[str] = []

    def __iter__(self) -> Iterator[Document]:
        """The documents, in order; there is at least one in each file."""
        repairs: list[TagRepair] = []
        notices = _tell_left_out(self._left_out)
        if len(self._sources) > 1:
            notices.insert(0, f"{len(self._sources)} files are read as one corpus")
        options = self._options
        for number, source in enumerate(self._sources):
            findings = Findings()
            yield from self._read(source, options, findings)
            if number == 0:
                self.reading, self.style = findings.reading, findings.style
                options = replace(options, like=findings.reading)
            repairs += findings.repairs
            name = f"{self._name(source)}: " if len(self._sources) > 1 else ""
            notices += (f"{name}{notice}" for notice in findings.notices)
        self.repairs, self.notices = repairs, notices

    def _read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents of one file."""
        is_first = source is self._sources[0]
        found = self._first if is_first else _choose_format(source, self._asked)
        chosen, reason = found.format, found.reason
        findings.notices += found.notices
        if chosen.name != self.format:
            first = self._sources[0].path
            told = f"is read as {chosen.name}, {first} as {self.format}: convert one"
            raise DataError(told, path=source.path)
        check_options(chosen, options.more)
        count = 0
        try:
            for document in chosen.read(source, options, findings):
                count += 1
                yield document if len(self._sources) == 1 else self._apart(document, source)
        except DataError as error:
            if reason != _UNKNOWN:
                raise
            raise DataError(f"{error}; {_UNKNOWN}, so it was read as {chosen.name}") from error
        if not count:
            raise DataError("the file holds no document", path=source.path)

    def _name(self, source: Source) -> str:
        """What a file is called among others."""
        is_inside = source.path.is_relative_to(self._root) and self._root != Path()
        return (source.path.relative_to(self._root) if is_inside else source.path).as_posix()

    def _apart(self, document: Document, source: Source) -> Document:
        """A document whose id and source document are those of its file."""
        name, id, meta = self._name(source), document.id, document.meta
        if id.startswith(f"{source.path.name}:"):
            id = name + id[len(source.path.name) :]
        if type(border := meta.get("document")) is int:
            meta = {**meta, "document": f"{name}:{border}"}
        return replace(document, id=id, meta=meta)


def _root_of(path: Path) -> Path:
    """What the names of several files are told from."""
    return path if path.is_dir() or path.suffix.lower() == ".zip" else path.parent


def _tell_left_out(files: Sequence[Path]) -> list[str]:
    if not files:
        return []
    return [f"{len(files)} files left out, which are of no format (first: {files[0]})"]


class _Chosen(NamedTuple):
    """The format of a file, why it is that, and what is to be said of it."""

    format: Format
    reason: str
    notices: tuple[str, ...] = ()


def _choose_format(source: Source, name: str) -> _Chosen:
    """The format that is asked for, or recognised."""
    if name != "auto":
        asked = find_format(name, reads=True, entities=True, also=("auto",))
        return _Chosen(asked, "it was asked for")
    found = recognise(source, entities=True)
    if found is None:
        return _Chosen(find_format(DEFAULT_FORMAT), _UNKNOWN)
    told = (f"read as {found.format.name}: {found.reason}",) if found.against_name else ()
    return _Chosen(found.format, found.reason, told)
