"""Documents that have to stay together: of one source or group, or nearly equal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nertune.data.borders import BORDER_KEYS, number_sources
from nertune.data.editing.similarity import SimilarTexts, normalize
from nertune.errors import ConfigError
from nertune.types import Document

__all__ = ["Groups", "UnionFind", "find_groups"]


@dataclass(frozen=True, slots=True)
class Groups:
    """Documents in groups that must not be torn apart.

    Attributes:
        members: the indices of each group's documents; together all of them.
        num_before: how many groups there were before near-duplicates were held together.
        num_equal: groups whose text equals that of an earlier one.
        num_near: groups whose text is nearly equal to that of another, but not equal.
        num_joined: groups of `members` that hold several of those before.
        by: what a group was before: a document, a source document, or a key of `meta`.
        notices: what has to be known of it.
    """

    members: tuple[tuple[int, ...], ...]
    num_before: int
    num_equal: int
    num_near: int
    num_joined: int
    by: str
    notices: tuple[str, ...] = ()


class UnionFind:
    """Disjoint sets of the numbers below `size`; the least of a set stands for it."""

    def __init__(self, size: int):
        self._parents = list(range(size))

    def root(self, number: int) -> int:
        """The number that stands for a set."""
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        first, second = sorted((self.root(one), self.root(other)))
        self._parents[second] = first


def find_groups(
    documents: Sequence[Document], *, group: str = "", sentences: bool = False, near: float = 0.8
) -> Groups:
    """What has to stay together.

    Groups are compared as wholes: sentences that many source documents share, such as a dateline,
    hold no two of them together.

    Args:
        documents: at least one.
        group: a key of `meta` whose values are the groups; empty: the source documents, where they
            are known.
        sentences: part source documents.
        near: the similarity from which on the texts of two groups are nearly equal, in [0.5, 1];
            1 holds only equal texts together. See `SimilarTexts`.

    Raises:
        ConfigError: a document has no such key, or `near` is out of range.
    """
    numbers, by, notices = _number(documents, group, sentences)
    members: list[list[int]] = [[] for _ in range(max(numbers) + 1)]
    for index, number in enumerate(numbers):
        members[number].append(index)
    texts = ["\n".join(normalize(documents[i].text) for i in indices) for indices in members]
    sets = UnionFind(len(texts))
    num_equal = _join_equal(texts, sets)
    num_near = _join_near(texts, near, sets)
    joined: dict[int, list[int]] = {}
    for number, indices in enumerate(members):
        joined.setdefault(sets.root(number), []).extend(indices)
    sizes = Counter(map(sets.root, range(len(texts))))
    return Groups(
        members=tuple(tuple(sorted(indices)) for indices in joined.values()),
        num_before=len(members),
        num_equal=num_equal,
        num_near=num_near,
        num_joined=sum(size > 1 for size in sizes.values()),
        by=by,
        notices=tuple(notices),
    )


def _number(
    documents: Sequence[Document], group: str, sentences: bool
) -> tuple[list[int], str, list[str]]:
    """The group of each document, what a group is, and what has to be said of it."""
    alone = list(range(len(documents)))
    if group:
        return _number_by_key(documents, group), group, []
    found = number_sources(documents)
    if found is not None:
        if not sentences:
            return found, "source document", []
        return alone, "document", ["sentences of one source document may come into different parts"]
    for key in BORDER_KEYS:
        num_with = sum(document.meta.get(key) is not None for document in documents)
        if 0 < num_with < len(documents):
            told = f"{num_with:,} of {len(documents):,} documents have the key {key!r}, the others "
            return alone, "document", [told + "not: it is not used; --group names another key"]
    values = [document.meta.get(BORDER_KEYS[0]) for document in documents]
    if len(documents) > 1 and None not in values and values.count(values[0]) == len(values):
        return alone, "document", ["all texts are of one source document, which is parted"]
    return alone, "document", []


def _number_by_key(documents: Sequence[Document], key: str) -> list[int]:
    numbers: dict[str, int] = {}
    found = []
    for document in documents:
        if document.meta.get(key) is None:
            keys = sorted({k for d in documents for k in d.meta})
            known = ", ".join(keys) or "none"
            raise ConfigError(
                f"--group {key}: document {document.id} has no such key; the file has: {known}"
            )
        value = json.dumps(document.meta[key], sort_keys=True)
        found.append(numbers.setdefault(value, len(numbers)))
    return found


def _join_equal(texts: Sequence[str], sets: UnionFind) -> int:
    """Join groups with the same text, but for empty ones; returns how many repeat another."""
    first: dict[str, int] = {}
    num_equal = 0
    for number, text in enumerate(texts):
        if text.strip("\n") and first.setdefault(text, number) != number:
            sets.join(first[text], number)
            num_equal += 1
    return num_equal


def _join_near(texts: Sequence[str], near: float, sets: UnionFind) -> int:
    """Join groups with similar texts; returns how many texts are similar to another one."""
    distinct = [n for n, text in enumerate(texts) if sets.root(n) == n and text.strip("\n")]
    index = SimilarTexts([texts[n] for n in distinct], near)
    if near == 1:
        return 0
    for place, number in enumerate(distinct):

        def is_joined(other: int, number: int = number) -> bool:
            return sets.root(distinct[other]) == sets.root(number)

        for other in index.find(place, is_joined):
            sets.join(distinct[other], number)
        index.add(place)
    sizes = Counter(sets.root(number) for number in distinct)
    return sum(size for size in sizes.values() if size > 1)
