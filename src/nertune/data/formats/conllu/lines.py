"""The lines of a CoNLL-U file: sentences with their comments and rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nertune.data.formats.conllu.columns import Columns, guess_columns, named_columns
from nertune.errors import DataError
from nertune.storage.files import shorten

__all__ = ["Row", "Sentence", "Table", "group_words", "scan"]

_HEADER = re.compile(r"#\s*global\.columns\s*=(.*)")
_GAP = re.compile(r"\t| {2,}")
_WORD = re.compile(r"[0-9]{1,9}")
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_EMPTY = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
_ID = re.compile(r"[0-9]{1,9}([-.][0-9]{1,9})?")


@dataclass(slots=True)
class Row:
    """A line of columns: its number in the file, and its cells."""

    line: int
    cells: list[str]


@dataclass(slots=True)
class Sentence:
    """A sentence: comments without their `#`, with the lines they stand in, and rows."""

    comments: list[tuple[int, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A file.

    Attributes:
        columns: what stands where.
        sentences: in order; at least one.
        notices: what had to be assumed.
    """

    columns: Columns
    sentences: list[Sentence]
    notices: list[str]


def scan(lines: Sequence[str], path: Path) -> Table:
    """The sentences of a file.

    Raises:
        DataError: a line has another number of columns than the others, or there is no row.
    """
    columns = _header(lines, path)
    is_spaced = 0
    rows: list[list[str]] = []
    sentences = [Sentence()]
    for number, line in enumerate(lines, 1):
        current = sentences[-1]
        if not line.strip():
            if current.rows:
                sentences.append(Sentence())
            continue
        if line.startswith("#") and not _is_row(line, columns, current):
            current.comments.append((number, line.lstrip("#").strip()))
            continue
        cells = line.split("\t")
        count = len(columns.names) if columns is not None else len(rows[0]) if rows else 0
        if len(cells) != count if count else not _ID.fullmatch(cells[0]):
            by_spaces = _GAP.split(line.rstrip(" "))
            if len(by_spaces) > 1 and len(by_spaces) == (count or len(by_spaces)):
                cells = by_spaces
                is_spaced += 1
        if (count and len(cells) != count) or (not count and len(cells) < 2):
            expected = f"{count} columns" if count else "columns"
            told = f"expected {expected} with TABs between, got {len(cells)}: {shorten(line)}"
            raise DataError(told, path=path, line=number)
        if "" in cells:
            told = f"column {cells.index('') + 1} is empty in {shorten(line)}: expected _"
            raise DataError(told, path=path, line=number)
        current.rows.append(Row(number, cells))
        rows.append(cells)
    if not rows:
        raise DataError("the file holds no sentence", path=path)
    notices = _say(sentences, is_spaced)
    if columns is None:
        columns = guess_columns(rows)
        if not columns.is_given:
            named = ", ".join(f"{i + 1} {name}" for i, name in enumerate(columns.names))
            notices.append(f"no line names the columns, which are taken for {named}")
    return Table(columns, [s for s in sentences if s.rows], notices)


def _say(sentences: list[Sentence], is_spaced: int) -> list[str]:
    notices = []
    if is_spaced:
        notices.append(f"{is_spaced} lines have spaces between columns, not TABs alone")
    last = sentences[-1]
    if not last.rows and last.comments:
        notices.append(f"{len(last.comments)} comments behind the last sentence skipped")
    return notices


def _header(lines: Sequence[str], path: Path) -> Columns | None:
    """What the comments above the first row name."""
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and line.strip():
            return None
        if (match := _HEADER.fullmatch(line)) is not None:
            return named_columns(match[1].strip(), path, number)
    return None


def _is_row(line: str, columns: Columns | None, current: Sentence) -> bool:
    """Whether a line that begins with `#` holds a word: only in a file without ids."""
    if columns is None or "ID" in columns.names:
        return False
    has_columns = line.count("\t") + 1 == len(columns.names)
    return has_columns and (bool(current.rows) or not line.startswith("# "))


def group_words(ids: Sequence[str], lines: Sequence[int], path: Path) -> list[list[int]]:
    """The rows of each token: its own row first, then those of the words in it.

    A token of one word has one row. Empty nodes are in none.

    Args:
        ids: of the rows.
        lines: of the rows, for messages.
        path: for messages.

    Raises:
        DataError: an id is none, or a range is not followed by its words.
    """
    groups: list[list[int]] = []
    open_range: tuple[int, int] | None = None  # the next word, and the last one
    for row, (id, line) in enumerate(zip(ids, lines, strict=True)):
        if _EMPTY.fullmatch(id):
            continue
        given = _RANGE.fullmatch(id)
        if given is None and not _WORD.fullmatch(id):
            told = f"expected an id such as 3, 3-4 or 3.1, got {shorten(id)}"
            raise DataError(told, path=path, line=line)
        if given is not None:
            first, last = int(given[1]), int(given[2])
            if open_range is not None or first > last:
                told = f"the range {id} is not in order, or begins inside another one"
                raise DataError(told, path=path, line=line)
            open_range = (first, last)
            groups.append([row])
        elif open_range is not None:
            if int(id) != open_range[0]:
                told = f"expected word {open_range[0]} of the range before, got {id}"
                raise DataError(told, path=path, line=line)
            groups[-1].append(row)
            done = open_range[0] == open_range[1]
            open_range = None if done else (open_range[0] + 1, open_range[1])
        else:
            groups.append([row])
    if open_range is not None:
        told = f"expected word {open_range[0]} of the range before, but the sentence ends"
        raise DataError(told, path=path, line=lines[-1])
    if not groups:
        raise DataError("the sentence has no word", path=path, line=lines[0])
    return groups
