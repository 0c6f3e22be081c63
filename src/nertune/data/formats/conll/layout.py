"""How a two-column file is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nertune.errors import ConfigError
from nertune.labels.schemes import Scheme

__all__ = ["DOCSTART", "NAMES", "ConllStyle", "count_layers", "has_space"]

DOCSTART = "-DOCSTART-"
NAMES = {"\t": "TAB", " ": "a space", ",": "a comma"}
"""What messages call a separator."""


@dataclass(frozen=True, slots=True)
class ConllStyle:
    """How a file was laid out, so that it can be written the same.

    Attributes:
        scheme: its tag scheme.
        separator: what stands between token and tag: a TAB or a space.
        mark: what stands between a tag's prefix and its type: `-` or `_`.
        newline: the line end.
        final_newlines: line ends behind the last token: 2 where a blank line closes every
            sentence, 1 where it only stands between them.
        layers: how many tag columns there are, outer entities first.
    """

    scheme: Scheme = "BIO"
    separator: str = "\t"
    mark: str = "-"
    newline: str = "\n"
    final_newlines: int = 2
    layers: int = 1


def count_layers(options: Mapping[str, str]) -> int:
    """How many tag columns the option `layers` asks for.

    Raises:
        ConfigError: it is no number from 1 to 9.
    """
    value = options.get("layers", "1")
    if value not in tuple("123456789"):
        raise ConfigError(f"layers={value!r}: expected a number from 1 to 9")
    return int(value)


def has_space(tag: str) -> bool:
    """Whether any character is white space."""
    return any(character.isspace() for character in tag)
