"""Documents with gold to what the loop trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nertune.labels.align import LostEntity, align_entities
from nertune.labels.tagset import TagSet
from nertune.tokens.windows import Segmenter, Window
from nertune.types import Document

__all__ = ["Examples", "prepare_examples"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows with the tag ids of their owned units.

    Attributes:
        windows, tags: parallel lists.
        lost: gold entities that no tags can express; they are not trained on.
    """

    windows: list[Window]
    tags: list[list[int]]
    lost: list[LostEntity]

    @property
    def num_units(self) -> int:
        """Units that enter an epoch's loss."""
        return sum(map(len, self.tags))


def prepare_examples(
    documents: Sequence[Document], segmenter: Segmenter, tagset: TagSet
) -> Examples:
    """Cut and align a corpus.

    Raises:
        ValueError: an entity's label is not in the tag set.
    """
    examples = Examples([], [], [])
    for index, document in enumerate(documents):
        encoding, windows = segmenter.segment(document, index)
        alignment = align_entities(document, encoding.units)
        ids = tagset.encode(alignment.tags)
        examples.lost.extend(alignment.lost)
        for window in windows:
            examples.windows.append(window)
            examples.tags.append(ids[window.first_unit : window.first_unit + window.num_units])
    return examples
