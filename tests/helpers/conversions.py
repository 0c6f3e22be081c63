"""What a teacher's sequences say of a student's units, by counting all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nertune.labels.tagset import TagSet
from nertune.models.heads.marginals import Marginals

__all__ = ["count_conversion", "tags_of_student"]

Spans = Sequence[tuple[int, int]]


def tags_of_student(
    ids: Sequence[int], teacher: TagSet, theirs: Spans, own: Spans, renamed: Mapping[str, str]
) -> list[str]:
    """One sequence of the teacher, as its entities say it of the student's first characters."""
    entities = [
        (theirs[span.first][0], theirs[span.last - 1][1], span.label)
        for span in teacher.decode(ids)
    ]
    tags, before = [], None
    for begin, _ in own:
        over = next((e for e in entities if e[0] <= begin < e[1]), None)
        label = "" if over is None else renamed.get(over[2], over[2])
        tags.append(f"{'I' if over == before else 'B'}-{label}" if label else "O")
        before = over
    return tags


def count_conversion(
    ids_SU: Sequence[Sequence[int]],
    weight_S: Sequence[float],
    teacher: TagSet,
    student: TagSet,
    units: tuple[Spans, Spans],
    renamed: Mapping[str, str],
) -> Marginals:
    """Marginals by counting: of all sequences with their probabilities."""
    size, length = len(student), len(units[1])
    tags_UK: NDArray[np.float64] = np.zeros((length, size))
    pairs_UKK = np.zeros((length, size, size))
    for ids, weight in zip(ids_SU, weight_S, strict=True):
        found = student.encode(tags_of_student(ids, teacher, *units, renamed))
        for unit, tag in enumerate(found):
            tags_UK[unit, tag] += weight
            if unit:
                pairs_UKK[unit, found[unit - 1], tag] += weight
    return Marginals(tags_UK, pairs_UKK)
