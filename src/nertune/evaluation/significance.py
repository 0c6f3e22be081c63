"""Is one configuration better than another, or is it luck?

Two kinds of luck stand between two F1 scores: which sentences happened to be in the test set,
and which seed the training happened to get. `compare_counts` asks about both. A *sentence* here is
a row of counts: where the test data say which sentences make up a document, `document_counts` gives
whole documents, and these are swapped and drawn (Field & Welsh, 2007, *Bootstrapping clustered
data*), since sentences of one document depend on each other.

1. **Paired approximate randomisation** over sentences (Noreen, 1989, *Computer-Intensive Methods
   for Testing Hypotheses*; Yeh, 2000, *More accurate tests for the statistical significance of
   result differences*). If the configurations were alike, a sentence's two answers could trade
   places. A sentence trades all its seeds at once, since its answers depend on each other over
   seeds.
2. **Hierarchical paired bootstrap** of the difference: sentences are resampled for both
   configurations together, seeds within each. Seed noise counts, as Reimers & Gurevych (2017,
   *Reporting score distributions makes a difference*) ask: without it, a second training of the
   *same* configuration is often "significantly better". Sentences and seeds are crossed, and
   resampling both is then mildly conservative (Owen, 2007, *The pigeonhole bootstrap*).

Both must agree before anything is called better or worse. With one seed for each configuration
there is no seed noise to count: then two trained models are told apart, never two configurations,
and the verdict says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nertune.evaluation.metrics import f1_from_counts
from nertune.evaluation.resampling import chunk_sizes

__all__ = [
    "Difference",
    "Verdict",
    "chance_of_keeping_up",
    "compare_counts",
    "correct_for_many",
    "hierarchical_interval",
    "randomisation_p_value",
    "student_probability",
    "student_quantile",
]

Verdict = Literal[
    "better", "worse", "not distinguishable", "models differ", "models cannot be told apart"
]
"""The last two are about one trained model of each configuration; the others about the methods."""
Counts = NDArray[np.int64]  # [num_seeds, num_sentences, 3]: gold, predicted, correct


@dataclass(frozen=True, slots=True)
class Difference:
    """How a configuration's micro F1 differs from the baseline's.

    Attributes:
        difference: mean over seeds, configuration minus baseline, in [-1, 1].
        ci95: hierarchical bootstrap interval of the difference.
        p_value: of the randomisation test, two-sided, in (0, 1]; corrected where several are
            held against one baseline (`correct_for_many`).
        verdict: `"better"` or `"worse"` only if `p_value` < 0.05 *and* `ci95` excludes 0; with one
            seed, under the same condition, `"models differ"`, since another seed may give another
            order.
        num_seeds: trainings of each configuration. With one, seed noise is unknown: `p_value` and
            `ci95` are about the choice of sentences alone.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    verdict: Verdict
    num_seeds: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ci95": list(self.ci95)}


def compare_counts(
    candidate: Counts,
    baseline: Counts,
    *,
    num_permutations: int = 9999,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compares a configuration with a baseline.

    Swapping the two changes the sign of the result and nothing else.

    Args:
        candidate, baseline: `[num_seeds, num_sentences, 3]`, for each seed what `document_counts`
            gives; the same number of seeds on both sides. The randomisation test swaps them in
            pairs, in order; the interval draws them within each configuration.
        num_permutations: draws of the randomisation test; p cannot fall below 1 / (1 + draws).
        num_resamples: draws of the bootstrap.
        seed: the same seed gives the same answer.

    Raises:
        ValueError: the shapes differ or are not as said, or the two sides differ in gold.
    """
    _check(candidate, baseline)
    # One canonical order of the two, so that (a, b) and (b, a) see the same random draws.
    if candidate.tobytes() > baseline.tobytes():
        other = compare_counts(
            baseline,
            candidate,
            num_permutations=num_permutations,
            num_resamples=num_resamples,
            seed=seed,
        )
        return _negated(other)
    difference = _difference(candidate, baseline)
    p_value = randomisation_p_value(
        candidate, baseline, num_permutations=num_permutations, seed=seed
    )
    low, high = hierarchical_interval(candidate, baseline, num_resamples=num_resamples, seed=seed)
    verdict = _verdict(p_value, low, high, len(candidate))
    return Difference(difference, (low, high), p_value, verdict, len(candidate))


def correct_for_many(differences: Sequence[Difference]) -> list[Difference]:
    """Raise the p-values of several comparisons with one baseline (Holm, 1979).

    The chance that any of them is wrongly told apart stays below 5 % then. The intervals stay 95 %
    each.
    """
    order = sorted(range(len(differences)), key=lambda i: differences[i].p_value)
    corrected = list(differences)
    least = 0.0
    for rank, i in enumerate(order):
        one = differences[i]
        least = min(1.0, max(least, (len(order) - rank) * one.p_value))
        verdict = _verdict(least, *one.ci95, one.num_seeds)
        corrected[i] = replace(one, p_value=least, verdict=verdict)
    return corrected


def _verdict(p_value: float, low: float, high: float, num_seeds: int) -> Verdict:
    if num_seeds < 2:
        is_apart = p_value < 0.05 and not low <= 0 <= high
        return "models differ" if is_apart else "models cannot be told apart"
    if p_value < 0.05 and low > 0:
        return "better"
    return "worse" if p_value < 0.05 and high < 0 else "not distinguishable"


def randomisation_p_value(
    candidate: Counts, baseline: Counts, *, num_permutations: int = 9999, seed: int = 0
) -> float:
    """Two-sided p-value of the paired approximate randomisation test.

    The statistic is the mean over seeds of the F1 difference. A draw lets each sentence trade
    places between the configurations with probability 1/2, in all seeds together. Sentences whose
    counts are alike are drawn as one binomial; those on which both agree need no draw.

    Args:
        candidate, baseline: `[num_seeds, num_sentences, 3]`.
        num_permutations: number of draws.
        seed: of the draws.

    Returns:
        (1 + draws at least as extreme) / (1 + draws), as Noreen (1989) counts.
    """
    _check(candidate, baseline)
    observed = abs(_difference(candidate, baseline))
    num_seeds, num_sentences, _ = candidate.shape
    # What a trade moves from the one side to the other: gold stays, two counts a seed move.
    moved = (
        (baseline - candidate)[:, :, 1:].transpose(1, 0, 2).reshape(num_sentences, 2 * num_seeds)
    )
    rows, multiplicity = np.unique(moved[moved.any(axis=1)], axis=0, return_counts=True)
    if not len(rows):
        return 1.0
    rng = np.random.default_rng(seed)
    totals = candidate.sum(axis=1), baseline.sum(axis=1)  # [num_seeds, 3]
    extreme = 0
    for size in chunk_sizes(num_permutations, len(rows)):
        trades = rng.binomial(multiplicity, 0.5, size=(size, len(rows)))
        change = np.zeros((size, num_seeds, 3), dtype=np.int64)
        change[:, :, 1:] = (trades @ rows).reshape(size, num_seeds, 2)
        values = _mean_f1(totals[0] + change) - _mean_f1(totals[1] - change)
        extreme += int(np.count_nonzero(np.abs(values) >= observed - 1e-12))
    return (1 + extreme) / (1 + num_permutations)


def hierarchical_interval(
    candidate: Counts, baseline: Counts, *, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean F1 difference under both sentence noise and seed noise.

    A resample draws the sentences with replacement, the same for both sides and all seeds, and
    within each side `num_seeds - 1` seeds with replacement: with one fewer than there are, the
    variance of a mean is unbiased however few they are (Rao & Wu, 1988). Its standard deviation
    is the standard error. A handful of seeds gives percentiles too coarse to trust, so the
    interval is Student's with the bootstrap's standard error, difference ± t · standard error
    (Efron & Tibshirani, 1993, ch. 12), with the degrees of freedom that Satterthwaite (1946) gives
    the sum of the sentence part and the two seed parts.

    Args:
        candidate, baseline: `[num_seeds, num_sentences, 3]`.
        num_resamples: number of draws.
        seed: of the draws.

    Returns:
        Lower and upper bound within [-1, 1]; exactly these with a single sentence.
    """
    _check(candidate, baseline)
    if candidate.shape[1] < 2:
        return -1.0, 1.0
    error, freedom = _standard_error(candidate, baseline, num_resamples, seed)
    half_width = student_quantile(0.975, freedom) * error if error else 0.0
    difference = _difference(candidate, baseline)
    return max(-1.0, difference - half_width), min(1.0, difference + half_width)


def chance_of_keeping_up(
    candidate: Counts, baseline: Counts, *, margin: float, num_resamples: int = 2000, seed: int = 0
) -> float:
    """How sure it is that a configuration is not more than `margin` below another.

    The confidence, in [0, 1], of the one-sided interval (of `hierarchical_interval`'s kind) for
    the mean F1 difference that ends at -margin: a test of non-inferiority (Blackwelder, 1982).

    Args:
        candidate, baseline: `[num_seeds, num_sentences, 3]`.
        margin: of micro F1, e.g. 0.01.
        num_resamples: number of draws.
        seed: of the draws.
    """
    _check(candidate, baseline)
    room = _difference(candidate, baseline) + margin
    if candidate.shape[1] < 2:
        return 0.5
    error, freedom = _standard_error(candidate, baseline, num_resamples, seed)
    if not error:
        return float(room >= 0)
    chance = student_probability(abs(room) / error, freedom)
    return chance if room >= 0 else 1 - chance


def _standard_error(
    candidate: Counts, baseline: Counts, num_resamples: int, seed: int
) -> tuple[float, float]:
    """Standard error of the mean F1 difference and its degrees of freedom; 0 if nothing varies."""
    num_seeds, num_sentences, _ = candidate.shape
    resampled = _resampled_differences(candidate, baseline, num_resamples, seed)
    variance = float(resampled.var(ddof=1))
    seed_variances = [_seed_variance(candidate), _seed_variance(baseline)]
    sentence_variance = max(0.0, variance - sum(seed_variances))
    weight = sentence_variance**2 / (num_sentences - 1)
    if num_seeds > 1:
        weight += sum(value**2 for value in seed_variances) / (num_seeds - 1)
    if variance <= 1e-18 or weight <= 0.0:
        return 0.0, 1.0
    return math.sqrt(variance), variance**2 / weight


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t distribution; degrees of freedom below 1 count as 1.

    Args:
        probability: in [0.5, 1).
        degrees_of_freedom: ν, need not be whole.
    """
    freedom, theta, cumulative = _student_table(degrees_of_freedom)
    angle = np.interp(2 * probability - 1, cumulative, theta)
    return float(math.sqrt(freedom) * math.tan(angle))


def student_probability(t: float, degrees_of_freedom: float) -> float:
    """Share of Student's t distribution below `t`; the inverse of `student_quantile`.

    Args:
        t: at least 0.
        degrees_of_freedom: ν, need not be whole.
    """
    freedom, theta, cumulative = _student_table(degrees_of_freedom)
    angle = math.atan(t / math.sqrt(freedom))
    return float(0.5 + np.interp(angle, theta, cumulative) / 2)


def _student_table(
    degrees_of_freedom: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """ν as it is used, angles, and the share of the distribution's upper half up to each.

    With t = √ν · tan θ the density becomes cos^(ν-1) θ on a finite range, which a fine grid
    integrates; beyond 10,000 degrees of freedom the distribution counts as normal enough.
    """
    freedom = min(max(degrees_of_freedom, 1.0), 10_000.0)
    # Beyond this angle less than 1e-12 of the density's height is left; ν = 1 needs all of it.
    widest = math.pi / 2 if freedom < 50 else math.acos(10.0 ** (-12 / (freedom - 1)))
    theta = np.linspace(0.0, widest, 20_001)
    density = np.cos(theta) ** (freedom - 1)
    steps = (density[1:] + density[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return freedom, theta, cumulative / cumulative[-1]


def _resampled_differences(
    candidate: Counts, baseline: Counts, num_resamples: int, seed: int
) -> NDArray[np.float64]:
    num_seeds, num_sentences, _ = candidate.shape
    both = np.concatenate([candidate, baseline])  # [2 · num_seeds, num_sentences, 3]
    flat = both.transpose(1, 0, 2).reshape(num_sentences, -1)
    rows, multiplicity = np.unique(flat, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    differences = []
    for size in chunk_sizes(num_resamples, len(rows)):
        weights = rng.multinomial(num_sentences, multiplicity / num_sentences, size=size)
        counts = (weights @ rows).reshape(size, 2, num_seeds, 3)
        f1 = np.nan_to_num(f1_from_counts(counts))  # [size, candidate or baseline, num_seeds]
        drawn = rng.integers(num_seeds, size=(size, 2, max(1, num_seeds - 1)))
        means = np.take_along_axis(f1, drawn, axis=2).mean(axis=2)
        differences.append(means[:, 0] - means[:, 1])
    return np.concatenate(differences)


def _seed_variance(counts: Counts) -> float:
    """Variance of the mean over seeds of F1 on the whole test set; 0 where one seed hides it."""
    if len(counts) < 2:
        return 0.0
    f1 = np.nan_to_num(f1_from_counts(counts.sum(axis=1)))
    return float(f1.var(ddof=1)) / len(counts)


def _difference(candidate: Counts, baseline: Counts) -> float:
    return float(_mean_f1(candidate.sum(axis=1)) - _mean_f1(baseline.sum(axis=1)))


def _mean_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over seeds of `[..., num_seeds, 3]`; F1 without gold and prediction counts as 0."""
    return np.asarray(np.nan_to_num(f1_from_counts(counts)).mean(axis=-1))


def _negated(difference: Difference) -> Difference:
    opposite: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    low, high = difference.ci95
    return Difference(
        difference=0.0 - difference.difference,
        ci95=(0.0 - high, 0.0 - low),
        p_value=difference.p_value,
        verdict=opposite.get(difference.verdict, difference.verdict),
        num_seeds=difference.num_seeds,
    )


def _check(candidate: Counts, baseline: Counts) -> None:
    if (
        candidate.shape != baseline.shape
        or candidate.ndim != 3
        or candidate.shape[2] != 3
        or not len(candidate)
    ):
        raise ValueError(
            "expected two arrays of one shape [num_seeds, num_sentences, 3], "
            f"got {candidate.shape} and {baseline.shape}"
        )
    if (candidate[..., 0] != candidate[0, :, 0]).any() or (
        baseline[..., 0] != candidate[0, :, 0]
    ).any():
        raise ValueError("the two configurations were scored against different gold entities")
