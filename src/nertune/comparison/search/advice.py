"""What an advice says, and the grounds for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nertune.comparison.results import Configuration, Estimate
from nertune.comparison.search.candidates import NAMES, Candidate, Method, Plan
from nertune.evaluation.significance import Difference

__all__ = ["Advice", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a candidate.

    Attributes:
        candidate: which.
        dev_f1: micro-F1 after each epoch that it ran.
        losses: of training in each of them.
        trainable: parameters; 0 if it failed.
        seconds_per_epoch: of training alone; `None` if it failed.
        reason: why it failed.
    """

    candidate: Candidate
    dev_f1: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    trainable: int = 0
    seconds_per_epoch: float | None = None
    reason: str = ""

    def best(self, epochs: int | None = None) -> float:
        """Best micro-F1 of the first `epochs` epochs, or of all; -1 without any."""
        return max(self.dev_f1[:epochs], default=-1.0)

    def loss(self, epochs: int | None = None) -> float:
        """Mean training loss of the last of these epochs, in nats; infinite without any."""
        return next(reversed(self.losses[:epochs]), float("inf"))

    def merit(self, epochs: int | None = None) -> tuple[float, float]:
        """What candidates are ordered by: that F1; where it is equal (0), the lower last loss."""
        return self.best(epochs), -self.loss(epochs)


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended, and on what grounds.

    Attributes:
        choice: `full` or `lora`.
        chosen: the best candidate of either method that could be trained.
        outcomes: everything that was tried, in order.
        plan: of the runs.
        runs: the finished ones that decide, by method: of the last comparison; without one, of the
            search; may lack a method.
        confirmed: whether they have other seeds than the search's.
        scores: their dev micro-F1; where the search's are not finished, after as many epochs as
            all have.
        difference: LoRA's to full fine-tuning; `None` where either is missing.
        certainty: confidence, in [0, 1], that the choice is not more than a point below the other.
        seconds: that this took.
        notices: what a reader has to know.
        recipe: ready to train.
        data: of train and dev: `path`, `sha256`, `documents`.
    """

    choice: Method
    chosen: Mapping[Method, Candidate]
    outcomes: tuple[Outcome, ...]
    plan: Plan
    runs: Mapping[Method, Configuration]
    confirmed: bool
    scores: Mapping[Method, Estimate]
    difference: Difference | None
    certainty: float | None
    seconds: float
    notices: tuple[str, ...]
    recipe: Path
    data: Mapping[str, Mapping[str, Any]]

    @property
    def has_learnt(self) -> bool:
        """Whether anything that was scored found an entity on dev."""
        return any(scores.mean for scores in self.scores.values())

    @property
    def costs(self) -> dict[Method, dict[str, Any]]:
        """What a method takes; memory where each run had a process of its own."""
        return {
            method: {
                "trainable": run.trainable_parameters,
                "share": run.trainable_share,
                "seconds_per_epoch": run.seconds_per_epoch.mean,
                "peak_bytes": run.peak_memory_bytes.mean if self.confirmed else None,
                "stored_bytes": 4 * run.trainable_parameters,  # in float32
            }
            for method, run in self.runs.items()
        }

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if not self.has_learnt:
            return (
                "no advice: nothing that was tried found an entity on dev; give it more minutes, "
                "or more training documents"
            )
        told = f"{NAMES[self.choice]} ({self.chosen[self.choice].told}): dev micro-F1 "
        told += f"{self.scores[self.choice].mean or 0.0:.4f}"
        other = next((method for method in self.chosen if method != self.choice), None)
        if other is None:
            return told
        told += f" against {self.scores[other].mean or 0.0:.4f} of {NAMES[other]}"
        if self.difference is None or self.certainty is None:
            epochs = min(len(o.dev_f1) for o in self.outcomes
                         if o.candidate in self.chosen.values())  # fmt: skip
            return f"{told}, one run each, after {epochs} epoch{'s' * (epochs != 1)}"
        sign = 1 if self.choice == "lora" else -1
        low, high = sorted(100 * sign * bound for bound in self.difference.ci95)
        seeds = self.difference.num_seeds
        sure = f"confidence {self.certainty:.0%} that it is not more than a point worse"
        if seeds == 1:  # nothing is known of the noise of training, so nothing of the methods
            sure += (
                " on other documents, of these two trained models; one training each, and another "
                "seed may give another order"
            )
        return (
            f"{told} ({self.chosen[other].told}), {100 * sign * self.difference.difference:+.1f} "
            f"points [{low:+.1f}, {high:+.1f}], {seeds} seed{'s' * (seeds > 1)}; {sure}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "choice": self.choice,
            "certainty": self.certainty,
            "confirmed": self.confirmed,
            "recipe": str(self.recipe),
            "chosen": {name: candidate.to_dict() for name, candidate in self.chosen.items()},
            "scores": {name: scores.to_dict() for name, scores in self.scores.items()},
            "difference": None if self.difference is None else self.difference.to_dict(),
            "costs": self.costs,
            "plan": asdict(self.plan),
            "seconds": self.seconds,
            "notices": list(self.notices),
            "data": {split: dict(found) for split, found in self.data.items()},
            "outcomes": [{**asdict(o), "candidate": o.candidate.to_dict()} for o in self.outcomes],
        }
