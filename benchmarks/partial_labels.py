"""How much of the F1 of full labels do partial labels keep?

    python benchmarks/partial_labels.py TRAIN DEV TEST [--seeds 1,2,3] [--epochs 10]
        [--sentences 400] [--set model.decoder="crf"]

Several ways to label the same training sentences, all scored on the same test file:

- `full`: all entities.
- `half`: half of the entities, drawn with the seed, are unmarked, and the scope says that unmarked
  text is unknown.
- `half read as full`: the same file without the scope, as training would read it otherwise.
- `types`: the types, the frequent first, go to two groups in turn, and the sentences to two halves;
  each half has the entities of one group only, and its scope says so.
- `half completed`, `types completed`: the same with what the tagger of `half` or of `types` finds
  where the scope leaves text open, as `nertune self-train` does it in its first round; trained
  anew.

The bars: `half` keeps 90 % of the F1 of `full`; `types` is within two points of it. Dev is labelled
in full: it chooses the epoch, and says the ratio of units in entities. The table and
`OUTPUT/partial_labels.json` have the mean over the seeds and the 95 % interval of the difference to
`full` (Student's t over seeds). Finished runs are reused.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from nertune.config.run import apply_override, parse_settings
from nertune.data.corpus import Corpus, load_with
from nertune.data.formats.base import ReadOptions
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.semisupervised.self_training.completion import complete_documents
from nertune.storage.atomic import write_json
from nertune.types import Document, Scope

ROOT = Path(__file__).parents[1]
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("train", "dev", "test"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--sentences", type=int, default=0, help="the first so many; 0: all")
    ways = [*WAYS, *(f"{way}{COMPLETED}" for way in ("half", "types"))]
    parser.add_argument("--ways", default=",".join(ways))
    parser.add_argument("--set", action="append", default=[], help="as of nertune train")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "partial-labels")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    corpora = load(arguments)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    scores: dict[str, list[float]] = {way: [] for way in arguments.ways.split(",")}
    for seed in seeds:
        for way, found in scores.items():
            plain = way.removesuffix(COMPLETED)
            documents = WAYS[plain](corpora["train"].documents, seed)
            if way != plain:
                documents = completed(documents, arguments.output / name_of(plain, seed))
            found.append(
                run(
                    arguments,
                    corpora,
                    documents,
                    name_of(way, seed),
                    seed,
                )
            )
            print(f"{way}, seed {seed}: test micro-F1 {found[-1]:.4f}", flush=True)
    report = {
        "files": {name: str(getattr(arguments, name)) for name in ("train", "dev", "test")},
        "sentences": len(corpora["train"].documents),
        "epochs": arguments.epochs,
        "seeds": seeds,
        "set": arguments.set,
        "ways": {way: describe(found, scores.get("full")) for way, found in scores.items()},
    }
    write_json(arguments.output / "partial_labels.json", report)
    show(report["ways"])


def load(arguments: argparse.Namespace) -> dict[str, Corpus]:
    """The three files; the first sentences of train."""
    found = {}
    for name in ("train", "dev", "test"):
        found[name] = load_with(getattr(arguments, name), ReadOptions())
    if arguments.sentences:
        held = found["train"].documents[: arguments.sentences]
        found["train"] = Corpus.from_documents(held, name=str(arguments.train))
    return found


def full(documents: Sequence[Document], seed: int) -> list[Document]:
    return list(documents)


def half(documents: Sequence[Document], seed: int) -> list[Document]:
    rng = random.Random(seed)
    scope = Scope(complete=False)
    return [
        replace(d, entities=tuple(e for e in d.entities if rng.random() < 0.5), scope=scope)
        for d in documents
    ]


def half_read_as_full(documents: Sequence[Document], seed: int) -> list[Document]:
    return [replace(document, scope=Scope()) for document in half(documents, seed)]


def types(documents: Sequence[Document], seed: int) -> list[Document]:
    counts = Counter(e.label for d in documents for e in d.entities)
    ordered = [label for label, _ in counts.most_common()]
    groups = (tuple(ordered[::2]), tuple(ordered[1::2]))
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    group_of = {index: place % 2 for place, index in enumerate(order)}
    found = []
    for index, document in enumerate(documents):
        labels = groups[group_of[index]]
        kept = tuple(e for e in document.entities if e.label in labels)
        found.append(replace(document, entities=kept, scope=Scope(labels)))
    return found


WAYS: dict[str, Callable[[Sequence[Document], int], list[Document]]] = {
    "full": full,
    "half": half,
    "half read as full": half_read_as_full,
    "types": types,
}
COMPLETED = " completed"


def name_of(way: str, seed: int) -> str:
    return f"{way}-{seed}".replace(" ", "-")


def completed(documents: Sequence[Document], folder: Path) -> list[Document]:
    """What the scopes leave open, filled in by the tagger that an earlier run trained."""
    if not (folder / "model").is_dir():
        sys.exit(f"{folder}: is not trained yet; name that way first in --ways")
    return list(complete_documents([Predictor.load(folder / "model")], documents))


def run(
    arguments: argparse.Namespace,
    corpora: dict[str, Corpus],
    documents: list[Document],
    name: str,
    seed: int,
) -> float:
    """Test micro-F1 of one run."""
    values: dict[str, Any] = {
        "run": {"name": name, "dir": str(arguments.output / name), "seed": seed},
        "data": {
            "train": str(arguments.train),
            "dev": str(arguments.dev),
            "test": str(arguments.test),
        },
        "train": {"epochs": arguments.epochs},
    }
    for override in arguments.set:
        apply_override(values, override)
    given = {**corpora, "train": Corpus.from_documents(documents, name=str(arguments.train))}
    record = train(parse_settings(values), corpora=given, score_test=True, resume=True)
    return float(record["test"]["micro"]["f1"] or 0.0)


def describe(found: Sequence[float], reference: Sequence[float] | None) -> dict[str, Any]:
    """Mean F1, its share of full labels, and the difference in points with its interval."""
    told: dict[str, Any] = {"f1": list(found), "mean": fmean(found)}
    if reference is None or reference is found:
        return told
    differences = [100 * (a - b) for a, b in zip(found, reference, strict=True)]
    told |= {"share": fmean(found) / fmean(reference), "points": fmean(differences)}
    if len(differences) > 1:
        t = T95.get(len(differences) - 1, 1.96)
        reach = t * stdev(differences) / len(differences) ** 0.5
        told["points_ci95"] = [told["points"] - reach, told["points"] + reach]
    return told


def show(ways: dict[str, Any]) -> None:
    table = Table("labels", "test micro-F1", "share of full", "points to full", "95 %")
    for way, row in ways.items():
        interval = row.get("points_ci95")
        table.add_row(
            way,
            f"{100 * row['mean']:.2f}",
            f"{100 * row['share']:.1f} %" if "share" in row else "",
            f"{row['points']:+.2f}" if "points" in row else "",
            f"[{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
