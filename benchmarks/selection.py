"""How many labelled units does a strategy of `nertune select` need? Replays a labelled corpus.

    python benchmarks/selection.py DATA [--strategies random,mnlp] [--seeds 5] [--output FOLDER]
    python benchmarks/selection.py --train FILE --dev FILE --name NAME …

DATA is `resume`, `weibo` or `peoples` in the folder that NERTUNE_DATA names. For each seed: units
drawn at random begin; a tagger is trained on them; each strategy chooses from the other sentences,
without their labels, as many units as make the labelled ones `--growth` times as many; the gold
labels of these are added; and so on, until dev micro-F1 reaches that of all training data less
`--points`, or `--share` of the training units is labelled. Only the last epoch counts, so dev
chooses nothing.

By default a LoRA adapter on the upper two layers of `mini-zh` is trained, with the layers below run
once; `--recipe` names another recipe, `--set` changes one. Every training sees about as many units
(`--presented`), at least `--epochs` epochs. `random` is always run, since the others are compared
with it. Finished trainings are reused, and a killed one goes on. Writes
benchmarks/results/selection-NAME.json, and with `--figure` NAME.png (needs nertune[report]).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe_machine
from peoples import ROOT

from nertune.config.run import Settings, apply_override, parse_settings
from nertune.data.corpus import Corpus, load_corpus
from nertune.errors import DataError
from nertune.evaluation.metrics import score
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.semisupervised.selection.pool import Budget
from nertune.semisupervised.selection.select import STRATEGIES, Wanted, select_documents
from nertune.semisupervised.selection.states import TextVectors
from nertune.storage.atomic import write_json
from nertune.tokens.units import choose_unit, cut_units

FILES = dict.fromkeys(("resume", "weibo", "cluener", "wnut17"), ("train.conll", "dev.conll"))
FILES["peoples"] = ("train", "dev")
RECIPE: dict[str, dict[str, Any]] = {
    "model": {"encoder": "mini-zh", "tuning": "lora", "decoder": "softmax"},
    "lora": {
        "rank": 8, "alpha": 32, "dropout": 0.1, "layers": "top-2",
        "targets": ["query", "key", "value", "attention_output", "intermediate", "output"],
    },
    "train": {"batch_tokens": 512, "learning_rate": 2e-3, "head_learning_rate": 2e-3},
}  # fmt: skip
T_QUANTILE = {
    1: 12.71,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}


class Replay:
    """A labelled corpus whose labels are given out as they are asked for."""

    def __init__(self, arguments: argparse.Namespace, files: Sequence[Path]):
        self.arguments = arguments
        gold = load_corpus(files[0]).documents
        self.gold = tuple(replace(d, id=str(i)) for i, d in enumerate(gold))
        self.dev = load_corpus(files[1]).documents
        self.unit = choose_unit(self.gold)
        self.sizes = [
            sum(not d.text[a:b].isspace() for a, b in cut_units(d, self.unit)) for d in self.gold
        ]
        self.output: Path = arguments.output / arguments.name

    def units(self, chosen: Sequence[int]) -> int:
        return sum(self.sizes[i] for i in chosen)

    def point(self, folder: Path, chosen: Sequence[int], seed: int) -> dict[str, Any]:
        """Train on these sentences and score on dev."""
        path = folder / "point.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            assert found["chosen"] == list(chosen), f"{folder} is of other settings; remove it"
            return found
        started = time.perf_counter()
        documents = [self.gold[i] for i in chosen]
        settings = self.settings(folder / "run", self.units(chosen), seed)
        train(settings, corpora={"train": Corpus.from_documents(documents)},
              resume=(folder / "run").is_dir())  # fmt: skip
        predictor = Predictor.load(folder / "run" / "model")
        scores = score(self.dev, list(predictor.tag_documents(self.dev, with_scores=False)),
                       types=predictor.labels)  # fmt: skip
        found = {
            "units": self.units(chosen), "documents": len(chosen),
            "entities": sum(len(d.entities) for d in documents),
            "f1": scores.micro.f1, "seconds": round(time.perf_counter() - started, 1),
            "chosen": list(chosen),
        }  # fmt: skip
        write_json(path, found)
        print(f"{folder.relative_to(self.output)}: {found['units']:,} units, dev F1 "
              f"{found['f1']:.4f} ({found['seconds']:.0f} s)", file=sys.stderr)  # fmt: skip
        return found

    def settings(self, folder: Path, units: int, seed: int) -> Settings:
        """The recipe with as many epochs as present the wanted number of units."""
        arguments = self.arguments
        values = tomllib.loads(arguments.recipe.read_text("utf-8")) if arguments.recipe else RECIPE
        epochs = min(arguments.most_epochs, max(arguments.epochs, arguments.presented // units))
        sections = {
            **values,
            "data": {"train": "gold", "dev": ""},
            "run": {**values.get("run", {}), "dir": str(folder), "seed": seed, "device": "auto"},
            "train": {**values.get("train", {}), "epochs": epochs, "patience": 0},
        }
        sections = json.loads(json.dumps(sections))  # overrides change them in place
        for override in arguments.set:
            apply_override(sections, override)
        return parse_settings(sections)

    def start(self, seed: int) -> list[int]:
        """Sentences drawn at random; of later ones none that is equal or nearly so."""
        wanted = Wanted(Budget(units=self.arguments.start), "random", self.unit, seed=seed)
        return [int(c.document.id) for c in select_documents(lambda: self.gold, wanted).chosen]

    def follow(self, strategy: str, seed: int, target: float) -> list[dict[str, Any]]:
        """The learning curve of a strategy."""
        base = self.output / f"seed-{seed}"
        chosen = self.start(seed)
        folder = base / "start"
        points = [self.point(folder, chosen, seed)]
        limit = self.arguments.share * sum(self.sizes)
        while points[-1]["f1"] < target and points[-1]["units"] < limit:
            more = self.choose(
                strategy, seed + 1000 * len(points), chosen, folder / "run" / "model"
            )
            if not more:
                break
            chosen = [*chosen, *more]
            folder = base / strategy / f"round-{len(points)}"
            points.append(self.point(folder, chosen, seed))
        return points

    def choose(self, strategy: str, seed: int, chosen: Sequence[int], model: Path) -> list[int]:
        """The next sentences; none when all others are equal or nearly so to labelled ones."""
        predictor = Predictor.load(model)
        budget = Budget(units=round(self.units(chosen) * (self.arguments.growth - 1)))
        wanted = Wanted(budget, strategy, self.unit, seed=seed, predictions=False)  # type: ignore[arg-type]
        others = set(range(len(self.gold))) - set(chosen)
        pool = [self.gold[i].with_entities(()) for i in sorted(others)]
        try:
            found = select_documents(
                lambda: pool, wanted, predictor=predictor,
                vectors=TextVectors.of_predictor(predictor) if strategy == "diversity" else None,
                labelled=[self.gold[i] for i in chosen],
            )  # fmt: skip
        except DataError:
            return []
        return [int(c.document.id) for c in found.chosen]


def units_to_reach(points: Sequence[dict[str, Any]], target: float) -> float | None:
    """The units at which the curve first reaches a score, between two points on the line."""
    for before, after in zip([None, *points], points, strict=False):
        if after["f1"] < target:
            continue
        if before is None:
            return float(after["units"])
        share = (target - before["f1"]) / (after["f1"] - before["f1"])
        return float(before["units"] + share * (after["units"] - before["units"]))
    return None


def summarise(curves: dict[str, dict[str, Any]], strategies: Sequence[str]) -> dict[str, Any]:
    """Units to the target by strategy, and their ratio to those of random, seed by seed."""
    needed = {
        s: {seed: units_to_reach(found["curves"][s], found["target"])
            for seed, found in curves.items()}
        for s in strategies
    }  # fmt: skip
    table: dict[str, Any] = {}
    for strategy, by_seed in needed.items():
        pairs = [(u, needed["random"][seed]) for seed, u in by_seed.items()]
        ratios = [u / r for u, r in pairs if u is not None and r is not None]
        reached = [u for u in by_seed.values() if u is not None]
        table[strategy] = {
            "units": by_seed,
            "mean_units": statistics.fmean(reached) if reached else None,
            "not_reached": len(by_seed) - len(reached),
            "ratio_to_random": geometric_mean(ratios),
        }
    return table


def geometric_mean(ratios: Sequence[float]) -> dict[str, float] | None:
    """With its 95 % interval (Student's t, of logarithms); no interval of one ratio."""
    if not ratios:
        return None
    logs = [math.log(ratio) for ratio in ratios]
    mean, count = statistics.fmean(logs), len(logs)
    if count < 2:
        return {"mean": math.exp(mean), "pairs": count}
    half = T_QUANTILE.get(count - 1, 2.0) * statistics.stdev(logs) / math.sqrt(count)
    return {"mean": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half),
            "pairs": count}  # fmt: skip


def show(table: dict[str, Any]) -> None:
    print(f"{'strategy':<16}{'units':>10}{'missed':>8}  ratio to random (95 %)")
    for strategy, row in table.items():
        ratio = row["ratio_to_random"]
        told = "–" if ratio is None else f"{ratio['mean']:.2f}"
        if ratio and "low" in ratio:
            told += f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        units = "–" if row["mean_units"] is None else f"{row['mean_units']:,.0f}"
        print(f"{strategy:<16}{units:>10}{row['not_reached']:>8}  {told}")


def draw(curves: dict[str, dict[str, Any]], strategies: Sequence[str], path: Path) -> None:
    """Dev F1 over units: one line a seed, one colour a strategy."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, strategy in enumerate(strategies):
        for index, found in enumerate(curves.values()):
            points = found["curves"][strategy]
            axes.plot([p["units"] for p in points], [p["f1"] for p in points], color=f"C{number}",
                      alpha=0.7, marker=".", label=strategy if index == 0 else None)  # fmt: skip
    axes.axhline(np.mean([found["target"] for found in curves.values()]), color="grey", ls="--")
    axes.set_xscale("log")
    axes.set_xlabel("labelled units")
    axes.set_ylabel("dev micro-F1")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", choices=tuple(FILES))
    parser.add_argument("--train", type=Path)
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--strategies", default="mnlp,span-entropy")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--start", type=int, default=2000, help="units labelled at first")
    parser.add_argument("--growth", type=float, default=1.5)
    parser.add_argument("--points", type=float, default=1.0, help="below the F1 of all data")
    parser.add_argument("--share", type=float, default=1.0, help="of the training units, at most")
    parser.add_argument("--presented", type=int, default=600_000, help="units a training sees")
    parser.add_argument("--epochs", type=int, default=8, help="at least")
    parser.add_argument("--most-epochs", type=int, default=60)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "selection")
    parser.add_argument("--figure", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None and not (arguments.train and arguments.dev and arguments.name):
        parser.error("name DATA, or --train, --dev and --name")
    arguments.name = arguments.name or arguments.data
    return arguments


def main() -> None:
    arguments = parse()
    files = (arguments.train, arguments.dev)
    if arguments.data:
        if not (data := os.environ.get("NERTUNE_DATA")):
            sys.exit(f"set NERTUNE_DATA to the folder that holds {arguments.data}/")
        files = tuple(Path(data) / arguments.data / name for name in FILES[arguments.data])
    strategies = list(dict.fromkeys(["random", *arguments.strategies.split(",")]))
    if unknown := set(strategies) - set(STRATEGIES):
        sys.exit(f"--strategies: {', '.join(sorted(unknown))}: expected {', '.join(STRATEGIES)}")
    replay = Replay(arguments, files)
    everything = range(len(replay.gold))
    curves: dict[str, dict[str, Any]] = {}
    for seed in range(1, arguments.seeds + 1):
        full = replay.point(replay.output / f"seed-{seed}" / "full", everything, seed)
        target = full["f1"] - arguments.points / 100
        curves[str(seed)] = {"full": without_choice(full), "target": target, "curves": {
            s: [without_choice(p) for p in replay.follow(s, seed, target)] for s in strategies
        }}  # fmt: skip
    table = summarise(curves, strategies)
    options = {k: v for k, v in vars(arguments).items() if not isinstance(v, Path)}
    options["recipe"] = "the default" if arguments.recipe is None else arguments.recipe.name
    result = {"data": arguments.name, "unit": replay.unit, "options": options,
              "training_units": sum(replay.sizes), "dev_sentences": len(replay.dev),
              "table": table, "seeds": curves, "machine": describe_machine()}  # fmt: skip
    write_json(RESULTS / f"selection-{arguments.name}.json", result)
    if arguments.figure:
        draw(curves, strategies, RESULTS / f"selection-{arguments.name}.png")
    show(table)


def without_choice(point: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in point.items() if key != "chosen"}


if __name__ == "__main__":
    main()
