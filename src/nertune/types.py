"""The two values that flow through nertune: `Entity` and `Document`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

__all__ = ["Document", "Entity"]

_SHOWN = 40  # characters of a text in its short form
_SHOWN_ENTITIES = 4


@dataclass(frozen=True, slots=True, order=True, repr=False)
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

    def __repr__(self) -> str:
        score = "" if self.score is None else f", {self.score:.4g}"
        return f"Entity({self.start}, {self.end}, {self.label!r}{score})"

    @property
    def key(self) -> tuple[int, int, str]:
        """What strict scoring compares: start, end and label, without the score."""
        return self.start, self.end, self.label


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        """Short: the first characters, and a few entities."""
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[: _SHOWN - 1]}…"
        shown = [f"{self.surface(e)!r} {e.label}" for e in self.entities[:_SHOWN_ENTITIES]]
        if len(self.entities) > _SHOWN_ENTITIES:
            shown.append(f"… {len(self.entities) - _SHOWN_ENTITIES} more")
        id = f", id={self.id!r}" if self.id else ""
        return f"Document({text!r}, [{', '.join(shown)}]{id})"

    def with_entities(self, entities: Iterable[Entity]) -> Document:
        """The same document with other entities."""
        return replace(self, entities=tuple(entities))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Document:
        """A document from plain values: `text`, and `entities` as dicts or `[start, end, label]`.

        Raises:
            ValueError: there is no text, or an entity is not a span of it.
        """
        if not isinstance(values.get("text"), str):
            raise ValueError(f"expected a text under the key 'text', got {values.get('text')!r}")
        found = []
        for entity in values.get("entities") or ():
            try:
                fields = dict(entity) if isinstance(entity, Mapping) else None
                found.append(Entity(*entity) if fields is None else Entity(**fields))
            except TypeError as error:
                raise ValueError(
                    f"entity {entity!r}: expected start, end, label and perhaps score"
                ) from error
        tokens = values.get("tokens")
        return cls(
            values["text"],
            tuple(found),
            id=str(values.get("id") or ""),
            tokens=None if tokens is None else tuple((start, end) for start, end in tokens),
            meta=dict(values.get("meta") or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, which `from_dict` reads; what is empty is left out."""
        values: dict[str, Any] = {"text": self.text}
        values["entities"] = [
            {"start": e.start, "end": e.end, "label": e.label}
            | ({} if e.score is None else {"score": e.score})
            for e in self.entities
        ]
        if self.id:
            values["id"] = self.id
        if self.tokens is not None:
            values["tokens"] = [list(token) for token in self.tokens]
        if self.meta:
            values["meta"] = dict(self.meta)
        return values

    def _repr_html_(self) -> str:
        """The text with its entities marked, for a notebook; overlapping ones behind the first."""
        parts, position = [], 0
        for entity in sorted(self.entities, key=lambda e: (e.start, -e.end)):
            if entity.start < position:  # inside or across the last one: named, not marked
                parts.append(f"<sub>+ {escape(self.surface(entity))} {escape(entity.label)}</sub>")
                continue
            parts.append(escape(self.text[position : entity.start]))
            parts.append(
                f'<mark title="{escape(entity.label)}">{escape(self.surface(entity))} '
                f"<small>{escape(entity.label)}</small></mark>"
            )
            position = entity.end
        parts.append(escape(self.text[position:]))
        return f'<div style="white-space: pre-wrap">{"".join(parts)}</div>'

    def surface(self, entity: Entity) -> str:
        """The characters that an entity covers."""
        return self.text[entity.start : entity.end]
