"""The door for whoever wants to know how training goes: displays, logs, trackers, early leavers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nertune.training.progress import EpochReport

__all__ = ["Observer", "Observers", "Pause"]


class Pause(Exception):
    """Raised by an observer's `on_epoch`: leave, with a checkpoint from which to resume.

    The trainer writes the epoch's checkpoint and raises it again, unless training is finished.
    """


class Observer(Protocol):
    """Is told how training goes. Subclass it and write the methods that you need.

    What a method raises ends the run; see `Pause` for leaving with a checkpoint.
    """

    def on_begin(self, name: str, epochs: int) -> None:
        """A run of this name begins, or is resumed, with so many epochs at most."""
        return

    def on_resume(self, epoch: int, batch: int) -> None:
        """Training goes on in this epoch (counted from 1), behind so many of its batches."""
        return

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        """Some batches of an epoch are done, every 20 of them.

        Args:
            epoch: counted from 1.
            done, total: batches of the epoch.
            loss: the epoch's mean so far, in nats a unit.
            units_per_second: trained in this epoch so far.
        """
        return

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        """An epoch is done and scored.

        Args:
            report: its loss, its scores on dev, its seconds.
            is_best: whether dev was never better, so that these weights are kept.
        """
        return


class Observers(Observer):
    """Tells several observers the same, one after the other.

    Args:
        observers: in the order in which they are told.
    """

    def __init__(self, observers: Sequence[Observer]):
        self._observers = tuple(observers)

    def on_begin(self, name: str, epochs: int) -> None:
        for observer in self._observers:
            observer.on_begin(name, epochs)

    def on_resume(self, epoch: int, batch: int) -> None:
        for observer in self._observers:
            observer.on_resume(epoch, batch)

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        for observer in self._observers:
            observer.on_batch(epoch, done, total, loss, units_per_second)

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        for observer in self._observers:
            observer.on_epoch(report, is_best=is_best)
