"""Every way to tune on `peoples`: rates searched on dev, then three seeds on test.

    python benchmarks/methods.py search  [--only lora dora …] [--set train.precision=bf16]
    python benchmarks/methods.py compare [--only lora dora …] [--set train.precision=bf16]

The recipes are those of recipes/methods (and benchmarks/recipes), on peoples' files. `search`
trains each at three rates, four epochs, seed 1, and keeps the rate with the best dev micro-F1
(benchmarks/results/methods-rates.json). `compare` trains each at its rate, ten epochs, all seeds,
the best epoch chosen on dev, and writes benchmarks/results/methods-peoples.{json,md}; with `--only`
it just trains, so that several processes can share the work. NERTUNE_DATA names the folder that
holds `peoples/`. Finished runs are reused; about three hours on two cores, one run on each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomli_w
from encoders import find_files
from peoples import ROOT, without_paths

from nertune.config import read_toml
from nertune.runs.record import write_json

RATES = ROOT / "benchmarks" / "results" / "methods-rates.json"
# The key of the rate that matters for a method, and the rates tried.
GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "rslora": ("rate", (5e-4, 1e-3, 2e-3)),
    "dora": ("rate", (1e-3, 2e-3, 4e-3)),
    "pissa": ("rate", (5e-4, 1e-3, 2e-3)),
    "lora-plus": ("rate", (5e-4, 1e-3, 2e-3)),
    "adalora": ("adapter_rate", (2e-3, 4e-3, 8e-3)),
    "ia3": ("adapter_rate", (2e-2, 5e-2, 1e-1)),
    "vera": ("adapter_rate", (1e-2, 3e-2, 1e-1)),
    "oft": ("adapter_rate", (1e-3, 2e-3, 4e-3)),
}
# Chosen on dev before: those of recipes/peoples.
CHOSEN: dict[str, dict[str, float]] = {
    "full": {"rate": 4e-3, "encoder_factor": 0.1, "head_rate": 1e-3},
    "lora": {"rate": 2e-3},
    "lora-top2": {"rate": 2e-3},
}
METHODS = (*CHOSEN, *GRIDS)
SEARCH_EPOCHS, EPOCHS = 4, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("search", "compare"))
    parser.add_argument("--only", nargs="*", choices=METHODS, help="methods; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="as of nertune compare")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "methods")
    arguments = parser.parse_args()
    files = {split: str(path) for split, path in find_files("peoples").items()}
    if arguments.part == "search":
        for method in arguments.only or GRIDS:
            search(method, files, arguments)
    else:
        compare(files, arguments)


def search(method: str, files: dict[str, str], arguments: argparse.Namespace) -> None:
    """The rate with the best dev micro-F1."""
    key, grid = GRIDS[method]
    found: dict[str, list[float]] = {}
    for rate in grid:
        folder = arguments.output / "search" / method / f"{rate:g}"
        if not is_finished(folder):
            path = arguments.output / "search" / method / f"{rate:g}.toml"
            write_recipe(path, method, {**files, "test": ""}, SEARCH_EPOCHS, {key: rate})
            command = [sys.executable, "-m", "nertune", "train", str(path), "--overwrite"]
            command += ["--set", f"run.dir={folder}", "--set", "run.seed=1"]
            for override in arguments.set:
                command += ["--set", override]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        found[f"{rate:g}"] = [epoch["dev"]["f1"] for epoch in record["epochs"]]
        print(method, key, rate, *(f"{f1:.3f}" for f1 in found[f"{rate:g}"]), flush=True)
    best = max(found, key=lambda rate: max(found[rate]))
    rates = read_rates()
    rates[method] = {"key": key, "rate": float(best), "dev_f1_by_epoch": found}
    write_json(RATES, {name: rates[name] for name in GRIDS if name in rates})


def compare(files: dict[str, str], arguments: argparse.Namespace) -> None:
    """Each method at its rate, all seeds, against full tuning."""
    searched = {name: {row["key"]: row["rate"]} for name, row in read_rates().items()}
    rates = {**CHOSEN, **searched}
    methods = arguments.only or METHODS
    recipes = []
    for method in methods:
        path = arguments.output / "recipes" / f"{method}.toml"
        write_recipe(path, method, files, EPOCHS, rates[method])
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
    for suffix, content in ((".json", report), (".md", table)):
        path = RATES.with_name(f"methods-peoples{suffix}")
        named = {str(arguments.output): "runs/methods"}
        path.write_text(without_paths(content, named), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)


def write_recipe(
    path: Path, method: str, files: dict[str, str], epochs: int, rates: dict[str, float]
) -> None:
    """A recipe of recipes/methods on other data."""
    folders = [ROOT / "recipes" / "methods", ROOT / "benchmarks" / "recipes"]
    values = read_toml(next(f for f in (x / f"{method}.toml" for x in folders) if f.exists()))
    values["data"] = files
    values["train"] |= {"epochs": epochs, "patience": 0, **rates}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def is_finished(folder: Path) -> bool:
    record = folder / "record.json"
    return (
        record.exists()
        and json.loads(record.read_text(encoding="utf-8")).get("status") == "finished"
    )


def read_rates() -> dict[str, Any]:
    """What `search` found so far."""
    if not RATES.exists():
        return {}
    found: dict[str, Any] = json.loads(RATES.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
