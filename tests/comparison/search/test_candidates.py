"""What is tried, and how much of it fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny import tiny_bert
from nertune.comparison.search.candidates import (
    Candidate,
    Plan,
    Speed,
    further_rate,
    ideal_epochs,
    possible_plans,
    try_rates,
    try_shapes,
)
from nertune.config.run import parse_settings
from nertune.errors import ModelError
from nertune.models.encoder import read_config


@pytest.mark.parametrize(
    ("documents", "epochs"), [(1, 60), (100, 58), (400, 23), (1412, 10), (3821, 5), (10**6, 3)]
)
def test_small_data_want_more_epochs(documents: int, epochs: int) -> None:
    assert ideal_epochs(documents) == epochs


def test_candidates_are_settings_that_hold() -> None:
    config = read_config("mini-zh")
    rates = try_rates(config)
    assert [c.method for c in rates] == ["full", "lora"] * 3
    shapes = try_shapes(rates[3], config)
    assert {c.rate for c in shapes} == {rates[3].rate}
    everything = [*rates, *shapes]
    assert len({c.name for c in everything}) == len({c.told for c in everything}) == 10
    for candidate in everything:
        values: dict[str, dict[str, object]] = {"data": {"train": "sample:train"}}
        for name, value in candidate.changes.items():
            section, _, key = name.partition(".")
            values.setdefault(section, {})[key] = value
        settings = parse_settings(values)
        assert settings.model.tuning == candidate.method
        assert settings.lora.alpha == 4 * settings.lora.rank
        assert settings.train.learning_rate == candidate.rate
        if candidate.method == "full":
            assert float(candidate.told.removeprefix("rate ")) == candidate.rate
    assert [c.title for c in shapes][-1] == "LoRA, rank 8, rate 5e-4, upper 2 layers"


def test_where_rates_begin_follows_from_width_and_norms(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(hidden_size=768, num_hidden_layers=1).save_pretrained(tmp_path)
    configs = [read_config(name) for name in ("mini-zh", str(tiny_bert()), str(tmp_path))]
    norm_first, narrow, wide = ([c.rate for c in try_rates(config)] for config in configs)
    assert all(one > other for one, other in zip(norm_first, narrow, strict=True))
    assert all(one > other for one, other in zip(narrow[::2], wide[::2], strict=True))  # full
    assert narrow[1::2] == wide[1::2]  # LoRA
    assert len(try_shapes(try_rates(configs[2])[1], configs[2])) == 3  # one layer: no upper half
    with pytest.raises(ModelError, match="no such folder"):
        read_config(str(tmp_path / "nowhere"))


def ladder(family: str) -> list[Candidate]:
    """The rates of a family, the lowest first."""
    found = [c for c in try_rates(read_config("mini-zh")) if c.method == family]
    return sorted(found, key=lambda c: c.rate)


@pytest.mark.parametrize(("family", "step"), [("full", 2.5), ("lora", 2.0)])
def test_rates_go_on_where_the_best_stands_at_the_edge(family: str, step: float) -> None:
    low, middle, high = ladder(family)

    def further(*tried: tuple[Candidate, float, float]) -> float | None:
        found = further_rate(tried)
        assert found is None or found.method == family
        return None if found is None else found.rate

    assert further((middle, 0.7, 0.1), (low, 0.6, 0.1), (high, 0.5, 0.1)) is None
    lower = further((low, 0.7, 0.1), (middle, 0.6, 0.1), (high, 0.5, 0.1))
    assert lower == pytest.approx(low.rate / step, rel=0.05)
    higher = further((high, 0.7, 0.1), (middle, 0.6, 0.1), (low, 0.5, 0.1))
    assert higher == pytest.approx(high.rate * step, rel=0.05)
    # Nothing was found: they are too high, unless the highest has clearly learned most.
    two_down = pytest.approx(low.rate / step**2, rel=0.05)
    infinite = float("inf")  # of a run that failed
    assert further((middle, 0.0, 0.30), (high, 0.0, 0.31), (low, -1.0, infinite)) == two_down
    assert further((high, 0.0, 0.30), (middle, 0.0, 0.31), (low, 0.0, 0.31)) == two_down
    assert further((high, 0.0, 0.20), (middle, 0.0, 0.25), (low, 0.0, 0.31)) == higher


def test_the_ladder_has_an_end() -> None:
    tried = [(candidate, 0.0, 0.3) for candidate in ladder("lora")]
    while (candidate := further_rate(tried)) is not None:
        assert candidate.name not in {c.name for c, _, _ in tried}
        tried.append((candidate, 0.0, 0.3))
    assert len(tried) == 6
    assert min(c.rate for c, _, _ in tried) < 1e-3 / 50


def seconds(plan: Plan, documents: int, speeds: dict[str, Speed]) -> float:
    """The plan's runs, one after the other."""
    count = plan.share * documents
    total = 0.0
    for family, speed in speeds.items():
        others = {"full": 1, "lora": 5}[family] if plan.shapes else 0  # a further rate, shapes
        whole = {"full": 1, "lora": 2}[family] if plan.shapes else int(not plan.seeds)
        epoch = count * speed.document + speed.epoch
        total += (3 + others) * (plan.first * epoch + speed.run)
        total += whole * ((plan.epochs - plan.first) * epoch + speed.run)
        total += plan.seeds * (plan.epochs * epoch + speed.run + 8)
    return total


@pytest.mark.parametrize("families", [("full", "lora"), ("full",), ("lora",)])
@pytest.mark.parametrize("documents", [50, 1412, 1_000_000])
def test_plans_go_from_thorough_to_short(documents: int, families: tuple[str, ...]) -> None:
    known = {"full": Speed(0.01, 1.0, 2.0), "lora": Speed(0.008, 1.0, 2.0)}
    speeds = {family: known[family] for family in families}  # one cannot be trained, perhaps
    plans = list(possible_plans(documents, speeds))
    assert plans[0] == Plan(1.0, ideal_epochs(documents), plans[0].first, True, 3, plans[0].seconds)
    assert plans[-1].seeds == 0
    assert plans[-1].seconds == min(plan.seconds for plan in plans)
    for plan in plans:
        assert plan.seconds == pytest.approx(seconds(plan, documents, speeds))
        assert plan.epochs >= 3 > 0 < plan.first <= plan.epochs
        assert plan.share == 1.0 or plan.share * documents >= 1000  # few are never left out
