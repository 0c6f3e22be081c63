"""Word tags from files that were made before: a line of tags for each line of text.

A line of tags holds `LENGTH:TAG` for each word, e.g. `4:TIME 1:w 3:PER`. The lengths are in
characters and add up to the length of the line of text, white space around it included; the line's
end and a byte-order mark do not count. A blank line of text has a line of tags too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from nertune.errors import DataError
from nertune.pretraining.text import Line, is_labelled, raw_lines
from nertune.pretraining.words import MAX_TAGS, Word

__all__ = ["AlignedTags"]

_ITEM = re.compile(r"([1-9][0-9]{0,8}):(.+)")


class AlignedTags:
    """Reads tag files in step with the text.

    Both are read once at the start, so that a mismatch anywhere is found before anything is
    trained; afterwards the tags are streamed.

    Args:
        texts: the files of text.
        tag_files: a file of tags for each, in the same order; those packed are unpacked.
        hashes: the sha256 of each file of tags.

    Raises:
        DataError: a line of tags does not fit its line of text, cannot be read, or is missing; a
            file of text has labels of its own; or there are more than `MAX_TAGS` tags.
    """

    def __init__(self, texts: Sequence[Path], tag_files: Sequence[Path], hashes: Sequence[str]):
        self._texts = tuple(texts)
        self._tag_files = tuple(tag_files)
        self._hashes = tuple(hashes)
        self._items: dict[str, Word] = {}  # each spelling once: there are thousands, not millions
        self._place = (-1, 0)
        self._stream: Iterator[tuple[int, str]] = iter(())
        for file in range(len(self._texts)):
            self._check(file)
        self._tags = tuple(sorted({tag for _, tag in self._items.values()}))

    @property
    def name(self) -> str:
        return ", ".join(path.name for path in self._tag_files)

    @property
    def fingerprint(self) -> str:
        return "tags " + " ".join(self._hashes)

    @property
    def tags(self) -> tuple[str, ...]:
        return self._tags

    @property
    def entity_tags(self) -> tuple[str, ...]:
        """By convention parts of speech are in small letters, and `O` is nothing."""
        return tuple(tag for tag in self._tags if tag.isupper() and tag != "O")

    def cut(self, lines: Iterable[Line]) -> Iterator[Sequence[Word]]:
        for line in lines:
            words = self._parse(self._raw(line), self._tag_files[line.file], line.number)
            length = line.before + len(line.text) + line.after
            self._refuse_misfit(words, length, line.file, line.number)
            yield _inside(words, line.before, line.before + len(line.text))

    def _raw(self, line: Line) -> str:
        """The line of tags; reads on from the one before, or from the file's start."""
        path = self._tag_files[line.file]
        if self._place[0] != line.file or self._place[1] >= line.number:
            self._place, self._stream = (line.file, 0), raw_lines(path)
        for number, raw in self._stream:
            self._place = (line.file, number)
            if number == line.number:
                return raw
        raise DataError(self._missing(line.file, self._place[1]), path=path)

    def _check(self, file: int) -> None:
        text, tag_file = self._texts[file], self._tag_files[file]
        if is_labelled(text):
            raise DataError(
                "a file with labels: word tags are read beside plain text, a line each; write its "
                "texts to a file of their own",
                path=text,
            )
        last = 0
        lengths: dict[str, int] = {}  # of every spelling of a word so far
        for line, tags in zip_longest(raw_lines(text), raw_lines(tag_file)):
            if tags is None:
                raise DataError(self._missing(file, last), path=tag_file)
            if line is None:
                raise DataError(
                    f"a line of tags, but {text} ends at line {last}: expected as many lines in "
                    "both; tag this very text",
                    path=tag_file,
                    line=tags[0],
                )
            last = line[0]
            try:  # the usual case, in a third of the time
                fits = sum(map(lengths.__getitem__, tags[1].split())) == len(line[1])
            except KeyError:
                fits = False
            if not fits:
                words = self._parse(tags[1], tag_file, last)
                self._refuse_misfit(words, len(line[1]), file, last)
                lengths.update((item, word[0]) for item, word in self._items.items())

    def _missing(self, file: int, last: int) -> str:
        return (
            f"ends at line {last}, but {self._texts[file]} continues: expected a line of tags for "
            "each line of text; tag the text to its end"
        )

    def _parse(self, raw: str, path: Path, line: int) -> list[Word]:
        words = []
        for number, item in enumerate(raw.split(), 1):
            word = self._items.get(item)
            if word is None:
                word = self._items[item] = self._parse_item(item, number, path, line)
            words.append(word)
        return words

    def _parse_item(self, item: str, number: int, path: Path, line: int) -> Word:
        match = _ITEM.fullmatch(item)
        if not match:
            raise DataError(
                f"word {number} is {item[:40]!r}: expected LENGTH:TAG, e.g. 3:PER",
                path=path,
                line=line,
            )
        known = {tag for _, tag in self._items.values()} | {match[2]}
        if len(known) > MAX_TAGS:
            raise DataError(
                f"{match[2][:40]!r} is tag number {len(known)}: expected {MAX_TAGS} different "
                "tags at most",
                path=path,
                line=line,
            )
        return int(match[1]), match[2]

    def _refuse_misfit(self, words: Sequence[Word], length: int, file: int, line: int) -> None:
        total = sum(word[0] for word in words)
        if total != length:
            raise DataError(
                f"the words have {total} characters, but line {line} of {self._texts[file]} has "
                f"{length}: expected the tags of this very line, white space around it included",
                path=self._tag_files[file],
                line=line,
            )


def _inside(words: Sequence[Word], start: int, end: int) -> list[Word]:
    """What of the words lies within `start … end`, in characters of the line."""
    inside = []
    place = 0
    for length, tag in words:
        kept = min(place + length, end) - max(place, start)
        if kept > 0:
            inside.append((kept, tag))
        place += length
    return inside
