"""The columns of a CoNLL-U Plus file, and which of them hold the entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nertune.data.formats.conllu.spaces import misc_items
from nertune.errors import ConfigError, DataError

__all__ = ["STANDARD", "Column", "Columns", "find_sources", "guess_columns", "named_columns"]

STANDARD = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_NAMES = ("NER", "NE", "NAMED_ENTITY", "ENTITY", "ENTITIES")  # without what stands before a colon
_KEYS = ("NER", "NE", "NAME")  # in MISC, in any case
_TAG = re.compile(r"O|[BIMELSU][-_]\S+")
_SAMPLE = 200  # rows that decide what a column without a name holds


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands where in a line.

    Attributes:
        names: of the columns, in capitals.
        is_given: whether the file names them, or is plain CoNLL-U.
    """

    names: tuple[str, ...]
    is_given: bool = True

    def place(self, name: str) -> int:
        """Where a column stands, from 0; -1 where the file has none of that name."""
        return self.names.index(name) if name in self.names else -1


@dataclass(frozen=True, slots=True)
class Column:
    """Where entities stand.

    Attributes:
        name: of the column.
        key: of the values in MISC; empty for a column of tags.
    """

    name: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.key}" if self.key else self.name


def named_columns(given: str, path: Path, line: int) -> Columns:
    """Those that `# global.columns = ` names.

    Raises:
        DataError: a name stands there twice, or FORM is missing.
    """
    names = tuple(given.upper().split())
    told = ""
    if len(set(names)) < len(names):
        told = "a column is named twice"
    elif "FORM" not in names:
        told = "the column FORM is missing, which holds the words"
    if told:
        raise DataError(f"global.columns = {given}: {told}", path=path, line=line)
    return Columns(names)


def guess_columns(rows: Sequence[Sequence[str]]) -> Columns:
    """Those of a file that names none: of ten the ten of CoNLL-U.

    Of any other number the first is ID, the second FORM, the last with nothing but tags NER, and
    the last one MISC where it holds such values; the others are named by their number.
    """
    count = len(rows[0])
    if count == len(STANDARD):
        return Columns(STANDARD)
    names = ["ID", "FORM", *(f"COLUMN{number}" for number in range(3, count + 1))][:count]
    sample = rows[:_SAMPLE]
    for place in range(count - 1, 1, -1):
        if all(_TAG.fullmatch(row[place]) for row in sample):
            names[place] = "NER"
            break
    if count > 2 and all(row[-1] == "_" or "=" in row[-1] for row in sample):
        names[-1] = "MISC"
    return Columns(tuple(names), is_given=False)


def find_sources(
    columns: Columns, rows: Sequence[Sequence[str]], asked: str, path: Path
) -> tuple[list[Column], list[str]]:
    """Where the entities stand, and what is to be said of it.

    Args:
        columns: of the file.
        rows: all of its rows.
        asked: the option `column`: a column, `MISC:KEY`, or several with commas between.
        path: for messages.

    Raises:
        ConfigError: there is no such column.
        DataError: several may be meant.
    """
    if asked:
        return [_asked(columns, name.strip()) for name in asked.split(",")], []
    found = [Column(n) for n in columns.names if n.rpartition(":")[2] in _NAMES]
    if not found:
        others = [n for n in columns.names if n not in STANDARD]
        found = [Column(n) for n in others if _holds_tags(columns.place(n), rows)]
    notices: list[str] = []
    if not found:
        found, notices = _in_misc(columns, rows)
    if len(found) > 1:
        names = " and ".join(map(str, found))
        told = f"entities may stand in {names}: say which with the option column, e.g. {found[0]}"
        raise DataError(told, path=path)
    if not found:
        return [], [*notices, f"no entities: none of {', '.join(columns.names)} holds tags"]
    if found[0].name != "NER":
        notices.append(f"entities are read from {found[0]}")
    return found, notices


def _asked(columns: Columns, name: str) -> Column:
    column, _, key = name.partition(":") if name.upper() not in columns.names else (name, "", "")
    if column.upper() not in columns.names or (key and column.upper() != "MISC"):
        known = ", ".join(columns.names)
        raise ConfigError(f"column={name!r}: expected one of {known}, or MISC:KEY")
    return Column(column.upper(), key)


def _holds_tags(place: int, rows: Sequence[Sequence[str]]) -> bool:
    values = {row[place] for row in rows}
    return bool(values - {"_", "O"}) and all(v == "_" or _TAG.fullmatch(v) for v in values)


def _in_misc(columns: Columns, rows: Sequence[Sequence[str]]) -> tuple[list[Column], list[str]]:
    """The keys of MISC that hold entities."""
    place = columns.place("MISC")
    if place < 0:
        return [], []
    values: dict[str, set[str]] = {}
    for cell in dict.fromkeys(row[place] for row in rows):
        for key, value in misc_items(cell):
            if value is not None and (key == "Entity" or key.upper() in _KEYS):
                values.setdefault(key, set()).add(value)
    found, notices = [], []
    for key, given in values.items():
        if key == "Entity" or all(map(_TAG.fullmatch, given)):
            found.append(Column("MISC", key))
        elif key.upper() != "NAME":
            notices.append(f"{key}= in MISC is not read: its values are no tags")
    return found, notices
