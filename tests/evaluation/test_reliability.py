"""Scores against outcomes: what is measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.evaluation.reliability import calibration_error, measure_reliability
from nertune.types import Document, Entity, Scope


def test_ten_bins_of_equal_size() -> None:
    """By hand: in each bin of two, the distance between mean score and share that is right."""
    scores = np.linspace(0.05, 0.95, 20)
    right = np.tile([False, True], 10)
    expected = np.abs(scores.reshape(10, 2).mean(axis=1) - 0.5).mean()
    assert calibration_error(scores, right) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_a_weight_is_as_many_copies(per_bin: int, copies: int, seed: int) -> None:
    """Of whole bins: no border falls into the copies of one."""
    generator = np.random.default_rng(seed)
    size = 10 * per_bin
    scores, right = generator.random(size), generator.random(size) < 0.5
    found = calibration_error(scores, right, np.full(size, float(copies)))
    expected = calibration_error(np.repeat(scores, copies), np.repeat(right, copies))
    assert found == pytest.approx(expected)
    order = generator.permutation(size)
    assert calibration_error(scores[order], right[order]) == pytest.approx(
        calibration_error(scores, right)
    )


def test_what_is_measured() -> None:
    gold = [Document("abcdef", (Entity(0, 1, "A"), Entity(2, 3, "B")))] * 3
    found = [Document("abcdef", (Entity(0, 1, "A", 0.9), Entity(4, 5, "A", 0.4)))] * 3
    measured = measure_reliability(gold, found, num_resamples=50)
    assert measured is not None
    assert measured.num_entities == 6
    assert measured.brier == pytest.approx((0.1**2 + 0.4**2) / 2)
    assert measured.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.6)) / 2)
    assert measured.ece == pytest.approx((0.1 + 0.4) / 2)
    assert measured.ece_ci95 == pytest.approx((0.25, 0.25))  # all documents are alike
    rows = {row.threshold: row for row in measured.thresholds}
    assert (rows[0.0].kept, rows[0.0].precision, rows[0.0].recall) == (1.0, 0.5, 0.5)
    assert (rows[0.5].kept, rows[0.5].precision, rows[0.5].recall) == (0.5, 1.0, 0.5)
    assert rows[0.95].precision is None
    assert rows[0.95].recall == 0.0
    assert sum(b.count for b in measured.bins) == 6


@pytest.mark.parametrize("seed", range(10))
def test_the_interval_lies_about_the_error(seed: int) -> None:
    """Of exact scores too, where every resample shows a larger error than the sample."""
    rng = np.random.default_rng(seed)
    scores = rng.random(300)
    gold = [Document("ab", (Entity(0, 1, "A"),) if rng.random() < s else ()) for s in scores]
    found = [Document("ab", (Entity(0, 1, "A", float(score)),)) for score in scores]
    measured = measure_reliability(gold, found, num_resamples=200)
    assert measured is not None
    assert measured.ece_ci95 is not None
    low, high = measured.ece_ci95
    assert 0 <= low < measured.ece < high < 0.25


def test_nothing_predicted_and_no_score() -> None:
    assert measure_reliability([Document("ab")], [Document("ab")]) is None
    with pytest.raises(ValueError, match="has no score"):
        measure_reliability([Document("ab")], [Document("ab", (Entity(0, 1, "A"),))])


def test_predictions_that_gold_cannot_judge_do_not_count() -> None:
    found = [Document("abcdef", (Entity(0, 1, "A", 0.9), Entity(4, 5, "B", 0.4)))]
    gold = [Document("abcdef", (Entity(0, 1, "A"),), scope=Scope(("A",)))]
    measured = measure_reliability(gold, found)
    assert measured is not None
    assert (measured.num_entities, measured.thresholds[0].precision) == (1, 1.0)


def test_what_exact_scores_would_show() -> None:
    """Outcomes drawn as scores say: the error is that by chance, and falls with their number."""
    generator = np.random.default_rng(1)
    measured = []
    for count in (200, 5000):
        scores = generator.beta(4, 1, count)
        right = generator.random(count) < scores
        gold = [Document("a", (Entity(0, 1, "A" if one else "B"),)) for one in right]
        found = [Document("a", (Entity(0, 1, "A", score),)) for score in scores]
        one = measure_reliability(gold, found, num_resamples=0)
        assert one is not None
        assert one.ece == pytest.approx(one.ece_by_chance, rel=0.6)
        measured.append(one.ece_by_chance)
    assert 0.03 < measured[0] < 0.09
    assert measured[1] == pytest.approx(measured[0] / 5, rel=0.3)  # √(200 / 5000)
