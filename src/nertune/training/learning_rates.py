"""Peak learning rates where a recipe names none: by the encoder and the tuning method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "HEAD_RATES",
    "LSTM_RATE",
    "SuggestedRates",
    "method_factor",
    "suggest_rates",
]

HEAD_RATES = {"full": 1e-3, "adapter": 2e-3}
"""Of the linear layer, beside an encoder that trains itself and beside an adapter."""

LSTM_RATE = 2e-3

_WIDE = 512
_NORM_FIRST = ("modernbert",)  # their residual stream bears higher rates

# As multiples of LoRA's; those of recipes/methods.
_FACTORS = {
    "ADALORA": 4.0, "BEFT": 10.0, "BOFT": 5.0, "HRA": 2.0, "IA3": 10.0, "LN_TUNING": 5.0,
    "LOHA": 2.0, "LOKR": 2.0, "OFT": 2.0, "PREFIX_TUNING": 5.0, "PROMPT_TUNING": 25.0, "VERA": 15.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SuggestedRates:
    """What an encoder bears.

    Attributes:
        encoder: of its own weights.
        adapter: of LoRA's.
    """

    encoder: float
    adapter: float


def suggest_rates(config: Any) -> SuggestedRates:
    """Rates to begin with.

    Narrow encoders that normalise first (the bundled one) bear rates that let others collapse into
    "no entity"; measured with `mini-zh` and with a BERT of six layers, 384 wide (docs/results.md).
    For wide ones, those that BERT's authors recommend (Devlin et al., 2019).

    Args:
        config: of transformers, with `hidden_size` and `model_type`.
    """
    if config.hidden_size >= _WIDE:
        return SuggestedRates(encoder=5e-5, adapter=5e-4)
    if config.model_type in _NORM_FIRST:
        return SuggestedRates(encoder=2e-4, adapter=1e-3)
    return SuggestedRates(encoder=1e-4, adapter=5e-4)


def method_factor(peft_type: str) -> float:
    """The rate of a method of peft, as a multiple of LoRA's; 1 where nothing is known."""
    return _FACTORS.get(peft_type.upper(), 1.0)
