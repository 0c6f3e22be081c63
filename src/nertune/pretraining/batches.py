"""Rows of text to what the model gets: words masked, special tokens around each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nertune.config.pretrain import PretrainSettings
from nertune.pretraining.masking import choose_masked, corrupt, join_entities, split_at_random
from nertune.pretraining.packing import Block

__all__ = ["MaskedBatch", "TokenIds", "collate_rows"]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The token ids, and the numbers of word tags, that a batch needs.

    Attributes:
        prefix: special tokens before a row, e.g. [CLS].
        suffix: behind it, e.g. [SEP].
        mask: [MASK].
        count: size of the vocabulary.
        entity_tags: numbers of the word tags that name entities.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    mask: int
    count: int
    entity_tags: tuple[int, ...] = ()

    @property
    def num_special(self) -> int:
        """Special tokens in a row."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """What the model gets; see `PretrainingModel.forward`."""

    ids_BL: Tensor
    positions_N: Tensor
    targets_N: Tensor
    tags_BL: Tensor | None


def collate_rows(
    rows: Block,
    token_ids: TokenIds,
    settings: PretrainSettings,
    rng: np.random.Generator,
    device: torch.device,
) -> MaskedBatch:
    """Mask words, and put the special tokens around each row."""
    num_rows, length = rows.ids.shape
    share: float | np.ndarray[Any, np.dtype[np.float64]] = settings.mask_share
    if settings.masking == "word":
        starts = rows.starts
        if settings.entity_mask_share:
            kinds = rows.tags // 2
            entities = np.isin(kinds, token_ids.entity_tags)
            starts = join_entities(starts, kinds, entities)
            share = np.where(entities, settings.entity_mask_share, settings.mask_share)
    elif settings.masking == "span":
        starts = split_at_random((num_rows, length), rng)
    else:
        starts = np.ones((num_rows, length), dtype=bool)
    masked = choose_masked(starts, share=share, rng=rng)
    original = rows.ids.astype(np.int64)
    replaced = corrupt(original, masked, mask_id=token_ids.mask, num_ids=token_ids.count, rng=rng)
    before, behind = len(token_ids.prefix), len(token_ids.suffix)
    wide = np.empty((num_rows, before + length + behind), dtype=np.int64)
    wide[:, :before] = token_ids.prefix
    wide[:, before : before + length] = replaced
    wide[:, before + length :] = token_ids.suffix
    row, column = np.nonzero(masked)
    positions = row * wide.shape[1] + before + column
    tags = None
    if settings.tags_words:
        wide_tags = np.full(wide.shape, -100, dtype=np.int64)
        wide_tags[:, before : before + length] = rows.tags
        tags = _to(wide_tags, device)
    return MaskedBatch(
        ids_BL=_to(wide, device),
        positions_N=_to(positions, device),
        targets_N=_to(original[masked], device),
        tags_BL=tags,
    )


def _to(array: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
