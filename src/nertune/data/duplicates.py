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

_Key = tuple[tuple[object, ...], ...]
_MOST_IDS = 20  # places that are named of a text


@dataclass(frozen=True, slots=True)
class SharedText:
    """A text that stands in several places.

    Attributes:
        text: the text.
        ids: where it stands, in order; the first 20 places.
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
    conflicts = [len(set(map(_key, group))) > 1 for group in repeated]
    order = sorted(range(len(repeated)), key=lambda i: not conflicts[i])
    return Duplicates(
        texts=len(repeated),
        documents=sum(len(group) - 1 for group in repeated),
        conflicting_texts=sum(conflicts),
        examples=tuple(_shared(repeated[i], conflicts[i]) for i in order[:num_examples]),
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
    targets = list(target)
    texts = {document.text for document in targets}
    known = _by_text(document for document in source if document.text in texts)
    keys = {text: set(map(_key, group)) for text, group in known.items()}
    found = [document for document in targets if document.text in known]
    # Copies that differ only among themselves differ from the document in at least one place.
    conflicts = [keys[document.text] != {_key(document)} for document in found]
    order = sorted(range(len(found)), key=lambda i: not conflicts[i])
    return Leakage(
        source=source_name,
        target=target_name,
        documents=len(found),
        target_documents=len(targets),
        conflicting=sum(conflicts),
        examples=tuple(
            _shared([found[i], *known[found[i].text]], conflicts[i]) for i in order[:num_examples]
        ),
    )


def _by_text(documents: Iterable[Document]) -> dict[str, list[Document]]:
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        groups[document.text].append(document)
    return groups


def _key(document: Document) -> _Key:
    return tuple(entity.key for entity in document.entities)


def _shared(group: list[Document], conflicting: bool) -> SharedText:
    return SharedText(
        group[0].text, tuple(document.id for document in group[:_MOST_IDS]), conflicting
    )
