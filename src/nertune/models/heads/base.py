"""The door for heads: what turns a tagger's logits into entities, and the loss that trains it.

A head is one class and one line that registers it:

    register_head("mine", MyHead)

From then on `model.decoder = "mine"` trains it; evaluation, prediction, export and serving call the
same methods. A package that others install names its heads in the entry point group `nertune.heads`
instead, so that its models load without an import. The outputs of the encoder's classifier are the
tags of a `TagSet`; what a head makes of them is its own affair: entities may overlap, for example.

Axes: B windows, U units, K tags.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from torch import Tensor

from nertune.config.heads import HEAD_ENTRY_POINTS, HEAD_NAMES
from nertune.errors import ConfigError
from nertune.labels.align import UNKNOWN, LostEntity, align_entities
from nertune.labels.tagset import TagSet
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.decoder import Decoder, SequenceDecoder
from nertune.tokens.batching import SoftBatch
from nertune.types import Document

__all__ = [
    "Head",
    "KeptTags",
    "SequenceHead",
    "SoftHead",
    "Targets",
    "build_head",
    "find_misfits",
    "register_head",
    "soft_head",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Targets:
    """What a head learns from a document's gold.

    Attributes:
        values: for each unit an integer or a row of integers (the same number for all units).
            `UNKNOWN` where the gold does not say it; numbers below that are the head's own.
        lost: the entities that the head cannot express; they are scored as missed.
        trimmed: those that are trained on without the white space at their ends.
    """

    values: Sequence[Any]
    lost: Sequence[LostEntity]
    trimmed: Sequence[LostEntity]


@dataclass(frozen=True, slots=True)
class KeptTags:
    """Which rows of a trained head are kept in one that is made for other tags.

    Attributes:
        tags: those of the new head, in order.
        ids: the new head's id of a tag to the old head's, for those that are kept.
    """

    tags: tuple[str, ...]
    ids: Mapping[int, int]

    def describe(self, what: str) -> str:
        """One line for people, of a classifier's rows."""
        num_new = len(self.tags) - len(self.ids)
        kept = _shorten([self.tags[i] for i in sorted(self.ids)])
        new = _shorten([tag for i, tag in enumerate(self.tags) if i not in self.ids])
        if not self.ids:
            return f"{what}: none of {len(self.tags)} rows kept, all {num_new} new ({new})"
        told = f"{what}: {len(self.ids)} of {len(self.tags)} rows kept ({kept}), {num_new} new"
        return f"{told} ({new})" if num_new else told


def _shorten(tags: list[str]) -> str:
    more = f", … {len(tags) - _MOST_NAMED} more" if len(tags) > _MOST_NAMED else ""
    return ", ".join(tags[:_MOST_NAMED]) + more


class Head(Decoder, Protocol):
    """A decoder with the loss that trains it.

    An implementation is an `nn.Module` too; it may have weights of its own. The weights are saved
    in `<name>.safetensors` beside those of the encoder.

    Attributes:
        rate_group: whose learning rate its own weights have, `"head"` or `"crf"`.
    """

    rate_group: str = "head"

    @abstractmethod
    def targets(self, document: Document, units: Sequence[tuple[int, int]]) -> Targets:
        """What to learn from a document whose units have these character spans.

        `document.scope` says of which labels and parts of the text the entities are all that there
        are. `align_entities(document, units, labels)` respects it: its `tags` are `None`, not `O`,
        where the gold leaves a unit open. A head that makes `UNKNOWN` of `None` never learns that
        there is nothing where there may be something; what may be there is in `unmarked`.
        """
        ...

    @abstractmethod
    def loss(
        self,
        logits_BUK: Tensor,
        targets_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """The loss of a batch in nats, summed over its units.

        Args:
            logits_BUK: the classifier's outputs at the units.
            targets_BU: `[B, U]` or `[B, U, …]` from `targets`, `UNKNOWN` where that says so;
                anything where there is no unit.
            mask_BU: where there is a unit; each row is a run of units, then padding.
            first_B, last_B: whether a row begins or ends its document.
        """
        ...

    @abstractmethod
    def scores(self, logits_BUK: Tensor) -> Tensor:
        """What `spans` and `probabilities` take, in nats, float32 `[B, U, K]`."""
        ...

    def keep(self, old: Mapping[str, Tensor], kept: KeptTags) -> str:
        """Take over what a trained head of this kind knows about tags that both have.

        Args:
            old: the trained head's weights by name; never empty.
            kept: which tags both have.

        Returns:
            What was kept, for people; empty if nothing was.
        """
        return ""


class SoftHead(Protocol):
    """What a head has beside `Head` if it can learn from a teacher instead of from gold.

    Optional: without it a head trains on labelled documents only (`soft_head`).

    Attributes:
        soft_pairs: whether `soft_loss` needs the pairs of tags, too.
    """

    soft_pairs: bool

    @abstractmethod
    def soft_loss(
        self,
        logits_RUK: Tensor,
        soft: SoftBatch,
        mask_RU: Tensor,
        first_R: Tensor,
        last_R: Tensor,
    ) -> Tensor:
        """The loss of R windows against a teacher's probabilities: `[R]`, in nats.

        Args:
            logits_RUK: the classifier's outputs at the units.
            soft: of the same rows, what the teacher says; it has `pairs_RUKK` if `soft_pairs`.
            mask_RU: where there is a unit; each row is a run of units, then padding.
            first_R, last_R: whether a row begins or ends its document.

        Returns:
            Of each row the sum over its units; `SoftBatch.weight_R` is not in it.
        """
        ...


def soft_head(head: Head) -> SoftHead:
    """The head as one that learns from a teacher.

    Raises:
        ConfigError: it cannot.
    """
    if not callable(getattr(head, "soft_loss", None)):
        raise ConfigError(
            f"the head {type(head).__name__} has no soft_loss, so it cannot learn from a teacher's "
            'probabilities; use model.decoder = "softmax" or "crf"'
        )
    return cast("SoftHead", head)


class SequenceHead(SequenceDecoder, Head, Protocol):
    """A head under which an entity is a run of tags in a legal sequence: softmax, CRF.

    Attributes:
        allowed: the sets of tags that targets below `UNKNOWN` name, for a loss that sums over them;
            `None`, as by default, in a head whose loss does not: it gets `UNKNOWN` in their place.
            A head that has them may have `expected_entity_units` (`heads.entity_ratio`), too;
            without it, it keeps no `train.entity_ratio`.
    """

    allowed: AllowedTags | None = None

    def targets(self, document: Document, units: Sequence[tuple[int, int]]) -> Targets:
        """The id of each unit's tag; of overlapping entities the longer, then the earlier.

        Where the document's scope leaves a unit open, the number of the tags that it may have.
        """
        alignment = align_entities(document, units, self.tagset.labels)
        known = iter(self.tagset.encode(tag for tag in alignment.tags if tag is not None))
        ids = [UNKNOWN if tag is None else next(known) for tag in alignment.tags]
        if self.allowed is not None:
            for unit, unmarked in alignment.unmarked.items():
                ids[unit] = self.allowed.find(unmarked)
        return Targets(ids, alignment.lost, alignment.trimmed)


def find_misfits(
    document: Document, units: Sequence[tuple[int, int]], head: Head | None = None
) -> tuple[list[LostEntity], list[LostEntity]]:
    """The gold that a head cannot express in these units, and what it learns without its ends.

    Entities of labels that the head does not know, or all without a head, are taken as of a head
    under which no two entities overlap.
    """
    labels = set() if head is None else set(head.tagset.labels)
    known = [entity for entity in document.entities if entity.label in labels]
    others = [entity for entity in document.entities if entity.label not in labels]
    flat = align_entities(document.with_entities(others), units)
    lost, trimmed = [*flat.lost], [*flat.trimmed]
    if head is not None and known:
        found = head.targets(document.with_entities(known), units)
        lost += found.lost
        trimmed += found.trimmed
    return lost, trimmed


_HEADS: dict[str, Callable[[TagSet], Head]] = {}


def register_head(name: str, build: Callable[[TagSet], Head]) -> None:
    """Make a head known as `model.decoder = name`.

    Args:
        name: lower case letters, digits, `-` and `_`; it names the file of the head's weights.
        build: makes one for a tag set, e.g. the class itself.

    Raises:
        ValueError: the name is taken, or cannot be one.
    """
    if not _NAME.fullmatch(name) or name in ("model", "adapter_model"):
        raise ValueError(f"{name!r} cannot be the name of a head; expected e.g. 'crf' or 'my-head'")
    if name in _HEADS and _HEADS[name] is not build:
        raise ValueError(f"there is a head named {name!r} already")
    _HEADS[name] = build
    HEAD_NAMES.add(name)


def build_head(name: str, tagset: TagSet) -> Head:
    """A head with new weights.

    Raises:
        ConfigError: no head has this name.
    """
    if name not in _HEADS:
        for point in entry_points(group=HEAD_ENTRY_POINTS):
            if point.name == name:
                register_head(name, point.load())
    if name not in _HEADS:
        raise ConfigError(
            f"no head is named {name!r}; there are {', '.join(sorted(_HEADS))} (register_head adds "
            "one; a model that was trained with another needs the package that has it)"
        )
    return _HEADS[name](tagset)
