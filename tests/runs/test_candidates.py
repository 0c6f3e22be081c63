"""What is tried, and how much of it fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny import tiny_bert
from nertune.config import parse_settings
from nertune.errors import ModelError
from nertune.runs.candidates import (
    Plan,
    Speed,
    ideal_epochs,
    possible_plans,
    read_measures,
    try_rates,
    try_shapes,
)


@pytest.mark.parametrize(
    ("documents", "epochs"), [(1, 60), (100, 58), (400, 23), (1412, 10), (3821, 5), (10**6, 3)]
)
def test_small_data_want_more_epochs(documents: int, epochs: int) -> None:
    assert ideal_epochs(documents) == epochs


def test_candidates_are_settings_that_hold() -> None:
    config = read_measures("mini-zh")
    rates = try_rates(config)
    assert [c.family for c in rates] == ["full", "lora"] * 3
    shapes = try_shapes(rates[3], config)
    assert {c.changes["train.rate"] for c in shapes} == {rates[3].changes["train.rate"]}
    everything = [*rates, *shapes]
    assert len({c.name for c in everything}) == len({c.told for c in everything}) == 10
    for candidate in everything:
        values: dict[str, dict[str, object]] = {"data": {"train": "sample:train"}}
        for name, value in candidate.changes.items():
            section, _, key = name.partition(".")
            values.setdefault(section, {})[key] = value
        settings = parse_settings(values)
        assert settings.model.tuning == candidate.family
        assert settings.lora.alpha == 4 * settings.lora.rank
        if candidate.family == "full":  # what people read is the encoder's rate
            rate = settings.train.rate * settings.train.encoder_factor
            assert float(candidate.told.removeprefix("rate ")) == pytest.approx(rate)
    assert [c.title for c in shapes][-1] == "LoRA, rank 8, rate 1e-3, upper 2 layers"


def test_wide_encoders_get_lower_rates_and_one_layer_has_no_upper_half(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(hidden_size=768, num_hidden_layers=1).save_pretrained(tmp_path)
    wide, narrow = read_measures(str(tmp_path)), read_measures(str(tiny_bert()))
    for one, other in zip(try_rates(wide), try_rates(narrow), strict=True):
        assert one.changes["train.rate"] < other.changes["train.rate"]
    assert len(try_shapes(try_rates(wide)[1], wide)) == 3
    with pytest.raises(ModelError, match="no such folder"):
        read_measures(str(tmp_path / "nowhere"))


def seconds(plan: Plan, documents: int, speeds: dict[str, Speed]) -> float:
    """The plan's runs, one after the other."""
    count = plan.share * documents
    total = 0.0
    for family, others in (("full", 0), ("lora", 4 if plan.shapes else 0)):
        speed = speeds[family]
        epoch = count * speed.document + speed.epoch
        total += (3 + others) * (plan.first * epoch + speed.run)
        total += (1 if family == "full" else 2) * ((plan.epochs - plan.first) * epoch + speed.run)
        total += plan.seeds * (plan.epochs * epoch + speed.run + 8)
    return total


@pytest.mark.parametrize("documents", [50, 1412, 1_000_000])
def test_plans_go_from_thorough_to_short(documents: int) -> None:
    speeds = {"full": Speed(0.01, 1.0, 2.0), "lora": Speed(0.008, 1.0, 2.0)}
    plans = list(possible_plans(documents, speeds))
    assert plans[0] == Plan(1.0, ideal_epochs(documents), plans[0].first, True, 3, plans[0].seconds)
    assert plans[-1].seeds == 0
    assert plans[-1].seconds == min(plan.seconds for plan in plans)
    for plan in plans:
        assert plan.seconds == pytest.approx(seconds(plan, documents, speeds))
        assert plan.epochs >= 3 > 0 < plan.first <= plan.epochs
        assert plan.share == 1.0 or plan.share * documents >= 1000  # few are never left out
