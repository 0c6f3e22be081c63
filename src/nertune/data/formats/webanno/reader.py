"""A WebAnno TSV file as a document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from nertune.data.formats.offsets import count_units
from nertune.data.formats.webanno.escapes import escape_form, split_values, unescape_text
from nertune.data.formats.webanno.header import Column, Header
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Reader"]

_ID = re.compile(r"[0-9]+-[0-9]+(\.[0-9]+)?")
_OFFSETS = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_BLANKS = 1_000_000  # so many may stand between two sentences
Unit = Literal["utf16", "codepoint"]


class _Row(NamedTuple):
    """A token or a part of one; `value` is the cell of the entities."""

    line: int
    id: str
    begin: int
    end: int
    form: str
    value: str

    @property
    def is_part(self) -> bool:
        return "." in self.id


@dataclass(slots=True)
class _Sentence:
    id: str = ""
    lines: list[str] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)


@dataclass(slots=True)
class _Annotation:
    """An annotation while its units are read; `token` is the number of the last one's token."""

    label: str
    start: int
    end: int
    token: int


class _Misfit(Exception):
    """The offsets of a sentence do not fit its text."""


class Reader:
    """Reads one file.

    Args:
        path: of the file, for messages.
        header: of the file.
        column: the labels of entities; `None` reads the text alone.
        strict: refuse a text that does not fit its tokens, instead of taking that of the tokens.
        seen: counts what is said in notices.
    """

    def __init__(
        self, path: Path, header: Header, column: Column | None, strict: bool, seen: Counter[str]
    ):
        self._path = path
        self._header = header
        self._column = column
        self._strict = strict
        self._seen = seen

    def read(self, lines: Sequence[str], name: str) -> Document:
        """The document.

        Args:
            lines: of the file.
            name: what it is called.

        Raises:
            DataError: a line cannot be used.
        """
        sentences = list(self._sentences(lines))
        limit = 10 * sum(map(len, lines)) + _BLANKS
        try:
            build = _Build(self, "utf16", limit, is_last=False).add_all(sentences)
        except _Misfit:
            try:
                build = _Build(self, "codepoint", limit, is_last=False).add_all(sentences)
                self.note("files whose offsets count code points, and not UTF-16 units")
            except _Misfit:
                build = _Build(self, "utf16", limit, is_last=True).add_all(sentences)
        return build.document(name)

    def _sentences(self, lines: Sequence[str]) -> Iterator[_Sentence]:
        """The sentences with their rows, as they stand in the file."""
        current: _Sentence | None = None
        index = None if self._column is None else self._column.index + 3
        width = self._header.width + 3
        for number, line in enumerate(lines[self._header.lines :], self._header.lines + 1):
            if line.startswith("#") or not line.strip():
                if current is not None and (current.rows or not line.startswith("#")):
                    yield current
                    current = None
                if line.startswith("#"):
                    current = current or _Sentence()
                    self._add_header_line(current, line, number)
                continue
            if current is None:
                told = f"expected #Text= before the tokens of a sentence, got {shorten(line)}"
                raise DataError(told, path=self._path, line=number)
            cells = line.split("\t")
            found = _OFFSETS.fullmatch(cells[1]) if len(cells) >= width else None
            if found is None or not _ID.fullmatch(cells[0]):
                told = f"expected 1-1, a TAB, BEGIN-END, a TAB and the token in {width} columns"
                raise DataError(f"{told}, got {shorten(line)}", path=self._path, line=number)
            value = "_" if index is None else cells[index]
            begin, end = int(found[1]), int(found[2])
            current.rows.append(_Row(number, cells[0], begin, end, cells[2], value))
        if current is not None:
            yield current

    def _add_header_line(self, sentence: _Sentence, line: str, number: int) -> None:
        name, _, value = line.partition("=")
        try:
            text = unescape_text(value, self._header.version)
        except UnicodeDecodeError as error:
            told = f"{shorten(line)} escapes half a surrogate pair, which is no character"
            raise DataError(told, path=self._path, line=number) from error
        if name == "#Text":
            sentence.lines.append(text)
        elif name == "#Sentence.id":
            sentence.id = text
        else:
            self.note("lines of comments, which are not read")

    def note(self, what: str, count: int = 1) -> None:
        """Count something for the notices."""
        self._seen[what] += count

    def refuse(self, row: _Row, told: str) -> NoReturn:
        """Refuse a row.

        Raises:
            DataError: always.
        """
        raise DataError(f"{row.id} [{row.begin}, {row.end}) {told}", path=self._path, line=row.line)

    @property
    def strict(self) -> bool:
        """Whether a text has to fit its tokens."""
        return self._strict

    @property
    def placeholder(self) -> str:
        """The label of annotations whose layer has no feature."""
        return self._column.short if self._column is not None and not self._column.feature else ""


class _Build:
    """Puts a document together from its sentences.

    Args:
        reader: for what it knows of the file.
        unit: what offsets count.
        limit: offsets beyond it are refused.
        is_last: whether no other unit will be tried, so that misfits are repaired or refused.
    """

    def __init__(self, reader: Reader, unit: Unit, limit: int, *, is_last: bool):
        self._reader = reader
        self._unit = unit
        self._limit = limit
        self._is_last = is_last
        self._pieces: list[str] = []
        self._length = 0  # of the text so far, in code points
        self._cursor = 0  # the same as the file counts
        self._tokens: list[tuple[int, int]] = []
        self._sentences: list[list[Any]] = []
        self._annotations: list[_Annotation] = []
        self._by_id: dict[str, _Annotation] = {}
        self._notes: Counter[str] = Counter()

    def add_all(self, sentences: Sequence[_Sentence]) -> _Build:
        """Add the sentences of a file.

        Raises:
            DataError: a row cannot be used.
            _Misfit: offsets do not fit, while another unit may.
        """
        for sentence in sentences:
            if sentence.lines or sentence.rows:
                self._add(sentence)
        return self

    def _add(self, sentence: _Sentence) -> None:
        text = "\n".join(sentence.lines)
        rows = sentence.rows
        base = rows[0].begin if rows else self._cursor + bool(self._pieces)
        if base > self._limit:
            self._reader.refuse(rows[0], "is far beyond the end of the text")
        spans = self._place(rows, text, base)
        if spans is None:
            if not self._is_last and _ASTRAL.search(text):
                raise _Misfit
            text, spans = self._repair(rows, text, base)
        self._add_gap(base)
        start = self._length
        self._append(text)
        self._cursor = base + self._units(text)
        if text:
            self._sentences.append([start, self._length, *([sentence.id] if sentence.id else [])])
        for row, (a, b) in zip(rows, spans, strict=True):
            self._add_row(row, a + start, b + start)

    def _place(self, rows: Sequence[_Row], text: str, base: int) -> list[tuple[int, int]] | None:
        """The spans of rows in a sentence's text; `None` if they do not fit it."""
        places: dict[int, int] | None = None
        if self._unit == "utf16" and _ASTRAL.search(text):
            places = {offset: i for i, offset in enumerate(count_units(text, "utf16"))}
        spans = []
        for row in rows:
            a, b = row.begin - base, row.end - base
            if places is not None:
                a, b = places.get(a, -1), places.get(b, -1)
            if not 0 <= a <= b <= len(text):
                return None
            stands = text[a:b]
            if stands != row.form and escape_form(stands) != row.form:
                return None
            spans.append((a, b))
        return spans

    def _repair(
        self, rows: Sequence[_Row], text: str, base: int
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text of the tokens themselves, where that of the sentence is another one."""
        pieces: list[str] = []
        position = 0
        for row in (row for row in rows if not row.is_part):
            begin = row.begin - base
            if begin < position or begin - position > self._limit:
                self._reader.refuse(row, "does not stand behind the token before")
            pieces += " " * (begin - position), row.form
            position = begin + self._units(row.form)
        laid = "".join(pieces)
        spans = None if self._reader.strict else self._place(rows, laid, base)
        if spans is None:
            row = next((r for r in rows if self._place([r], text, base) is None), rows[0])
            told = f"says its text is {shorten(row.form)}, but its sentence is {shorten(text)}"
            self._reader.refuse(row, f"{told}: offsets count UTF-16 units from the text's start")
        self._notes["sentences whose text is not that of their tokens, which is read"] += 1
        return laid, spans

    def _add_gap(self, base: int) -> None:
        """What stands before a sentence: a line end and spaces, as WebAnno fills it in."""
        gap = base - self._cursor
        if not self._pieces:
            self._append(" " * base)
        elif gap < 0:
            self._append("\n")
            self._notes["sentences whose offsets begin anew, which are put on a new line"] += 1
        elif gap > 0:
            self._append("\n" + " " * (gap - 1))

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _units(self, text: str) -> int:
        if self._unit == "codepoint" or text.isascii():
            return len(text)
        return len(text) + len(_ASTRAL.findall(text))

    def _add_row(self, row: _Row, start: int, end: int) -> None:
        if not row.is_part:
            previous = self._tokens[-1][1] if self._tokens else 0
            if not previous <= start < end:
                self._reader.refuse(row, "is empty, or not behind the token before")
            self._tokens.append((start, end))
        elif not self._tokens:
            self._reader.refuse(row, "is a part of a token that is not there")
        if row.value == "_":
            return
        token = len(self._tokens)
        for label, id in split_values(row.value):
            known = self._by_id.get(id) if id else None
            if known is None:
                known = _Annotation(label, start, end, token)
                self._annotations.append(known)
                if id:
                    self._by_id[id] = known
                continue
            if known.label != label:
                told = f"has {shorten(label)} with the id [{id}], which was {shorten(known.label)}"
                self._reader.refuse(row, f"{told}: an id stands for one annotation")
            if token > known.token + 1:
                self._notes["annotations that leave out tokens, which are read as one span"] += 1
            known.end, known.token = end, token

    def document(self, name: str) -> Document:
        """What was put together."""
        seen = self._notes
        placeholder = self._reader.placeholder
        unique: dict[Any, Entity] = {}
        for annotation in self._annotations:
            label = placeholder or annotation.label
            if annotation.start >= annotation.end:
                seen["annotations of no characters, which are not read"] += 1
            elif not label:
                seen["annotations without a value, which are not read"] += 1
            else:
                entity = Entity(annotation.start, annotation.end, label)
                if unique.setdefault(entity.key, entity) is not entity:
                    seen["identical entities dropped"] += 1
        for what, count in seen.items():
            self._reader.note(what, count)
        meta: dict[str, Any] = {"id": name}
        if self._sentences:
            meta["sentences"] = self._sentences
        text = "".join(self._pieces)
        return Document(text, tuple(unique.values()), name, tuple(self._tokens), meta)
