"""What a sweep says that it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.runs.trials import SweepResult, Trial

BASE = Trial(0, "complete", 0.5, {}, 10, 1.0, 2**20)
BEST = Trial(2, "complete", 0.625, {"train.rate": 0.01}, 10, 1.0, 2**20)
FAILED = Trial(1, "failed", None, {"train.rate": 9.0}, None, None, None)


@pytest.mark.parametrize(
    ("best", "confirmed", "verdict"),
    [
        (BASE, {}, "none of 2 trials beats the recipe as it stands (dev F1 0.5000)"),
        (
            BEST,
            {},
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; the best "
            "of 2 flatters itself: --confirm trains both again",
        ),
        (
            BEST,
            {"base": [0.5], "best": [0.25]},
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; with 1 "
            "further seed -25.0 points",
        ),
        (
            BEST,
            {"base": [0.5, 0.25], "best": [0.5, 0.75]},
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; with 2 "
            "further seeds +25.0 points",
        ),
    ],
)
def test_the_verdict_in_one_sentence(
    best: Trial, confirmed: dict[str, list[float]], verdict: str
) -> None:
    result = SweepResult((BASE, FAILED, BEST), BASE, best, confirmed, Path("best.toml"), {})
    assert result.verdict == verdict
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["verdict"] == verdict
    assert plain["trials"][1]["state"] == "failed"
