"""The softmax head."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import SequenceHead
from nertune.models.heads.decoding import Chain

__all__ = ["SoftmaxHead"]


class SoftmaxHead(nn.Module, SequenceHead):
    """Each unit on its own while training; legal sequences only when decoding.

    Args:
        tagset: the K tags.
    """

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset

    def loss(
        self,
        logits_BUK: Tensor,
        targets_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Cross-entropy, summed over the units whose tag is known."""
        return functional.cross_entropy(
            logits_BUK.flatten(0, 1).float(),
            targets_BU.masked_fill(~mask_BU | (targets_BU == UNKNOWN), IGNORED).flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def scores(self, logits_BUK: Tensor) -> Tensor:
        """Log-probabilities."""
        return logits_BUK.float().log_softmax(dim=-1)

    def chain(self) -> Chain:
        """Zeros where the scheme allows a transition."""
        return Chain.of(self.tagset)
