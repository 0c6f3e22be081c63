"""The sentences of a file of columns, which can be gone through again and again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nertune.data.formats.base import ReadOptions, Source
from nertune.data.formats.conll import slash
from nertune.data.formats.conll.columns import Columns, find_columns
from nertune.data.formats.conll.layout import count_layers
from nertune.data.formats.conll.lines import (
    Layout,
    Scanner,
    Sentence,
    collect_tags,
    detect_separator,
    splits_in_two,
)
from nertune.data.formats.source import Part
from nertune.errors import DataError
from nertune.storage.files import split_lines
from nertune.types import Scope

__all__ = ["Sentences"]

_FIRST_LINES = 1000  # that decide the layout, where a part has fewer


class Sentences:
    """The sentences of a file, without holding more than a part of a large one.

    Args:
        source: the file; a pipe is read whole.
        options: where tags are ignored, all are `O`.

    Attributes:
        columns: where token and tag stand.
        newline: the line end; `\\r\\n` where there is any. Known when all was gone through, as
            what follows.
        final_newlines: line ends behind the last token.

    Raises:
        DataError: the file cannot be read; while going through: a line cannot be read, or none
            holds a token.
    """

    def __init__(self, source: Source, options: ReadOptions):
        self.newline, self.final_newlines = "\n", 0
        self._source = source.reopenable()
        self._ignore_tags = options.ignore_tags
        self._held: list[Sentence] | None = None
        self._notices: list[str] = []
        self._doubled = 0  # lines that end in \r\r\n
        lines, self._whole = self._begin()
        separator = detect_separator(lines)
        self.columns = Columns(separator, 2, 0, 1)
        self._has_items = slash.fits(lines)
        bare_types = options.scheme == "IO"
        self._layout = Layout(separator, bare_types)
        if self._has_items:
            self._notices.append("token/TAG items recognised, a sentence a line")
        elif (chosen := _find_columns(lines, separator, options)) is not None:
            self.columns = chosen
            self._notices.append(chosen.describe())
            self._layout = Layout(chosen.separator, bare_types, chosen.split, chosen.blocks())

    def _begin(self) -> tuple[list[str], list[Part] | None]:
        """The first lines, which decide the layout; and the file, if it is small."""
        lines: list[str] = []
        for part in self._source.text_parts(by_line=True):
            if part.is_whole:
                return split_lines(part.text), [part]
            lines += split_lines(part.text)
            if len(lines) >= _FIRST_LINES:
                break
        return lines, None

    def __iter__(self) -> Iterator[Sentence]:
        """The sentences, in order."""
        return self._read() if self._held is None else iter(self._held)

    def say(self) -> list[str]:
        """What was found when all was gone through, for the user to read."""
        told = f"{self._doubled} lines end in \\r\\r\\n (converted twice?), read as line ends"
        return [*([told] if self._doubled else []), *self._notices]

    def _read(self) -> Iterator[Sentence]:
        scanner = Scanner(self._layout, self._source.path, self._tags_elsewhere)
        held: list[Sentence] | None = None
        doubled = count = 0
        parts = self._whole or self._source.text_parts(by_line=self._has_items)
        for part in parts:
            held = [] if part.is_whole else None
            doubled += self._look_at_ends(part)
            for sentence in self._of_part(part, scanner):
                count += 1
                if self._ignore_tags:
                    tags = ["O"] * len(sentence.tokens)
                    sentence = sentence._replace(tags=tags, scope=Scope())
                if held is not None:
                    held.append(sentence)
                yield sentence
        if not count:
            raise DataError("the file holds no sentence", path=self._source.path)
        if not self._has_items:
            is_new = [told for told in scanner.say_skipped() if told not in self._notices]
            self._notices += is_new
        self._held, self._whole, self._doubled = held, None, doubled

    def _of_part(self, part: Part, scanner: Scanner) -> Iterator[Sentence]:
        lines = split_lines(part.text)
        if self._has_items:
            for row in slash.read(lines, self._source.path, part.first):
                yield Sentence(*row)
        else:
            yield from scanner.scan(lines, part.first, is_only=part.is_whole)

    def _look_at_ends(self, part: Part) -> int:
        """Note the line ends of a part; gives how many are `\r\r\n`."""
        text = part.text
        tail = text[len(text.rstrip("\r\n \t")) :]
        is_blank = len(tail) == len(text)
        self.final_newlines = tail.count("\n") + (self.final_newlines if is_blank else 0)
        if "\r" not in text:
            return 0
        if "\r\n" in text:
            self.newline = "\r\n"
        return len(re.findall("\r\r+\n", text))

    def _tags_elsewhere(self) -> set[str]:
        found: set[str] = set()
        for part in self._source.text_parts():
            found |= collect_tags(split_lines(part.text), self._layout)
        return found


def _find_columns(lines: Sequence[str], separator: str, options: ReadOptions) -> Columns | None:
    """Those that are asked for, or those of a file in which no line has two."""
    asked = options.more.get("columns", "")
    layers = count_layers(options.more)
    if layers > 1 and not asked:  # as they are written
        asked = ",".join(map(str, range(layers + 1)))
    return None if not asked and splits_in_two(lines, separator) else find_columns(lines, asked)
