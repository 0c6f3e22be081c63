"""What self-training gives: rounds, the baseline, and how they compare. Ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nertune.evaluation.significance import Difference

__all__ = ["Comparison", "Round", "SeedResult", "SelfTrainingResult", "Trained"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes:
        folder: of its run.
        f1: micro-F1 on dev, in [0, 1].
        precision, recall: on dev.
        epochs, best_epoch: epochs trained, and the one whose weights are kept.
        steps: of the optimizer.
        seconds: of the run.
    """

    folder: Path
    f1: float
    precision: float
    recall: float
    epochs: int
    best_epoch: int
    steps: int
    seconds: float

    @classmethod
    def of_record(cls, folder: Path, record: Mapping[str, Any]) -> Trained:
        """From a run's record."""
        micro = record["dev"]["micro"]
        return cls(
            folder=folder,
            f1=micro["f1"] or 0.0,
            precision=micro["precision"] or 0.0,
            recall=micro["recall"] or 0.0,
            epochs=len(record["epochs"]),
            best_epoch=record["best_epoch"],
            steps=record["steps"],
            seconds=record["seconds"],
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, slots=True)
class Round:
    """A round; number 0 is the teacher, trained on the labelled data alone.

    Attributes:
        number: of the round.
        trained: its model; of several teachers the best on dev.
        pseudo: `PseudoCounts` of what it learned from; empty for the teacher, and where there is no
            unlabelled text.
        thresholds: of hard labels, with the precision on dev that they reach; else empty.
        others: the other teachers of round 0, if there are several.
        num_filled_in: entities that its teacher added to partially labelled training documents;
            `None` where there are none.
    """

    number: int
    trained: Trained
    pseudo: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Trained, ...] = ()
    num_filled_in: int | None = None

    @property
    def steps(self) -> int:
        """Of all its models."""
        return self.trained.steps + sum(one.steps for one in self.others)

    @property
    def epochs(self) -> int:
        """Of all its models."""
        return self.trained.epochs + sum(one.epochs for one in self.others)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "round": self.number,
            **self.trained.to_dict(),
            "pseudo": dict(self.pseudo),
            "thresholds": dict(self.thresholds),
            "others": [one.to_dict() for one in self.others],
            "filled_in": self.num_filled_in,
        }


@dataclass(frozen=True, slots=True)
class SeedResult:
    """All rounds of one seed, and its baseline.

    Attributes:
        seed: of all runs.
        labelled: documents and entities that a person has labelled.
        pool: `PoolCounts` of the unlabelled texts.
        rounds: from 0 on.
        baseline: trained on the labelled data alone, with as many epochs (looks at dev) as all
            rounds took together, and as many steps or up to one an epoch more.
    """

    seed: int
    labelled: Mapping[str, int]
    pool: Mapping[str, int]
    rounds: tuple[Round, ...]
    baseline: Trained

    @property
    def best(self) -> Round:
        """The round of the highest F1 on dev; of equal ones the earlier."""
        return max(self.rounds, key=lambda one: (one.trained.f1, -one.number))

    @property
    def steps(self) -> int:
        """Of all rounds."""
        return sum(one.steps for one in self.rounds)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seed": self.seed,
            "labelled": dict(self.labelled),
            "pool": dict(self.pool),
            "rounds": [one.to_dict() for one in self.rounds],
            "best_round": self.best.number,
            "steps": self.steps,
            "baseline": self.baseline.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Self-training against another training, on one split.

    Attributes:
        split: `dev` or `test`.
        against: `baseline`, or `teacher`, which is round 0.
        f1, other_f1: micro-F1 of each seed, in [0, 1].
        difference: paired, over documents and seeds.
    """

    split: str
    against: str
    f1: tuple[float, ...]
    other_f1: tuple[float, ...]
    difference: Difference

    @property
    def is_gain(self) -> bool:
        """Whether self-training is better, and not by chance."""
        found = self.difference
        apart = found.verdict in ("better", "models differ")
        return apart and found.difference > 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "split": self.split,
            "against": self.against,
            "f1": list(self.f1),
            "other_f1": list(self.other_f1),
            **self.difference.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class SelfTrainingResult:
    """What came of it.

    Attributes:
        output: the folder.
        options: `Options.to_dict()`.
        data: file, hash and counts of dev, and of test where it was scored.
        seeds: one result each.
        best_seed: whose best round is in `output/model`.
        comparisons: with the baseline first.
        notices: what a reader has to know.
    """

    output: Path
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    seeds: tuple[SeedResult, ...]
    best_seed: int
    comparisons: tuple[Comparison, ...]
    notices: tuple[str, ...]

    @property
    def decisive(self) -> Comparison:
        """The comparison with the baseline, on test where that was scored, else on dev."""
        return [one for one in self.comparisons if one.against == "baseline"][-1]

    @property
    def verdict(self) -> str:
        """Plain words: whether self-training helped, after the decisive comparison."""
        last = self.decisive
        points = 100 * last.difference.difference
        low, high = (100 * bound for bound in last.difference.ci95)
        p_value = last.difference.p_value
        chance = "p < .001" if p_value < 0.001 else f"p = {p_value:.3f}"
        told = (
            f"{points:+.1f} points of micro-F1 on {last.split} [{low:+.1f}, {high:+.1f}], {chance}"
        )
        told = told.replace("-", "−").replace("micro−F1", "micro-F1")
        teachers = sum(seed.best.number == 0 for seed in self.seeds)
        if last.is_gain and last.difference.verdict == "better":
            if 2 * teachers >= len(self.seeds):
                return (
                    f"The best rounds are better than the baseline of the same budget: {told}. But "
                    f"with {teachers} of {len(self.seeds)} seeds the best round is a teacher, so "
                    "this does not show that the text without labels helps."
                )
            return f"Self-training is better than the baseline of the same budget: {told}."
        if last.difference.verdict == "worse":
            return f"Self-training is worse than the baseline of the same budget: {told}."
        if last.difference.verdict == "models differ":
            which = "better" if points > 0 else "worse"
            whose = (
                "The teacher, which is the best round,"
                if teachers
                else "The model of self-training"
            )
            return (
                f"{whose} is {which} than the model of the baseline of the same "
                f"budget: {told}; with one seed that says nothing about the method."
            )
        return (
            "Nothing is gained for certain: self-training and the baseline of the same budget "
            f"cannot be told apart ({told})."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "options": dict(self.options),
            "data": dict(self.data),
            "seeds": [one.to_dict() for one in self.seeds],
            "best_seed": self.best_seed,
            "comparisons": [one.to_dict() for one in self.comparisons],
            "verdict": self.verdict,
            "notices": list(self.notices),
            "model": str(self.output / "model"),
        }
