"""What a comparison found: figures over seeds, configurations, learning curves, examples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import nertune
from nertune.data.corpus import Corpus, load_corpus
from nertune.evaluation.error_analysis import (
    ERROR_KINDS,
    NOTHING,
    NOVELTIES,
    Analysis,
    ErrorKind,
    Novelty,
)
from nertune.evaluation.metrics import document_counts
from nertune.evaluation.significance import Difference
from nertune.experiments.folder import RunFolder
from nertune.types import Document

__all__ = [
    "Comparison",
    "Configuration",
    "EpochEstimate",
    "Estimate",
    "Example",
    "Record",
    "ScoreEstimate",
    "SizePoint",
    "Split",
    "count_dev",
    "say_silent",
    "say_unfinished",
]

Record = Mapping[str, Any]
"""What a run's `record.json` holds."""

Split = Literal["test", "dev"]
"""What was scored."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over seeds.

    Attributes:
        mean: over the seeds that have the figure; `None` if none has.
        deviation: sample standard deviation (n - 1); `None` with fewer than two seeds.
        values: one per seed, `None` where the seed lacks it.
    """

    mean: float | None
    deviation: float | None
    values: tuple[float | None, ...]

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Estimate:
        """Sum up one figure's values over seeds."""
        kept = tuple(values)
        known = [float(value) for value in kept if value is not None]
        return cls(
            mean=statistics.fmean(known) if known else None,
            deviation=statistics.stdev(known) if len(known) > 1 else None,
            values=kept,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean": self.mean, "sd": self.deviation, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class ScoreEstimate:
    """Precision, recall and F1 over seeds, of one type or average.

    Attributes:
        support: gold entities; the same for every seed.
    """

    precision: Estimate
    recall: Estimate
    f1: Estimate
    support: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> ScoreEstimate:
        """Sum up one row of the seeds' scores; `{}` for a seed that lacks the row."""
        return cls(
            precision=Estimate.of(row.get("precision") for row in rows),
            recall=Estimate.of(row.get("recall") for row in rows),
            f1=Estimate.of(row.get("f1") for row in rows),
            support=max((int(row.get("support", 0)) for row in rows), default=0),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures = {name: getattr(self, name).to_dict() for name in ("precision", "recall", "f1")}
        return {**figures, "support": self.support}


@dataclass(frozen=True, slots=True)
class EpochEstimate:
    """One epoch over the seeds that reached it.

    Attributes:
        epoch: counted from 1.
        loss: mean training loss in nats per token.
        dev_f1: micro F1 on the development data.
    """

    epoch: int
    loss: Estimate
    dev_f1: Estimate

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "epoch": self.epoch,
            "loss": self.loss.to_dict(),
            "dev_f1": self.dev_f1.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Configuration:
    """One recipe, trained with every seed.

    Attributes:
        name: the recipe's file name without its ending, made unique.
        recipe: its file.
        folders: the run folders, one per seed.
        records: what `record.json` held, one per seed.
        split: what the scores were taken on.
        difference: to the baseline; `None` for the baseline itself.
        analyses: error kinds and novelty of names, one per seed.
        interval: 95 %, of a single run's micro F1 over documents; several seeds have a deviation
            instead.
    """

    name: str
    recipe: Path
    folders: tuple[Path, ...]
    records: tuple[Record, ...]
    split: Split
    difference: Difference | None = None
    analyses: tuple[Analysis, ...] = ()
    interval: tuple[float, float] | None = None

    @property
    def trainable_parameters(self) -> int:
        return int(self.records[0]["parameters"]["trainable"])

    @property
    def total_parameters(self) -> int:
        return int(self.records[0]["parameters"]["total"])

    @property
    def trainable_share(self) -> float:
        """In [0, 1]."""
        return self.trainable_parameters / max(1, self.total_parameters)

    @property
    def seconds_per_epoch(self) -> Estimate:
        """Training time of an epoch, without evaluation; first the mean within each run."""
        return Estimate.of(
            statistics.fmean(float(epoch["seconds"]) for epoch in record["epochs"])
            if record["epochs"]
            else None
            for record in self.records
        )

    @property
    def seconds(self) -> Estimate:
        """Time of the whole run."""
        return Estimate.of(record.get("seconds") for record in self.records)

    @property
    def peak_memory_bytes(self) -> Estimate:
        """Of each run's own process."""
        return Estimate.of(record.get("peak_memory_bytes") for record in self.records)

    @property
    def best_epochs(self) -> tuple[int | None, ...]:
        """The epoch that each run kept."""
        return tuple(record.get("best_epoch") for record in self.records)

    @property
    def epochs(self) -> tuple[EpochEstimate, ...]:
        """The learning curve; runs that stopped early are missing from the later epochs."""
        last = max((len(record["epochs"]) for record in self.records), default=0)
        rows = []
        for index in range(last):
            reached = [
                record["epochs"][index] if index < len(record["epochs"]) else {}
                for record in self.records
            ]
            rows.append(
                EpochEstimate(
                    epoch=index + 1,
                    loss=Estimate.of(epoch.get("loss") for epoch in reached),
                    dev_f1=Estimate.of((epoch.get("dev") or {}).get("f1") for epoch in reached),
                )
            )
        return tuple(rows)

    def score(self, name: str) -> ScoreEstimate:
        """An average: `"micro"`, `"macro"`, `"untyped"` or `"overlap"`."""
        return ScoreEstimate.of([record[self.split][name] for record in self.records])

    def type_score(
        self, name: str, matching: Literal["exact", "untyped", "overlap"] = "exact"
    ) -> ScoreEstimate:
        """A type's score under one way to match."""
        rows = [record[self.split]["types"].get(name, {}) for record in self.records]
        return ScoreEstimate.of(
            rows if matching == "exact" else [row.get(matching, {}) for row in rows]
        )

    def errors(self, kind: ErrorKind) -> Estimate:
        """How many entities are of an error kind."""
        return Estimate.of(analysis.kinds[kind] for analysis in self.analyses)

    def recall(self, novelty: Novelty) -> Estimate:
        """The recall of names that training showed, or did not show, in [0, 1]."""
        return Estimate.of(analysis.recall(novelty) for analysis in self.analyses)

    def confused(self, gold: str, predicted: str) -> Estimate:
        """How many entities of a gold type were predicted as another; either may be `NOTHING`."""
        return Estimate.of(
            analysis.confusions.get((gold, predicted), 0) for analysis in self.analyses
        )

    @property
    def types(self) -> set[str]:
        """Every type that gold or a prediction of any seed has."""
        return {name for record in self.records for name in record[self.split]["types"]}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores: dict[str, Any] = {
            name: self.score(name).to_dict() for name in ("micro", "macro", "untyped", "overlap")
        }
        scores["types"] = {
            name: {
                **self.type_score(name).to_dict(),
                "untyped": self.type_score(name, "untyped").to_dict(),
                "overlap": self.type_score(name, "overlap").to_dict(),
            }
            for name in sorted(self.types)
        }
        return {
            "name": self.name,
            "recipe": str(self.recipe),
            "runs": [str(folder) for folder in self.folders],
            "parameters": {
                "trainable": self.trainable_parameters,
                "total": self.total_parameters,
                "share": self.trainable_share,
            },
            "seconds_per_epoch": self.seconds_per_epoch.to_dict(),
            "seconds": self.seconds.to_dict(),
            "peak_memory_bytes": self.peak_memory_bytes.to_dict(),
            "best_epochs": list(self.best_epochs),
            "settings": self.records[0].get("settings"),
            "learning_rates": self.records[0].get("rates"),
            "epochs": [epoch.to_dict() for epoch in self.epochs],
            "scores": scores,
            "errors": {kind: self.errors(kind).to_dict() for kind in ERROR_KINDS},
            "confusions": self._confusions(),
            "recall_by_novelty": {novelty: self.recall(novelty).to_dict() for novelty in NOVELTIES},
            "difference": None if self.difference is None else self.difference.to_dict(),
        }

    def _confusions(self) -> list[dict[str, Any]]:
        """For JSON: the pairs that occur; `null` is no entity."""
        pairs = sorted({pair for analysis in self.analyses for pair in analysis.confusions})
        return [
            {
                "gold": None if gold == NOTHING else gold,
                "predicted": None if predicted == NOTHING else predicted,
                "count": self.confused(gold, predicted).to_dict(),
            }
            for gold, predicted in pairs
        ]


@dataclass(frozen=True, slots=True)
class Example:
    """A document that one configuration gets wholly right and another wrong.

    Attributes:
        gold: the document.
        right, wrong: the configurations.
        found: what the wrong one found, of its first seed that is wrong.
        seeds_right, seeds_wrong: how many seeds of either are so.
    """

    gold: Document
    right: str
    wrong: str
    found: Document
    seeds_right: int
    seeds_wrong: int


@dataclass(frozen=True, slots=True)
class SizePoint:
    """The configurations trained on some of the training documents.

    Attributes:
        share: of the training documents, in (0, 1].
        documents: how many that are.
        f1: micro-F1 over seeds, by configuration.
        differences: to the baseline, by configuration.
    """

    share: float
    documents: int
    f1: Mapping[str, Estimate]
    differences: Mapping[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "share": self.share,
            "documents": self.documents,
            "f1": {name: found.to_dict() for name, found in self.f1.items()},
            "differences": {name: found.to_dict() for name, found in self.differences.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        configurations: in the order of the recipes.
        baseline: the name of the configuration that the others are held against.
        seeds: of the trainings.
        split: what was scored: `"test"`, or `"dev"` where the recipes name no test data.
        data: `path`, `sha256`, `documents` and `entities` of what was scored.
        notices: what a reader has to know to read the figures rightly.
        output: the folder that holds the runs.
        novelty: gold entities by whether training showed them; `None` where runs saw different
            documents.
        examples: documents that one configuration gets right and the baseline wrong, or reversed.
        sizes: the same with less training data, from `compare_sizes`; the last is this comparison.
    """

    configurations: tuple[Configuration, ...]
    baseline: str
    seeds: tuple[int, ...]
    split: Split
    data: Mapping[str, Any]
    notices: tuple[str, ...]
    output: Path
    novelty: Mapping[Novelty, int] | None = None
    examples: tuple[Example, ...] = ()
    sizes: tuple[SizePoint, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """All types of all configurations, sorted."""
        return tuple(sorted({name for one in self.configurations for name in one.types}))

    def support(self, name: str) -> int:
        """Gold entities of a type."""
        return max(one.type_score(name).support for one in self.configurations)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "nertune": nertune.__version__,
            "baseline": self.baseline,
            "seeds": list(self.seeds),
            "split": self.split,
            "data": dict(self.data),
            "notices": list(self.notices),
            "gold_by_novelty": self.novelty and dict(self.novelty),
            "arms": [configuration.to_dict() for configuration in self.configurations],
            "sizes": [point.to_dict() for point in self.sizes],
        }


def say_silent(configurations: Sequence[Configuration], split: Split) -> list[str]:
    """Configurations that predicted nothing where there is something: their scores say little."""
    notices = []
    for configuration in configurations:
        scores = [record[split]["micro"] for record in configuration.records]
        silent = sum(row["support"] > 0 and not row["predicted"] for row in scores)
        if silent:
            seeds = f"{silent} of {len(scores)} seeds" if len(scores) > 1 else "its one seed"
            notices.append(
                f"{configuration.name} predicted no entity with {seeds}: most often "
                "its rate is too high for the encoder, or its training too short. This says "
                "nothing of its tuning method."
            )
    return notices


def say_unfinished(configurations: Sequence[Configuration]) -> list[str]:
    """Configurations below the best one that were still improving when their training ended."""
    best = max(configuration.score("micro").f1.mean or 0.0 for configuration in configurations)
    return [
        f"{configuration.name} was best on dev in its last epoch with "
        f"{'every' if len(configuration.records) > 1 else 'its one'} seed: more epochs may still "
        "improve it."
        for configuration in configurations
        if (configuration.score("micro").f1.mean or 0.0) < best
        and all(_is_best_at_the_end(record) for record in configuration.records)
    ]


def _is_best_at_the_end(record: Record) -> bool:
    """False where no dev data chose the epoch, and where no epoch found anything."""
    epochs = record["epochs"]
    if not epochs or record.get("best_epoch") != len(epochs):
        return False
    return ((epochs[-1].get("dev") or {}).get("f1") or 0.0) > 0


def count_dev(dev: Corpus, folders: Sequence[Path]) -> NDArray[np.int64]:
    """What runs found on the development data, as `compare_counts` takes it.

    Args:
        dev: with its gold entities.
        folders: of finished runs, one a seed.

    Returns:
        `[num_seeds, num_documents, 3]`, as of `document_counts`.
    """
    files = [RunFolder(folder).predictions("dev") for folder in folders]
    return np.stack([
        document_counts(dev.documents, load_corpus(file, format="jsonl").documents)
        for file in files
    ])  # fmt: skip
