"""What a sweep found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nertune.evaluation.significance import Difference

__all__ = ["SweepResult", "Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep.

    Attributes:
        number: counted from 0; the first that does not fail is the recipe as it stands.
        state: `complete`, `pruned`, `failed`.
        f1: best dev micro-F1; of a pruned one as far as it got.
        values: what was chosen, by `section.key`; nothing for the recipe as it stands.
        trainable: parameters.
        seconds: of training.
        peak_bytes: the most memory that the process held in the run, libraries included.
    """

    number: int
    state: str
    f1: float | None
    values: dict[str, Any]
    trainable: int | None
    seconds: float | None
    peak_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        trials: all that ended.
        base: the recipe as it stands.
        best: the best complete one.
        confirmed: dev micro-F1 of base and best with further seeds, if asked for.
        difference: the best's to the base with these seeds.
        winner: the recipe that it wrote.
        importance: each setting's share in what sets good trials apart (PED-ANOVA; Watanabe et
            al., 2023).
    """

    trials: tuple[Trial, ...]
    base: Trial
    best: Trial
    confirmed: dict[str, list[float]]
    winner: Path
    importance: dict[str, float]
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "base": self.base.to_dict(),
            "best": self.best.to_dict(),
            "winner": str(self.winner),
            "confirmed": self.confirmed,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "importance": self.importance,
            "trials": [trial.to_dict() for trial in self.trials],
        }

    @property
    def verdict(self) -> str:
        """In one sentence."""
        assert self.base.f1 is not None
        assert self.best.f1 is not None
        gain = 100 * (self.best.f1 - self.base.f1)
        done = sum(trial.state != "failed" for trial in self.trials)
        if self.best.number == self.base.number:
            return (
                f"none of {done} trials beats the recipe as it stands (dev F1 {self.base.f1:.4f})"
            )
        sentence = (
            f"trial {self.best.number} reaches dev F1 {self.best.f1:.4f}, {gain:+.1f} points "
            "against the recipe as it stands"
        )
        if self.difference is None:
            return f"{sentence}; the best of {done} is optimistic: --confirm trains both again"
        found = self.difference
        low, high = (100 * bound for bound in found.ci95)
        gained = f"{100 * found.difference:+.1f} points [{low:+.1f}, {high:+.1f}]"
        if found.num_seeds == 1:
            return (
                f"{sentence}; with 1 further seed {gained}: the two {found.verdict}, and another "
                "seed may give another order: --confirm 3 or more tells settings apart"
            )
        return f"{sentence}; with {found.num_seeds} further seeds {gained}: {found.verdict}"
