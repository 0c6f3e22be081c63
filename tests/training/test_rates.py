"""Rates where a recipe names none."""

from __future__ import annotations

import pytest
from transformers import BertConfig, ModernBertConfig

from nertune.training.learning_rates import suggest_rates


@pytest.mark.parametrize(
    ("width", "kind", "wanted"),
    [
        (511, "bert", 1e-4),
        (511, "modernbert", 2e-4),
        (512, "modernbert", 5e-5),
        (768, "bert", 5e-5),
    ],
)
def test_rates_by_width_and_norms(width: int, kind: str, wanted: float) -> None:
    config = {"bert": BertConfig, "modernbert": ModernBertConfig}[kind](hidden_size=width)
    assert suggest_rates(config).encoder == wanted
    assert suggest_rates(config).adapter >= 5 * wanted
