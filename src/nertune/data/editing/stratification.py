"""Iterative stratification: each part gets its share of every label.

Sechidis, Tsoumakas & Vlahavas (2011), *On the stratification of multi-label data*, on groups of
documents with counts of entities in the place of single examples. Since groups have several
entities, a part's need is taken relative to its size, and after the group: else the largest part
would get all groups with many. Two things are added: a part gets no group that it has no room for
while another one has, and where no more groups with a label are left than parts that lack it, it
goes to those.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["stratify"]


def stratify(
    counts: Sequence[Mapping[str, int]], sizes: Sequence[int], wanted: Sequence[int], seed: int
) -> list[int]:
    """The part of each group.

    Args:
        counts: of each group, the number of entities of each label.
        sizes: of each group, the number of its documents.
        wanted: of each part, the number of its documents; together those of all groups.
        seed: decides between groups and parts that are equally good.

    Returns:
        A part's number for each group.
    """
    return _Parts(counts, sizes, wanted, seed).place_all()


class _Parts:
    def __init__(
        self,
        counts: Sequence[Mapping[str, int]],
        sizes: Sequence[int],
        wanted: Sequence[int],
        seed: int,
    ):
        self._counts, self._sizes = counts, sizes
        self._random = random.Random(seed)
        self._order = list(range(len(counts)))
        self._random.shuffle(self._order)
        self._places = [-1] * len(counts)
        self._wanted, self._room = wanted, list(wanted)
        totals: Counter[str] = Counter()
        for found in counts:
            totals.update(found)
        num_documents = sum(wanted)
        self._needs = [
            {label: total * size / num_documents for label, total in totals.items()}
            for size in wanted
        ]
        self._lacking = {label: set(range(len(wanted))) for label in totals}
        self._num_left = Counter(label for found in counts for label in found)

    def place_all(self) -> list[int]:
        holders: dict[str, list[int]] = {label: [] for label in self._num_left}
        for group in self._order:
            for label in self._counts[group]:
                holders[label].append(group)
        while left := [label for label, number in self._num_left.items() if number]:
            label = min(left, key=lambda name: (self._num_left[name], name))
            groups = [group for group in holders[label] if self._places[group] < 0]
            for group in sorted(groups, key=lambda g: -self._counts[g][label]):
                self._place(group, self._choose(group, label))
        rest = [group for group in self._order if self._places[group] < 0]
        for group in sorted(rest, key=lambda g: -self._sizes[g]):
            self._place(group, self._choose(group, ""))
        return self._places

    def _choose(self, group: int, label: str) -> int:
        parts = range(len(self._room))
        possible = [p for p in parts if self._room[p] >= self._sizes[group]] or list(parts)
        lacking = self._lacking.get(label, set())
        if self._num_left[label] <= len(lacking):
            possible = [p for p in possible if p in lacking] or possible
        count = self._counts[group].get(label, 0)

        def rank(part: int) -> tuple[float, float, float]:
            need = self._needs[part].get(label, 0.0) - count
            room = self._room[part] - self._sizes[group]
            size = self._wanted[part]
            return need / size, room / size, self._random.random()

        return max(possible, key=rank)

    def _place(self, group: int, part: int) -> None:
        self._places[group] = part
        self._room[part] -= self._sizes[group]
        for label, count in self._counts[group].items():
            self._needs[part][label] -= count
            self._lacking[label].discard(part)
            self._num_left[label] -= 1
