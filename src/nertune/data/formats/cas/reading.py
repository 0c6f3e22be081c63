"""A CAS as a document."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from nertune.data.formats.base import ReadOptions
from nertune.data.formats.cas.model import (
    METADATA,
    SENTENCE,
    STRING_FIELD,
    TOKEN,
    Annotation,
    Cas,
    Types,
)
from nertune.data.formats.layers import NAMED_ENTITY, Layers, is_named
from nertune.data.formats.offsets import count_units
from nertune.data.formats.values import as_probability, say_counts
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["NATIVE", "DocumentReader", "decode_value"]

NATIVE = {
    "id": "documentId",
    "title": "documentTitle",
    "language": "language",
    "uri": "documentUri",
    "collection": "collectionId",
}
"""Metadata that DKPro has features for."""
_NO_LANGUAGE = "x-unspecified"
_FAMILY = NAMED_ENTITY.rpartition(".")[0]  # whose other types are kinds of named entities
_STRUCTURE = (TOKEN, SENTENCE, METADATA, STRING_FIELD)
# Types of the machinery and of linguistics, which hold no entities unless they are asked for.
_OWN = ("uima.", "de.tudarmstadt.ukp.", "org.dkpro.", "org.apache.")
_NOT_SAID = ("uima.", "de.tudarmstadt.ukp.dkpro.core.api.metadata.")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


class DocumentReader:
    """Makes documents of the files that are read together.

    Args:
        options: the user's.
    """

    def __init__(self, options: ReadOptions):
        self.seen: Counter[str] = Counter()
        self._options = options
        self._layers = Layers(options.more)

    def notices(self, path: Path) -> Iterator[str]:
        """What was chosen, dropped and counted.

        Raises:
            DataError: no file has the layer that was asked for.
        """
        if not self._options.ignore_tags:
            yield from self._layers.notices(path)
        yield from say_counts(self.seen)

    def document(self, cas: Cas, name: str, path: Path) -> Document:
        """The document of a CAS.

        Args:
            cas: what was read.
            name: that of its file, which is its id if it has none.
            path: of the file, for messages.

        Raises:
            DataError: a span does not fit the text, or the layer of entities is not clear.
        """
        place = _Places(cas, path).place
        by_type: dict[str, list[Annotation]] = {}
        for annotation in cas.annotations:
            by_type.setdefault(annotation.type, []).append(annotation)
        meta = self._metadata(by_type)
        if sentences := self._sentences(by_type.get(SENTENCE, ()), place):
            meta.setdefault("sentences", sentences)
        entities: tuple[Entity, ...] = ()
        if not self._options.ignore_tags:
            entities = tuple(self._entities(by_type, cas.types, place, path))
        tokens = self._tokens(by_type.get(TOKEN, ()), place)
        id = meta.get("id", name)
        return Document(cas.text, entities, str(id), tokens, meta)

    def _metadata(self, by_type: dict[str, list[Annotation]]) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        for annotation in by_type.get(METADATA, ()):
            for key, feature in NATIVE.items():
                given = annotation.features.get(feature)
                if isinstance(given, str) and given not in ("", _NO_LANGUAGE):
                    meta[key] = given
        fields: dict[str, Any] = {}
        for annotation in by_type.get(STRING_FIELD, ()):
            name, value = annotation.features.get("key"), annotation.features.get("value")
            if not isinstance(name, str) or name in fields:
                self.seen["fields of metadata without a key, or whose key stands twice"] += 1
            else:
                fields[name] = decode_value(value) if isinstance(value, str) else value
        return meta | fields

    def _sentences(self, found: Iterable[Annotation], place: _Place) -> list[list[Any]]:
        sentences = []
        for annotation in found:
            start, end = place(annotation)
            id = annotation.features.get("id")
            sentences.append([start, end, *([id] if isinstance(id, str) and id else [])])
        return sorted(sentences, key=lambda s: (s[0], s[1]))

    def _tokens(
        self, found: Sequence[Annotation], place: _Place
    ) -> tuple[tuple[int, int], ...] | None:
        """The tokens in order; `None` if there are none."""
        spans = sorted({place(annotation) for annotation in found})
        tokens = [(start, end) for start, end in spans if start < end]
        if dropped := len(found) - len(tokens):
            self.seen["tokens without characters or twice, which are dropped"] += dropped
        if any(one[1] > other[0] for one, other in pairwise(tokens)):
            self.seen["documents whose tokens overlap, which are not read"] += 1
            return None
        return tuple(tokens) or None

    def _entities(
        self,
        by_type: dict[str, list[Annotation]],
        types: Types,
        place: _Place,
        path: Path,
    ) -> Iterator[Entity]:
        others = [t for t in by_type if t not in _STRUCTURE and not t.startswith(_NOT_SAID)]
        layer, chosen = self._layer(by_type, types, path)
        if not chosen:
            self._layers.choose(None, path)
            self._layers.see(others)
            return
        found = [annotation for type in chosen for annotation in by_type[type]]
        feature = self._feature(layer, found, types, path)
        self._layers.choose((layer, feature), path)
        read = {feature, "score", "begin", "end", "sofa"}
        features = dict.fromkeys(name for a in found for name in a.features if name not in read)
        self._layers.see((t for t in others if t not in chosen), features)
        unique: dict[Any, Entity] = {}
        for annotation in found:
            if (entity := self._entity(annotation, layer, feature, place)) is None:
                continue
            if unique.setdefault(entity.key, entity) is not entity:
                self.seen["identical entities dropped"] += 1
        yield from unique.values()

    def _layer(
        self, by_type: dict[str, list[Annotation]], types: Types, path: Path
    ) -> tuple[str, list[str]]:
        """The layer of entities, and the types that belong to it."""
        if asked := self._options.more.get("layer"):
            named = [t for t in (*by_type, *types.parents) if is_named(t, asked)]
            if not named:
                return "", []
            return named[0], [t for t in by_type if t == named[0] or types.is_a(t, named[0])]
        family = [t for t in by_type if t.startswith(f"{_FAMILY}.") or types.is_a(t, NAMED_ENTITY)]
        if family:
            return NAMED_ENTITY, family
        custom = [
            type
            for type, found in by_type.items()
            if not type.startswith(_OWN)
            and not {"Governor", "Dependent"} & {name for a in found[:1] for name in a.features}
            and any(_texts(annotation, types) for annotation in found)
        ]
        if len(custom) > 1:
            told = f"several layers have values: say option layer={' or layer='.join(custom)}"
            raise DataError(told, path=path)
        return (custom[0], custom) if custom else ("", [])

    def _feature(self, layer: str, found: Sequence[Annotation], types: Types, path: Path) -> str:
        names = dict.fromkeys(name for a in found for name in _texts(a, types))
        if asked := self._options.more.get("feature"):
            if not any(asked in a.features for a in found) and (
                types.holds_text(layer, asked) is None
            ):
                known = ", ".join(names) or "none"
                told = f"the layer {layer} has no feature {asked!r}; it has: {known}"
                raise DataError(told, path=path)
            return asked
        if layer == NAMED_ENTITY:
            return "value"
        return next((n for n in ("value", "label") if n in names), next(iter(names), ""))

    def _entity(
        self, annotation: Annotation, layer: str, feature: str, place: _Place
    ) -> Entity | None:
        start, end = place(annotation)
        label = annotation.features.get(feature) if feature else None
        if label is None and (not feature or annotation.type != layer):
            label = annotation.type.rpartition(".")[2]  # e.g. Person, a kind of NamedEntity
        if start >= end:
            self.seen["annotations of no characters, which are not read"] += 1
            return None
        if label is None or label == "":
            self.seen["annotations without a value, which are not read"] += 1
            return None
        given = annotation.features.get("score")
        score = as_probability(given)
        if given is not None and score is None:
            self.seen["scores that are no probabilities, which are not read"] += 1
        return Entity(start, end, str(label), score)


_Place = Callable[[Annotation], tuple[int, int]]


class _Places:
    """Spans of a text in code points."""

    def __init__(self, cas: Cas, path: Path):
        self._cas = cas
        self._path = path
        self._places: dict[int, int] | None = None
        text = cas.text
        if (cas.offsets == "utf16" and _ASTRAL.search(text)) or (
            cas.offsets == "byte" and not text.isascii()
        ):
            counted = enumerate(count_units(text, cas.offsets))
            self._places = {offset: i for i, offset in counted}

    def place(self, annotation: Annotation) -> tuple[int, int]:
        """The span of an annotation.

        Raises:
            DataError: it does not fit the text.
        """
        start, end = annotation.begin, annotation.end
        if self._places is not None:
            start, end = self._places.get(start, -1), self._places.get(end, -1)
        if not 0 <= start <= end <= len(self._cas.text):
            unit = {"utf16": "UTF-16 units", "byte": "UTF-8 bytes"}.get(self._cas.offsets)
            raise DataError(
                f"{annotation.type} [{annotation.begin}, {annotation.end}) is no span of the text "
                f"{shorten(self._cas.text)}, in {unit or 'Unicode code points'}",
                path=self._path,
                line=annotation.line,
            )
        return start, end


def _texts(annotation: Annotation, types: Types) -> Iterator[str]:
    """The features of an annotation that hold a label, as far as can be known."""
    for name, value in annotation.features.items():
        if name in ("begin", "end", "sofa") or not isinstance(value, str) or not value:
            continue
        is_text = types.holds_text(annotation.type, name)
        if is_text or (is_text is None and (name in ("value", "label") or not value.isdigit())):
            yield name


def decode_value(text: str) -> Any:
    """The value of a field of metadata, which holds strings: its JSON value, or the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
