"""Files of more than two columns: which of them are the token and its tag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nertune.data.formats.conll.blocks import Blocks
from nertune.data.formats.conll.lines import COMMENT, is_boundary
from nertune.errors import ConfigError

__all__ = ["Columns", "find_columns"]

_SAMPLE = 50  # data lines that decide
_TAG = re.compile(r"O|[BIMELSU][-_]\S+|\S+[-_][BIMELSU]")
_ASKED = re.compile(r"(?:token=)?(-?\d+),(?:tag=)?(-?\d+)")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where token and tag stand.

    Attributes:
        separator: what stands between columns: a TAB, or spaces.
        count: how many columns there are.
        token, tag: their columns, counted from 0.
    """

    separator: str
    count: int
    token: int
    tag: int

    def split(self, line: str) -> tuple[str, str] | None:
        """Token and tag; `None` for a line of another number of columns, or without a token."""
        fields = _fields(line, self.separator)
        if len(fields) != self.count or not fields[self.token].strip():
            return None
        return fields[self.token], fields[self.tag]

    def blocks(self) -> Blocks:
        """The same for whole sentences."""
        return Blocks(self.separator, self.count, self.token, self.tag)

    def describe(self) -> str:
        """For a notice."""
        return f"columns {self.token + 1} (token) and {self.tag + 1} (tag) of {self.count} are read"


def find_columns(lines: Sequence[str], asked: str = "") -> Columns | None:
    """The columns of a file; `None` for one of two columns, or of which nothing can be said.

    Args:
        lines: of the file.
        asked: `0,3` or `token=0,tag=3`, counted from 0, from the end with a minus. Without it the
            tag is in the last column that holds nothing but tags, and the token in the first, or
            behind it where that counts tokens.

    Raises:
        ConfigError: `asked` has another form, or there is no such column.
    """
    data = (line for line in lines if not is_boundary(line) and not COMMENT.match(line))
    sample = list(islice(data, _SAMPLE))
    if asked:
        return _asked_columns(sample, asked)
    if any("\r" in line for line in sample):
        return None  # an old Mac's line ends
    for separator in ("\t", " "):
        rows = [_fields(line, separator) for line in sample]
        count = len(rows[0]) if rows else 0
        if count < 3 or any(len(row) != count for row in rows):
            continue
        is_counted = all(row[0].isdecimal() for row in rows)
        token = int(is_counted and not all(row[1].isdecimal() for row in rows))
        for tag in range(count - 1, token, -1):
            if all(_TAG.fullmatch(row[tag]) for row in rows):
                return Columns(separator, count, token, tag)
    return None


def _asked_columns(sample: Sequence[str], asked: str) -> Columns | None:
    match = _ASKED.fullmatch(asked.replace(" ", ""))
    if match is None:
        raise ConfigError(f"columns={asked!r}: expected e.g. 0,3 or token=0,tag=3, from 0")
    if not sample:
        return None
    separator = "\t" if "\t" in sample[0] else " "
    count = len(_fields(sample[0], separator))
    token, tag = (int(n) + count if int(n) < 0 else int(n) for n in match.groups())
    if not (0 <= token < count and 0 <= tag < count) or token == tag:
        raise ConfigError(f"columns={asked!r}: the file has columns 0 to {count - 1}")
    return Columns(separator, count, token, tag)


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.rstrip(" \t").split("\t")
    return re.split(" +", line.strip(" "))
