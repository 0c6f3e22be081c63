"""Do batches from length buckets cost F1 against batches of random sentences?

    python benchmarks/buckets.py [--seeds 1 2 3] [--set train.precision=bf16]

Trains recipes/peoples/bert.toml with either; the same pieces in a batch, padding counted, so random
batches hold fewer sentences and an epoch has more of them. NERTUNE_DATA names the folder that holds
the data. Writes benchmarks/results/buckets.json.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from machine import describe_machine, write_result
from peoples import ROOT

from nertune.config.run import load_settings
from nertune.experiments.train import train
from nertune.tokens import grouping

RECIPE = ROOT / "recipes" / "peoples" / "bert.toml"
POOLS = {"buckets": grouping._POOL_BATCHES, "random": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", choices=tuple(POOLS), default=list(POOLS))
    parser.add_argument("--set", action="append", default=[], help="as of nertune train")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name in arguments.only:
        grouping._POOL_BATCHES = POOLS[name]
        scores = {}
        for seed in arguments.seeds:
            folder = ROOT / "runs" / "buckets" / f"{name}-{seed}"
            record = train(
                load_settings(RECIPE, [f"run.dir={folder}", f"run.seed={seed}", *arguments.set]),
                resume=True,
            )
            scores[seed] = {
                "dev": record["dev"]["micro"]["f1"], "test": record["test"]["micro"]["f1"],
                "seconds_an_epoch": round(
                    statistics.median(epoch["seconds"] for epoch in record["epochs"]), 1
                ),
            }  # fmt: skip
        found[name] = scores
    write_result("buckets", {"machine": describe_machine(), "batches": found})


if __name__ == "__main__":
    main()
