"""Files of more than two columns: which of them are the token and its tag."""

from __future__ import annotations

import csv
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
_ASKED = re.compile(r"(?:token=)?(-?\d+)((?:,(?:tag=)?-?\d+)+)")
_NAMED = {"\t": "", " ": "", ",": " with commas between"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where token and tag stand.

    Attributes:
        separator: what stands between columns: a TAB, spaces, or a comma.
        count: how many columns there are.
        token, tag: their columns, counted from 0.
        inner: columns of further tags, for nested entities.
    """

    separator: str
    count: int
    token: int
    tag: int
    inner: tuple[int, ...] = ()

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
        tags = " and ".join(f"{tag + 1} (tag)" for tag in (self.tag, *self.inner))
        comma = _NAMED[self.separator]
        return f"columns {self.token + 1} (token) and {tags} of {self.count} are read{comma}"


def find_columns(lines: Sequence[str], asked: str = "") -> Columns | None:
    """The columns of a file; `None` for one of two columns, or of which nothing can be said.

    Args:
        lines: of the file.
        asked: `0,3` or `token=0,tag=3`, counted from 0, from the end with a minus; further tag
            columns are layers of nested entities. Without it the tag is in the last column that
            holds nothing but tags, and the token in the first, or behind it where that counts
            tokens. Of a number, a token and two tags (GermEval's columns) both tags are read.

    Raises:
        ConfigError: `asked` has another form, or there is no such column.
    """
    data = (line for line in lines if not is_boundary(line) and not COMMENT.match(line))
    sample = list(islice(data, _SAMPLE))
    if asked:
        return _asked_columns(sample, asked)
    if any("\r" in line for line in sample):
        return None  # an old Mac's line ends
    for separator in ("\t", " ", ","):
        rows = [_fields(line, separator) for line in sample]
        count = len(rows[0]) if rows else 0
        if count < (2 if separator == "," else 3) or any(len(row) != count for row in rows):
            continue
        is_counted = all(row[0].isdecimal() for row in rows)
        token = int(is_counted and not all(row[1].isdecimal() for row in rows))
        tags = [
            tag
            for tag in range(count - 1, token, -1)
            if all(_TAG.fullmatch(row[tag]) for row in rows)
        ]
        if token == 1 and count == 4 and len(tags) == 2:
            return Columns(separator, count, token, 2, (3,))
        if tags:
            return Columns(separator, count, token, tags[0])
    return None


def _asked_columns(sample: Sequence[str], asked: str) -> Columns | None:
    match = _ASKED.fullmatch(asked.replace(" ", ""))
    if match is None:
        raise ConfigError(f"columns={asked!r}: expected e.g. 0,3 or token=0,tag=3, from 0")
    if not sample:
        return None
    separator = next((s for s in ("\t", " ") if s in sample[0].strip()), ",")
    count = len(_fields(sample[0], separator))
    given = [int(n) for n in re.findall(r"-?\d+", asked)]
    token, tag, *inner = (n + count if n < 0 else n for n in given)
    if not all(0 <= n < count for n in (token, tag, *inner)):
        raise ConfigError(f"columns={asked!r}: the file has columns 0 to {count - 1}")
    if len({token, tag, *inner}) < len(given):
        raise ConfigError(f"columns={asked!r}: names a column twice")
    return Columns(separator, count, token, tag, tuple(inner))


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.rstrip(" \t").split("\t")
    if separator == ",":
        try:
            fields = next(csv.reader([line.rstrip(" \t")]), [])
        except csv.Error:  # longer than a field may be
            return [line]
        # A comma as a token, without quotation marks around it.
        return [",", *fields[2:]] if fields[:2] == ["", ""] else fields
    return re.split(" +", line.strip(" "))
