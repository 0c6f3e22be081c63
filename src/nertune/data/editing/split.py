"""A corpus in parts for training and evaluation: stratified, without leakage between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nertune.data.editing.groups import Groups, find_groups
from nertune.data.editing.similarity import SimilarTexts, normalize
from nertune.data.editing.stratification import stratify
from nertune.errors import ConfigError, DataError
from nertune.types import Document

__all__ = ["DEFAULT_SIZES", "Part", "Split", "read_sizes", "split_documents"]

DEFAULT_SIZES: Mapping[str, float] = {"train": 0.8, "dev": 0.1, "test": 0.1}
_EXAMPLE = "train=0.8,dev=0.1,test=0.1 (shares), or train=1000,dev=200 (documents)"
_REST = ""  # the name of what no part gets


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a split corpus.

    Attributes:
        documents: in the order of the source.
        wanted: how many documents were asked for.
        groups: how many groups there are in it, see `Groups`.
        entities: how many entities of each label.
        leaking: documents whose text is nearly equal to one of another part; none but where the
            groups are of several texts.
    """

    documents: tuple[Document, ...]
    wanted: int
    groups: int
    entities: Mapping[str, int]
    leaking: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """What became of a corpus.

    Attributes:
        parts: by name.
        left_out: documents that no part gets, since the sizes leave them over.
        groups: what was kept together.
        notices: what has to be known of the split.
    """

    parts: Mapping[str, Part]
    left_out: tuple[Document, ...]
    groups: Groups
    notices: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all parts, the most frequent first."""
        counts: Counter[str] = Counter()
        for part in self.parts.values():
            counts.update(part.entities)
        return tuple(sorted(counts, key=lambda label: (-counts[label], label)))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the documents."""
        return {
            "parts": {
                name: {
                    "documents": len(part.documents),
                    "wanted": part.wanted,
                    "groups": part.groups,
                    "entities": dict(part.entities),
                    "leaking": part.leaking,
                }
                for name, part in self.parts.items()
            },
            "left_out": len(self.left_out),
            "groups": self.groups.num_before,
            "grouped_by": self.groups.by,
            "equal_groups": self.groups.num_equal,
            "near_groups": self.groups.num_near,
            "joined_groups": self.groups.num_joined,
            "notices": list(self.notices),
        }


def read_sizes(text: str) -> dict[str, float]:
    """The sizes of parts by name: shares, or numbers of documents.

    Raises:
        ConfigError: it is no list of names and positive numbers.
    """
    sizes: dict[str, float] = {}
    for item in text.split(","):
        name, _, given = (piece.strip() for piece in item.partition("="))
        is_number = re.fullmatch(r"\d+|\d*\.\d+", given, re.ASCII)
        if not re.fullmatch(r"\w[\w.-]*", name) or name in sizes or not is_number:
            why = "stands twice" if name in sizes else "is no size"
            raise ConfigError(f"--sizes {text!r}: {item.strip()!r} {why}; expected {_EXAMPLE}")
        sizes[name] = float(given) if "." in given else int(given)
    return sizes


def split_documents(
    documents: Sequence[Document],
    sizes: Mapping[str, float] = DEFAULT_SIZES,
    *,
    seed: int = 0,
    group: str = "",
    sentences: bool = False,
    near: float = 0.8,
) -> Split:
    """Part a corpus so that each part gets its share of every label.

    Texts of one source document (`meta` keys `document`, `document_id`, `doc_id`) or of one group
    stay together, and so do those that are nearly equal.

    Args:
        documents: of the corpus.
        sizes: of each part: shares that add up to 1 at most, or numbers of documents. What they
            leave over is left out. Sizes of parts are met as far as groups allow.
        seed: the same seed gives the same parts.
        group: a key of `meta` whose values are the groups.
        sentences: part source documents.
        near: the similarity from which on two texts are nearly equal, in [0.5, 1].

    Raises:
        ConfigError: sizes do not fit the corpus, a document has no `group`, or `near` is out of
            range.
        DataError: there are fewer groups than parts.

    Example:
        >>> parts = split_documents(documents, seed=1).parts        # doctest: +SKIP
        >>> len(parts["train"].documents)                           # doctest: +SKIP
    """
    wanted = _count(sizes, len(documents))
    groups = find_groups(documents, group=group, sentences=sentences, near=near)
    if len(groups.members) < len(wanted):
        hint = "; --sentences parts source documents" if groups.by == "source document" else ""
        raise DataError(
            f"{len(groups.members)} to share out (by {groups.by}, nearly equal ones together), but "
            f"{len(wanted)} parts: expected one for each{hint}"
        )
    counts = [Counter(e.label for i in m for e in documents[i].entities) for m in groups.members]
    places = stratify(counts, list(map(len, groups.members)), list(wanted.values()), seed)
    _fill(places, len(wanted), list(map(len, groups.members)))
    by_part: dict[str, list[int]] = {name: [] for name in wanted}
    names = list(wanted)
    for members, place in zip(groups.members, places, strict=True):
        by_part[names[place]] += members
    num_groups = Counter(names[place] for place in places)
    leaking = _count_leaking(documents, by_part, near) if _has_several(groups) else {}
    parts = {}
    for name, indices in by_part.items():
        held = tuple(documents[i] for i in sorted(indices))
        found = Counter(entity.label for document in held for entity in document.entities)
        parts[name] = Part(held, wanted[name], num_groups[name], found, leaking.get(name, 0))
    rest = parts.pop(_REST, None)
    left_out = () if rest is None else rest.documents
    return Split(parts, left_out, groups, tuple(_tell(parts, left_out, groups, counts)))


def _has_several(groups: Groups) -> bool:
    """Whether groups are of several texts, of which some may stand in two parts."""
    return groups.by != "document"


def _count(sizes: Mapping[str, float], num_documents: int) -> dict[str, int]:
    """The documents that each part should get; what is over, under an empty name."""
    if not sizes or any(size <= 0 for size in sizes.values()):
        raise ConfigError(f"--sizes: a size is 0; expected {_EXAMPLE}")
    total = sum(sizes.values())
    is_share = any(isinstance(size, float) and not size.is_integer() for size in sizes.values())
    is_share = is_share or total <= 1
    most = 1 if is_share else num_documents
    if total > most + 1e-9:
        raise ConfigError(
            f"--sizes: {total:g} in all are more than {most}"
            f"{'' if is_share else ' documents'}; expected {_EXAMPLE}"
        )
    exact = {n: size * num_documents if is_share else float(size) for n, size in sizes.items()}
    if total < most - 1e-9:
        exact[_REST] = num_documents - sum(exact.values())
    counts = {name: int(size + 1e-9) for name, size in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: num_documents - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if name or count}


def _fill(places: list[int], num_parts: int, sizes: Sequence[int]) -> None:
    """Give a part that got nothing the smallest group of the part that has most."""
    held = Counter(places)
    for part in range(num_parts):
        if not held[part]:
            richest = max(held, key=lambda p: (held[p], -p))
            groups = (group for group, place in enumerate(places) if place == richest)
            places[min(groups, key=lambda group: sizes[group])] = part
            held = Counter(places)


def _count_leaking(
    documents: Sequence[Document], parts: Mapping[str, Sequence[int]], near: float
) -> dict[str, int]:
    """Of each part, documents with a text that is nearly equal to one of another part."""
    part_of = {index: name for name, indices in parts.items() for index in indices if name}
    holders: dict[str, list[int]] = {}
    for index in sorted(part_of):
        if text := normalize(documents[index].text):
            holders.setdefault(text, []).append(index)
    homes = [{part_of[index] for index in indices} for indices in holders.values()]
    shared = [len(home) > 1 for home in homes]
    similar = SimilarTexts(list(holders), near)
    for number, home in enumerate(homes if near < 1 else ()):

        def is_known(other: int, number: int = number, home: set[str] = home) -> bool:
            return (shared[other] and shared[number]) or homes[other] == home

        for other in similar.find(number, is_known):
            shared[number] = shared[other] = True
        similar.add(number)
    found: Counter[str] = Counter()
    for indices, is_shared in zip(holders.values(), shared, strict=True):
        found.update(part_of[index] for index in indices if is_shared)
    return dict(found)


def _tell(
    parts: Mapping[str, Part],
    left_out: Sequence[Document],
    groups: Groups,
    counts: Sequence[Mapping[str, int]],
) -> list[str]:
    """What has to be known of a split."""
    told = list(groups.notices)
    if left_out:
        told.append(f"{len(left_out):,} documents are in no part: the sizes leave them over")
    holders = Counter(label for found in counts for label in found)
    for label in sorted(holders):
        missing = [name for name, part in parts.items() if label not in part.entities]
        if missing:
            few = holders[label] < len(parts)
            number = f"{holders[label]} group{'s' * (holders[label] != 1)} with it"
            why = f"there {'are' if holders[label] != 1 else 'is'} {'only ' * few}{number}"
            told.append(f"{label} is not in {', '.join(missing)}: {why}")
    for name, part in parts.items():
        if abs(len(part.documents) - part.wanted) > max(1, 0.1 * part.wanted):
            told.append(
                f"{name} has {len(part.documents):,} documents, not {part.wanted:,}: groups are "
                "not torn apart"
            )
    largest, total = max(map(len, groups.members)), sum(map(len, groups.members))
    if largest > min(part.wanted for part in parts.values()):
        is_near = groups.by == "document"
        hint = ": a higher --near holds fewer together" if is_near else ""
        told.append(f"the largest group has {largest:,} of {total:,} documents{hint}")
    leaking = {name: part.leaking for name, part in parts.items() if part.leaking}
    if leaking:
        listed = ", ".join(f"{name} {count:,}" for name, count in leaking.items())
        told.append(
            f"texts that are nearly equal to one of another part, in groups that are not: {listed}"
        )
    return told
