"""What an advice is made of."""

from __future__ import annotations

from nertune.runs.advice import Outcome
from nertune.runs.candidates import read_measures, try_rates


def test_with_no_entity_found_the_lower_loss_is_the_better() -> None:
    def outcome(f1: list[float], losses: list[float]) -> Outcome:
        return Outcome(try_rates(read_measures("mini-zh"))[0], tuple(f1), tuple(losses))

    silent, learning = outcome([0.0, 0.0], [0.9, 0.3]), outcome([0.0, 0.0], [0.8, 0.2])
    found = outcome([0.1, 0.0], [0.9, 0.9])
    assert found.merit() > learning.merit() > silent.merit() > outcome([], []).merit()
    assert silent.merit(1) < learning.merit(1)
