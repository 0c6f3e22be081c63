"""The answers of an extended model's parts as one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from nertune.artifacts.parts import Overlap
from nertune.types import Document, Entity

__all__ = ["combine_answers"]


def combine_answers(answers: Sequence[Document], overlaps: Sequence[Overlap]) -> Document:
    """One document with the entities of all parts.

    Args:
        answers: the same document as each part tags it, the oldest part first.
        overlaps: for each part but the first: `keep` keeps all its entities, `old-wins` leaves out
            those that share a character with an entity of the parts before it.
    """
    kept = [*answers[0].entities]
    for answer, overlap in zip(answers[1:], overlaps, strict=True):
        found: Iterable[Entity] = answer.entities
        if overlap == "old-wins":
            touches = _touching(kept)
            found = [entity for entity in found if not touches(entity)]
        kept += found
    return answers[0].with_entities(kept)


def _touching(entities: Sequence[Entity]) -> Callable[[Entity], bool]:
    """Whether an entity shares a character with one of these."""
    spans = sorted(span for entity in entities for span in entity.spans)
    starts = [start for start, _ in spans]
    furthest = [*accumulate((end for _, end in spans), max)]

    def touches(entity: Entity) -> bool:
        """A span that begins before the entity ends, and one of those ends behind its start."""
        for start, end in entity.spans:
            num_before = bisect_left(starts, end)
            if num_before and furthest[num_before - 1] > start:
                return True
        return False

    return touches
