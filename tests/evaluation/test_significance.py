from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from nertune.evaluation.significance import (
    Difference,
    chance_of_keeping_up,
    compare_counts,
    correct_for_many,
    hierarchical_interval,
    randomisation_p_value,
    student_probability,
    student_quantile,
)

Counts = NDArray[np.int64]


def simulate(
    rng: np.random.Generator,
    *,
    num_seeds: int = 3,
    num_sentences: int = 150,
    effect: float = 0.0,
    seed_noise: float = 0.15,
) -> tuple[Counts, Counts]:
    """Two configurations whose chance to get an entity depends on sentence, seed and effect."""
    gold = rng.poisson(2.0, num_sentences)
    easiness = rng.normal(1.2, 1.0, num_sentences)
    configurations = []
    for candidate in range(2):
        seeds = []
        for _ in range(num_seeds):
            noise = rng.normal(0, seed_noise) + rng.normal(0, 0.6, num_sentences)
            chance = 1 / (1 + np.exp(-easiness - noise - effect * candidate))
            correct = rng.binomial(gold, chance)
            wrong = rng.poisson((1 - chance) * gold * 0.8)
            seeds.append(np.stack([gold, correct + wrong, correct], axis=1))
        configurations.append(np.stack(seeds))
    return configurations[1], configurations[0]


def fast(candidate: Counts, baseline: Counts, seed: int = 0) -> Difference:
    return compare_counts(candidate, baseline, num_permutations=499, num_resamples=300, seed=seed)


@pytest.mark.parametrize("seed_noise", [0.0, 0.4])
def test_null_is_rarely_called_different(seed_noise: float) -> None:
    rng = np.random.default_rng(11)
    verdicts = [
        fast(*simulate(rng, seed_noise=seed_noise), seed=number).verdict for number in range(200)
    ]
    assert sum(verdict != "not distinguishable" for verdict in verdicts) / 200 <= 0.06


def test_randomisation_alone_is_calibrated_without_seed_noise() -> None:
    rng = np.random.default_rng(12)
    p_values = [
        randomisation_p_value(*simulate(rng, seed_noise=0.0), num_permutations=199, seed=number)
        for number in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08
    assert 0.42 <= np.mean(p_values) <= 0.58  # uniform under the null


def test_randomisation_alone_mistakes_seed_noise_for_a_difference() -> None:
    """Why the hierarchical interval has to agree (Reimers & Gurevych, 2017)."""
    rng = np.random.default_rng(13)
    results = [fast(*simulate(rng, seed_noise=0.4, num_sentences=300)) for _ in range(60)]
    assert np.mean([result.p_value < 0.05 for result in results]) > 0.4
    assert np.mean([result.verdict != "not distinguishable" for result in results]) <= 0.1


def test_a_large_effect_is_seen() -> None:
    rng = np.random.default_rng(14)
    results = [fast(*simulate(rng, effect=1.2)) for _ in range(30)]
    assert sum(result.verdict == "better" for result in results) >= 28
    assert all(0 < result.ci95[0] < result.difference < result.ci95[1] for result in results)


@pytest.mark.parametrize(("num_seeds", "effect"), [(1, 0.0), (2, 0.8), (4, 0.3)])
def test_deterministic_and_symmetric(num_seeds: int, effect: float) -> None:
    candidate, baseline = simulate(np.random.default_rng(15), num_seeds=num_seeds, effect=effect)
    forth, back = fast(candidate, baseline), fast(baseline, candidate)
    assert forth == fast(candidate, baseline)
    assert back.difference == -forth.difference
    assert back.ci95 == (-forth.ci95[1], -forth.ci95[0])
    assert back.p_value == forth.p_value
    opposite = {"better": "worse", "worse": "better"}
    assert back.verdict == opposite.get(forth.verdict, forth.verdict)
    assert forth.num_seeds == num_seeds


def test_one_seed_tells_two_models_apart_and_no_methods() -> None:
    """However far apart they are: the noise of training was not seen."""
    candidate, baseline = simulate(np.random.default_rng(16), num_seeds=1, effect=2.0)
    forth, back = fast(candidate, baseline), fast(baseline, candidate)
    assert forth.ci95[0] > 0.1
    assert forth.verdict == back.verdict == "models differ"
    assert {d.verdict for d in correct_for_many([forth, back])} == {"models differ"}
    far = correct_for_many([forth] * 20)  # p is 1 / 500 before it is corrected
    assert far[0].p_value < 0.05
    assert far[0].verdict == "models differ"
    assert {d.verdict for d in correct_for_many([forth] * 30)} == {"models cannot be told apart"}


def exhaustive_p_value(candidate: Counts, baseline: Counts) -> float:
    def statistic(one: Counts, other: Counts) -> float:
        def f1(counts: Counts) -> float:
            total = counts.sum(axis=1)
            return float(np.mean(2 * total[:, 2] / (total[:, 0] + total[:, 1])))

        return f1(one) - f1(other)

    observed = abs(statistic(candidate, baseline))
    extreme = number = 0
    for trades in itertools.product([False, True], repeat=candidate.shape[1]):
        mask = np.array(trades)[None, :, None]
        value = statistic(np.where(mask, baseline, candidate), np.where(mask, candidate, baseline))
        extreme += abs(value) >= observed - 1e-12
        number += 1
    return extreme / number


@pytest.mark.parametrize("seed", range(3))
def test_randomisation_equals_all_permutations(seed: int) -> None:
    candidate, baseline = simulate(
        np.random.default_rng(seed), num_seeds=2, num_sentences=9, effect=0.7
    )
    exact = exhaustive_p_value(candidate, baseline)
    assert 0.0 < exact < 1.0
    assert randomisation_p_value(candidate, baseline) == pytest.approx(exact, abs=0.02)


def test_smallest_p_values() -> None:
    gold = np.full(8, 2)
    candidate, baseline = (np.stack([gold, gold, np.full(8, c)], axis=1)[None] for c in (2, 1))
    # Only all or none of the eight trades are as extreme: 2 of 256.
    p_value = randomisation_p_value(candidate, baseline, num_permutations=50_000)
    assert p_value == pytest.approx(2 / 256, abs=0.0015)
    candidate, baseline = np.repeat(candidate, 10, axis=1), np.repeat(baseline, 10, axis=1)
    assert randomisation_p_value(candidate, baseline, num_permutations=999) == 1 / 1000


def test_interval_has_the_width_of_its_two_noises() -> None:
    """Without seed noise in the counts it is the plain paired bootstrap over sentences."""
    rng = np.random.default_rng(17)
    candidate, baseline = simulate(rng, num_seeds=1, num_sentences=200)
    drawn = rng.integers(200, size=(4000, 200))

    def f1(counts: Counts) -> NDArray[np.float64]:
        totals = counts[0][drawn].sum(axis=1)
        return np.asarray(2 * totals[:, 2] / (totals[:, 0] + totals[:, 1]))

    spread = (f1(candidate) - f1(baseline)).std()
    low, high = hierarchical_interval(candidate, baseline)
    assert high - low == pytest.approx(2 * 1.972 * spread, rel=0.06)
    # The same counts for every seed: there is no seed noise to add, however many seeds.
    thrice = hierarchical_interval(np.repeat(candidate, 3, axis=0), np.repeat(baseline, 3, axis=0))
    assert thrice == pytest.approx((low, high), abs=0.1 * (high - low))
    # Seeds that differ on every sentence alike: the seed part alone, a t interval.
    gold = np.full(200, 10)
    levels = {"candidate": [9, 7], "baseline": [8, 6]}
    candidate, baseline = (
        np.stack([np.stack([gold, gold, np.full(200, c)], axis=1) for c in levels[name]])
        for name in ("candidate", "baseline")
    )
    low, high = hierarchical_interval(candidate, baseline, num_resamples=20_000)
    # Each mean of two seeds has standard error 0.1; two degrees of freedom give t = 4.303.
    assert low == pytest.approx(0.1 - 4.303 * np.sqrt(0.02), abs=0.02)
    assert high == pytest.approx(0.1 + 4.303 * np.sqrt(0.02), abs=0.02)


def test_equal_counts_and_tiny_sets() -> None:
    candidate, _ = simulate(np.random.default_rng(18))
    same = fast(candidate, candidate.copy())
    assert same.difference == 0.0
    assert same.p_value == 1.0
    assert same.verdict == "not distinguishable"
    single = np.array([[[1, 1, 1]]])
    result = fast(single, np.array([[[1, 0, 0]]]))
    assert (result.verdict, result.ci95) == ("models cannot be told apart", (-1.0, 1.0))
    nothing = np.zeros((2, 5, 3), dtype=np.int64)
    assert fast(nothing, nothing).verdict == "not distinguishable"
    assert json.loads(json.dumps(result.to_dict()))["ci95"] == [-1.0, 1.0]


def test_wrong_shapes_and_other_gold_are_refused() -> None:
    candidate, baseline = simulate(np.random.default_rng(19))
    with pytest.raises(ValueError, match="one shape"):
        compare_counts(candidate, baseline[:2])
    with pytest.raises(ValueError, match="one shape"):
        compare_counts(candidate[0], baseline[0])
    other = baseline.copy()
    other[:, 0, 0] += 1
    with pytest.raises(ValueError, match="different gold"):
        compare_counts(candidate, other)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (60, 2.000), (120, 1.980), (1e6, 1.960)],
)
def test_student_quantile_equals_the_table(freedom: float, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, abs=6e-4)


# Several configurations against one baseline


def test_holms_correction_by_hand() -> None:
    ps = [0.01, 0.04, 0.03, 0.5]
    given = [Difference(0.1, (0.05, 0.2), p, "better", 3) for p in ps]
    corrected = correct_for_many(given)
    # Sorted: .01 × 4, .03 × 3, .04 × 2 (but not below the one before), .5 × 1.
    assert [d.p_value for d in corrected] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert [d.verdict for d in corrected] == ["better", *["not distinguishable"] * 3]
    assert correct_for_many(given[:1]) == given[:1]
    assert correct_for_many([]) == []
    worst = correct_for_many([Difference(-0.1, (-0.2, -0.05), 0.9, "worse", 3)] * 3)
    assert {d.p_value for d in worst} == {1.0}


@pytest.mark.parametrize("freedom", [1.0, 2.5, 30.0, 5000.0])
def test_student_probability_is_the_quantiles_inverse(freedom: float) -> None:
    for probability in (0.5, 0.6, 0.9, 0.975, 0.999):
        t = student_quantile(probability, freedom)
        assert student_probability(t, freedom) == pytest.approx(probability, abs=1e-6)


def test_chance_of_keeping_up_goes_with_the_interval() -> None:
    candidate, other = simulate(np.random.default_rng(3), effect=0.2)
    difference = compare_counts(candidate, other)
    low, high = difference.ci95
    for bound, chance in ((low, 0.975), (difference.difference, 0.5), (high, 0.025)):
        found = chance_of_keeping_up(candidate, other, margin=-bound)
        assert found == pytest.approx(chance, abs=1e-3)
    assert chance_of_keeping_up(candidate, other, margin=0.5) > 0.999
    assert chance_of_keeping_up(candidate, other, margin=-0.5) < 0.001


def test_chance_of_keeping_up_where_nothing_varies() -> None:
    same = np.tile(np.array([[[2, 2, 2]]]), (2, 5, 1))
    assert chance_of_keeping_up(same, same, margin=0.0) == 1.0
    assert chance_of_keeping_up(same, same, margin=-0.01) == 0.0
    assert chance_of_keeping_up(same[:, :1], same[:, :1], margin=0.1) == 0.5
