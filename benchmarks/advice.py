"""Is what `advise` picks within a point of the best of a full grid?

    python benchmarks/advice.py grid DATA    [--set train.precision=bf16]
    python benchmarks/advice.py advise DATA  [--minutes 15]
    python benchmarks/advice.py verdict DATA

DATA is `weibo`, `resume` or `cluener`: the first 400 training sentences and the first 200 of dev,
as someone with a few hundred labelled sentences has them; all of test (`cluener`, whose test labels
are not public: the rest of dev). `grid`: three rates of full fine-tuning and three of LoRA with all
five shapes that an advice may try, seed 1, as many epochs as an advice's recipe says; the best four
on dev go on to seeds 2 and 3. `advise` runs the command on the same train and dev. `verdict` trains
its pick with the same three seeds, compares it on test with the grid's best (by its mean on dev: a
grid search does not see test either), and writes benchmarks/results/advice-DATA.json. NERTUNE_DATA
names the folder that holds the data. Finished runs are reused; each DATA takes about an hour and a
half on one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomli_w
from encoders import find_files, first_sentences, save_sentences
from peoples import ROOT, without_paths

from nertune.comparison.search.candidates import (
    Candidate,
    ideal_epochs,
    try_rates,
    try_shapes,
)
from nertune.models.encoder import read_config
from nertune.storage.atomic import write_json

ENCODER, BATCH_TOKENS = "mini-zh", 512
TRAIN, DEV = 400, 200
FINALISTS, SEEDS = 4, 3
SCORED_ON = {"weibo": "all of test", "resume": "all of test", "cluener": "the rest of dev"}
PICK = "pick"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("grid", "advise", "verdict"))
    parser.add_argument("data", choices=tuple(SCORED_ON))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--set", action="append", default=[], help="as of nertune compare")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "advice")
    arguments = parser.parse_args()
    arguments.output /= arguments.data
    files = cut_files(arguments.data, arguments.output)
    {"grid": grid, "advise": advise, "verdict": verdict}[arguments.part](arguments, files)


def cut_files(data: str, output: Path) -> dict[str, Path]:
    """The few sentences to train and to choose with, and many to score on."""
    if SCORED_ON[data] == "all of test":
        files = find_files(data)
    else:
        files = find_files(data, ("train", "dev"))
        target = output / "test" / "data" / f"{data}-rest.conll"
        files["test"] = save_sentences(files["dev"], slice(DEV, None), target)
    for split, count in (("train", TRAIN), ("dev", DEV)):
        files[split] = first_sentences(files[split], count, output / split)
    return files


def all_settings() -> list[Candidate]:
    """The grid."""
    config = read_config(ENCODER)
    found = []
    for candidate in try_rates(config):
        found.append(candidate)
        if candidate.method == "lora":
            found += try_shapes(candidate, config)
    return found


def grid(arguments: argparse.Namespace, files: dict[str, Path]) -> None:
    """Everything with one seed, the best with three."""
    settings = all_settings()
    recipes = [write_recipe(arguments, files, c.name, c.changes) for c in settings]
    run_compare(arguments, recipes, 1)
    dev = {recipe.stem: mean_f1(arguments, recipe.stem, 1, "dev") for recipe in recipes}
    finalists = sorted(recipes, key=lambda recipe: -dev[recipe.stem])[:FINALISTS]
    run_compare(arguments, finalists, SEEDS)
    write_json(
        arguments.output / "grid.json",
        {"dev_f1": dev, "finalists": [recipe.stem for recipe in finalists]},
    )


def advise(arguments: argparse.Namespace, files: dict[str, Path]) -> None:
    """The command, on the same train and dev."""
    command = [sys.executable, "-m", "nertune", "advise", str(files["train"])]
    command += ["--dev", str(files["dev"]), "--minutes", str(arguments.minutes)]
    command += ["--encoder", ENCODER, "--output", str(arguments.output / "advice")]
    command += [part for override in arguments.set for part in ("--set", override)]
    subprocess.run(command, check=True)


def verdict(arguments: argparse.Namespace, files: dict[str, Path]) -> None:
    """The pick against the grid's best."""
    found = json.loads((arguments.output / "grid.json").read_text(encoding="utf-8"))
    advice = json.loads((arguments.output / "advice" / "advise.json").read_text(encoding="utf-8"))
    advice = advice["advice"]
    picked = advice["chosen"][advice["choice"]]
    finalists = found["finalists"]
    best = max(finalists, key=lambda name: mean_f1(arguments, name, SEEDS, "dev"))
    recipes = [arguments.output / "recipes" / f"{name}.toml" for name in finalists]
    if picked["name"] not in finalists:
        recipes.append(write_recipe(arguments, files, picked["name"], picked["changes"]))
    report = run_compare(arguments, recipes, SEEDS, baseline=best)
    scores = {
        recipe.stem: {
            split: mean_f1(arguments, recipe.stem, SEEDS, split) for split in ("dev", "test")
        }
        for recipe in recipes
    }
    few = f"first {TRAIN} training and {DEV} dev sentences"
    result = {
        "data": f"{arguments.data}, {few}, {SCORED_ON[arguments.data]}",
        "overrides": arguments.set,
        "grid, dev micro-F1 of seed 1": found["dev_f1"],
        "means of three seeds": scores,
        "best of the grid by dev": best,
        "best of the grid by test": max(finalists, key=lambda name: scores[name]["test"]),
        "picked": picked["name"],
        "picked minus best, test": scores[picked["name"]]["test"] - scores[best]["test"],
        "minutes asked": arguments.minutes,
        "minutes taken": advice["seconds"] / 60,
        "verdict of the advice": advice["verdict"],
        "comparison": report,
    }
    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    path = ROOT / "benchmarks" / "results" / f"advice-{arguments.data}.json"
    path.write_text(without_paths(text, {str(arguments.output): "runs/advice"}), encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "comparison"}, indent=1))


def write_recipe(
    arguments: argparse.Namespace, files: dict[str, Path], name: str, changes: dict[str, Any]
) -> Path:
    """A setting as a recipe."""
    values: dict[str, Any] = {
        "data": {split: str(path) for split, path in files.items()},
        "model": {"encoder": ENCODER},
        "train": {"batch_tokens": BATCH_TOKENS, "epochs": ideal_epochs(TRAIN), "patience": 0},
    }
    for key, value in changes.items():
        section, _, setting = key.partition(".")
        values.setdefault(section, {})[setting] = value
    path: Path = arguments.output / "recipes" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    return path


def run_compare(
    arguments: argparse.Namespace, recipes: list[Path], seeds: int, baseline: str = ""
) -> Any:
    command = [sys.executable, "-m", "nertune", "compare", *map(str, recipes), "--json"]
    command += ["--seeds", str(seeds), "--output", str(arguments.output / "runs")]
    command += ["--baseline", baseline] if baseline else []
    command += [part for override in arguments.set for part in ("--set", override)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def mean_f1(arguments: argparse.Namespace, name: str, seeds: int, split: str) -> float:
    """Micro-F1 of the seeds' runs."""
    total = 0.0
    for seed in range(1, seeds + 1):
        path = arguments.output / "runs" / "runs" / name / f"seed-{seed}" / "record.json"
        total += json.loads(path.read_text(encoding="utf-8"))[split]["micro"]["f1"]
    return total / seeds


if __name__ == "__main__":
    main()
