"""A model's tags in the order of its outputs, and which of them may follow each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from nertune.labels.schemes import (
    CLOSING_SCHEMES,
    Scheme,
    SchemeError,
    TokenSpan,
    bio_tags,
    decode_tags,
    detect_scheme,
    normalize_tags,
    split_tag,
)

__all__ = ["TagSet"]


class TagSet:
    """The tags that a model's outputs stand for.

    Args:
        tags: the tag of each output, in order; must hold `O` unless the scheme says otherwise.
        scheme: how they are to be read.
        special: outputs that stand for no unit's tag, e.g. `[PAD]`: no legal sequence has them.

    Raises:
        ValueError: a tag is not in the scheme, or a tag stands twice.
    """

    def __init__(
        self, tags: Sequence[str], scheme: Scheme = "BIO", *, special: Collection[int] = ()
    ):
        if len(set(tags)) != len(tags):
            raise ValueError(f"a tag stands twice in {list(tags)}")
        self.tags = tuple(tags)
        self.scheme: Scheme = scheme
        self._parts = [
            ("O", "") if i in special else split_tag(tag, scheme) for i, tag in enumerate(self.tags)
        ]
        self._usable_K: NDArray[np.bool_] = np.array(
            [i not in special for i in range(len(self.tags))], dtype=bool
        )
        self._ids = {tag: i for i, tag in enumerate(self.tags)}
        self._ids_of_parts = {part: i for i, part in enumerate(self._parts) if self._usable_K[i]}
        self._outside = {i for i, (role, _) in enumerate(self._parts) if role == "O"}

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> TagSet:
        """The BIO2 tag set that nertune trains with."""
        return cls(bio_tags(labels), "BIO")

    @classmethod
    def from_foreign(cls, tags: Sequence[str]) -> TagSet:
        """The tag set of somebody else's model, its scheme read off the tags themselves.

        Other spellings than nertune's own are recognised and special labels never predicted; see
        `normalize_tags`. An inventory of `B-` and `I-` is BIO2 unless some type has `I-` only,
        which only IOB1 has.

        Raises:
            ValueError: the tags name no entities (e.g. `LABEL_0`), none stands for "no entity", or
                two name the same.
        """
        if all(tag.startswith("LABEL_") for tag in tags):
            raise ValueError(f"its outputs are named {tags[0]}, {tags[-1]}, … and not after tags")
        normal = normalize_tags(tags)
        read = {tag: found for tag, found in normal.items() if found is not None}
        if "O" not in read.values():
            raise ValueError(f'none of {", ".join(tags)} is O, which stands for "no entity"')
        if set(read.values()) == {"O"}:
            raise ValueError("none of its outputs names an entity")
        try:
            scheme = detect_scheme([[tag] for tag in sorted(read.values())])
        except SchemeError as error:
            raise ValueError(str(error)) from error
        if scheme in ("BIO", "IOB1"):
            begun = {tag[2:] for tag in read.values() if tag.startswith("B")}
            inside = {tag[2:] for tag in read.values() if tag.startswith("I")}
            scheme = "IOB1" if inside - begun else "BIO"
        same: dict[tuple[str, str], str] = {}
        for tag, found in read.items():
            other = same.setdefault(split_tag(found, scheme), tag)
            if other != tag:
                raise ValueError(f"{other} and {tag} name the same tag")
        special = {i for i, tag in enumerate(tags) if normal[tag] is None}
        return cls([normal[tag] or tag for tag in tags], scheme, special=special)

    def __len__(self) -> int:
        return len(self.tags)

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types, sorted."""
        return tuple(sorted({label for _, label in self._parts if label}))

    @property
    def parts(self) -> Mapping[tuple[str, str], int]:
        """Role (`B`, `I`, `E`, `S`, `O`) and label -> tag id; special ones are not in it."""
        return self._ids_of_parts

    def find(self, role: str, label: str) -> int | None:
        """The id of the tag with this role and label, if there is one."""
        return self._ids_of_parts.get((role, label))

    def encode(self, tags: Iterable[str]) -> list[int]:
        """Tag ids.

        Raises:
            ValueError: a tag is not in the set.
        """
        try:
            return [self._ids[tag] for tag in tags]
        except KeyError as error:
            known = ", ".join(self.tags)
            raise ValueError(f"tag {error.args[0]!r} is not among the model's: {known}") from error

    def decode(self, ids: Iterable[int]) -> list[TokenSpan]:
        """The entities that a sequence of tag ids names."""
        spans: list[TokenSpan] = []
        start = 0
        # `O` parts entities, and most units are `O`: only the runs between are looked at.
        for outside, run in groupby(ids, key=self._outside.__contains__):
            length = len(found := list(run))
            if not outside:
                here = decode_tags([self.tags[i] for i in found], self.scheme)[0]
                spans += [TokenSpan(s.first + start, s.last + start, s.label) for s in here]
            start += length
        return spans

    def spell(self, label: str, num_units: int) -> list[list[int]]:
        """The tag ids by which one entity of so many units can be named.

        One sequence, but in IOB1 two: behind an entity of the same type it begins with `B-`. In
        BIOS a single unit may be `B-`, too.
        """
        ids = self._ids_of_parts
        firsts = {"IO": "I", "IOB1": "IB"}.get(self.scheme, "B")
        if self.scheme not in CLOSING_SCHEMES:
            roles = [first + "I" * (num_units - 1) for first in firsts]
            roles += ["S"] * (self.scheme == "BIOS" and num_units == 1)
        else:
            roles = ["S" if num_units == 1 else "B" + "I" * (num_units - 2) + "E"]
        return [
            [ids[role, label] for role in row]
            for row in roles
            if all((role, label) in ids for role in row)
        ]

    def _among_usable(self, legal: Sequence[bool]) -> NDArray[np.bool_]:
        chosen_K: NDArray[np.bool_] = self._usable_K & np.array(legal, dtype=bool)
        return chosen_K

    @cached_property
    def legal_start_K(self) -> NDArray[np.bool_]:
        """Whether a sequence may begin with tag k."""
        free = self.scheme in ("IO", "IOB1")
        legal = [free or role in "OBS" for role, _ in self._parts]
        return self._among_usable(legal)

    @cached_property
    def legal_end_K(self) -> NDArray[np.bool_]:
        """Whether a sequence may end with tag k."""
        must_close = self.scheme in CLOSING_SCHEMES
        legal = [not must_close or role in "OES" for role, _ in self._parts]
        return self._among_usable(legal)

    @cached_property
    def legal_KK(self) -> NDArray[np.bool_]:
        """`[previous, next]`: whether one tag may follow another."""
        usable_KK: NDArray[np.bool_] = self._usable_K[:, None] & self._usable_K
        if self.scheme in ("IO", "IOB1"):
            return usable_KK
        must_close = self.scheme in CLOSING_SCHEMES
        legal = np.zeros((len(self), len(self)), dtype=bool)
        for i, (role, _) in enumerate(self._parts):
            for j, (next_role, _) in enumerate(self._parts):
                if next_role in "IE":
                    legal[i, j] = self.continues_KK[i, j]
                else:
                    legal[i, j] = not must_close or role in "OES"
        usable_KK &= legal
        return usable_KK

    @cached_property
    def continues_KK(self) -> NDArray[np.bool_]:
        """`[previous, next]`: whether the next tag goes on with the entity of the previous one."""
        return np.array(
            [
                [
                    next_role in ("I", "E") and role in ("B", "I") and label == next_label
                    for next_role, next_label in self._parts
                ]
                for role, label in self._parts
            ]
        )
