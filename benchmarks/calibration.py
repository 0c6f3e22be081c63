"""How far the scores of entities can be relied on, before and after calibration.

    python benchmarks/calibration.py peoples weibo resume [--decoders softmax crf] [--seeds 3]
    python benchmarks/calibration.py wnut17 --encoder FOLDER
    python benchmarks/calibration.py peoples weibo resume --compared runs/encoders

Trains each corpus with each decoder and seed, the best epoch and the calibration chosen on dev, and
measures on test the expected calibration error of the head's own probabilities and of the
calibrated ones, each with a 95 % bootstrap interval over documents, and that of their ratio.
`--compared` trains nothing and takes the runs of
`python benchmarks/encoders.py datasets --arms full full-crf`.
NERTUNE_DATA names the folder that holds the data. Finished runs are reused. Writes
benchmarks/results/calibration.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from encoders import find_files
from peoples import ROOT

from nertune.config.run import apply_override, parse_settings
from nertune.data.corpus import load_alike
from nertune.evaluation.reliability import calibration_error, measure_reliability
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.models.heads.calibration import Calibration
from nertune.storage.atomic import write_json, write_text
from nertune.types import Document

RESULTS = ROOT / "benchmarks" / "results"
CORPORA = ("peoples", "weibo", "resume", "wnut17")
NUM_RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="*", default=list(CORPORA[:3]), metavar="CORPUS")
    parser.add_argument("--decoders", nargs="*", default=["softmax", "crf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--encoder", default="mini-zh", help="a name or folder; English for wnut17")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="as of nertune train")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "calibration")
    parser.add_argument("--compared", type=Path, help="folder of runs to take")
    parser.add_argument("--output", type=Path, default=RESULTS / "calibration.json")
    arguments = parser.parse_args()
    rows = [
        measure(corpus, decoder, seed, arguments)
        for corpus in arguments.corpora
        for decoder in arguments.decoders
        for seed in range(1, arguments.seeds + 1)
    ]
    how: dict[str, Any] = {"epochs": arguments.epochs, "set": arguments.set}
    if arguments.compared:
        how = {"runs_of": "benchmarks/encoders.py datasets --arms full full-crf"}
    write_json(arguments.output, {**how, "runs": rows})
    text = summarise(rows)
    write_text(arguments.output.with_suffix(".md"), text)
    print(text)


def measure(corpus: str, decoder: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One training, and its two errors on test."""
    test = find_files(corpus, ("test",))["test"]
    if arguments.compared:
        arm = {"softmax": "full", "crf": "full-crf"}[decoder]
        folder = arguments.compared / f"encoders-{corpus}" / "runs" / arm / f"seed-{seed}"
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    else:
        folder = arguments.runs / f"{corpus}-{decoder}-{seed}"
        record = train_on(corpus, decoder, seed, folder, arguments)
    predictor = Predictor.load(folder / "model")
    assert predictor.manifest is not None
    gold = load_alike(test, predictor.manifest.reading).documents
    after = list(predictor.tag_documents(gold))
    fitted = predictor.calibration
    predictor.calibration = Calibration()
    before = list(predictor.tag_documents(gold))
    found = {
        name: measure_reliability(gold, documents, num_resamples=NUM_RESAMPLES)
        for name, documents in (("before", before), ("after", after))
    }
    return {
        "corpus": corpus,
        "decoder": decoder,
        "seed": seed,
        "steps": (record["calibration"] or {}).get("steps", ()),
        "calibration": fitted.model_dump(mode="json"),
        "ratio_ci95": ratio_interval(gold, before, after),
        **{name: reliability and reliability.to_dict() for name, reliability in found.items()},
    }


def train_on(
    corpus: str, decoder: str, seed: int, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The record of a training."""
    values: dict[str, Any] = {
        "run": {"dir": str(folder), "seed": seed, "name": folder.name},
        "data": {split: str(path) for split, path in find_files(corpus).items()},
        "model": {"encoder": arguments.encoder, "decoder": decoder},
        "train": {"epochs": arguments.epochs},
    }
    for override in arguments.set:
        apply_override(values, override)
    return train(parse_settings(values), resume=folder.exists())


def ratio_interval(
    gold: Sequence[Document], before: Sequence[Document], after: Sequence[Document]
) -> tuple[float, float]:
    """95 % bootstrap interval of error after / error before, over documents."""
    keys = [{entity.key for entity in document.entities} for document in gold]
    right = np.array(
        [e.key in own for own, p in zip(keys, before, strict=True) for e in p.entities]
    )
    owner = np.repeat(np.arange(len(before)), [len(p.entities) for p in before])
    scores = [np.array([e.score for p in tagged for e in p.entities]) for tagged in (before, after)]
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(NUM_RESAMPLES):
        weight = rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)))[owner].astype(float)
        one, other = (calibration_error(score, right, weight) for score in scores)
        ratios.append(other / one)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def summarise(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each corpus and decoder: means over seeds, the widest interval of the ratio.

    `by chance` is what exact scores would show of as many entities.
    """
    headings = (
        "corpus", "decoder", "seeds", "F1", "ECE before", "ECE after", "ratio", "95 %", "by chance",
    )  # fmt: skip
    lines = [headings, ["---"] * len(headings)]
    for corpus, decoder in dict.fromkeys((row["corpus"], row["decoder"]) for row in rows):
        own = [r for r in rows if (r["corpus"], r["decoder"]) == (corpus, decoder)]
        before = statistics.mean(r["before"]["ece"] for r in own)
        after = statistics.mean(r["after"]["ece"] for r in own)
        low, high = (pick(r["ratio_ci95"][i] for r in own) for i, pick in ((0, min), (1, max)))
        f1 = statistics.mean(r["after"]["thresholds"][0]["f1"] for r in own)
        cells = [f"{f1:.3f}", f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}"]
        chance = statistics.mean(r["after"]["ece_by_chance"] for r in own)
        cells += [f"[{low:.2f}, {high:.2f}]", f"{chance:.3f}"]
        lines.append([corpus, decoder, str(len(own)), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
