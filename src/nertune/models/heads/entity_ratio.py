"""How much of partially labelled text is in entities: the loss that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nertune.tokens.batching import Batch

__all__ = ["EntityRatio"]


@dataclass(frozen=True, slots=True)
class EntityRatio:
    """The expected entity ratio loss (Effland & Collins, 2021).

    Where unmarked text may hold entities, its likelihood is that of any tags: nothing speaks
    against entities, and a tagger that is trained on known ones alone finds them everywhere. So
    the expected share of units in entities is held near a ratio:

        penalty = weight · max(0, |ratio − ρ̂| − margin)
        ρ̂ = Σ over windows of E[number of units with a tag other than O] / Σ of their units

    The sums go over the windows of a batch that have units of which nothing is known; the
    expectation is that of the tagger given the text alone.

    Attributes:
        ratio: the share of units that are in entities, in (0, 1).
        margin: how far from it the share may be.
        weight: of the penalty, against a loss per unit in nats. The paper's 10 stands against a
            loss per sentence; so large a weight against that per unit stops learning.
    """

    ratio: float
    margin: float
    weight: float

    def penalty(self, head: Any, logits_BUK: Tensor, batch: Batch) -> Tensor | float:
        """The penalty of a batch; 0 where it has no such window.

        Args:
            head: a `SequenceHead` with `allowed` tags, whose `expected_entity_units` takes what its
                `loss` takes but for the targets, and gives the expected number of units in entities
                of each row, `[B]`, differentiable.
            logits_BUK: the classifier's outputs at the units.
            batch: with targets of that head.
        """
        assert batch.tags_BU is not None
        if not len(head.allowed):
            return 0.0
        open_B = (head.allowed.is_open(batch.tags_BU) & batch.mask_BU).any(dim=1)
        if not bool(open_B.any()):
            return 0.0
        mask_BU = batch.mask_BU[open_B]
        expected_B: Tensor = head.expected_entity_units(
            logits_BUK[open_B], mask_BU, batch.first_B[open_B], batch.last_B[open_B]
        )
        share = expected_B.sum() / mask_BU.sum()
        penalty: Tensor = self.weight * ((share - self.ratio).abs() - self.margin).clamp(min=0)
        return penalty
