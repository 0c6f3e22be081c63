"""Documents with gold to what the loop trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from nertune.errors import DataError
from nertune.labels.align import UNKNOWN, LostEntity
from nertune.models.heads.base import Head, find_misfits
from nertune.tokens.tokenizer import encode_document
from nertune.tokens.windows import Segmenter, Window
from nertune.training.soft_targets import SoftTargets
from nertune.types import Document

__all__ = [
    "Coverage",
    "ExampleCounts",
    "Examples",
    "count_known",
    "count_known_pieces",
    "measure_coverage",
    "prepare_examples",
]

_NUM_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a corpus's gold the model's units express.

    Attributes:
        num_entities: gold entities in all.
        lost: those that no tags can express; they are not trained on, and neither are the units
            that they touch.
        trimmed: those that are trained on without the white space at their ends.
    """

    num_entities: int
    lost: list[LostEntity]
    trimmed: list[LostEntity]

    def describe(self, split: str) -> list[str]:
        """Lines for the user about what is not expressed as it is; none if all is."""
        trained_on = split == "train"
        lines: list[str] = []
        for items, what in (
            (
                self.lost,
                "cannot be expressed by the model's units: "
                + ("the units that they touch are not trained on, and " if trained_on else "")
                + "they are scored as missed",
            ),
            (
                self.trimmed,
                "begin or end in white space, or in characters that the tokenizer drops: "
                + ("they are trained on without, and " if trained_on else "")
                + "scored as they stand",
            ),
        ):
            if items:
                lines.append(f"{split}: {self._share(items)} {what}")
                lines += [f"  {_name(item)}" for item in items[:_NUM_SHOWN]]
                if len(items) > _NUM_SHOWN:
                    lines.append("  … all of them: nertune data inspect FILE --model ENCODER")
        return lines

    def _share(self, items: Sequence[LostEntity]) -> str:
        percent = 100 * len(items) / self.num_entities
        return f"{len(items):,} of {self.num_entities:,} entities ({percent:.1f} %)"

    def refuse_if_mostly_lost(
        self, path: Path, documents: Sequence[Document], segmenter: Segmenter, head: Head
    ) -> None:
        """Refuse to train on data most of whose entities cannot be expressed.

        Raises:
            DataError: more than half are lost; it says what would keep them.
        """
        if not _is_mostly_lost(self):
            return
        advice = "check that the offsets fit the text, and that entities do not overlap"
        if segmenter.unit == "word":
            as_characters = measure_coverage(documents, replace(segmenter, unit="char"), head)
            kept = as_characters.num_entities - len(as_characters.lost)
            if not _is_mostly_lost(as_characters):
                advice = f'set model.unit = "char", which expresses {kept:,} of them'
        units = {"word": "words", "char": "characters"}[segmenter.unit]
        raise DataError(
            f"{self._share(self.lost)} cannot be expressed by units of {units}, so there is little "
            f"to learn from; e.g. {_name(self.lost[0])}; {advice}",
            path=path,
        )


def _is_mostly_lost(coverage: Coverage) -> bool:
    return 2 * len(coverage.lost) > coverage.num_entities


def _name(item: LostEntity) -> str:
    return f"{item.document_id}: {item.entity.label} {item.text!r}: {item.reason}"


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """The sizes of windows, parallel lists.

    Attributes:
        lengths: tokens.
        units: owned units.
        known: those of them that enter the loss.
        known_pieces: their tokens.
    """

    lengths: list[int]
    units: list[int]
    known: list[int]
    known_pieces: list[int]


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows with what their owned units are to learn.

    Attributes:
        windows, targets: parallel lists; for each unit of a window what `Head.targets` gives, e.g.
            the id of its tag; `UNKNOWN` where the gold does not say it.
        coverage: what became of the gold entities.
        soft: windows without gold, and what a teacher says of them; they are counted behind
            `windows`.
        counts: of windows on the disk, which are not read to be counted.
    """

    windows: Sequence[Window]
    targets: Sequence[Sequence[Any]]
    coverage: Coverage
    soft: SoftTargets | None = None
    counts: ExampleCounts | None = None

    @property
    def num_units(self) -> int:
        """Units that enter an epoch's loss."""
        return sum(self.count_targets())

    @property
    def all_windows(self) -> Sequence[Window]:
        """Those with gold, then those without."""
        return self.windows if self.soft is None else _Joined(self.windows, self.soft.windows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each of `all_windows`."""
        held = self.counts
        lengths = [len(w.piece_ids) for w in self.windows] if held is None else held.lengths
        return lengths if self.soft is None else lengths + self.soft.windows.lengths

    def count_units(self) -> list[int]:
        """How many units each of `all_windows` owns."""
        held = self.counts
        counts = [w.num_units for w in self.windows] if held is None else held.units
        return counts if self.soft is None else counts + self.soft.windows.num_units

    def count_targets(self, *, all_pieces: bool = False) -> list[int]:
        """For each of `all_windows` how many of its units, or their tokens, enter the loss."""
        counts = self._count_gold(all_pieces=all_pieces)
        if self.soft is None:
            return counts
        stored = self.soft.windows
        return counts + (stored.num_owned_pieces if all_pieces else stored.num_units)

    def _count_gold(self, *, all_pieces: bool) -> list[int]:
        if self.counts is not None:
            return self.counts.known_pieces if all_pieces else self.counts.known
        if not all_pieces:
            return [count_known(values) for values in self.targets]
        examples = zip(self.windows, self.targets, strict=True)
        return [count_known_pieces(window, tags) for window, tags in examples]


class _Joined(Sequence[Window]):
    """Windows in memory, then windows on the disk."""

    def __init__(self, held: Sequence[Window], stored: Sequence[Window]):
        self._held, self._stored = held, stored

    def __len__(self) -> int:
        return len(self._held) + len(self._stored)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        num_held = len(self._held)
        return self._held[index] if index < num_held else self._stored[index - num_held]


def prepare_examples(documents: Sequence[Document], segmenter: Segmenter, head: Head) -> Examples:
    """Cut and align a corpus.

    Raises:
        ValueError: an entity's label is not in the tag set.
    """
    windows: list[Window] = []
    targets: list[Sequence[Any]] = []
    lost: list[LostEntity] = []
    trimmed: list[LostEntity] = []
    for index, document in enumerate(documents):
        encoding, cut = segmenter.segment(document, index)
        found = head.targets(document, encoding.units)
        lost += found.lost
        trimmed += found.trimmed
        windows += cut
        targets += [found.values[w.first_unit : w.first_unit + w.num_units] for w in cut]
    coverage = Coverage(_count_entities(documents), lost, trimmed)
    return Examples(windows, targets, coverage)


def count_known_pieces(window: Window, tags: Sequence[Any]) -> int:
    """How many tokens the window's units with a known tag have."""
    ends = [*window.positions[1:], window.owned_end]
    spans = zip(window.positions, ends, tags, strict=True)
    return sum(end - start for start, end, tag in spans if tag != UNKNOWN)


def count_known(values: Sequence[Any]) -> int:
    """How many units enter the loss."""
    if isinstance(values, list):
        return len(values) - values.count(UNKNOWN)
    known = np.asarray(values) != UNKNOWN
    return int((known if known.ndim == 1 else known.any(axis=1)).sum())


def measure_coverage(documents: Sequence[Document], segmenter: Segmenter, head: Head) -> Coverage:
    """How much of a corpus's gold a model's units and head express, without cutting windows."""
    coverage = Coverage(_count_entities(documents), [], [])
    for document in documents:
        if document.entities:
            encoding = encode_document(document, segmenter.tokenizer, segmenter.unit)
            lost, trimmed = find_misfits(document, encoding.units, head)
            coverage.lost.extend(lost)
            coverage.trimmed.extend(trimmed)
    return coverage


def _count_entities(documents: Sequence[Document]) -> int:
    return sum(len(document.entities) for document in documents)
