"""The lines of a file of columns: sentences, and what else stands between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from nertune.data.formats.conll.blocks import Blocks
from nertune.data.formats.conll.layout import DOCSTART, NAMES
from nertune.data.formats.scope_text import parse_scope
from nertune.data.formats.values import plural
from nertune.errors import DataError
from nertune.storage.files import shell_command, shorten
from nertune.types import Scope

__all__ = [
    "COMMENT",
    "Layout",
    "Scanner",
    "Sentence",
    "Split",
    "collect_tags",
    "detect_separator",
    "is_boundary",
    "is_tag",
    "splits_in_two",
    "splitter",
]

Split = Callable[[str], tuple[str, str] | None]
"""Gives the token and the tag of a line; `None` where it has not got them."""

_SEPARATOR_SAMPLE = 50  # data lines that decide the separator
_PREFIXED = re.compile(r"[BIMELSU][-_].+|.+[-_][BIMELSU]|[BIMELSU]", re.DOTALL | re.IGNORECASE)
COMMENT = re.compile(r"#+(\s|$)")
"""How a line begins that may be a comment."""
# What may stand behind the separator: anything without white space, or a prefix and any type.
_SCOPE = re.compile(r"# nertune:([^\t]*=.*)")
_TAG_LIKE = re.compile(r"\S+\Z|[BIMELSU][-_]\S")


class Sentence(NamedTuple):
    """A sentence of the file, with the line of each token.

    `document` counts the `-DOCSTART-` lines above it, `scope` is what the last comment that names
    one says.
    """

    lines: Sequence[int]
    tokens: list[str]
    tags: list[str]
    document: int = 0
    scope: Scope = Scope()

    @property
    def line(self) -> int:
        return self.lines[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a file are read.

    Attributes:
        separator: what stands between columns.
        bare_types: any word may be a tag, so that a line of two columns is never a comment.
        split: how a line of more than two columns gives token and tag; `None` for two.
        blocks: how a sentence gives them.
    """

    separator: str
    bare_types: bool = False
    split: Split | None = None
    blocks: Blocks | None = None


def detect_separator(lines: Sequence[str]) -> str:
    """TAB or space, whichever splits more of the first data lines in two."""
    tabs = spaces = num_seen = 0
    first_has_tab = False
    # A comment says nothing, unless what looks like one is all there is.
    says = (line for line in lines if not is_boundary(line) and not COMMENT.match(line))
    for line in chain([first], says) if (first := next(says, None)) is not None else lines:
        if is_boundary(line):
            continue
        by_tab, by_space = _split(line, _split_at_tab), _split(line, _split_at_space)
        if by_tab is not None and _TAG_LIKE.match(by_tab[1]):
            tabs += 1
        elif by_space is not None and _TAG_LIKE.match(by_space[1]):
            spaces += 1
        first_has_tab |= num_seen == 0 and "\t" in line
        num_seen += 1
        if num_seen == _SEPARATOR_SAMPLE:
            break
    return "\t" if tabs > spaces or (tabs == spaces and first_has_tab) else " "


def is_boundary(line: str) -> bool:
    """Whether a line holds no token: blank (also of spaces and TABs only) or `-DOCSTART-`."""
    return not line.strip(" \t") or _is_docstart(line)


def _is_docstart(line: str) -> bool:
    return line.startswith(DOCSTART) and line.split(None, 1)[0] == DOCSTART


def _split_at_tab(line: str) -> tuple[str, str] | None:
    token, _, tag = line.partition("\t")
    return (token, tag) if token and tag and "\t" not in tag and not tag.isspace() else None


def _split_at_space(line: str) -> tuple[str, str] | None:
    """Split from the right, since the token may be a space itself."""
    token, _, tag = line.rpartition(" ")
    one_token = " " not in token or not token.strip(" ")
    return (token, tag) if token and tag and one_token and not tag.isspace() else None


def splits_in_two(lines: Sequence[str], separator: str) -> bool:
    """Whether any of the first data lines has two columns."""
    split = splitter(separator)
    data = (line for line in lines if not is_boundary(line) and not COMMENT.match(line))
    sample = list(islice(data, _SEPARATOR_SAMPLE))
    return not sample or any(_split(line, split) for line in sample)


class Scanner:
    """Gives the sentences of a file, and counts what else stands between them.

    Args:
        layout: of the file.
        path: its name, for messages.
        tags_elsewhere: gives the tags of lines that are no comments for sure; it is called when
            that has to be known.

    Attributes:
        docstarts: how many `-DOCSTART-` lines were skipped.
        comments: how many comments were skipped.
        first_comment: the line of the first one, counted from 1, and what stands there.
        padded: how many lines ended in white space.
        scope: of the sentences that follow.
    """

    def __init__(self, layout: Layout, path: Path, tags_elsewhere: Callable[[], set[str]]):
        self.docstarts = self.comments = self.padded = 0
        self.first_comment = (0, "")
        self.scope = Scope()
        self._layout, self._path = layout, path
        self._is_wide = layout.split is not None
        self._split = layout.split or splitter(layout.separator)
        self._blocks = layout.blocks or Blocks(layout.separator)
        self._tags_elsewhere = cache(tags_elsewhere)
        self._first_data_line = (0, "")

    def scan(self, lines: Sequence[str], first: int, *, is_only: bool) -> Iterator[Sentence]:
        """The sentences of a part of the file, which begins and ends between sentences.

        Args:
            lines: of the part.
            first: the line of the file at which it begins.
            is_only: whether it is all of the file.

        Raises:
            DataError: a line cannot be read.
        """
        numbers: list[int] = []
        tokens: list[str] = []
        tags: list[str] = []
        for index, line in (numbered := enumerate(lines)):
            number = first + index
            if not numbers and (block := self._blocks.read(lines, index)) is not None:
                if not self._first_data_line[0]:
                    self._first_data_line = number, line
                own = range(number, first + block.end)
                yield Sentence(own, block.tokens, block.tags, self.docstarts, self.scope)
                next(islice(numbered, block.end - index - 1, None), None)  # the blank line, too
                continue
            # A comment stands between sentences: behind a blank line, or another one.
            if not numbers and (found := _SCOPE.match(line)):
                self._set_scope(found[1], number)
                continue
            if not numbers and COMMENT.match(line) and self._is_comment(line):
                self.comments += 1
                if self.comments == 1:
                    self.first_comment = number, line
                continue
            row = _split(line, self._split)
            if row is None or row[0] == DOCSTART:
                if not is_boundary(line):
                    only_line = is_only and len(lines) == 1
                    raise DataError(self._explain(line, only_line), path=self._path, line=number)
                if numbers:
                    yield Sentence(numbers, tokens, tags, self.docstarts, self.scope)
                    numbers, tokens, tags = [], [], []
                self.docstarts += _is_docstart(line)
                continue
            if not self._first_data_line[0]:
                self._first_data_line = number, line
            self.padded += line[-1] in " \t"
            numbers.append(number)
            tokens.append(row[0])
            tags.append(row[1])
        if numbers:
            yield Sentence(numbers, tokens, tags, self.docstarts, self.scope)

    def _set_scope(self, words: str, line: int) -> None:
        try:
            self.scope = parse_scope(words)
            if self.scope.unknown:
                raise ValueError("a file of tags has no unknown spans: write complete=false")
        except ValueError as error:
            raise DataError(f"# nertune: {error}", path=self._path, line=line) from error

    def _is_comment(self, line: str) -> bool:
        """Whether a line between sentences that looks like a comment is one."""
        row = _split(line, self._split)
        if row is None:
            return True
        is_sure = self._layout.bare_types or not line.startswith("# ")
        return not is_sure and not is_tag(row[1], self._tags_elsewhere())

    def _explain(self, line: str, is_only: bool) -> str:
        separator, (number, first) = self._layout.separator, self._first_data_line
        if self._is_wide and number:
            return _explain_count(line, first, number, separator)
        return _explain_line(line, separator, number, self._path, is_only)

    def say_skipped(self) -> list[str]:
        """A line each about what of the file is part of no token."""
        notices = []
        if self.docstarts:
            notices.append(f"{self.docstarts} {DOCSTART} line{plural(self.docstarts)} skipped")
        if self.comments:
            number, line = self.first_comment
            notices.append(
                f"{self.comments} comment{plural(self.comments)} skipped (first: line {number}, "
                f"{shorten(line)})"
            )
        if self.padded:
            notices.append(
                f"white space at the end of {self.padded} line{plural(self.padded)} dropped"
            )
        return notices


def splitter(separator: str) -> Split:
    """How a line of two columns gives token and tag."""
    return _split_at_tab if separator == "\t" else _split_at_space


def _split(line: str, split: Split) -> tuple[str, str] | None:
    """Token and tag; white space at the line's end belongs to neither."""
    row = split(line.rstrip(" \t")) if line[-1:] in (" ", "\t") else split(line)
    return row if row is not None and row[1] else None


def collect_tags(lines: Iterable[str], layout: Layout) -> set[str]:
    """The tags of lines that are no comments for sure."""
    split = layout.split or splitter(layout.separator)
    rows = (_split(line, split) for line in lines if not line.startswith("#"))
    return {row[1] for row in rows if row is not None}


def is_tag(tag: str, known: set[str]) -> bool:
    """Whether it looks like a tag, or is one of those known."""
    return tag in known or tag in ("O", "o") or _PREFIXED.fullmatch(tag) is not None


def _explain_line(
    line: str, separator: str, first_data_line: int, path: Path, is_only: bool
) -> str:
    """Why a line is not a token and a tag, and what to do about it."""
    fields = line.split("\t") if separator == "\t" else re.split(" +", line.strip(" "))
    shown = shorten(line)
    name = NAMES[separator]
    other = " " if separator == "\t" else "\t"
    if "\r" in line:
        # Where other line ends are there too, no command knows which of them are meant.
        program = shell_command(path, "tr '\\r' '\\n'")
        hint = f"for an old Mac file: {program}" if is_only else "remove it"
        return f"a carriage return stands inside {shown}: lines end in \\n or \\r\\n; {hint}"
    if line.startswith("#") and len(fields) != 2:
        return (
            f"expected 2 columns (token, tag), got {len(fields)} in {shown}: a comment begins with "
            "'# ' and stands before a sentence; remove other ones"
        )
    if line.endswith(separator):
        return f"{shown} ends in {name}, so its tag is empty: expected 2 columns (token, tag)"
    if line.startswith(separator) and len(fields) <= 2:
        return f"{shown} begins with {name}, so its token is empty: expected 2 columns (token, tag)"
    if len(fields) > 2:
        return _explain_columns(fields, shown)
    if len(fields) == 2:
        squeeze = shell_command(path, r"sed -E 's/([^ ]) +([^ ]+)$/\1 \2/'")
        return f"expected one space between token and tag in {shown}: squeeze them with {squeeze}"
    if other in line:
        where = f"as line {first_data_line} has it" if first_data_line else "as most lines have it"
        return f"expected {name} between token and tag, {where}, got {NAMES[other]} in {shown}"
    return f"expected 2 columns (token, tag) with {name} between, got 1: {shown}"


def _explain_count(line: str, first: str, number: int, separator: str) -> str:
    """A line of another number of columns than the first one's."""
    both = (line, first)
    got, expected = (len(re.split("\t" if separator == "\t" else " +", x)) for x in both)
    return f"got {got} columns in {shorten(line)}, expected {expected}, as in line {number}"


def _explain_columns(fields: Sequence[str], shown: str) -> str:
    """More or fewer columns than elsewhere, or none that holds tags alone."""
    count = len(fields)
    token = int(fields[0].isdecimal() and not fields[1].isdecimal())
    tag = next((n for n in range(count - 1, token, -1) if is_tag(fields[n], set())), count - 1)
    return (
        f"expected 2 columns (token, tag), got {count} in {shown}; if all lines have {count}, and "
        f"columns {token + 1} and {tag + 1} are meant, set the option columns to {token},{tag}"
    )
