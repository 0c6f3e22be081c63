"""Every way to tune, side by side: rates searched on dev, then three seeds on test.

    python benchmarks/methods.py search  [DATA] [--only lora dora …] [--set train.precision=bf16]
    python benchmarks/methods.py compare [DATA] [--only lora dora …] [--set train.precision=bf16]

DATA is `peoples` (the default), `weibo`, `resume` or, with `--encoder` naming an English one,
`wnut17`. The recipes are those of recipes/methods (and benchmarks/recipes), on these files.
`search` trains each at three rates, seed 1, and keeps the rate with the best dev micro-F1
(benchmarks/results/methods-rates.json, methods-rates-DATA.json); on `weibo` full tuning and LoRA
alone, on `resume` nothing: the others take the rates of `peoples`. `compare` trains each at its
rate, all seeds, the best epoch chosen on dev, and writes benchmarks/results/methods-DATA.{json,md};
with `--only` it just trains, so that several processes can share the work. NERTUNE_DATA names the
folder that holds the data. Finished runs are reused; each DATA takes one to three hours on two
cores, a run on each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from encoders import find_files
from peoples import ROOT, without_paths

from nertune.config.run import read_toml
from nertune.storage.atomic import write_json

RESULTS = ROOT / "benchmarks" / "results"
BOTH = "learning_rate+head_learning_rate"
Grid = tuple[str, tuple[float, ...]]  # the rates that matter for a method, and their values
GRIDS: dict[str, Grid] = {
    "rslora": (BOTH, (5e-4, 1e-3, 2e-3)),
    "dora": (BOTH, (1e-3, 2e-3, 4e-3)),
    "pissa": (BOTH, (5e-4, 1e-3, 2e-3)),
    "lora-plus": (BOTH, (5e-4, 1e-3, 2e-3)),
    "adalora": ("learning_rate", (2e-3, 4e-3, 8e-3)),
    "ia3": ("learning_rate", (2e-2, 5e-2, 1e-1)),
    "vera": ("learning_rate", (1e-2, 3e-2, 1e-1)),
    "oft": ("learning_rate", (1e-3, 2e-3, 4e-3)),
}
# Chosen on dev before: those of recipes/peoples.
CHOSEN: dict[str, dict[str, float]] = {
    "full": {"learning_rate": 4e-4, "head_learning_rate": 1e-3},
    "lora": {"learning_rate": 2e-3, "head_learning_rate": 2e-3},
    "lora-top2": {"learning_rate": 2e-3, "head_learning_rate": 2e-3},
}


@dataclass(frozen=True)
class Task:
    """How a data set is trained on.

    Attributes:
        epochs: of the last runs.
        methods: what is compared; the first is the baseline.
        grids: of the methods whose rate is searched on this data set.
        common: settings of `[train]` for every method but the baseline.
        search: settings of the search, by `section.key`.
        base: the data set whose rates the other methods take, or none.
    """

    epochs: int
    methods: tuple[str, ...] = (*CHOSEN, *GRIDS)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    common: Mapping[str, float] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=lambda: {"train.epochs": 4})
    base: str = ""


TASKS = {
    "peoples": Task(10, grids=GRIDS),
    "weibo": Task(
        10,
        grids={
            "full": ("learning_rate", (1.6e-4, 4e-4, 1e-3)),
            "lora": (BOTH, (1e-3, 2e-3, 4e-3)),
        },
        search={"train.epochs": 10},
        base="peoples",
    ),
    "resume": Task(5, base="peoples"),
    # A BERT that normalises last: lower rates, and a head that has one of its own.
    "wnut17": Task(
        5,
        methods=(*CHOSEN, *GRIDS, "lstm"),
        grids={
            "full": ("learning_rate", (5e-5, 1e-4, 2e-4)),
            "lora": ("learning_rate", (2.5e-4, 5e-4, 1e-3)),
            "lora-top2": ("learning_rate", (5e-4, 1e-3, 2e-3)),
            "rslora": ("learning_rate", (2.5e-4, 5e-4, 1e-3)),
            "dora": ("learning_rate", (5e-4, 1e-3, 2e-3)),
            "pissa": ("learning_rate", (2.5e-4, 5e-4, 1e-3)),
            "lora-plus": ("learning_rate", (1.25e-4, 2.5e-4, 5e-4)),
            "adalora": ("learning_rate", (2e-3, 4e-3, 8e-3)),
            "ia3": ("learning_rate", (5e-3, 1e-2, 2e-2)),
            "vera": ("learning_rate", (3e-3, 1e-2, 3e-2)),
            "oft": ("learning_rate", (5e-4, 1e-3, 2e-3)),
        },
        common={"head_learning_rate": 2e-3},
        search={"train.epochs": 5, "data.train_share": 0.3},
    ),
}
METHODS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.methods))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("search", "compare"))
    parser.add_argument("data", nargs="?", choices=TASKS, default="peoples")
    parser.add_argument("--only", nargs="*", choices=METHODS, help="methods; all by default")
    parser.add_argument("--encoder", default="", help="a folder or hub name; needed for wnut17")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="as of nertune compare")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "methods")
    arguments = parser.parse_args()
    if arguments.data == "wnut17" and not arguments.encoder:
        parser.error("wnut17 is English: name an English encoder with --encoder")
    if arguments.data != "peoples":
        arguments.output /= arguments.data
    arguments.task = TASKS[arguments.data]
    if arguments.part == "search":
        for method in arguments.only or arguments.task.grids:
            search(method, arguments)
    else:
        compare(arguments)


def search(method: str, arguments: argparse.Namespace) -> None:
    """The rate with the best dev micro-F1."""
    if method not in arguments.task.grids:
        sys.exit(f"{arguments.data}: no rates of {method} to search")
    key, grid = arguments.task.grids[method]
    found: dict[str, list[float]] = {}
    for rate in grid:
        folder = arguments.output / "search" / method / f"{rate:g}"
        if not is_finished(folder):
            path = arguments.output / "search" / method / f"{rate:g}.toml"
            changes = {"data.test": "", **arguments.task.search}
            write_recipe(path, method, arguments, dict.fromkeys(key.split("+"), rate), changes)
            command = [sys.executable, "-m", "nertune", "train", str(path), "--overwrite"]
            command += ["--set", f"run.dir={folder}", "--set", "run.seed=1"]
            for override in arguments.set:
                command += ["--set", override]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        found[f"{rate:g}"] = [epoch["dev"]["f1"] for epoch in record["epochs"]]
        print(method, key, rate, *(f"{f1:.3f}" for f1 in found[f"{rate:g}"]), flush=True)
    best = max(found, key=lambda rate: max(found[rate]))
    rates = read_rates(arguments.data)
    rates[method] = {"key": key, "rate": float(best), "dev_f1_by_epoch": found}
    order = arguments.task.grids
    write_json(rates_file(arguments.data), {name: rates[name] for name in order if name in rates})


def compare(arguments: argparse.Namespace) -> None:
    """Each method at its rate, all seeds, against full tuning."""
    task = arguments.task
    rows = {**(read_rates(task.base) if task.base else {}), **read_rates(arguments.data)}
    rates = dict(CHOSEN)
    for name, row in rows.items():
        rates[name] = dict.fromkeys(row["key"].split("+"), row["rate"])
    recipes = []
    for method in arguments.only or task.methods:
        if method in task.grids and method not in rows:
            sys.exit(f"no rate for {method} yet: run `methods.py search {arguments.data}` first")
        path = arguments.output / "recipes" / f"{method}.toml"
        write_recipe(path, method, arguments, rates.get(method, {}), {"train.epochs": task.epochs})
        recipes.append(str(path))
    command = [sys.executable, "-m", "nertune", "compare", *recipes]
    command += ["--seeds", str(arguments.seeds), "--output", str(arguments.output / "runs")]
    command += ["--json"]
    for override in arguments.set:
        command += ["--set", override]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    if arguments.only:
        return
    report = json.dumps(json.loads(done.stdout), ensure_ascii=False, indent=1) + "\n"
    table = (arguments.output / "runs" / "report.md").read_text(encoding="utf-8")
    named = {str(arguments.output): "runs/methods"}
    if arguments.encoder:
        named[arguments.encoder.rstrip("/")] = "ENCODER"
    for suffix, content in ((".json", report), (".md", table)):
        path = RESULTS / f"methods-{arguments.data}{suffix}"
        path.write_text(without_paths(content, named), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)


def write_recipe(
    path: Path,
    method: str,
    arguments: argparse.Namespace,
    rates: Mapping[str, float],
    changes: Mapping[str, Any],
) -> None:
    """A recipe of recipes/methods on other data, and with another encoder."""
    folders = [ROOT / "recipes" / "methods", ROOT / "benchmarks" / "recipes"]
    folders.append(ROOT / "recipes" / "peoples")  # the BiLSTM
    values = read_toml(next(f for f in (x / f"{method}.toml" for x in folders) if f.exists()))
    task = arguments.task
    values["data"] = {split: str(file) for split, file in find_files(arguments.data).items()}
    if arguments.encoder and "encoder" in values["model"]:
        values["model"]["encoder"] = arguments.encoder
    if method == "full":
        values["train"] |= CHOSEN["full"]
    elif method != "lstm":
        values["train"] |= task.common
    values["train"] |= {"patience": 0, **rates}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        # The BiLSTM is small and starts from nothing: the epochs of its own recipe.
        if not (method == "lstm" and key == "train.epochs"):
            values[section][name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def is_finished(folder: Path) -> bool:
    record = folder / "record.json"
    return (
        record.exists()
        and json.loads(record.read_text(encoding="utf-8")).get("status") == "finished"
    )


def rates_file(data: str) -> Path:
    return RESULTS / ("methods-rates.json" if data == "peoples" else f"methods-rates-{data}.json")


def read_rates(data: str) -> dict[str, Any]:
    """What `search` found so far."""
    if not rates_file(data).exists():
        return {}
    found: dict[str, Any] = json.loads(rates_file(data).read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
