"""The linear-chain CRF head. Axes: B windows, U units, K tags."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nertune.labels.tagset import TagSet
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.base import KeptTags, SequenceHead, SoftHead
from nertune.models.heads.decoding import Chain
from nertune.tokens.batching import SoftBatch

__all__ = ["Crf"]

_FORBIDDEN = -1e4  # finite, so that no gradient becomes NaN; exp(-1e4) is 0 all the same
_CONTRADICTED = -1e30  # of tags that the gold rules out; whatever the logits say, exp of it is 0


class Crf(nn.Module, SequenceHead, SoftHead):
    """A linear-chain conditional random field (Lafferty, McCallum & Pereira, 2001).

    What the tag scheme forbids has no probability while training either, so the loss is the
    negative log-likelihood under the very distribution that is decoded.

    Args:
        tagset: the K tags.
    """

    rate_group = "crf"
    soft_pairs = True
    allowed: AllowedTags

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset
        self.allowed = AllowedTags(tagset)
        self.start_K = nn.Parameter(torch.zeros(len(tagset)))
        self.transition_KK = nn.Parameter(torch.zeros(len(tagset), len(tagset)))
        self.end_K = nn.Parameter(torch.zeros(len(tagset)))
        self.register_buffer("legal_start_K", torch.tensor(tagset.legal_start_K), persistent=False)
        self.register_buffer("legal_KK", torch.tensor(tagset.legal_KK), persistent=False)
        self.register_buffer("legal_end_K", torch.tensor(tagset.legal_end_K), persistent=False)

    def loss(
        self,
        logits_BUK: Tensor,
        targets_BU: Tensor,
        mask_BU: Tensor,
        first_B: Tensor,
        last_B: Tensor,
    ) -> Tensor:
        """Negative log-likelihood of the known tags, summed over windows.

        Where the tag of a unit is `UNKNOWN`, or one of a set (`AllowedTags`), the likelihood is
        that of all legal sequences which agree with what is known (Tsuboi et al., 2008: "Training
        conditional random fields using incomplete annotations"). A window that does not begin (or
        end) its document has no start (or end) score.

        Args:
            logits_BUK: the classifier's outputs at the units.
            targets_BU: gold tag ids, `UNKNOWN`, or numbers of sets; anything where there is no
                unit.
            mask_BU: where there is a unit; every row has at least one.
            first_B, last_B: whether a row begins or ends its document.

        Raises:
            ValueError: a row has no unit or a gap, or a unit is `IGNORED` or of no known set.
        """
        is_run = bool(mask_BU[:, 0].all()) and not bool((mask_BU[:, 1:] & ~mask_BU[:, :-1]).any())
        if not is_run or bool((mask_BU & ~self.allowed.is_valid(targets_BU)).any()):
            raise ValueError(
                "every row must be a run of units followed by padding, each with a tag or UNKNOWN "
                "or a set that the head has named"
            )
        logits_BUK = logits_BUK.float()
        scores = self._masked(first_B, last_B)
        if not bool((mask_BU & (targets_BU < 0)).any()):
            gold_B = self._gold(logits_BUK, targets_BU.clamp(min=0), mask_BU, *scores)
        else:
            agrees_BUK = self.allowed.agree(targets_BU)
            agreeing_BUK = logits_BUK.masked_fill(~agrees_BUK, _CONTRADICTED)
            gold_B = _log_sum(agreeing_BUK, mask_BU, *scores)
        return (_log_sum(logits_BUK, mask_BU, *scores) - gold_B).sum()

    def expected_entity_units(
        self, logits_BUK: Tensor, mask_BU: Tensor, first_B: Tensor, last_B: Tensor
    ) -> Tensor:
        """The summed marginal probabilities of all tags but `O`, float32 `[B]`.

        By a forward pass that carries, beside the weight of all paths to a tag, how many units in
        entities they have had so far (the expectation semiring; Eisner, 2002).
        """
        logits_BUK = logits_BUK.float()
        start_BK, transition_KK, end_BK = self._masked(first_B, last_B)
        inside_K = torch.tensor([tag != "O" for tag in self.tagset.tags], device=logits_BUK.device)
        alpha_BK = start_BK + logits_BUK[:, 0]
        count_BK = inside_K.float().expand_as(alpha_BK)
        for step in range(1, logits_BUK.shape[1]):
            paths_BKK = alpha_BK.unsqueeze(2) + transition_KK
            shares_BKK = paths_BKK.softmax(dim=1)
            counted_BK = (shares_BKK * count_BK.unsqueeze(2)).sum(dim=1) + inside_K
            reached_BK = paths_BKK.logsumexp(dim=1) + logits_BUK[:, step]
            is_unit_B1 = mask_BU[:, step : step + 1]
            alpha_BK = torch.where(is_unit_B1, reached_BK, alpha_BK)
            count_BK = torch.where(is_unit_B1, counted_BK, count_BK)
        return ((alpha_BK + end_BK).softmax(dim=1) * count_BK).sum(dim=1)

    def soft_loss(
        self,
        logits_RUK: Tensor,
        soft: SoftBatch,
        mask_RU: Tensor,
        first_R: Tensor,
        last_R: Tensor,
    ) -> Tensor:
        """Cross-entropy between the teacher's distribution over tag sequences and the CRF's.

        With q the teacher's marginals of tags and of neighbouring pairs, s the logits and A the
        transitions, it is for each row

            log Z − Σ_u Σ_k q_u(k) · s_u(k) − Σ_u Σ_jk q_u(j, k) · A(j, k),

        start and end scores like transitions: the expected negative log-likelihood of the teacher's
        sequences, exactly, since a CRF's score is a sum over units and pairs (Wang et al., 2021:
        "Structural knowledge distillation: tractably distilling information for structured
        predictor"; for posteriors of units, Wang et al., 2020). With a temperature, all of the
        student's scores are divided by it and the loss is multiplied by its square.
        """
        assert soft.pairs_RUKK is not None, "a CRF learns from pairs"
        temperature = soft.temperature
        logits_RUK = logits_RUK.float() / temperature
        start_RK, transition_KK, end_RK = (
            scores / temperature for scores in self._masked(first_R, last_R)
        )
        last_unit_R11 = (mask_RU.sum(dim=1) - 1)[:, None, None].expand(-1, 1, logits_RUK.shape[2])
        last_tag_RK = soft.tags_RUK.gather(1, last_unit_R11).squeeze(1)
        expected_R = (
            (soft.tags_RUK[:, 0] * start_RK).sum(dim=1)
            + (soft.tags_RUK * logits_RUK.masked_fill(~mask_RU.unsqueeze(2), 0.0)).sum(dim=(1, 2))
            + (soft.pairs_RUKK.sum(dim=1) * transition_KK).sum(dim=(1, 2))
            + (last_tag_RK * end_RK).sum(dim=1)
        )
        log_z_R = _log_sum(logits_RUK, mask_RU, start_RK, transition_KK, end_RK)
        return temperature**2 * (log_z_R - expected_R)

    def _masked(self, first_B: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def where_legal(scores: Tensor, legal: Tensor) -> Tensor:
            return torch.where(legal, scores, torch.full_like(scores, _FORBIDDEN))

        start_K = where_legal(self.start_K, self.get_buffer("legal_start_K"))
        end_K = where_legal(self.end_K, self.get_buffer("legal_end_K"))
        transition_KK = where_legal(self.transition_KK, self.get_buffer("legal_KK"))
        return first_B[:, None] * start_K, transition_KK, last_B[:, None] * end_K

    def _gold(
        self,
        logits_BUK: Tensor,
        targets_BU: Tensor,
        mask_BU: Tensor,
        start_BK: Tensor,
        transition_KK: Tensor,
        end_BK: Tensor,
    ) -> Tensor:
        """The unnormalised score of the gold sequences."""
        units_BU = logits_BUK.gather(2, targets_BU.unsqueeze(2)).squeeze(2)
        steps_BU = transition_KK[targets_BU[:, :-1], targets_BU[:, 1:]]
        last_tag_B1 = targets_BU.gather(1, mask_BU.sum(dim=1, keepdim=True) - 1)
        return (
            start_BK.gather(1, targets_BU[:, :1]).squeeze(1)
            + (units_BU * mask_BU).sum(dim=1)
            + (steps_BU * mask_BU[:, 1:]).sum(dim=1)
            + end_BK.gather(1, last_tag_B1).squeeze(1)
        )

    def scores(self, logits_BUK: Tensor) -> Tensor:
        """The logits as they are."""
        return logits_BUK.float()

    @torch.no_grad()
    def keep(self, old: Mapping[str, Tensor], kept: KeptTags) -> str:
        """Copy the scores between tags that an older CRF knows; the others stay as they are."""
        new_ids, old_ids = torch.tensor([*kept.ids]), torch.tensor([*kept.ids.values()])
        if not len(new_ids):
            return ""
        self.start_K[new_ids] = old["start_K"][old_ids]
        self.end_K[new_ids] = old["end_K"][old_ids]
        self.transition_KK[new_ids[:, None], new_ids] = old["transition_KK"][
            old_ids[:, None], old_ids
        ]
        return f"transitions between {len(new_ids)} tags kept"

    def chain(self) -> Chain:
        """The learned scores."""
        values = [
            p.detach().cpu().double().numpy()
            for p in (self.start_K, self.transition_KK, self.end_K)
        ]
        return Chain.of(self.tagset, *values)


def _log_sum(
    logits_BUK: Tensor,
    mask_BU: Tensor,
    start_BK: Tensor,
    transition_KK: Tensor,
    end_BK: Tensor,
) -> Tensor:
    """The log of the summed weights of all tag sequences of each row."""
    alpha_BK = start_BK + logits_BUK[:, 0]
    for step in range(1, logits_BUK.shape[1]):
        paths_BKK = alpha_BK.unsqueeze(2) + transition_KK
        reached_BK = paths_BKK.logsumexp(dim=1) + logits_BUK[:, step]
        alpha_BK = torch.where(mask_BU[:, step : step + 1], reached_BK, alpha_BK)
    return (alpha_BK + end_BK).logsumexp(dim=1)
