"""Texts that stand in a corpus more than once, and texts that two splits share.

A test text that also stands in the training data makes a score too good; one that is labelled
differently there makes it too bad. Only exactly equal texts are found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nertune.types import Document

__all__ = ["Duplicates", "Leakage", "SharedText", "find_duplicates", "find_leakage"]

_Key = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class SharedText:
    """A text that stands in several places.

    Attributes:
        text: the text.
        ids: where it stands, in order.
        conflicting: whether it has other entities in one place than in another.
    """

    text: str
    ids: tuple[str, ...]
    conflicting: bool


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Texts that stand in one corpus more than once.

    Attributes:
        texts: how many such texts there are.
        documents: how many documents only repeat an earlier one's text.
        conflicting_texts: how many of the texts have other entities in one place than another.
        examples: a few of them, conflicting ones first.
    """

    texts: int
    documents: int
    conflicting_texts: int
    examples: tuple[SharedText, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Leakage:
    """Documents of one corpus whose text also stands in another.

    Attributes:
        source: the corpus that is searched, e.g. `train.conll`.
        target: the corpus whose documents are counted, e.g. `test.conll`.
        documents: how many documents of `target` have a text that stands in `source`.
        target_documents: of how many.
        conflicting: how many of them have other entities there, in at least one place.
        examples: a few of them, conflicting ones first.
    """

    source: str
    target: str
    documents: int
    target_documents: int
    conflicting: int
    examples: tuple[SharedText, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def find_duplicates(documents: Iterable[Document], *, num_examples: int = 5) -> Duplicates:
    """Find texts that stand more than once among these documents."""
    repeated = [group for group in _by_text(documents).values() if len(group) > 1]
    shared = [_shared(group) for group in repeated]
    return Duplicates(
        texts=len(repeated),
        documents=sum(len(group) - 1 for group in repeated),
        conflicting_texts=sum(item.conflicting for item in shared),
        examples=_examples(shared, num_examples),
    )


def find_leakage(
    source: Iterable[Document],
    target: Iterable[Document],
    *,
    source_name: str,
    target_name: str,
    num_examples: int = 5,
) -> Leakage:
    """Find documents of `target` whose text also stands in `source`."""
    known = _by_text(source)
    targets = list(target)
    # Copies that differ only among themselves differ from the document in at least one place.
    shared = [
        _shared([document, *known[document.text]]) for document in targets if document.text in known
    ]
    return Leakage(
        source=source_name,
        target=target_name,
        documents=len(shared),
        target_documents=len(targets),
        conflicting=sum(item.conflicting for item in shared),
        examples=_examples(shared, num_examples),
    )


def _by_text(documents: Iterable[Document]) -> dict[str, list[Document]]:
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        groups[document.text].append(document)
    return groups


def _key(document: Document) -> _Key:
    return tuple(entity.key for entity in document.entities)


def _shared(group: list[Document]) -> SharedText:
    ids = tuple(document.id for document in group)
    return SharedText(group[0].text, ids, len(set(map(_key, group))) > 1)


def _examples(shared: Iterable[SharedText], limit: int) -> tuple[SharedText, ...]:
    return tuple(sorted(shared, key=lambda item: not item.conflicting)[:limit])
