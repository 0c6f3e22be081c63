"""How a budget of tokens is spent: row length, batch size and rate at every point of a run."""

from __future__ import annotations

from dataclasses import dataclass

from nertune.config.pretrain import PretrainSettings
from nertune.training.optimizer import rate_factor

__all__ = ["Schedule"]

_FIRST_BATCH = 0.25  # of the full batch, where it is ramped up


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that follows from the budget.

    Attributes:
        settings: lengths, batch, warm-up.
        tokens: the budget, in tokens with special ones.
    """

    settings: PretrainSettings
    tokens: int

    def row_length(self, done_tokens: int) -> int:
        """Tokens of a row: short ones first (Izsak et al., 2021), long ones last."""
        s = self.settings
        if s.short_length and done_tokens < s.short_share * self.tokens:
            return s.short_length
        is_long = s.long_length and done_tokens >= (1 - s.long_share) * self.tokens
        return s.long_length if is_long else s.length

    def num_rows(self, done_tokens: int) -> int:
        """Rows of the next step; the batch is ramped up (Geiping & Goldstein, 2022)."""
        s = self.settings
        share = 1.0
        if s.ramp:
            grown = min(1.0, done_tokens / (s.ramp * self.tokens))
            share = _FIRST_BATCH + (1 - _FIRST_BATCH) * grown
        return max(1, round(share * s.batch_tokens / self.row_length(done_tokens)))

    def rate(self, done_tokens: int) -> float:
        """Share of the peak rate: up over the warm-up, then down to zero in a line."""
        progress = min(1.0, done_tokens / self.tokens)
        return rate_factor(progress, warmup=self.settings.warmup, schedule="linear")
