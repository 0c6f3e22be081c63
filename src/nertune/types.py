"""The values that flow through nertune: `Entity`, `Document` and its `Scope`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from operator import le, lt
from typing import Any

__all__ = ["Document", "Entity", "Fragments", "Scope"]

Fragments = tuple[tuple[int, int], ...]
"""Half-open spans in Unicode code points."""

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
        fragments: of a discontinuous entity, its parts as half-open spans, at least two, in order,
            none touching the next; the first begins at `start`, the last ends at `end`. Empty for
            any other entity.

    Raises:
        ValueError: the span is empty or negative, the label is empty, or the fragments are not as
            described.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    fragments: Fragments = ()

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"entity span [{self.start}, {self.end}) is empty or negative")
        if not self.label:
            raise ValueError(f"entity [{self.start}, {self.end}) has no label")
        if self.fragments:
            self._check_fragments()

    def _check_fragments(self) -> None:
        spans = self.fragments
        is_ordered = all(start < end for start, end in spans) and all(
            one[1] < other[0] for one, other in pairwise(spans)
        )
        covers = (spans[0][0], spans[-1][1]) == (self.start, self.end)
        if len(spans) < 2 or not is_ordered or not covers:
            raise ValueError(
                f"entity [{self.start}, {self.end}) has the fragments {list(spans)}: expected two "
                "or more, in order and apart, from its start to its end"
            )

    @classmethod
    def of_fragments(
        cls, spans: Iterable[tuple[int, int]], label: str, score: float | None = None
    ) -> Entity:
        """An entity of spans in any order; those that touch or overlap are one.

        Raises:
            ValueError: there is no span, or one is empty or negative.
        """
        joined: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if not 0 <= start < end:
                raise ValueError(f"entity span [{start}, {end}) is empty or negative")
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        if not joined:
            raise ValueError(f"an entity {label!r} has no span")
        fragments = tuple(joined) if len(joined) > 1 else ()
        return cls(joined[0][0], joined[-1][1], label, score, fragments)

    def __repr__(self) -> str:
        score = "" if self.score is None else f", {self.score:.4g}"
        fragments = f", fragments={list(self.fragments)}" if self.fragments else ""
        return f"Entity({self.start}, {self.end}, {self.label!r}{score}{fragments})"

    @property
    def spans(self) -> Fragments:
        """What it covers: its fragments, or its one span."""
        return self.fragments or ((self.start, self.end),)

    @property
    def key(self) -> tuple[int, int, str] | tuple[int, int, str, Fragments]:
        """What strict scoring compares: start, end, label and fragments, without the score."""
        if self.fragments:
            return self.start, self.end, self.label, self.fragments
        return self.start, self.end, self.label


def _key(entity: Entity) -> tuple[object, ...]:
    return entity.key


def _is_span(value: object) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(type(place) is int for place in value)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the entities of a partially labelled document say about the rest of its text.

    Attributes:
        labels: those that the document is labelled for; `None`: all that there are.
        complete: whether text that no entity covers holds no entity of these labels. If not, it is
            unknown.
        unknown: half-open spans of the text, in order, of which nothing is known.

    Raises:
        ValueError: a label is empty, or the spans are empty, out of order or overlap.
    """

    labels: tuple[str, ...] | None = None
    complete: bool = True
    unknown: Fragments = ()

    def __post_init__(self) -> None:
        if self.labels is not None:
            if not all(self.labels):
                raise ValueError("a label of the scope is empty")
            object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))
        position = 0
        for start, end in self.unknown:
            if not position <= start < end:
                raise ValueError(f"unknown span [{start}, {end}) is empty or out of order")
            position = end

    @property
    def is_full(self) -> bool:
        """Whether text without an entity is known to hold none of any label."""
        return self.labels is None and self.complete and not self.unknown

    def is_full_for(self, labels: Collection[str]) -> bool:
        """Whether text without an entity is known to hold none of these labels."""
        names_all = self.labels is None or not set(labels).difference(self.labels)
        return names_all and self.complete and not self.unknown

    def leaves_open(self, entity: Entity) -> bool:
        """Whether such an entity may be there although it is not marked."""
        if self.labels is not None and entity.label not in self.labels:
            return True
        return not self.complete or any(
            start < last and first < end for first, last in entity.spans
            for start, end in self.unknown
        )  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scope:
        """From plain values, as `to_dict` gives them.

        Raises:
            ValueError: a key is not known, or a value is not of its kind.
        """
        if others := sorted(values.keys() - {"labels", "complete", "unknown"}):
            raise ValueError(f"scope: {others[0]!r} is no key; expected labels, complete, unknown")
        labels, complete = values.get("labels"), values.get("complete", True)
        is_list = isinstance(labels, list | tuple)
        if labels is not None and not (is_list and all(isinstance(x, str) for x in labels)):
            raise ValueError(f"scope: labels: expected a list of labels, got {labels!r}")
        if not isinstance(complete, bool):
            raise ValueError(f"scope: complete: expected true or false, got {complete!r}")
        unknown = values.get("unknown") or ()
        if not (isinstance(unknown, list | tuple) and all(map(_is_span, unknown))):
            raise ValueError(
                f"scope: unknown: expected [start, end] spans of whole numbers, got {unknown!r}"
            )
        spans = tuple((start, end) for start, end in unknown)
        return cls(None if labels is None else tuple(labels), complete, spans)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, which `from_dict` reads; what says nothing is left out."""
        values: dict[str, Any] = {}
        if self.labels is not None:
            values["labels"] = list(self.labels)
        if not self.complete:
            values["complete"] = False
        if self.unknown:
            values["unknown"] = [list(span) for span in self.unknown]
        return values


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
        scope: of which labels and parts of the text the entities are all that there are; by
            default of all (`Scope`).

    Raises:
        ValueError: an entity, a token or an unknown span reaches beyond the text.
    """

    text: str
    entities: tuple[Entity, ...] = ()
    id: str = ""
    tokens: tuple[tuple[int, int], ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    scope: Scope = Scope()

    def __post_init__(self) -> None:
        if not isinstance(self.entities, tuple) or len(self.entities) > 1:
            object.__setattr__(self, "entities", tuple(sorted(self.entities, key=_key)))
        for entity in self.entities:
            if entity.end > len(self.text):
                raise ValueError(
                    f"{entity.label} [{entity.start}, {entity.end}) reaches beyond the text "
                    f"of {len(self.text)} characters"
                )
        if self.tokens:
            self._check_tokens(self.tokens)
        if self.scope.unknown and self.scope.unknown[-1][1] > len(self.text):
            raise ValueError(
                f"unknown span {list(self.scope.unknown[-1])} reaches beyond the text of "
                f"{len(self.text)} characters"
            )

    def _check_tokens(self, tokens: Fragments) -> None:
        starts, ends = zip(*tokens, strict=True)
        is_within = starts[0] >= 0 and ends[-1] <= len(self.text)
        # Without a loop: corpora have millions of tokens.
        if is_within and all(map(lt, starts, ends)) and all(map(le, ends, starts[1:])):
            return
        previous_end = 0
        for start, end in tokens:
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

    def with_predictions(self, entities: Iterable[Entity]) -> Document:
        """The same document with a model's entities, in the place of gold or an earlier answer.

        The scope is that of the gold, so it goes; so does the note that a model abstained.
        """
        meta = self.meta
        if meta.get("abstained") is True:
            meta = {k: v for k, v in meta.items() if k not in ("abstained", "confidence")}
        return replace(self, entities=tuple(entities), meta=meta, scope=Scope())

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
                if fields is not None and "fragments" in fields:
                    fields["fragments"] = tuple((a, b) for a, b in fields["fragments"] or ())
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
            scope=Scope.from_dict(values.get("scope") or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, which `from_dict` reads; what is empty is left out."""
        values: dict[str, Any] = {"text": self.text}
        values["entities"] = [
            {"start": e.start, "end": e.end, "label": e.label}
            | ({} if e.score is None else {"score": e.score})
            | ({"fragments": [list(span) for span in e.fragments]} if e.fragments else {})
            for e in self.entities
        ]
        if self.id:
            values["id"] = self.id
        if self.tokens is not None:
            values["tokens"] = [list(token) for token in self.tokens]
        if self.meta:
            values["meta"] = dict(self.meta)
        if self.scope != Scope():
            values["scope"] = self.scope.to_dict()
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
        """The characters that an entity covers; " … " stands between its fragments."""
        return " … ".join(self.text[start:end] for start, end in entity.spans)
