"""A document as the feature structures of a CAS, and what has to go for that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nertune.data.formats.cas.model import ANNOTATION, METADATA, SENTENCE, STRING_FIELD, TOKEN
from nertune.data.formats.cas.reading import NATIVE, decode_value
from nertune.data.formats.fitting import fit
from nertune.data.formats.layers import NAMED_ENTITY, written_layer
from nertune.data.formats.offsets import count_units
from nertune.data.formats.values import Fitted, Holds, Loss, WriteOptions
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["HOLDS", "Structure", "features_of", "fit_to_cas", "structures"]

HOLDS = Holds(
    overlap=True, scores=True, tokens="optional", ids=True, metadata=True, offsets="utf16"
)
_STRING, _DOUBLE = "uima.cas.String", "uima.cas.Double"
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Structure:
    """A feature structure that is written: its type, its span in UTF-16 units, its features."""

    type: str
    begin: int
    end: int
    features: dict[str, str | float]


def features_of(options: WriteOptions) -> dict[str, tuple[str, dict[str, str]]]:
    """The type system: of each type, its supertype and the types of its features.

    Raises:
        ConfigError: the layer or the feature that entities are written to is no name.
    """
    layer, feature = written_layer(options.more)
    of_layer = {feature: _STRING}
    if layer == NAMED_ENTITY:
        of_layer = {"value": _STRING, "identifier": _STRING, **of_layer}
    if options.scores:
        of_layer["score"] = _DOUBLE
    metadata = {f: _STRING for f in NATIVE.values() if f != "language"}
    return {
        METADATA: ("uima.tcas.DocumentAnnotation", metadata),
        STRING_FIELD: (ANNOTATION, {"key": _STRING, "value": _STRING}),
        SENTENCE: (ANNOTATION, {"id": _STRING}),
        TOKEN: (ANNOTATION, {"id": _STRING}),
        layer: (ANNOTATION, of_layer),
    }


def structures(document: Document, options: WriteOptions) -> Iterator[Structure]:
    """What stands in the CAS of a document.

    Raises:
        ConfigError: the layer or the feature that entities are written to is no name.
    """
    places = count_units(document.text, "utf16")
    meta = dict(document.meta)
    native = {f: meta.pop(key) for key, f in NATIVE.items() if _is_native(key, meta.get(key))}
    sentences = meta.pop("sentences") if _are_sentences(meta.get("sentences"), document) else []
    yield Structure(METADATA, 0, places[-1], native)
    for start, end, *id in sentences:
        yield Structure(SENTENCE, places[start], places[end], {"id": id[0]} if id else {})
    for start, end in document.tokens or ():
        yield Structure(TOKEN, places[start], places[end], {})
    layer, feature = written_layer(options.more)
    for entity in document.entities:
        features: dict[str, str | float] = {feature: entity.label}
        if options.scores and entity.score is not None:
            features["score"] = float(entity.score)
        yield Structure(layer, places[entity.start], places[entity.end], features)
    for key, value in meta.items():
        yield Structure(STRING_FIELD, 0, 0, {"key": key, "value": _encode_value(value)})


def fit_to_cas(document: Document, options: WriteOptions) -> Fitted:
    """The document without what no CAS can hold."""
    losses: list[Loss] = []
    if document.tokens == ():
        losses.append(Loss(document.id, "tokens", "that it has none, which is not known again"))
        document = replace(document, tokens=None)
    lost = [key for key, value in document.meta.items() if not _can_hold(key, value)]
    if lost:
        losses += (Loss(document.id, "metadata", f"its key {shorten(key)}") for key in lost)
        meta = {key: value for key, value in document.meta.items() if key not in lost}
        document = replace(document, meta=meta)
    fitted = fit(document, HOLDS, options)
    return Fitted(fitted.document, (*losses, *fitted.losses))


def _can_hold(key: str, value: Any) -> bool:
    if _UNWRITABLE.search(key):
        return False
    try:
        return _is_native(key, value) or bool(decode_value(_encode_value(value)) == value)
    except (TypeError, ValueError, RecursionError):  # no JSON value
        return False


def _encode_value(value: Any) -> str:
    """A value as a string: texts as they are, where they are no JSON, all else as JSON."""
    if isinstance(value, str) and not _UNWRITABLE.search(value) and decode_value(value) == value:
        return value
    return json.dumps(value)


def _is_native(key: str, value: Any) -> bool:
    """Whether DKPro's type for a document's metadata holds a value as it is."""
    is_text = isinstance(value, str) and value not in ("", "x-unspecified")
    return key in NATIVE and is_text and not _UNWRITABLE.search(value)


def _are_sentences(value: Any, document: Document) -> bool:
    """Whether a value is the spans of sentences, in order, some with an id."""
    if not isinstance(value, list) or not value:
        return False
    previous = (0, 0)
    for item in value:
        if not isinstance(item, list) or not 2 <= len(item) <= 3:
            return False
        start, end, *id = item
        if type(start) is not int or type(end) is not int:
            return False
        if not previous <= (start, end) or not 0 <= start <= end <= len(document.text):
            return False
        if id and (not isinstance(id[0], str) or not id[0] or _UNWRITABLE.search(id[0])):
            return False
        previous = (start, end)
    return True
