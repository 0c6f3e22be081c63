"""Does self-training help with few labels? `peoples` cut to 100 and to 400 labelled sentences.

    python benchmarks/self_training.py [--sizes 100 400] [--seeds 1,2,3] [--output FOLDER]
        [--corpus FILE] [--labels soft] [--teachers 1] [--rounds 2] [--most 5000]
        [--set SECTION.KEY=VALUE]

Each seed draws the labelled sentences. The other training sentences, without their labels, are the
unlabelled text; with `--corpus` (e.g. ../shared/corpus/zh.txt.xz) that file is. The recipe is
recipes/peoples/bert.toml (the bundled encoder, full fine-tuning), whose epochs grow as the labelled
data shrink, as `nertune compare --sizes` has it. Dev chooses epoch and round, test is scored once.
Beside it stands the baseline of as many steps. NERTUNE_DATA names the folder that holds `peoples/`.
Killed, the same command goes on. About 40 minutes for 100 sentences with three seeds on two idle
cores, about an hour for 400.

Writes benchmarks/results/self-training-N.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from peoples import without_paths

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "peoples" / "bert.toml"
SENTENCES, EPOCHS = 1412, 8  # of all training data, with which the recipe trains so long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 400])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "self-training")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--labels", default="soft", choices=("soft", "hard"))
    parser.add_argument("--teachers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--most", type=int, default=5000)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--name", default="", help="Of the results, behind self-training-N.")
    arguments = parser.parse_args()
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    for size in arguments.sizes:
        name = f"self-training-{size}{arguments.name and '-'}{arguments.name}"
        output = arguments.output / name
        report = self_train(size, output, arguments)
        content = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
        table = (output / "report.md").read_text(encoding="utf-8")
        for suffix, text in ((".json", content), (".md", table)):
            path = results / f"{name}{suffix}"
            path.write_text(without_paths(text, {str(output): f"runs/{name}"}), encoding="utf-8")
        print(f"{size} sentences: {report['verdict']}")


def self_train(size: int, output: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """The report of one amount of labelled sentences."""
    data = Path(os.environ.get("NERTUNE_DATA") or ROOT.parent / "shared" / "data")
    share = size / SENTENCES
    epochs = round(EPOCHS * share ** (-2 / 3))
    command = [sys.executable, "-m", "nertune", "self-train", str(RECIPE), "--test", "--json"]
    command += ["--unlabelled", str(arguments.corpus or data / "peoples" / "train")]
    command += ["--output", str(output), "--seeds", arguments.seeds, "--resume"]
    command += ["--labels", arguments.labels, "--rounds", str(arguments.rounds)]
    command += ["--most", str(arguments.most), "--teachers", str(arguments.teachers)]
    for change in (f"data.train_share={share}", f"train.epochs={epochs}", *arguments.set):
        command += ["--set", change]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    report: dict[str, object] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    main()
