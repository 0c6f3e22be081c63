"""The model card of an encoder says what it was made from, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest

from nertune.pretraining.card import encoder_card


def record(**changes: Any) -> dict[str, Any]:
    settings = {
        "encoder": "", "from_scratch": "tiny", "files": ["some/where/a.txt", "b.txt.xz"],
        "masking": "word", "mask_share": 0.2, "entity_mask_share": 0.0,
        "length": 128, "long_length": 0,
    }  # fmt: skip
    values: dict[str, Any] = {
        "nertune": "0.1.0", "settings": {"pretrain": settings}, "tokens": 12_345, "steps": 67,
        "seconds": 90.0, "device": "cpu", "word_tags": None,
        "held_out": {"after": {"loss": 4.1, "perplexity": 60.3, "pieces": 999}},
    }  # fmt: skip
    for key, value in changes.items():
        (settings if key in settings else values)[key] = value
    return values


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ["from scratch (tiny)", "a.txt, b.txt.xz", "12,345 tokens in 67 steps, 90 seconds",
              "word, 20%.", "No second task", "perplexity 60.3 (4.100 nats per masked token, 999",
              "beyond 128 were not trained"]),
        ({"long_length": 256}, ["beyond 256 were not trained"]),
        ({"encoder": "base", "from_scratch": "", "long_length": 256},
         ["Begun: base.", "rows of 128 and 256 tokens"]),
        ({"seconds": 600.0}, ["10 minutes on cpu"]),
        ({"entity_mask_share": 0.4}, ["20%; whole entities, 40%."]),
        ({"held_out": {"after": {}}}, ["No text was held out"]),
        ({"word_tags": {"tagger": "t", "tags": ["a", "b"], "entity_tags": ["b"]}},
         ["word tags of t (2 tags; of entities: b)", "another tagger's"]),
        ({"word_tags": {"tagger": "t", "tags": ["a"], "entity_tags": []}}, ["of entities: none"]),
    ],
)  # fmt: skip
def test_what_it_says(changes: dict[str, Any], parts: list[str]) -> None:
    card = encoder_card(record(**changes))
    for part in parts:
        assert part in card, card
    assert "some/where" not in card
