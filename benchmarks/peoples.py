"""Six taggers on `peoples`, three seeds each, in float32: the CRF rows of docs/results.md.

    python benchmarks/peoples.py [--output FOLDER] [--seeds 3]

Trains on train, chooses epochs on dev, scores once on test. NERTUNE_DATA names the folder that
holds `peoples/`. Finished runs are reused, a killed one goes on. About two hours on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPES = {
    name: ROOT / "recipes" / "peoples" / f"{name}.toml"
    for name in ("bert", "lora", "lstm", "lora-crf", "lstm-crf")
} | {"bert-crf": ROOT / "benchmarks" / "recipes" / "bert-crf.toml"}
COMPARISONS = {  # report: (baseline, the others)
    "arms": ("bert", ["lora", "lstm"]),
    "crf-bert": ("bert", ["bert-crf"]),
    "crf-lora": ("lora", ["lora-crf"]),
    "crf-lstm": ("lstm", ["lstm-crf"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "peoples")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    for name, (baseline, others) in COMPARISONS.items():
        command = [sys.executable, "-m", "nertune", "compare"]
        command += [str(RECIPES[arm]) for arm in (baseline, *others)]
        command += ["--seeds", str(arguments.seeds), "--baseline", baseline]
        command += ["--output", str(arguments.output), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        report = json.dumps(json.loads(done.stdout), ensure_ascii=False, indent=1) + "\n"
        table = (arguments.output / "report.md").read_text(encoding="utf-8")
        for suffix, content in ((".json", report), (".md", table)):
            path = results / f"peoples-{name}{suffix}"
            named = {str(arguments.output): "runs/peoples"}
            path.write_text(without_paths(content, named), encoding="utf-8")
        print(f"wrote benchmarks/results/peoples-{name}.json", file=sys.stderr)


def without_paths(content: str, named: dict[str, str]) -> str:
    """A report as it can be shown: this machine's folders by other names, no figure beside it."""
    named = {**named, f"{ROOT}/": ""}
    if data := os.environ.get("NERTUNE_DATA"):
        named[data.rstrip("/")] = "$NERTUNE_DATA"
    for folder, name in sorted(named.items(), key=lambda item: -len(item[0])):
        content = content.replace(folder, name)
    return re.sub(r"!\[.*\]\(report\.svg\)\n\n", "", content)


if __name__ == "__main__":
    main()
