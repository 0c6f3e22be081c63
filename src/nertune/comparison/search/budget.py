"""The minutes that an advice may take, over all its lives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nertune.training.trainer import EpochReport, Pause

__all__ = ["Clock", "Until"]


@dataclass(slots=True)
class Clock:
    """Counts the seconds of all lives of an advice."""

    budget: float
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        return self.before + time.monotonic() - self.started

    @property
    def left(self) -> float:
        return self.budget - self.spent


class Until:
    """Ends a run after so many epochs, or when time is up.

    Attributes:
        ends: when each epoch was done and scored, on the monotonic clock.
        seconds: of training in it.
    """

    def __init__(self, epochs: int, clock: Clock, keep: Callable[[], None]):
        self._epochs, self._clock, self._keep = epochs, clock, keep
        self.ends: list[float] = []
        self.seconds: list[float] = []

    def on_resume(self, epoch: int, batch: int) -> None:
        """Nothing to do."""

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        """Nothing to do."""

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        """Raises `Pause` where that is the end."""
        self.ends.append(time.monotonic())
        self.seconds.append(report.seconds)
        self._keep()
        if report.epoch >= self._epochs or self._clock.left < 0:
            raise Pause
