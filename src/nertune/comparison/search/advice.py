"""What an advice says, and the grounds for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nertune.comparison.results import Estimate
from nertune.comparison.search.candidates import NAMES, Candidate, Family, Plan
from nertune.evaluation.significance import Difference

__all__ = ["Advice", "Cost", "Outcome", "cost_rows", "outcome_rows", "to_markdown"]


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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method takes, from its runs of the last comparison; without one, from the search's.

    Attributes:
        trainable: parameters.
        share: of all parameters, in [0, 1]; `None` where their number is not known.
        seconds_per_epoch: of training alone, mean over seeds.
        peak_bytes: of the process, mean over seeds; `None` where it was not measured.
        stored_bytes: what a domain adds to the disk: all trained weights in float32.
    """

    trainable: int
    share: float | None
    seconds_per_epoch: float | None
    peak_bytes: float | None
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended, and on what grounds.

    Attributes:
        choice: `full` or `lora`.
        chosen: the best candidate of either family that could be trained.
        outcomes: everything that was tried, in order.
        plan: of the runs.
        scores: dev micro-F1 of the last comparison, by family, one per seed; without one that of
            the search's runs, after as many epochs as all of them have.
        difference: LoRA's to full tuning; `None` where either is missing.
        certainty: confidence, in [0, 1], that the choice is not more than a point below the other.
        confirmed: whether seeds other than the search's gave the scores.
        costs: by family.
        seconds: that this took.
        notices: what a reader has to know.
        recipe: ready to train.
        data: of train and dev: `path`, `sha256`, `documents`.
    """

    choice: Family
    chosen: Mapping[Family, Candidate]
    outcomes: tuple[Outcome, ...]
    plan: Plan
    scores: Mapping[Family, Estimate]
    difference: Difference | None
    certainty: float | None
    confirmed: bool
    costs: Mapping[Family, Cost]
    seconds: float
    notices: tuple[str, ...]
    recipe: Path
    data: Mapping[str, Mapping[str, Any]]

    @property
    def has_learnt(self) -> bool:
        """Whether anything that was scored found an entity on dev."""
        return any(scores.mean for scores in self.scores.values())

    @property
    def verdict(self) -> str:
        """In one sentence."""
        told = f"{NAMES[self.choice]} ({self.chosen[self.choice].told})"
        mean = self.scores[self.choice].mean
        if not self.has_learnt:
            return (
                "no advice: nothing that was tried found an entity on dev; give it more minutes, "
                "or more training documents"
            )
        if self.difference is None or self.certainty is None:
            others = [f"{self.scores[f].mean or 0.0:.4f} of {NAMES[f]}"
                      for f in self.chosen if f != self.choice]  # fmt: skip
            epochs = min((len(o.dev_f1) for o in self.outcomes if o.candidate in
                          self.chosen.values()), default=0)  # fmt: skip
            against = ""
            if others:
                told_epochs = f"{epochs} epoch{'s' * (epochs != 1)}"
                against = f" against {others[0]}, one run each, after {told_epochs}"
            return f"{told}: dev micro-F1 {mean or 0.0:.4f}{against}"
        other: Family = "full" if self.choice == "lora" else "lora"
        sign = 1 if self.choice == "lora" else -1
        low, high = sorted(100 * sign * bound for bound in self.difference.ci95)
        seeds = self.difference.num_seeds
        sure = f"confidence {self.certainty:.0%} that it is not more than a point worse"
        if seeds == 1:  # nothing is known of the noise of training, so nothing of the methods
            sure = (
                f"{sure} on other documents, of these two trained models; one training each, and "
                "another seed may give another order"
            )
        return (
            f"{told}: dev micro-F1 {mean or 0.0:.4f} against {self.scores[other].mean or 0.0:.4f} "
            f"of {NAMES[other]} ({self.chosen[other].told}), "
            f"{100 * sign * self.difference.difference:+.1f} points [{low:+.1f}, {high:+.1f}], "
            f"{seeds} seed{'s' * (seeds > 1)}; {sure}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "choice": self.choice,
            "certainty": self.certainty,
            "confirmed": self.confirmed,
            "recipe": str(self.recipe),
            "chosen": {name: asdict(candidate) for name, candidate in self.chosen.items()},
            "scores": {name: scores.to_dict() for name, scores in self.scores.items()},
            "difference": None if self.difference is None else self.difference.to_dict(),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "plan": asdict(self.plan),
            "seconds": self.seconds,
            "notices": list(self.notices),
            "data": {split: dict(found) for split, found in self.data.items()},
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }


def to_markdown(advice: Advice) -> str:
    """The advice and its evidence."""
    lines = ["# Advice", "", advice.verdict, "", *(f"> {n}" for n in advice.notices)]
    lines += ["", "| | dev micro-F1 | trained | seconds an epoch | peak memory | stored |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {' | '.join(row)} |" for row in cost_rows(advice)]
    first = advice.plan.first
    lines += ["", "## What was tried", "",
              f"| | dev micro-F1, {first} epochs | best | epochs | trained | seconds an epoch |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {' | '.join(row)} |" for row in outcome_rows(advice)]
    return "\n".join(lines) + "\n"


def cost_rows(advice: Advice) -> list[list[str]]:
    """Of either way: name, dev micro-F1, trained share, seconds, MiB, stored MB."""
    rows = []
    for family, candidate in advice.chosen.items():
        cost, scores = advice.costs[family], advice.scores[family]
        spread = "" if scores.deviation is None else f" ± {scores.deviation:.4f}"
        rows.append([
            candidate.title,
            f"{scores.mean or 0.0:.4f}{spread}",
            "–" if cost.share is None else f"{cost.share:.1%}",
            "–" if cost.seconds_per_epoch is None else f"{cost.seconds_per_epoch:.1f}",
            "–" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:,.0f} MiB",
            f"{cost.stored_bytes / 1e6:.1f} MB",
        ])  # fmt: skip
    return rows


def outcome_rows(advice: Advice) -> list[list[str]]:
    """Of every candidate: what, F1 when weighed, best F1, epochs, parameters, seconds an epoch."""
    rows = []
    for outcome in advice.outcomes:
        told = outcome.candidate.title
        if not outcome.dev_f1:
            rows.append([told, "failed", "–", "0", "–", "–"])
            continue
        rows.append([
            told,
            f"{outcome.best(advice.plan.first):.4f}",
            f"{outcome.best():.4f}",
            str(len(outcome.dev_f1)),
            f"{outcome.trainable:,}",
            f"{outcome.seconds_per_epoch or 0.0:.1f}",
        ])  # fmt: skip
    return rows
