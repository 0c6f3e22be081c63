r"""The column MISC, and the white space that it tells of, as UDPipe writes it.

`SpaceAfter=No`: nothing stands behind a token. `SpacesAfter` and `SpacesBefore`: what stands there
if it is not one space. `SpacesInToken`: a token with its white space. In these `\s`, `\t`, `\r`,
`\n`, `\p` and `\\` stand for a space, a TAB, line ends, `|` and `\`.
"""

from __future__ import annotations

import re

__all__ = ["SPACES", "decode_spaces", "drop_items", "encode_spaces", "misc_items"]

SPACES = ("SpaceAfter", "SpacesAfter", "SpacesBefore", "SpacesInToken")
_DECODED = {"s": " ", "t": "\t", "r": "\r", "n": "\n", "p": "|", "\\": "\\"}
_ENCODED = {ord(char): f"\\{letter}" for letter, char in _DECODED.items()}
_ESCAPE = re.compile(r"\\([strnp\\])")


def misc_items(cell: str) -> list[tuple[str, str | None]]:
    """The values of a cell with their keys; `None` for what has no `=`."""
    if cell == "_":
        return []
    parts = (item.partition("=") for item in cell.split("|"))
    return [(key, value if equals else None) for key, equals, value in parts]


def drop_items(cell: str, keys: tuple[str, ...]) -> str:
    """A cell without the values of some keys."""
    if cell == "_" or not keys:
        return cell
    kept = [item for item in cell.split("|") if item.partition("=")[0] not in keys]
    return "|".join(kept) or "_"


def decode_spaces(value: str) -> str:
    """What an escaped value stands for."""
    return _ESCAPE.sub(lambda match: _DECODED[match[1]], value)


def encode_spaces(text: str) -> str:
    """A text so that it can stand in MISC."""
    return text.translate(_ENCODED)
