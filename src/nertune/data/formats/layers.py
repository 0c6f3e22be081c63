"""Layers of annotations, as WebAnno, INCEpTION and UIMA have them: which one holds the entities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from nertune.errors import ConfigError, DataError

__all__ = ["LAYER_OPTIONS", "NAMED_ENTITY", "Layers", "is_named", "written_layer"]

NAMED_ENTITY = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
LAYER_OPTIONS = MappingProxyType(
    {
        "layer": "the layer (type) that holds the entities, e.g. webanno.custom.Entity",
        "feature": "the feature of that layer that holds their labels, e.g. value",
    }
)
"""Options of formats whose annotations are in layers."""
_LAYER = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")
_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_named(layer: str, asked: str) -> bool:
    """Whether a layer is meant by a name, with or without its package."""
    return asked in (layer, layer.rpartition(".")[2])


def written_layer(more: Mapping[str, str]) -> tuple[str, str]:
    """The layer and the feature that entities are written to.

    Raises:
        ConfigError: one of them is no name.
    """
    layer, feature = more.get("layer", NAMED_ENTITY), more.get("feature", "value")
    if not _LAYER.fullmatch(layer):
        raise ConfigError(f"layer={layer!r} is no full name, e.g. webanno.custom.Entity")
    if not _FEATURE.fullmatch(feature) or feature in ("begin", "end", "sofa", "score"):
        raise ConfigError(f"feature={feature!r} is no name of a feature, e.g. value")
    return layer, feature


class Layers:
    """Which layer holds the entities, the same in all files of a folder.

    Args:
        more: the user's options.
    """

    def __init__(self, more: Mapping[str, str]):
        self._asked = more.get("layer", "")
        self._chosen: tuple[str, str] | None = None
        self._path: Path | None = None
        self._seen: dict[str, None] = {}  # in order
        self._features: dict[str, None] = {}
        self._missing = 0

    def see(self, layers: Iterable[str], features: Iterable[str] = ()) -> None:
        """Note the layers of a file, and the features of the chosen one that are not read."""
        self._seen |= dict.fromkeys(layers)
        self._features |= dict.fromkeys(features)

    def choose(self, chosen: tuple[str, str] | None, path: Path) -> None:
        """Note the layer and the feature of a file; `None` where it has no entities.

        Raises:
            DataError: the files before have their entities elsewhere.
        """
        if chosen is None:
            self._missing += 1
        elif self._chosen is None:
            self._chosen, self._path = chosen, path
        elif self._chosen != chosen:
            told = f"entities would be {' '.join(chosen)}, but {' '.join(self._chosen)}"
            how = "say option layer= (and feature=)"
            raise DataError(f"{told} in {self._path}: {how}", path=path)

    def notices(self, path: Path) -> Iterator[str]:
        """What was chosen, and what is not read.

        Raises:
            DataError: no file has the layer that was asked for.
        """
        layer, feature = self._chosen or ("", "")
        if layer:
            what = f"the feature {feature}" if feature else "the spans"
            yield f"entities are {what} of the layer {layer}"
        elif self._asked:
            known = ", ".join(self._seen) or "none"
            raise DataError(f"no layer {self._asked!r}; there are: {known}", path=path)
        else:
            yield "no layer of entities was found"
        if self._features:
            yield f"features of the layer that are not read: {', '.join(self._features)}"
        if others := [name for name in self._seen if name != layer]:
            yield f"layers that are not read: {', '.join(others)}"
        if self._missing and layer:
            yield f"{self._missing} files without that layer"
