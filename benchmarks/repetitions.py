"""Does a comparison tell a configuration from itself, and does it see five points?

    python benchmarks/repetitions.py [--runs 8] [--set train.precision=bf16]

Trains one recipe (LoRA in the upper two layers, four epochs) with many seeds on `peoples`. Twenty
times two disjoint groups of three of these runs are compared as if they were two recipes: any
difference that is found is a false alarm. Then five points are planted: in one group each right
prediction is dropped with the probability that lowers its mean micro-F1 by five points. Writes
benchmarks/results/repetitions.json. NERTUNE_DATA names the folder with `peoples/`. Twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from encoders import find_files
from numpy.typing import NDArray
from peoples import ROOT

from nertune.comparison.compare import RunOptions, compare
from nertune.data.corpus import load_corpus
from nertune.evaluation.metrics import document_counts, f1_from_counts
from nertune.evaluation.significance import compare_counts
from nertune.storage.atomic import write_json

REPETITIONS, GROUP, PLANTED = 20, 3, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="as of nertune compare")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "repetitions")
    arguments = parser.parse_args()
    recipe = ROOT / "benchmarks" / "recipes" / "lora-top2.toml"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = compare(
        [recipe], seeds=arguments.runs, output=arguments.output,
        options=RunOptions(overrides=["train.epochs=4", *arguments.set]),
    ).configurations[0]  # fmt: skip
    gold = load_corpus(find_files("peoples")["test"]).documents
    counts = np.stack([
        document_counts(gold, load_corpus(f / "test.predictions.jsonl", format="jsonl").documents)
        for f in found.folders
    ])  # fmt: skip
    rng = np.random.default_rng(0)
    same, planted = [], []
    for _ in range(REPETITIONS):
        drawn = rng.permutation(len(counts))[: 2 * GROUP]
        one, other = counts[drawn[:GROUP]], counts[drawn[GROUP:]]
        same.append(compare_counts(one, other, seed=len(same)))
        planted.append(compare_counts(lower(one, one, rng), one, seed=len(planted)))
        planted.append(compare_counts(lower(one, other, rng), other, seed=len(planted)))
    f1 = f1_from_counts(counts.sum(axis=1))
    result: dict[str, Any] = {
        "recipe": str(recipe.relative_to(ROOT)),
        "runs": len(counts),
        "test_f1": [round(float(value), 4) for value in f1],
        "repetitions": REPETITIONS,
        "the same configuration": dict(Counter(d.verdict for d in same)),
        "five points below itself": dict(Counter(d.verdict for d in planted[::2])),
        "five points below, other seeds": dict(Counter(d.verdict for d in planted[1::2])),
        "differences of the same configuration": [round(d.difference, 4) for d in same],
        "half widths": [round((d.ci95[1] - d.ci95[0]) / 2, 4) for d in same],
    }
    write_json(ROOT / "benchmarks" / "results" / "repetitions.json", result)
    print(json.dumps(result, indent=1))


def lower(
    runs: NDArray[np.int64], reference: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Runs without some of their right predictions: five points below the reference's mean F1."""
    target = float(f1_from_counts(reference.sum(axis=1)).mean()) - PLANTED
    draws = rng.random((*runs.shape[:2], int(runs[..., 2].max())))
    is_right = np.arange(draws.shape[2]) < runs[..., 2:3]
    low, high = 0.0, 1.0
    for _ in range(40):  # bisection on the probability to drop one
        share = (low + high) / 2
        dropped = ((draws < share) & is_right).sum(axis=2)
        lowered = runs.copy()
        lowered[..., 1] -= dropped
        lowered[..., 2] -= dropped
        if float(f1_from_counts(lowered.sum(axis=1)).mean()) > target:
            low = share
        else:
            high = share
    return lowered


if __name__ == "__main__":
    main()
