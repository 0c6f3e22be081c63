"""The header of a WebAnno TSV file: its layers, and which of them holds the entities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nertune.data.formats.layers import NAMED_ENTITY, is_named
from nertune.data.formats.webanno.escapes import split_values
from nertune.errors import DataError
from nertune.storage.files import shorten

__all__ = ["FORMAT", "Column", "Header", "choose_column", "read_header"]

FORMAT = "#FORMAT=WebAnno TSV "
_VERSION = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?\s*")
_LAYER = re.compile(r"#T_(SP|RL|CH)=([^|]+)(.*)")
_SLOT = "ROLE_"
# Parts of speech, lemmas, morphology: of tokens, not of entities.
_OF_TOKENS = (
    "de.tudarmstadt.ukp.dkpro.core.api.lexmorph.",
    "de.tudarmstadt.ukp.dkpro.core.api.segmentation.",
    "de.tudarmstadt.ukp.dkpro.core.api.syntax.",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a layer of spans.

    Attributes:
        layer: its full name.
        feature: of the layer; empty for a layer without features.
        index: its place among the columns behind the token.
    """

    layer: str
    feature: str
    index: int

    @property
    def short(self) -> str:
        """The layer's name without its package."""
        return self.layer.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        version: of the format, e.g. `(3, 3)`.
        columns: those of layers of spans whose values are plain.
        layers: the names of all layers.
        width: how many columns stand behind the token.
        lines: how many lines it has.
    """

    version: tuple[int, int]
    columns: tuple[Column, ...]
    layers: tuple[str, ...]
    width: int
    lines: int


def read_header(lines: Sequence[str], path: Path) -> Header:
    """The header of a file.

    Raises:
        DataError: it is none of WebAnno TSV 3.
    """
    first = lines[0] if lines else ""
    version = _VERSION.fullmatch(first.removeprefix(FORMAT))
    if not first.startswith(FORMAT) or version is None or int(version[1]) != 3:
        told = f"expected {FORMAT}3.3 (or another 3.x), got {shorten(first)}: export it as TSV 3"
        raise DataError(told, path=path, line=1)
    columns: list[Column] = []
    layers: list[str] = []
    width, number = 0, 1
    while number < len(lines) and lines[number].startswith("#T_"):
        found = _LAYER.fullmatch(lines[number])
        if found is None:
            told = f"expected #T_SP=LAYER|FEATURE, #T_RL= or #T_CH=, got {shorten(lines[number])}"
            raise DataError(told, path=path, line=number + 1)
        features = [name for name in found[3].split("|") if name] or [""]
        if found[1] == "SP":
            columns += _plain(found[2], features, width)
        layers.append(found[2])
        width += len(features)
        number += 1
    given = (int(version[1]), int(version[2] or 0))
    return Header(given, tuple(columns), tuple(layers), width, number)


def _plain(layer: str, features: Sequence[str], offset: int) -> Iterator[Column]:
    """The columns of a layer but for its slots, of which each has two."""
    is_target = False
    for index, feature in enumerate(features, offset):
        is_role = feature.startswith(_SLOT)
        if not is_role and not is_target:
            yield Column(layer, feature, index)
        is_target = is_role


def choose_column(
    header: Header, lines: Sequence[str], path: Path, options: Mapping[str, str]
) -> Column | None:
    """The column that holds the labels of entities; `None` where no layer has any.

    Args:
        header: of the file.
        lines: of the file.
        path: of the file.
        options: the user's `layer` and `feature`, by their full names or without package.

    Raises:
        DataError: several layers have values, or the layer has no such feature.
    """
    if asked := options.get("layer"):
        of_layer = [c for c in header.columns if is_named(c.layer, asked)]
    else:
        of_layer = [c for c in header.columns if c.layer == NAMED_ENTITY]
    used: set[int] | None = None
    if not asked and not of_layer:
        used = _used(header, lines)
        of_layer = _only_layer(header, used, path)
    if not of_layer:
        return None
    if feature := options.get("feature"):
        named = [c for c in of_layer if c.feature == feature]
        if not named:
            known = ", ".join(c.feature for c in of_layer)
            told = f"the layer {of_layer[0].layer} has no feature {feature!r}; it has: {known}"
            raise DataError(told, path=path)
        return named[0]
    if named := [c for c in of_layer if c.feature == "value"]:
        return named[0]
    used = _used(header, lines) if used is None else used
    return next((c for c in of_layer if c.index in used), of_layer[0])


def _only_layer(header: Header, used: set[int], path: Path) -> list[Column]:
    candidates = [c for c in header.columns if not c.layer.startswith(_OF_TOKENS)]
    names = list(dict.fromkeys(c.layer for c in candidates if c.index in used))
    if len(names) > 1:
        told = f"several layers have values: say option layer={' or layer='.join(names)}"
        raise DataError(told, path=path)
    return [c for c in candidates if c.layer in names]


def _used(header: Header, lines: Sequence[str]) -> set[int]:
    """The columns in which some annotation has a value, or stands if there are no features."""
    unused = {c.index: c for c in header.columns}
    used: set[int] = set()
    for line in lines[header.lines :]:
        if line.startswith("#") or not line:
            continue
        cells = line.split("\t")[3:]
        for index, column in list(unused.items()):
            cell = cells[index] if index < len(cells) else "_"
            if cell == "_":
                continue
            if not column.feature or any(value for value, _ in split_values(cell)):
                used.add(index)
                del unused[index]
        if not unused:
            break
    return used
