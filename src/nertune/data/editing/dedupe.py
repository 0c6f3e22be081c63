"""A corpus without documents that repeat an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nertune.data.editing.conflicts import Conflict, conflict_between
from nertune.data.editing.similarity import SimilarTexts, check_threshold, normalize
from nertune.types import Document

__all__ = ["Deduped", "Repeat", "dedupe_documents"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A document that repeats an earlier one.

    Attributes:
        document: its id.
        of: the id of the one that is kept.
        text: its text.
        is_equal: whether the texts are equal to the character.
        conflict: where the two are annotated otherwise, if they are.
        is_kept: whether it stays all the same.
    """

    document: str
    of: str
    text: str
    is_equal: bool
    conflict: Conflict | None
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Deduped:
    """Documents without repetitions.

    Attributes:
        documents: those that are left, in their order.
        repeats: those that repeat an earlier one.
    """

    documents: tuple[Document, ...]
    repeats: tuple[Repeat, ...]

    @property
    def dropped(self) -> tuple[Repeat, ...]:
        """Repeats that are gone."""
        return tuple(repeat for repeat in self.repeats if not repeat.is_kept)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Where a repeat is annotated otherwise than the document that it repeats."""
        return tuple(repeat.conflict for repeat in self.repeats if repeat.conflict is not None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the documents."""
        return {
            "dropped": len(self.dropped),
            "repeats": [
                {
                    "document": repeat.document,
                    "of": repeat.of,
                    "text": repeat.text,
                    "is_equal": repeat.is_equal,
                    "is_kept": repeat.is_kept,
                    "conflict": repeat.conflict and repeat.conflict.to_dict(),
                }
                for repeat in self.repeats
            ],
        }


def dedupe_documents(
    documents: Sequence[Document], *, near: float | None = None, keep_conflicts: bool = False
) -> Deduped:
    """Drop documents whose text stands earlier; the first is kept.

    Args:
        documents: of the corpus.
        near: also drop documents whose text is similar to a kept one from this Jaccard similarity
            on, in [0.5, 1]; 1 means equal but for white space, case and width. See `SimilarTexts`.
        keep_conflicts: keep those that are annotated otherwise than the first.

    Raises:
        ConfigError: `near` is out of range.

    Example:
        >>> dedupe_documents(documents, near=0.9).documents         # doctest: +SKIP
    """
    originals = _find_originals(documents, near)
    kept, repeats = [], []
    for document, original in zip(documents, originals, strict=True):
        if original is None:
            kept.append(document)
            continue
        first = documents[original]
        conflict = conflict_between(first, document)
        is_kept = keep_conflicts and conflict is not None
        is_equal = first.text == document.text
        repeats.append(Repeat(document.id, first.id, document.text, is_equal, conflict, is_kept))
        if is_kept:
            kept.append(document)
    return Deduped(tuple(kept), tuple(repeats))


def _find_originals(documents: Sequence[Document], near: float | None) -> list[int | None]:
    """Of each document, the earlier one that it repeats."""
    if near is not None:
        check_threshold(near)
    texts = [d.text if near is None else normalize(d.text) for d in documents]
    first: dict[str, int] = {}
    originals: list[int | None] = []
    for index, text in enumerate(texts):
        earlier = first.setdefault(text, index)
        originals.append(None if earlier == index else earlier)
    if near is None or near == 1:
        return originals
    distinct = [index for index, original in enumerate(originals) if original is None]
    similar = SimilarTexts([texts[index] for index in distinct], near)
    for place, index in enumerate(distinct):
        found = next(similar.find(place), None) if texts[index] else None
        if found is None:
            similar.add(place)
        else:
            originals[index] = distinct[found]
    # Copies of a text that is gone repeat what that one repeats.
    for index, original in enumerate(originals):
        if original is not None and originals[original] is not None:
            originals[index] = originals[original]
    return originals
