"""The two values that flow through nertune: `Entity` and `Document`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Document", "Entity"]


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A named entity in a text.

    Attributes:
        start: offset of the first character, in Unicode code points of `Document.text`.
        end: offset behind the last character (half-open, like a Python slice).
        label: the entity's type, e.g. `"PERSON"`.
        score: probability in [0, 1] under the decoder that predicted it; `None` for gold.

    Raises:
        ValueError: the span is empty or negative, or the label is empty.
    """

    start: int
    end: int
    label: str
    score: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"entity span [{self.start}, {self.end}) is empty or negative")
        if not self.label:
            raise ValueError(f"entity [{self.start}, {self.end}) has no label")

    @property
    def key(self) -> tuple[int, int, str]:
        """What strict scoring compares: start, end and label, without the score."""
        return self.start, self.end, self.label


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its entities.

    Attributes:
        text: the text; every offset counts its Unicode code points.
        entities: gold or predicted entities, sorted by (start, end, label).
        id: where it came from, e.g. `"train.conll:412"`.
        tokens: the source's own token spans `(start, end)` where it had them, so that
            writing gives back what was read; `None` for raw text.
        meta: what else the source said of it, as JSON values; it comes back with the answer.

    Raises:
        ValueError: an entity or a token reaches beyond the text.
    """

    text: str
    entities: tuple[Entity, ...] = ()
    id: str = ""
    tokens: tuple[tuple[int, int], ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(sorted(self.entities, key=lambda e: e.key)))
        for entity in self.entities:
            if entity.end > len(self.text):
                raise ValueError(
                    f"{entity.label} [{entity.start}, {entity.end}) reaches beyond the text "
                    f"of {len(self.text)} characters"
                )
        previous_end = 0
        for start, end in self.tokens or ():
            if not previous_end <= start < end <= len(self.text):
                raise ValueError(f"token [{start}, {end}) is empty, out of order or out of text")
            previous_end = end

    def with_entities(self, entities: Iterable[Entity]) -> Document:
        """The same document with other entities."""
        return replace(self, entities=tuple(entities))

    def surface(self, entity: Entity) -> str:
        """The characters that an entity covers."""
        return self.text[entity.start : entity.end]
