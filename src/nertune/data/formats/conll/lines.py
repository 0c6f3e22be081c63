"""The lines of a file of columns: sentences, and what else stands between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from nertune.data.formats.conll.blocks import Blocks
from nertune.data.formats.conll.layout import DOCSTART, NAMES
from nertune.errors import DataError
from nertune.storage.files import shell_command, shorten

__all__ = [
    "COMMENT",
    "Lines",
    "Sentence",
    "Split",
    "detect_separator",
    "is_boundary",
    "is_tag",
    "plural",
    "say_skipped",
    "scan",
    "splits_in_two",
]

Split = Callable[[str], tuple[str, str] | None]
"""Gives the token and the tag of a line; `None` where it has not got them."""

_SEPARATOR_SAMPLE = 50  # data lines that decide the separator
_PREFIXED = re.compile(r"[BIMELSU][-_].+|.+[-_][BIMELSU]|[BIMELSU]", re.DOTALL | re.IGNORECASE)
COMMENT = re.compile(r"#+(\s|$)")
"""How a line begins that may be a comment."""
# What may stand behind the separator: anything without white space, or a prefix and any type.
_TAG_LIKE = re.compile(r"\S+\Z|[BIMELSU][-_]\S")


class Sentence(NamedTuple):
    """A sentence of the file, with the line of each token.

    `document` counts the `-DOCSTART-` lines above it.
    """

    lines: Sequence[int]
    tokens: list[str]
    tags: list[str]
    document: int = 0

    @property
    def line(self) -> int:
        return self.lines[0]


@dataclass(slots=True)
class Lines:
    """What the lines of a file are.

    Attributes:
        sentences: in order.
        docstarts: how many `-DOCSTART-` lines were skipped.
        comments: the lines of comments, counted from 1.
        padded: how many lines ended in white space.
    """

    sentences: list[Sentence]
    docstarts: int = 0
    comments: list[int] = field(default_factory=list)
    padded: int = 0

    def add(self, lines: Sequence[int], tokens: list[str], tags: list[str]) -> None:
        """Begin a sentence."""
        self.sentences.append(Sentence(lines, tokens, tags, self.docstarts))


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
    split = _split_at_tab if separator == "\t" else _split_at_space
    data = (line for line in lines if not is_boundary(line) and not COMMENT.match(line))
    sample = list(islice(data, _SEPARATOR_SAMPLE))
    return not sample or any(_split(line, split) for line in sample)


def scan(
    lines: Sequence[str],
    separator: str,
    path: Path,
    *,
    bare_types: bool,
    split: Split | None = None,
    blocks: Blocks | None = None,
) -> Lines:
    """The sentences, and what else stands between them.

    Args:
        lines: of the file.
        separator: what stands between columns.
        path: its name, for messages.
        bare_types: any word may be a tag, so that a line of two columns is never a comment.
        split, blocks: how a line, and a sentence, of more than two columns give token and tag.
    """
    blocks = blocks or Blocks(separator)
    is_wide = split is not None
    if split is None:
        split = _split_at_tab if separator == "\t" else _split_at_space
    found = Lines([])
    first_data_line = 0
    numbers: list[int] = []
    tags_elsewhere: set[str] | None = None
    for number, line in (numbered := enumerate(lines, 1)):
        if not numbers and (block := blocks.read(lines, number - 1)) is not None:
            found.add(range(number, block.end + 1), block.tokens, block.tags)
            first_data_line = first_data_line or number
            next(islice(numbered, block.end - number, None), None)  # the blank line, too
            continue
        # A comment stands between sentences: behind a blank line, or another one.
        if not numbers and COMMENT.match(line):
            row = _split(line, split)
            if row is not None and not bare_types and line.startswith("# "):
                tags_elsewhere = tags_elsewhere or _tags_elsewhere(lines, split)
                row = row if is_tag(row[1], tags_elsewhere) else None
            if row is None:
                found.comments.append(number)
                continue
        row = _split(line, split)
        if row is None or row[0] == DOCSTART:
            if not is_boundary(line):
                if is_wide and first_data_line:
                    why = _explain_count(line, lines, first_data_line, separator)
                else:
                    why = _explain_line(line, separator, first_data_line, path, len(lines) == 1)
                raise DataError(why, path=path, line=number)
            found.docstarts += _is_docstart(line)
            numbers = []
            continue
        if not numbers:
            found.add(numbers, [], [])
        first_data_line = first_data_line or number
        numbers.append(number)
        found.padded += line[-1] in " \t"
        found.sentences[-1].tokens.append(row[0])
        found.sentences[-1].tags.append(row[1])
    return found


def _split(line: str, split: Split) -> tuple[str, str] | None:
    """Token and tag; white space at the line's end belongs to neither."""
    row = split(line.rstrip(" \t")) if line[-1:] in (" ", "\t") else split(line)
    return row if row is not None and row[1] else None


def _tags_elsewhere(lines: Iterable[str], split: Split) -> set[str]:
    """The tags of lines that are no comments for sure."""
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


def _explain_count(line: str, lines: Sequence[str], first: int, separator: str) -> str:
    """A line of another number of columns than the first one's."""
    both = (line, lines[first - 1])
    got, expected = (len(re.split("\t" if separator == "\t" else " +", x)) for x in both)
    return f"got {got} columns in {shorten(line)}, expected {expected}, as in line {first}"


def _explain_columns(fields: Sequence[str], shown: str) -> str:
    """More or fewer columns than elsewhere, or none that holds tags alone."""
    count = len(fields)
    token = int(fields[0].isdecimal() and not fields[1].isdecimal())
    tag = next((n for n in range(count - 1, token, -1) if is_tag(fields[n], set())), count - 1)
    return (
        f"expected 2 columns (token, tag), got {count} in {shown}; if all lines have {count}, and "
        f"columns {token + 1} and {tag + 1} are meant, set the option columns to {token},{tag}"
    )


def say_skipped(found: Lines, lines: Sequence[str]) -> list[str]:
    """A line each about what of a file is part of no token."""
    notices = []
    if found.docstarts:
        notices.append(f"{found.docstarts} {DOCSTART} line{plural(found.docstarts)} skipped")
    if found.comments:
        first = found.comments[0]
        count = len(found.comments)
        notices.append(
            f"{count} comment{plural(count)} skipped (first: line {first}, "
            f"{shorten(lines[first - 1])})"
        )
    if found.padded:
        notices.append(
            f"white space at the end of {found.padded} line{plural(found.padded)} dropped"
        )
    return notices


def plural(count: int) -> str:
    """The ending of a noun that is counted."""
    return "" if count == 1 else "s"
