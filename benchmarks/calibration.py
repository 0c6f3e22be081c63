"""How far the scores of entities can be relied on, before and after calibration.

    python benchmarks/calibration.py peoples weibo resume [--decoders softmax crf] [--seeds 3]
    python benchmarks/calibration.py wnut17 --encoder FOLDER
    python benchmarks/calibration.py peoples weibo resume --compared runs/encoders

Trains each corpus with each decoder and seed, the best epoch and the calibration chosen on dev, and
measures on test the expected calibration error of the head's own probabilities and of the
calibrated ones, each with a 95 % bootstrap interval over documents, and that of their ratio. Its
interval is over documents, the same resamples for all seeds.
`--compared` trains nothing and takes the runs of
`python benchmarks/encoders.py datasets --methods full full-crf --name crf`.
NERTUNE_DATA names the folder that holds the data. Finished runs are reused. Writes
benchmarks/results/calibration.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from encoders import find_files
from numpy.typing import NDArray
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

Draws: TypeAlias = dict[str, NDArray[np.float64]]


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
    measured = [
        measure(corpus, decoder, seed, arguments)
        for corpus in arguments.corpora
        for decoder in arguments.decoders
        for seed in range(1, arguments.seeds + 1)
    ]
    rows = [row for row, _ in measured]
    summary = summarise(rows, [draws for _, draws in measured])
    how: dict[str, Any] = {"epochs": arguments.epochs, "set": arguments.set}
    if arguments.compared:
        how = {"runs_of": "benchmarks/encoders.py datasets --methods full full-crf"}
    write_json(arguments.output, {**how, "summary": summary, "runs": rows})
    text = show(summary)
    write_text(arguments.output.with_suffix(".md"), text)
    print(text)


def measure(
    corpus: str, decoder: str, seed: int, arguments: argparse.Namespace
) -> tuple[dict[str, Any], Draws]:
    """One training, its two errors on test, and those of resamples."""
    test = find_files(corpus, ("test",))["test"]
    if arguments.compared:
        method = {"softmax": "full", "crf": "full-crf"}[decoder]
        folder = arguments.compared / f"encoders-{corpus}" / "runs" / method / f"seed-{seed}"
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
    row = {
        "corpus": corpus,
        "decoder": decoder,
        "seed": seed,
        "steps": (record["calibration"] or {}).get("steps", ()),
        "calibration": fitted.model_dump(mode="json"),
        **{name: reliability and reliability.to_dict() for name, reliability in found.items()},
    }
    return row, {"before": draw_errors(gold, before), "after": draw_errors(gold, after)}


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


def draw_errors(gold: Sequence[Document], tagged: Sequence[Document]) -> NDArray[np.float64]:
    """The error of each bootstrap resample of documents: the same ones for every call."""
    keys = [{entity.key for entity in document.entities} for document in gold]
    right = np.array(
        [e.key in own for own, p in zip(keys, tagged, strict=True) for e in p.entities]
    )
    owner = np.repeat(np.arange(len(tagged)), [len(p.entities) for p in tagged])
    scores = np.array([e.score for p in tagged for e in p.entities])
    rng = np.random.default_rng(0)
    chances = np.full(len(gold), 1 / len(gold))
    weights = (rng.multinomial(len(gold), chances)[owner] for _ in range(NUM_RESAMPLES))
    return np.array([calibration_error(scores, right, w.astype(float)) for w in weights])


def ratio_of_means(
    rows: Sequence[dict[str, Any]], draws: Sequence[Draws]
) -> tuple[float, tuple[float, float]]:
    """Mean error over seeds after calibration / before, with its 95 % interval over documents.

    Resamples are moved by their bias, as in `measure_reliability`.
    """
    means, resampled = [], []
    for name in ("after", "before"):
        mean = statistics.mean(row[name]["ece"] for row in rows)
        drawn = np.mean([draw[name] for draw in draws], axis=0)
        means.append(mean)
        resampled.append(np.maximum(drawn - drawn.mean() + mean, 1e-6))
    low, high = np.quantile(resampled[0] / resampled[1], [0.025, 0.975])
    return means[0] / means[1], (float(low), float(high))


def summarise(rows: Sequence[dict[str, Any]], draws: Sequence[Draws]) -> list[dict[str, Any]]:
    """One entry for each corpus and decoder: means over seeds.

    `by_chance` is what exact scores would show of as many entities.
    """
    found = []
    for corpus, decoder in dict.fromkeys((row["corpus"], row["decoder"]) for row in rows):
        own = [n for n, r in enumerate(rows) if (r["corpus"], r["decoder"]) == (corpus, decoder)]
        chosen = [rows[n] for n in own]
        ratio, interval = ratio_of_means(chosen, [draws[n] for n in own])
        found.append(
            {
                "corpus": corpus,
                "decoder": decoder,
                "seeds": len(own),
                "f1": statistics.mean(r["after"]["thresholds"][0]["f1"] for r in chosen),
                "ece_before": statistics.mean(r["before"]["ece"] for r in chosen),
                "ece_after": statistics.mean(r["after"]["ece"] for r in chosen),
                "ratio": ratio,
                "ratio_ci95": interval,
                "by_chance": statistics.mean(r["after"]["ece_by_chance"] for r in chosen),
            }
        )
    return found


def show(summary: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    headings = (
        "corpus", "decoder", "seeds", "F1", "ECE before", "ECE after", "ratio", "95 %", "by chance",
    )  # fmt: skip
    lines = [headings, ["---"] * len(headings)]
    for row in summary:
        low, high = row["ratio_ci95"]
        cells = [f"{row[key]:.3f}" for key in ("f1", "ece_before", "ece_after")]
        cells += [f"{row['ratio']:.2f}", f"[{low:.2f}, {high:.2f}]", f"{row['by_chance']:.3f}"]
        lines.append([row["corpus"], row["decoder"], str(row["seeds"]), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
