"""A tagger: an emitter and a head, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.models.device import fast_batch_tokens
from nertune.models.heads.base import Head
from nertune.models.heads.entity_ratio import EntityRatio
from nertune.models.heads.softmax import soft_cross_entropy, unit_loss
from nertune.tokens.batching import Batch, SoftBatch, collate
from nertune.tokens.windows import Window

__all__ = ["Tagger", "pick_units"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Tagger(nn.Module):
    """Tokens to logits to a loss, or to the scores from which its head reads entities.

    Args:
        emitter: `(piece_ids_BL, attention_BL) -> emissions_BLK`; where a batch brings what frozen
            layers gave, that is the third argument.
        head: an `nn.Module` that is a `Head`.

    Attributes:
        entity_ratio: with it, the loss keeps the expected share of entities near a ratio.
    """

    def __init__(self, emitter: nn.Module, head: Head):
        super().__init__()
        self.emitter = emitter
        self.head = cast("Any", head)
        self.entity_ratio: EntityRatio | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        first = next(self.emitter.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def forward(self, batch: Batch) -> Tensor:
        """The batch's mean loss per labelled unit, in nats: comparable between all taggers.

        Cross-entropy for softmax, negative log-likelihood of the known tags for a CRF; with the
        piece strategy `all`, the mean over all labelled pieces. Units whose tag is `UNKNOWN` are no
        labelled ones; where there is no other, the loss is 0. Units that a document's scope leaves
        open count, with what is known of them. With an `entity_ratio`, its penalty is added.
        Windows of which a teacher says something (`Batch.soft`) count with their units, and their
        loss is multiplied by their weight.
        """
        inputs = [batch.piece_ids_BL, batch.attention_BL]
        if batch.states_BLD is not None:
            inputs.append(batch.states_BLD)
        emissions_BLK = self.emitter(*inputs)
        soft = batch.soft
        if soft is None:
            summed, num_targets = self._gold_loss(emissions_BLK, batch)
            return summed / num_targets.clamp(min=1) + self._penalty(emissions_BLK, batch)
        penalty: Tensor | float = 0.0
        summed, num_targets = self._soft_loss(emissions_BLK[soft.rows_R], batch, soft)
        if len(soft.gold_rows_G):
            gold = batch.take_gold(soft.gold_rows_G)
            gold_BLK = emissions_BLK[soft.gold_rows_G]
            gold_sum, num_gold = self._gold_loss(gold_BLK, gold)
            summed, num_targets = summed + gold_sum, num_targets + num_gold
            penalty = self._penalty(gold_BLK, gold)
        return summed / num_targets.clamp(min=1) + penalty

    def _gold_loss(self, emissions_BLK: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed loss, and over how many units (or tokens)."""
        if batch.piece_tags_BL is not None:
            mask_BL = batch.piece_tags_BL != IGNORED
            allowed = getattr(self.head, "allowed", None)
            summed: Tensor = unit_loss(emissions_BLK, batch.piece_tags_BL, mask_BL, allowed)
            return summed, mask_BL.sum()
        assert batch.tags_BU is not None, "a loss needs gold tags"
        emissions_BUK = pick_units(emissions_BLK, batch.positions_BU)
        summed = self.head.loss(
            emissions_BUK, batch.tags_BU, batch.mask_BU, batch.first_B, batch.last_B
        )
        known_BU = batch.tags_BU != UNKNOWN
        labelled_BU = batch.mask_BU & (known_BU if known_BU.ndim == 2 else known_BU.any(dim=2))
        return summed, labelled_BU.sum()

    def _penalty(self, emissions_BLK: Tensor, batch: Batch) -> Tensor | float:
        if self.entity_ratio is None or batch.tags_BU is None:
            return 0.0
        emissions_BUK = pick_units(emissions_BLK, batch.positions_BU)
        return self.entity_ratio.penalty(self.head, emissions_BUK, batch)

    def _soft_loss(
        self, emissions_RLK: Tensor, batch: Batch, soft: SoftBatch
    ) -> tuple[Tensor, Tensor]:
        """The same against what a teacher says, of the rows that it says something of."""
        mask_RU = batch.mask_BU[soft.rows_R]
        if soft.piece_tags_RLK is not None:
            loss_R = soft_cross_entropy(emissions_RLK, soft.piece_tags_RLK, soft.temperature)
            return (soft.weight_R * loss_R).sum(), (soft.piece_tags_RLK.sum(dim=2) > 0).sum()
        loss_R = self.head.soft_loss(
            pick_units(emissions_RLK, batch.positions_BU[soft.rows_R]),
            soft,
            mask_RU,
            batch.first_B[soft.rows_R],
            batch.last_B[soft.rows_R],
        )
        return (soft.weight_R * loss_R).sum(), mask_RU.sum()

    @torch.inference_mode()
    def emit(self, batch: Batch) -> list[NDArray[np.float32]]:
        """The `[U, K]` scores of each window's owned units."""
        emissions_BLK = self.emitter(batch.piece_ids_BL, batch.attention_BL)
        scores_BUK = self.head.scores(pick_units(emissions_BLK, batch.positions_BU))
        lengths = batch.mask_BU.sum(dim=1).tolist()
        array_BUK = scores_BUK.cpu().numpy()
        return [row_UK[:length] for row_UK, length in zip(array_BUK, lengths, strict=True)]

    def emit_windows(self, windows: Sequence[Window], *, pad_id: int) -> list[NDArray[np.float32]]:
        """The `[U, K]` scores of each window's owned units."""
        batch = collate(windows, pad_id=pad_id)
        return self.emit(batch if self.device.type == "cpu" else batch.to(self.device))

    def emit_batches(
        self, emit: Callable[[_Item], _Result], items: list[_Item]
    ) -> Iterable[_Result]:
        """Call `emit` on every item, in order."""
        return map(emit, items)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens in a batch that are fast."""
        return fast_batch_tokens(self.device)

    @property
    def computes_beside(self) -> bool:
        """Not: PyTorch takes all threads for a batch."""
        return False

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Without dropout; afterwards it trains again, if it did."""
        was_training = self.training
        if was_training:
            self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()


def pick_units(emissions_BLK: Tensor, positions_BU: Tensor) -> Tensor:
    """What stands at the first tokens of units, `[B, U, K]`."""
    index_BUK = positions_BU.unsqueeze(-1).expand(-1, -1, emissions_BLK.shape[-1])
    return emissions_BLK.gather(1, index_BUK)
