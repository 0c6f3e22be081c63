"""The softmax head."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.labels.tagset import TagSet
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.base import SequenceHead, SoftHead
from nertune.models.heads.decoding import Chain
from nertune.tokens.batching import SoftBatch

__all__ = ["SoftmaxHead", "soft_cross_entropy", "unit_loss"]


class SoftmaxHead(nn.Module, SequenceHead, SoftHead):
    """Each unit on its own while training; legal sequences only when decoding.

    Args:
        tagset: the K tags.
    """

    soft_pairs = False
    allowed: AllowedTags

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset
        self.allowed = AllowedTags(tagset)

    def loss(
        self,
        logits_BUK: Tensor,
        targets_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Cross-entropy, summed over the units whose tag is known.

        Of a unit that has one of a set of tags (`AllowedTags`), −log of their summed probability.
        """
        return unit_loss(logits_BUK, targets_BU, mask_BU, self.allowed)

    def expected_entity_units(
        self, logits_BUK: Tensor, mask_BU: Tensor, first_B: Tensor, last_B: Tensor
    ) -> Tensor:
        """The summed probabilities of all tags but `O`, float32 `[B]`."""
        inside = [i for i, tag in enumerate(self.tagset.tags) if tag != "O"]
        inside_BU = logits_BUK.float().softmax(dim=-1)[..., inside].sum(dim=-1)
        return (inside_BU * mask_BU).sum(dim=1)

    def soft_loss(
        self,
        logits_RUK: Tensor,
        soft: SoftBatch,
        mask_RU: Tensor,
        first_R: Tensor,
        last_R: Tensor,
    ) -> Tensor:
        """Cross-entropy with the teacher's tag marginals, summed over each row's units."""
        return soft_cross_entropy(logits_RUK, soft.tags_RUK, soft.temperature)

    def scores(self, logits_BUK: Tensor) -> Tensor:
        """Log-probabilities."""
        return logits_BUK.float().log_softmax(dim=-1)

    def chain(self) -> Chain:
        """Zeros where the scheme allows a transition."""
        return Chain.of(self.tagset)


def unit_loss(
    logits_BUK: Tensor, targets_BU: Tensor, mask_BU: Tensor, allowed: AllowedTags | None
) -> Tensor:
    """Cross-entropy, summed over the units (or tokens) of which the gold says something.

    Args:
        logits_BUK: the classifier's outputs.
        targets_BU: ids of tags, `UNKNOWN`, or numbers of sets of tags.
        mask_BU: where there is a unit.
        allowed: the sets; `None` if no target names one.
    """
    known = functional.cross_entropy(
        logits_BUK.flatten(0, 1).float(),
        targets_BU.masked_fill(~mask_BU | (targets_BU <= UNKNOWN), IGNORED).flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
    if not allowed:
        return known
    several_BU = mask_BU & (targets_BU < UNKNOWN)
    logits_NK = logits_BUK[several_BU].float()
    allowed_NK = allowed.agree(targets_BU[several_BU])
    agreeing_NK = logits_NK.masked_fill(~allowed_NK, -math.inf)
    return known + (logits_NK.logsumexp(dim=1) - agreeing_NK.logsumexp(dim=1)).sum()


def soft_cross_entropy(logits_RLK: Tensor, targets_RLK: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy with distributions over tags, summed over each row: `[R]`, in nats.

    As by Hinton, Vinyals & Dean (2015: "Distilling the knowledge in a neural network") the logits
    are divided by the temperature and the loss is multiplied by its square, so that gradients keep
    their size.

    Args:
        logits_RLK: the student's.
        targets_RLK: the teacher's probabilities; where all are 0, nothing is learned.
        temperature: that by which the teacher was softened.
    """
    log_RLK = (logits_RLK.float() / temperature).log_softmax(dim=-1)
    return -(temperature**2) * (targets_RLK * log_RLK).sum(dim=(1, 2))
