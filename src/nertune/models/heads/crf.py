"""Decoders with their training losses: softmax, and the linear-chain CRF.

Both give a `Chain` to `decoding.decode`. Axes: B windows, U units, K tags.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nertune.labels.align import IGNORED, UNKNOWN
from nertune.labels.tagset import TagSet
from nertune.models.heads.decoding import Chain

__all__ = ["Crf", "Decoder", "SoftmaxDecoder"]

_FORBIDDEN = -1e4  # finite, so that no gradient becomes NaN; exp(-1e4) is 0 all the same
_CONTRADICTED = -1e30  # of tags that the gold rules out; whatever emissions say, exp of it is 0


class Decoder(Protocol):
    """What a tagger needs of a decoder."""

    def loss(
        self,
        emissions_BUK: Tensor,
        tags_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Negative log-likelihood in nats of the known tags, summed over the batch."""
        ...

    def scores(self, emissions_BUK: Tensor) -> Tensor:
        """What `decoding.decode` takes as emissions, in nats."""
        ...

    def chain(self) -> Chain:
        """The scores between tags."""
        ...


class SoftmaxDecoder(nn.Module):
    """Each unit on its own while training; legal sequences only when decoding."""

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset

    def loss(
        self,
        emissions_BUK: Tensor,
        tags_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Cross-entropy, summed over the units whose tag is known."""
        return functional.cross_entropy(
            emissions_BUK.flatten(0, 1).float(),
            tags_BU.masked_fill(~mask_BU | (tags_BU == UNKNOWN), IGNORED).flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def scores(self, emissions_BUK: Tensor) -> Tensor:
        """Log-probabilities."""
        return emissions_BUK.float().log_softmax(dim=-1)

    def chain(self) -> Chain:
        """Zeros where the scheme allows a transition."""
        return Chain.of(self.tagset)


class Crf(nn.Module):
    """A linear-chain conditional random field (Lafferty, McCallum & Pereira, 2001).

    What the tag scheme forbids has no probability while training either, so the loss is the
    negative log-likelihood under the very distribution that is decoded.

    Args:
        tagset: the K tags.
    """

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset
        self.start_K = nn.Parameter(torch.zeros(len(tagset)))
        self.transition_KK = nn.Parameter(torch.zeros(len(tagset), len(tagset)))
        self.end_K = nn.Parameter(torch.zeros(len(tagset)))
        self.register_buffer("legal_start_K", torch.tensor(tagset.legal_start_K), persistent=False)
        self.register_buffer("legal_KK", torch.tensor(tagset.legal_KK), persistent=False)
        self.register_buffer("legal_end_K", torch.tensor(tagset.legal_end_K), persistent=False)

    def loss(
        self,
        emissions_BUK: Tensor,
        tags_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Negative log-likelihood of the known tags, summed over windows.

        Where the tag of a unit is `UNKNOWN`, the likelihood is that of all legal sequences which
        agree with the known tags (Tsuboi et al., 2008: "Training conditional random fields using
        incomplete annotations"). A window that does not begin (or end) its document has no start
        (or end) score.

        Args:
            emissions_BUK: emissions of the units.
            tags_BU: gold tag ids, or `UNKNOWN`; anything where there is no unit.
            mask_BU: where there is a unit; every row has at least one.
            first_B, last_B: whether a row begins or ends its document.

        Raises:
            ValueError: a row has no unit or a gap, or a unit is `IGNORED`.
        """
        is_run = bool(mask_BU[:, 0].all()) and not bool((mask_BU[:, 1:] & ~mask_BU[:, :-1]).any())
        unknown_BU = mask_BU & (tags_BU == UNKNOWN)
        if not is_run or bool((mask_BU & ~unknown_BU & (tags_BU < 0)).any()):
            raise ValueError(
                "every row must be a run of units followed by padding, each with a tag or UNKNOWN"
            )
        emissions_BUK = emissions_BUK.float()
        scores = self._masked(first_B, last_B)
        if not bool(unknown_BU.any()):
            gold_B = self._gold(emissions_BUK, tags_BU.clamp(min=0), mask_BU, *scores)
        else:
            tags_K = torch.arange(emissions_BUK.shape[2], device=tags_BU.device)
            agrees_BUK = unknown_BU.unsqueeze(2) | (tags_BU.unsqueeze(2) == tags_K)
            agreeing_BUK = emissions_BUK.masked_fill(~agrees_BUK, _CONTRADICTED)
            gold_B = _log_sum(agreeing_BUK, mask_BU, *scores)
        return (_log_sum(emissions_BUK, mask_BU, *scores) - gold_B).sum()

    def _masked(self, first_B: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def where_legal(scores: Tensor, legal: Tensor) -> Tensor:
            return torch.where(legal, scores, torch.full_like(scores, _FORBIDDEN))

        start_K = where_legal(self.start_K, self.get_buffer("legal_start_K"))
        end_K = where_legal(self.end_K, self.get_buffer("legal_end_K"))
        transition_KK = where_legal(self.transition_KK, self.get_buffer("legal_KK"))
        return first_B[:, None] * start_K, transition_KK, last_B[:, None] * end_K

    def _gold(
        self,
        emissions_BUK: Tensor,
        tags_BU: Tensor,
        mask_BU: Tensor,
        start_BK: Tensor,
        transition_KK: Tensor,
        end_BK: Tensor,
    ) -> Tensor:
        """The unnormalised score of the gold sequences."""
        units_BU = emissions_BUK.gather(2, tags_BU.unsqueeze(2)).squeeze(2)
        steps_BU = transition_KK[tags_BU[:, :-1], tags_BU[:, 1:]]
        last_tag_B1 = tags_BU.gather(1, mask_BU.sum(dim=1, keepdim=True) - 1)
        return (
            start_BK.gather(1, tags_BU[:, :1]).squeeze(1)
            + (units_BU * mask_BU).sum(dim=1)
            + (steps_BU * mask_BU[:, 1:]).sum(dim=1)
            + end_BK.gather(1, last_tag_B1).squeeze(1)
        )

    def scores(self, emissions_BUK: Tensor) -> Tensor:
        """The emissions as they are."""
        return emissions_BUK.float()

    def chain(self) -> Chain:
        """The learned scores."""
        values = [
            p.detach().cpu().double().numpy()
            for p in (self.start_K, self.transition_KK, self.end_K)
        ]
        return Chain.of(self.tagset, *values)


def _log_sum(
    emissions_BUK: Tensor,
    mask_BU: Tensor,
    start_BK: Tensor,
    transition_KK: Tensor,
    end_BK: Tensor,
) -> Tensor:
    """The log of the summed weights of all tag sequences of each row."""
    alpha_BK = start_BK + emissions_BUK[:, 0]
    for step in range(1, emissions_BUK.shape[1]):
        paths_BKK = alpha_BK.unsqueeze(2) + transition_KK
        reached_BK = paths_BKK.logsumexp(dim=1) + emissions_BUK[:, step]
        alpha_BK = torch.where(mask_BU[:, step : step + 1], reached_BK, alpha_BK)
    return (alpha_BK + end_BK).logsumexp(dim=1)
