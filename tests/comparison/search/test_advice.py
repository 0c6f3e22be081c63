"""What an advice is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nertune.comparison.results import Estimate
from nertune.comparison.search.advice import Advice, Outcome
from nertune.comparison.search.candidates import Candidate, Method, Plan, try_rates
from nertune.evaluation.significance import Difference
from nertune.models.encoder import read_config


def test_with_no_entity_found_the_lower_loss_is_the_better() -> None:
    def outcome(f1: list[float], losses: list[float]) -> Outcome:
        return Outcome(try_rates(read_config("mini-zh"))[0], tuple(f1), tuple(losses))

    silent, learning = outcome([0.0, 0.0], [0.9, 0.3]), outcome([0.0, 0.0], [0.8, 0.2])
    found = outcome([0.1, 0.0], [0.9, 0.9])
    assert found.merit() > learning.merit() > silent.merit() > outcome([], []).merit()
    assert silent.merit(1) < learning.merit(1)


@pytest.mark.parametrize(
    ("choice", "lead", "told"),
    [
        ("full", -0.02, "full fine-tuning (rate 2e-4): dev micro-F1 0.6200 against 0.6000 of LoRA "
         "(rank 8, rate 1e-3), +2.0 points [+0.5, +3.5], 2 seeds; confidence 97% that it is not "
         "more than a point worse"),
        ("lora", 0.02, "LoRA (rank 8, rate 1e-3): dev micro-F1 0.6200 against 0.6000 of full "
         "fine-tuning (rate 2e-4), +2.0 points [+0.5, +3.5], 2 seeds; confidence 97% that it is "
         "not more than a point worse"),
    ],
)  # fmt: skip
def test_the_verdict_is_told_from_the_side_of_the_choice(
    choice: Method, lead: float, told: str
) -> None:
    """The difference is LoRA's to full tuning, whichever is chosen."""
    full, lora = try_rates(read_config("mini-zh"))[:2]
    chosen: dict[Method, Candidate] = {"full": full, "lora": lora}
    bounds = sorted((lead - 0.015, lead + 0.015))
    advice = Advice(
        choice=choice,
        chosen=chosen,
        outcomes=(),
        plan=Plan(1.0, 6, 2, False, 2, 0.0),
        runs={},
        confirmed=True,
        scores={f: Estimate.of([0.62 if f == choice else 0.6] * 2) for f in chosen},
        difference=Difference(lead, (bounds[0], bounds[1]), 0.01, "better", 2),
        certainty=0.97,
        seconds=1.0,
        notices=(),
        recipe=Path("advice.toml"),
        data={},
    )
    assert advice.verdict == told
    assert advice.difference is not None
    once = replace(advice, difference=replace(advice.difference, num_seeds=1))
    assert once.verdict.endswith("one training each, and another seed may give another order")
    assert "of these two trained models" in once.verdict
