"""The objects of a JSON file, one after the other, without holding all of the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from nertune.data.formats.source import Source
from nertune.data.formats.values import RepeatedKeyError, unique_keys
from nertune.errors import DataError
from nertune.storage.compression import unpacking_errors
from nertune.storage.files import refuse_foreign, shorten

__all__ = ["Record", "stream_records"]

Record = dict[str, Any]

_CHUNK = 1 << 20  # bytes read at once, at most; more where one object is longer
_SPACE = re.compile(r"[ \t\r\n]*")
_CUT = 16  # characters before the end of a part in which an error may be due to the cut


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def stream_records(source: Source) -> Iterator[tuple[int, Record]]:
    """The objects of one array, or of as many values one after the other, with their first lines.

    Only one object and a part of the file are in memory at a time.

    Raises:
        DataError: the file cannot be read, is no JSON, or holds something else than objects.
    """
    with source.reopenable().open() as stream:
        window = _Window(source, stream)
        is_array = window.skip_space() == "["
        window.position += is_array
        while (character := window.skip_space()) and not (is_array and character == "]"):
            line = window.line
            value = window.decode()
            if not isinstance(value, dict):
                told = f"expected an object, got {shorten(json.dumps(value, ensure_ascii=False))}"
                raise DataError(told, path=source.path, line=line)
            yield line, value
            if not is_array:
                continue
            character = window.skip_space()
            if character == ",":
                window.position += 1
            elif character and character != "]":
                told = "expected ',' or ']' behind an object"
                raise DataError(told, path=source.path, line=window.line)
        if is_array and not character:
            raise DataError("the array is not closed: is the file cut off?", path=source.path)
        if is_array:
            window.position += 1
            if window.skip_space():
                raise DataError("something stands behind the array", path=source.path)


class _Window:
    """A part of a file's text, and a place in it.

    Args:
        source: the file, for messages.
        stream: its bytes.
    """

    def __init__(self, source: Source, stream: BinaryIO):
        self.position = 0
        self._source = source
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._counted, self._line = 0, 1  # the line at a place that was passed
        self._column = 0  # characters of the window's first line that stand before the window
        self._is_first = True

    @property
    def line(self) -> int:
        """The line of the place, counted from 1."""
        self._line += self._text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def skip_space(self) -> str:
        """Go to the next character that is not white space, and give it; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self.position)
            assert found is not None
            self.position = found.end()
            if self.position < len(self._text):
                return self._text[self.position]
            if not self._read_on():
                return ""

    def decode(self) -> Any:
        """The value at the place, which moves behind it."""
        while True:
            start = self.position
            try:
                value, self.position = _DECODER.raw_decode(self._text, self.position)
                return value
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self._read_on():
                    continue
                self._refuse(error, self.position + error.pos - start)
            except RepeatedKeyError as error:
                raise DataError(str(error), path=self._source.path, line=self.line) from error
            except (ValueError, RecursionError) as error:  # a number of too many digits, too deep
                told = f"this JSON cannot be read ({error})"
                raise DataError(told, path=self._source.path, line=self.line) from error

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos > len(self._text) - _CUT

    def _refuse(self, error: json.JSONDecodeError, place: int) -> NoReturn:
        before = self._text.rfind("\n", 0, place)
        column = place - before if before >= 0 else self._column + place + 1
        line = self.line + self._text.count("\n", self.position, place)
        told = f"not JSON: {error.msg} at character {column}"
        raise DataError(told, path=self._source.path, line=line) from error

    def _read_on(self) -> bool:
        """Read the next part, at least as long as what is left of this one; False at the end."""
        failures: tuple[type[Exception], ...] = (OSError, ValueError, *unpacking_errors())
        try:
            size = min(_CHUNK, self._source.part_bytes)
            data = self._stream.read(max(size, len(self._text) - self.position))
            if self._is_first:
                refuse_foreign(data, self._source.path)
            text = self._decoder.decode(data, final=not data)
        except failures as error:
            self._source.read_text()  # says what is wrong, and in which line
            raise DataError(f"cannot be read: {error}", path=self._source.path) from error
        if "\0" in text or (self._is_first and not data):
            self._source.read_text()  # refuses it
        self._is_first = False
        self._move(text)
        return bool(data)

    def _move(self, text: str) -> None:
        """Leave what was passed, and append a text."""
        self._line, passed = self.line, self.position
        before = self._text.rfind("\n", 0, passed)
        self._column = passed - before - 1 if before >= 0 else self._column + passed
        self._text = self._text[passed:] + text
        self.position = self._counted = 0
