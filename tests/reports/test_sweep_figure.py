"""What is drawn of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.comparison.search.trials import SweepResult, Trial
from nertune.reports.figures import pareto_front, save_sweep_figure

COSTS = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))


@given(COSTS)
def test_the_front_is_what_nothing_betters(points: list[tuple[float, float]]) -> None:
    def is_bettered(point: tuple[float, float]) -> bool:
        return any(
            other != point and other[0] <= point[0] and other[1] >= point[1] for other in points
        )

    assert pareto_front(points) == sorted({p for p in points if not is_bettered(p)})


def trial(number: int, state: str = "complete", f1: float | None = 0.5) -> Trial:
    values = {} if number == 0 else {"train.learning_rate": 10.0**-number}
    done = state == "complete"
    return Trial(
        number=number,
        state=state,
        f1=f1,
        values=values,
        trainable=1000 * 30**number if done else None,
        seconds=10.0 - number if done else None,
        peak_bytes=2**30 if done else None,
    )


@pytest.mark.parametrize(
    "trials",
    [
        (trial(0),),
        (trial(0, f1=0.0), trial(1, f1=0.7), trial(2, "pruned", 0.1), trial(3, "failed", None)),
    ],
)
@pytest.mark.parametrize("importance", [{}, {"train.learning_rate": 0.9, "lora.rank": 0.1}])
def test_every_kind_of_trial_can_be_drawn(
    trials: tuple[Trial, ...], importance: dict[str, float], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    result = SweepResult(trials, trials[0], trials[-1], {}, tmp_path / "best.toml", importance)
    path = save_sweep_figure(result, tmp_path / "sweep.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [found.name for found in tmp_path.iterdir()] == ["sweep.png"]
