"""Targets of which the gold does not say one tag but several: sets of tags, one of which is right.

A target is the id of a tag, or `UNKNOWN`, or a number below that, which stands for a set: fully
labelled gold has none of these, and its targets are what they would be without them.
Axes: B windows, U units, K tags, S what a target can be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nertune.labels.align import UNKNOWN, Unmarked
from nertune.labels.tagset import TagSet

__all__ = ["AllowedTags"]


class AllowedTags:
    """The sets of tags that the targets of one head name, in the order in which they came up.

    Args:
        tagset: the K tags.
    """

    def __init__(self, tagset: TagSet):
        self._tagset = tagset
        self._sets: dict[tuple[frozenset[int], bool], int] = {}
        self._known: dict[Unmarked, int] = {}
        self._tables: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._sets)

    def find(self, unmarked: Unmarked) -> int:
        """The target of a unit that the gold leaves open: a tag's id if only one is left.

        Those are `O`, and the tags of all labels that are not known to be absent. Behind an entity
        no tag goes on with it: the gold says where it ends.
        """
        if unmarked not in self._known:
            absent = unmarked.absent or ()
            allowed = frozenset(
                i
                for (role, label), i in self._tagset.parts.items()
                if label not in absent and not (unmarked.begins and role in ("I", "E"))
            )
            is_one = len(allowed) == 1
            self._known[unmarked] = (
                next(iter(allowed)) if is_one else self._add(allowed, unmarked.absent is None)
            )
        return self._known[unmarked]

    def _add(self, allowed: frozenset[int], is_open: bool) -> int:
        return self._sets.setdefault((allowed, is_open), UNKNOWN - 1 - len(self._sets))

    def continuations(self, continuation: Sequence[int]) -> dict[int, int]:
        """What a unit's later tokens learn, by the target of its first.

        Args:
            continuation: for each tag the id of the one that goes on with it
                (`align.continuation_ids`).
        """
        found = dict(enumerate(continuation))
        for (allowed, is_open), target in list(self._sets.items()):
            found[target] = self._add(frozenset(continuation[i] for i in allowed), is_open)
        return found

    def is_valid(self, targets_BU: Tensor) -> Tensor:
        """Whether each is a tag's id, `UNKNOWN` or the number of a set: bool `[B, U]`."""
        num_tags = len(self._tagset)
        is_tag_BU = (targets_BU >= 0) & (targets_BU < num_tags)
        is_set_BU = (targets_BU <= UNKNOWN) & (targets_BU >= UNKNOWN - len(self._sets))
        return is_tag_BU | is_set_BU

    def agree(self, targets_BU: Tensor) -> Tensor:
        """Which tags agree with each target, all with `UNKNOWN`: bool `[B, U, K]`.

        Args:
            targets_BU: of valid targets; what stands for padding gives anything.
        """
        return self._on(targets_BU.device)[0][self._rows(targets_BU)]

    def is_open(self, targets_BU: Tensor) -> Tensor:
        """Whether nothing is known of a unit since its document's scope says so: bool `[B, U]`."""
        return self._on(targets_BU.device)[1][self._rows(targets_BU)]

    def _rows(self, targets_BU: Tensor) -> Tensor:
        num_tags = len(self._tagset)
        rows_BU = torch.where(targets_BU >= 0, targets_BU, num_tags + UNKNOWN - targets_BU)
        return rows_BU.clamp(0, num_tags + len(self._sets))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """On a device: the tags that a target allows `[S, K]`, and whether it is open `[S]`."""
        key = (device, len(self._sets))
        if key not in self._tables:
            num_tags = len(self._tagset)
            allowed_SK = torch.zeros(num_tags + 1 + len(self._sets), num_tags, dtype=torch.bool)
            allowed_SK[:num_tags].fill_diagonal_(True)
            allowed_SK[num_tags] = True  # UNKNOWN
            open_S = torch.zeros(len(allowed_SK), dtype=torch.bool)
            for (allowed, is_open), target in self._sets.items():
                row = num_tags + UNKNOWN - target
                allowed_SK[row, sorted(allowed)] = True
                open_S[row] = is_open
            self._tables = {key: (allowed_SK.to(device), open_S.to(device))}
        return self._tables[key]
