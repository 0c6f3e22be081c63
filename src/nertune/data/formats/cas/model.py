"""What is read of a CAS, whatever its file: texts, annotations and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nertune.data.formats.offsets import Offsets

__all__ = [
    "ANNOTATION",
    "METADATA",
    "SENTENCE",
    "STRING_FIELD",
    "TOKEN",
    "Annotation",
    "Cas",
    "Types",
]

_DKPRO = "de.tudarmstadt.ukp.dkpro.core.api"
ANNOTATION = "uima.tcas.Annotation"
TOKEN = f"{_DKPRO}.segmentation.type.Token"
SENTENCE = f"{_DKPRO}.segmentation.type.Sentence"
METADATA = f"{_DKPRO}.metadata.type.DocumentMetaData"
STRING_FIELD = f"{_DKPRO}.metadata.type.MetaDataStringField"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A feature structure with a span.

    Attributes:
        type: its full name.
        begin, end: offsets, as the file counts.
        features: what else it has, but for references of JSON, which are left out.
        line: where it stands, if that is known.
    """

    type: str
    begin: int
    end: int
    features: Mapping[str, Any]
    line: int | None = None


@dataclass(slots=True)
class Types:
    """A type system.

    Attributes:
        parents: the supertype of each type.
        ranges: of each type, its features with the types of their values.
    """

    parents: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, dict[str, str]] = field(default_factory=dict)

    def is_a(self, type: str, other: str) -> bool:
        """Whether a type is another one or inherits from it."""
        known: set[str] = set()
        while type not in known:
            if type == other:
                return True
            known.add(type)
            type = self.parents.get(type, type)
        return False

    def holds_text(self, type: str, feature: str) -> bool | None:
        """Whether a feature's values are strings; `None` if the types do not say."""
        known: set[str] = set()
        while type not in known:
            if found := self.ranges.get(type, {}).get(feature):
                return self.is_a(found, "uima.cas.String")
            known.add(type)
            type = self.parents.get(type, type)
        return None


@dataclass(frozen=True, slots=True)
class Cas:
    """One view of a CAS.

    Attributes:
        text: of it.
        annotations: that are indexed in it, in the file's order.
        types: the type system, as far as it is known.
        offsets: what offsets count.
    """

    text: str
    annotations: tuple[Annotation, ...]
    types: Types
    offsets: Offsets = "utf16"
