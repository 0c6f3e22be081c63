"""What WebAnno TSV escapes, in texts and in values of features."""

from __future__ import annotations

import re

__all__ = ["escape_form", "escape_text", "escape_value", "split_values", "unescape_text"]

_NAMED = {"\t": "t", "\n": "n", "\f": "f", "\r": "r", "\b": "b"}
_NAMES = {name: character for character, name in _NAMED.items()}
_IN_TEXT = re.compile("[\\x00-\\x0a\\x0c-\\x1f\\\\]")
_ESCAPED_TEXT = re.compile("\\\\([\\x00-\\x07\\x0e-\\x1ftnfrb\\\\])")
# Up to version 3.1 the escapes are those of Java's string literals.
_ESCAPED_JAVA = re.compile(r"\\(u+[0-9A-Fa-f]{4}|[0-3]?[0-7]{1,2}|[\s\S]?)")
_IN_FORM = re.compile("[\t\n\r]")
_IN_VALUE = re.compile(r"->|[\\\[\]|_;\t\n*]")
_ESCAPED_VALUE = re.compile(r"\\(->|[\\\[\]|_;*tn])")
_STACKED = re.compile(r"(?:\\[\s\S]?|[^\\|])+")
_VALUE = re.compile(r"((?:\\[\s\S]?|[^\\])*?)(?:\[([0-9]{1,18})\])?", re.DOTALL)


def escape_text(text: str) -> str:
    """A line of text as it stands behind `#Text=`."""
    return _IN_TEXT.sub(lambda found: "\\" + _NAMED.get(found[0], found[0]), text)


def unescape_text(text: str, version: tuple[int, int]) -> str:
    """The text of a line, by the rules of a version of the format.

    Raises:
        UnicodeDecodeError: half a surrogate pair is escaped.
    """
    if "\\" not in text:
        return text
    if version >= (3, 2):
        return _ESCAPED_TEXT.sub(lambda found: _NAMES.get(found[1], found[1]), text)
    plain = _ESCAPED_JAVA.sub(_unescape_java, text)
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _unescape_java(found: re.Match[str]) -> str:
    escaped = found[1]
    if escaped.startswith("u") and len(escaped) > 1:
        return chr(int(escaped.lstrip("u"), 16))
    if escaped.isascii() and escaped.isdigit() and "8" not in escaped and "9" not in escaped:
        return chr(int(escaped, 8))
    return _NAMES.get(escaped, escaped)


def escape_form(form: str) -> str:
    """A token as it stands in its column, which has no escapes but for what would end it."""
    return _IN_FORM.sub(lambda found: "\\" + _NAMED[found[0]], form)


def escape_value(value: str) -> str:
    """The value of a feature as it stands in its column."""
    return _IN_VALUE.sub(lambda found: "\\" + _NAMED.get(found[0], found[0]), value)


def split_values(cell: str) -> list[tuple[str, str]]:
    """The values of a column, which are stacked, each with its id (empty where it has none).

    A value is empty where the annotation has none.
    """
    if "\\" not in cell and "|" not in cell and not cell.endswith("]"):
        return [("" if cell == "*" else cell, "")]
    values = []
    for stacked in _STACKED.findall(cell):
        found = _VALUE.fullmatch(stacked)
        assert found is not None  # it matches anything
        given = "" if found[1] == "*" else _ESCAPED_VALUE.sub(_unescape_value, found[1])
        values.append((given, found[2] or ""))
    return values


def _unescape_value(found: re.Match[str]) -> str:
    return {"t": "\t", "n": "\n"}.get(found[1], found[1])
