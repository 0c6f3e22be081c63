"""Copies of one text that are annotated otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nertune.data.editing.similarity import normalize
from nertune.types import Document, Entity, Scope

__all__ = ["Conflict", "conflict_between"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two documents with the same text, or nearly so, and other entities or another scope.

    Attributes:
        first, second: the documents' ids.
        only_first: entities that only the first has, each with its characters.
        only_second: entities that only the second has.
        scopes: both scopes where they differ; `None` where they are the same.
    """

    first: str
    second: str
    only_first: tuple[tuple[Entity, str], ...]
    only_second: tuple[tuple[Entity, str], ...]
    scopes: tuple[Scope, Scope] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "only_first": [{**asdict(e), "surface": text} for e, text in self.only_first],
            "only_second": [{**asdict(e), "surface": text} for e, text in self.only_second],
            "scopes": self.scopes and [scope.to_dict() for scope in self.scopes],
        }


def conflict_between(first: Document, second: Document) -> Conflict | None:
    """Where two documents are annotated otherwise; `None` where they agree.

    Entities of the same text are compared by span and label, those of nearly equal texts by
    characters and label. A document that is labelled for less than the other is a conflict too:
    what it leaves open, the other denies. Unknown spans of nearly equal texts are not compared.
    """
    is_same = first.text == second.text
    one, other = (_keys(document, is_same) for document in (first, second))
    scopes = first.scope, second.scope
    if not is_same:
        scopes = replace(scopes[0], unknown=()), replace(scopes[1], unknown=())
    differ = scopes[0] != scopes[1]
    if Counter(one) == Counter(other) and not differ:
        return None
    only_first, only_second = _without(first, one, other), _without(second, other, one)
    found = (first.scope, second.scope) if differ else None
    return Conflict(first.id, second.id, only_first, only_second, found)


def _keys(document: Document, by_span: bool) -> list[object]:
    if by_span:
        return [entity.key for entity in document.entities]
    return [(entity.label, normalize(document.surface(entity))) for entity in document.entities]


def _without(
    document: Document, keys: Sequence[object], others: Sequence[object]
) -> tuple[tuple[Entity, str], ...]:
    """The entities whose keys, each as often as it stands there, are not among the others."""
    left = Counter(others)
    found = []
    for entity, key in zip(document.entities, keys, strict=True):
        if left[key]:
            left[key] -= 1
        else:
            found.append((entity, document.surface(entity)))
    return tuple(found)
