"""Comparisons of made-up figures, for reports."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from nertune.comparison.results import Comparison, Configuration
from nertune.evaluation.significance import Difference

__all__ = ["BETTER", "UNCLEAR", "WORSE", "comparison", "record", "row"]

BETTER = Difference(0.031, (0.012, 0.05), 0.004, "better", 3)
WORSE = Difference(-0.031, (-0.05, -0.012), 0.0001, "worse", 3)
UNCLEAR = Difference(-0.0001, (-0.04, 0.03), 1.0, "not distinguishable", 3)


def row(value: float | None, support: int = 40, **more: Any) -> dict[str, Any]:
    return {"precision": value, "recall": value, "f1": value, "support": support, **more}


def record(level: float, seed: int, types: tuple[str, ...], num_epochs: int) -> dict[str, Any]:
    """A record of synthetic figures."""
    rng = random.Random(f"{level} {seed}")
    noise = rng.uniform(-0.02, 0.02)
    scores = {
        "micro": row(level + noise, 400),
        "macro": row(level + noise - 0.03, 400),
        "untyped": row(level + 0.04),
        "overlap": row(level + 0.06),
        "types": {
            name: row(
                max(0.0, level - 0.04 * n + rng.uniform(-0.03, 0.03)),
                300 // (n + 1),
                untyped=row(level),
                overlap=row(level),
            )
            for n, name in enumerate(types)
        },
    }
    return {
        "parameters": {"trainable": int(level * 1e6), "total": 102_000_000},
        "epochs": [
            {
                "epoch": n + 1,
                "loss": 0.6 / (n + 1) ** 1.5 * (1 + noise) / level,
                "seconds": 12.5 + noise,
                "dev": {"f1": (level + noise) * (1 - 0.6 / (n + 1))},
            }
            for n in range(num_epochs)
        ],
        "best_epoch": num_epochs,
        "seconds": 100.0,
        "peak_memory_bytes": 2**30 + seed * 2**20,
        "test": scores,
    }


def comparison(
    *,
    names: tuple[str, ...] = ("bert", "lora", "lstm"),
    types: tuple[str, ...] = ("PERSON", "LOCATION", "TIME"),
    num_seeds: int = 3,
    num_epochs: int = 5,
) -> Comparison:
    differences = [None, BETTER, WORSE, UNCLEAR, BETTER, *[UNCLEAR] * len(names)]
    seeds = tuple(range(1, num_seeds + 1))
    configurations = tuple(
        Configuration(
            name=name,
            recipe=Path(f"{name}.toml"),
            folders=tuple(Path(f"out/{name}/{seed}") for seed in seeds),
            records=tuple(
                record(max(0.2, 0.9 - 0.1 * n), seed, types, max(1, num_epochs - n))
                for seed in seeds
            ),
            split="test",
            difference=differences[n],
        )
        for n, name in enumerate(names)
    )
    data = {"path": "test.conll", "sha256": "0123456789abcdef", "documents": 408, "entities": 722}
    return Comparison(configurations, names[0], seeds, "test", data, ("A notice.",), Path("out"))
