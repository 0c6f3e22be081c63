"""What a sweep says that it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.comparison.search.trials import SweepResult, Trial
from nertune.evaluation.significance import Difference

BASE = Trial(0, "complete", 0.5, {}, 10, 1.0, 2**20)
BEST = Trial(2, "complete", 0.625, {"train.learning_rate": 0.01}, 10, 1.0, 2**20)
FAILED = Trial(1, "failed", None, {"train.learning_rate": 9.0}, None, None, None)


@pytest.mark.parametrize(
    ("best", "difference", "verdict"),
    [
        (BASE, None, "none of 2 trials beats the recipe as it stands (dev F1 0.5000)"),
        (
            BEST,
            None,
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; the best "
            "of 2 is optimistic: --confirm trains both again",
        ),
        (
            BEST,
            Difference(-0.25, (-0.3, 0.01), 0.06, "models cannot be told apart", 1),
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; with 1 "
            "further seed -25.0 points [-30.0, +1.0]: the two models cannot be told apart, and "
            "another seed may give another order: --confirm 3 or more tells settings apart",
        ),
        (
            BEST,
            Difference(0.25, (0.2, 0.3), 0.001, "models differ", 1),
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; with 1 "
            "further seed +25.0 points [+20.0, +30.0]: the two models differ, and another seed may "
            "give another order: --confirm 3 or more tells settings apart",
        ),
        (
            BEST,
            Difference(0.25, (0.2, 0.3), 0.001, "better", 2),
            "trial 2 reaches dev F1 0.6250, +12.5 points against the recipe as it stands; with 2 "
            "further seeds +25.0 points [+20.0, +30.0]: better",
        ),
    ],
)
def test_the_verdict_in_one_sentence(
    best: Trial, difference: Difference | None, verdict: str
) -> None:
    trials = (BASE, FAILED, BEST)
    result = SweepResult(trials, BASE, best, {}, Path("best.toml"), {}, difference)
    assert result.verdict == verdict
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["verdict"] == verdict
    assert plain["trials"][1]["state"] == "failed"
