"""How much of the gap to its teachers does a student close on unlabelled text?

    python benchmarks/distillation.py lstm     [--corpus peoples] [--labelled 1000] [--seeds 3]
    python benchmarks/distillation.py ensemble [--corpus peoples] [--labelled 1000] [--seeds 3]

`lstm`: the teacher is the bundled encoder, fine-tuned on some labelled documents of the training
file; the student is a BiLSTM. `ensemble`: the teachers are five such encoders that differ in their
seed, and the student is a sixth. Unlabelled text is the rest of the training file without its
labels, or what --text names. Each student is scored on test beside the same student without
teachers, trained for as many steps. Seeds draw the labelled documents and start student and
teachers; the interval over seeds is Student's t, 95 %.

Writes benchmarks/results/distillation-NAME-CORPUS.json. NERTUNE_DATA names the folder that holds
the data. Runs lie in runs/distillation; finished ones are reused, a killed one goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nertune.config.run import Settings, parse_settings
from nertune.data.corpus import load_corpus, save_documents
from nertune.experiments.train import train
from nertune.semisupervised.distillation.distill import DistillOptions, distill
from nertune.storage.atomic import write_json

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("NERTUNE_DATA") or ROOT.parent / "shared" / "data")
CORPORA = {
    "peoples": ("train", "dev", "test"),
    "weibo": ("train.conll", "dev.conll", "test.conll"),
}
_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}


def main() -> None:
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    rows = [measure(options, seed) for seed in range(1, options.seeds + 1)]
    result = {"name": options.name, "corpus": options.corpus, "arguments": vars(options),
              "seeds": rows, "summary": summarise(rows)}  # fmt: skip
    result["arguments"] = {k: str(v) for k, v in vars(options).items()}
    path = ROOT / "benchmarks" / "results" / f"distillation-{options.name}-{options.corpus}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)
    print_table(rows, result["summary"])
    print(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=["lstm", "ensemble"])
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="peoples")
    parser.add_argument("--labelled", type=int, default=1000, help="labelled documents")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teachers", type=int, default=5, help="of the ensemble")
    parser.add_argument("--epochs", type=int, default=10, help="of teachers")
    parser.add_argument("--student-epochs", type=int, default=0, help="0: those of teachers")
    parser.add_argument("--most", type=int, default=5000, help="unlabelled documents")
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--text", type=Path, help="unlabelled text; by default the rest of train")
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"))
    return parser.parse_args()


def measure(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: teachers, student with and without them, all scored on test."""
    folder = options.runs / f"{options.corpus}-{options.labelled}" / f"seed-{seed}"
    labelled, rest = cut(options, seed, folder)
    number = options.teachers if options.name == "ensemble" else 1
    teachers = []
    for own in range(number):
        settings = make_settings(
            options,
            labelled,
            folder / f"teacher-{own}-{options.epochs}",
            "encoder",
            100 * seed + own,
            options.epochs,
        )
        train(settings, resume=True)
        teachers.append(str(settings.run.dir / "model"))
    kind = "lstm" if options.name == "lstm" else "encoder"
    epochs = options.student_epochs or options.epochs
    kinds = (number, options.most, f"{options.weight:g}", f"{options.temperature:g}", epochs)
    place = "-".join(map(str, (options.name, *kinds)))
    student = make_settings(options, labelled, folder / place, kind, 100 * seed + 99, epochs)
    found = distill(
        student,
        teachers,
        [options.text or rest],
        options=DistillOptions(
            most=options.most, weight=options.weight, temperature=options.temperature,
            score_test=True, resume=True,
        ),
    ).to_dict()  # fmt: skip
    test = {role: [t["f1"]["test"] for t in found["taggers"] if t["role"] == role]
            for role in ("teacher", "ensemble", "baseline", "student")}  # fmt: skip
    return {
        "seed": seed,
        "teacher": statistics.mean(test["teacher"]),
        "ensemble": (test["ensemble"] or test["teacher"])[0],
        "baseline": test["baseline"][0],
        "student": test["student"][0],
        "share_closed": found["share_closed"]["test"],
        "seconds": found["student"]["seconds"],
        "steps": found["student"]["steps"],
    }


def cut(options: argparse.Namespace, seed: int, folder: Path) -> tuple[Path, Path]:
    """The labelled documents of a seed, and the text of the others."""
    corpus = load_corpus(DATA / options.corpus / CORPORA[options.corpus][0])
    share = min(1.0, options.labelled / len(corpus.documents))
    labelled = corpus.take_share(share, seed).documents
    chosen = {id(document) for document in labelled}
    rest = [d.with_entities(()) for d in corpus.documents if id(d) not in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "labelled.jsonl", folder / "rest.jsonl"
    for path, documents in zip(paths, (labelled, rest), strict=True):
        save_documents(path, documents, format="jsonl")
    return paths


def make_settings(
    options: argparse.Namespace, labelled: Path, folder: Path, kind: str, seed: int, epochs: int
) -> Settings:
    _, dev, test = (str(DATA / options.corpus / name) for name in CORPORA[options.corpus])
    return parse_settings(
        {
            "run": {"dir": str(folder), "name": folder.name, "seed": seed},
            "data": {"train": str(labelled), "dev": dev, "test": test},
            "model": {"emitter": kind, "encoder": "mini-zh", "unit": "char", "decoder": "crf"},
            "train": {"epochs": epochs},
        }
    )


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means, and 95 % intervals of what the bars are about."""
    found: dict[str, Any] = {
        key: statistics.mean(row[key] for row in rows)
        for key in ("teacher", "ensemble", "baseline", "student", "seconds", "steps")
    }
    shares = [row["share_closed"] for row in rows if row["share_closed"] is not None]
    found["share_closed"] = interval(shares)
    found["student_over_teacher"] = interval([row["student"] - row["teacher"] for row in rows])
    return found


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """The mean, and half of the 95 % interval where there are two values or more."""
    if not values:
        return {"mean": None, "half": None}
    mean = statistics.mean(values)
    factor = _T_95.get(len(values), 1.96)
    half = factor * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": mean, "half": half}


def print_table(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    keys = ("teacher", "ensemble", "baseline", "student")
    print("| seed | one teacher | all teachers | student alone | student | gap closed | seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        share = row["share_closed"]
        told = "–" if share is None else f"{100 * share:.0f} %"
        scores = " | ".join(f"{100 * row[key]:.2f}" for key in keys)
        print(f"| {row['seed']} | {scores} | {told} | {row['seconds']:.0f} |")
    for key in ("share_closed", "student_over_teacher"):
        mean, half = summary[key]["mean"], summary[key]["half"]
        if mean is not None:
            print(f"{key}: {mean:.3f}" + ("" if half is None else f" ± {half:.3f}"))


if __name__ == "__main__":
    main()
