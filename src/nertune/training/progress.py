"""Where a training run stands, and the checkpoints that it leaves of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nertune.config.run import TrainSettings
from nertune.errors import TrainingError
from nertune.models.peft.adalora import RankSchedule, without_ranks
from nertune.models.tagger import Tagger
from nertune.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    CheckpointTimer,
    optimizer_tensors,
    refuse_other_run,
    restore_optimizer,
    restore_weights,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["EpochReport", "Progress", "ProgressKeeper", "diverged", "trainable_tensors"]

# Which setting rules each group of parameters (training/optimizer.py).
_RATE_KEYS = {
    "encoder": "learning_rate",
    "lstm": "learning_rate",
    "adapter": "learning_rate",
    "adapter_b": "learning_rate",
    "head": "head_learning_rate",
    "crf": "crf_learning_rate",
}


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        loss: mean loss per labelled unit over the epoch, in nats; per token with the token
            strategy `all`.
        seconds: training time, without evaluation and checkpoints.
        tokens_per_second: units trained per second (padding not counted).
        dev: `precision`, `recall`, `f1` (micro) on the dev set, if there is one.
    """

    epoch: int
    loss: float
    seconds: float
    tokens_per_second: float
    dev: dict[str, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "dev": self.dev,
        }


@dataclass(slots=True)
class Progress:
    """Where a run stands; all of it goes into a checkpoint."""

    epoch: int = 1
    batch: int = 0  # batches of the epoch that are done
    step: int = 0
    loss_sum: float = 0.0  # over the epoch's targets so far, nats
    targets: int = 0  # labelled units, or their tokens with `model.pieces = "all"`
    units: int = 0
    seconds: float = 0.0
    history: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    best_f1: float = -1.0
    finished: bool = False
    elapsed: float = 0.0  # seconds of all processes of the run up to the checkpoint

    @property
    def mean_loss(self) -> float:
        """Of the epoch so far, in nats."""
        return self.loss_sum / max(1, self.targets)

    @property
    def units_per_second(self) -> float:
        """Of the epoch so far."""
        return self.units / max(self.seconds, 1e-9)

    def begin_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss_sum, self.targets = 0.0, 0
        self.units, self.seconds = 0, 0.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment between two steps, from which a run can go on."""

    progress: Progress
    loss_sum: Tensor | float
    best: dict[str, Tensor]
    rng: dict[str, Tensor]


class ProgressKeeper:
    """Writes the checkpoints of one run: by the clock, by steps, and when it is interrupted.

    Args:
        tagger: what trains.
        optimizer: its optimizer, without accelerate's wrapper.
        names: of the optimizer's parameters, in its order.
        accelerator: whose device and loss scale are part of the state.
        settings: when.
        ranks: of AdaLoRA.
        checkpoints: where to; `None` keeps nothing. Of several processes the first one writes.
    """

    def __init__(
        self,
        tagger: Tagger,
        optimizer: torch.optim.Optimizer,
        names: list[str],
        accelerator: Accelerator,
        *,
        settings: TrainSettings,
        ranks: RankSchedule | None,
        checkpoints: Checkpoints | None,
    ):
        self._tagger, self._optimizer, self._names = tagger, optimizer, names
        self._accelerator, self._ranks = accelerator, ranks
        self._settings, self._checkpoints = settings, checkpoints
        writes = checkpoints is not None and accelerator.is_main_process
        self._store = checkpoints.store if writes and checkpoints is not None else None
        self._fingerprint = None if checkpoints is None else checkpoints.fingerprint
        clock = time.monotonic if checkpoints is None else checkpoints.clock
        self._timer = CheckpointTimer(settings.checkpoint_steps, settings.checkpoint_minutes, clock)
        self._began, self._earlier = time.perf_counter(), 0.0
        self._mark: _Mark | None = None

    def resume(self) -> tuple[Progress, dict[str, Tensor]] | None:
        """Put everything back as the newest checkpoint has it.

        `None` where there is none, or where the run is not to resume.

        Returns:
            Where the run stands, and the best weights so far.

        Raises:
            CheckpointError: the checkpoint belongs to other settings or data, or is damaged.
        """
        if self._checkpoints is None or not self._checkpoints.resume:
            return None
        if (saved := self._checkpoints.store.latest()) is None:
            return None
        refuse_other_run(saved, self._fingerprint, defaults={"processes": 1})
        trained = {n: p for n, p in self._tagger.named_parameters() if p.requires_grad}
        restore_weights(replace(saved, weights=without_ranks(saved.weights)), trained)
        restore_optimizer(self._optimizer, self._names, saved.optimizer)
        _restore_rng(saved.rng, self._accelerator.device)
        scaler = getattr(self._accelerator, "scaler", None)
        if scaler is not None and saved.state["scaler"]:
            scaler.load_state_dict(saved.state["scaler"])
        if self._ranks is not None:
            self._ranks.load(saved.weights)
        values = saved.state["progress"]
        progress = Progress(
            **{"targets": values["units"], **values},  # version 0.1.0 had no count of its own
            history=[EpochReport(**report) for report in saved.state["history"]],
        )
        self._earlier = progress.elapsed
        return progress, saved.best

    def mark(
        self, progress: Progress, best: dict[str, Tensor], loss_sum: Tensor | float | None = None
    ) -> None:
        """Note that the run could go on from here; `unmark` when weights are about to change.

        Args:
            progress: where it stands.
            best: the best weights so far.
            loss_sum: in the place of `progress.loss_sum`, so that no step waits for the device.
        """
        if self._store is None:
            return
        self._mark = _Mark(
            replace(progress, history=[*progress.history]),
            progress.loss_sum if loss_sum is None else loss_sum,
            best,
            _rng_states(self._accelerator.device),
        )

    def unmark(self) -> None:
        """Weights change now: until the next mark there is no state to go on from."""
        self._mark = None

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written at this step, by their number or by the clock."""
        return self._store is not None and self._timer.is_due(step)

    def is_due_after_epoch(self, step: int) -> bool:
        """The same at the end of an epoch, where a checkpoint may be wanted always."""
        return self._settings.checkpoint_minutes == 0 or self.is_due(step)

    def save(self) -> None:
        """Write what was marked last.

        Raises:
            TrainingError: weights or loss are not finite.
        """
        mark = self._mark
        if self._store is None or mark is None:
            return
        self.refuse_diverged(mark.progress)
        if not math.isfinite(loss_sum := float(mark.loss_sum)):
            raise self.diverged("loss is", mark.progress)
        progress = replace(
            mark.progress,
            loss_sum=loss_sum,
            elapsed=self._earlier + time.perf_counter() - self._began,
        )
        ranks = self._ranks.tensors() if self._ranks is not None else {}
        self._store.save(
            Checkpoint(
                step=progress.step,
                state=_to_json(progress, self._accelerator) | {"fingerprint": self._fingerprint},
                weights=trainable_tensors(self._tagger) | ranks,
                best=mark.best,
                optimizer=optimizer_tensors(self._optimizer, self._names),
                rng=mark.rng,
            )
        )
        self._mark = None  # it is saved
        self._timer.restart()

    def save_interrupted(self) -> None:
        """Write what was marked last, where it can be gone on from; else leave what is there."""
        try:
            self.save()
        except TrainingError:  # the earlier checkpoint is the better one
            return

    def refuse_diverged(self, progress: Progress) -> None:
        """Look at all weights that train.

        Raises:
            TrainingError: some are not finite.
        """
        found = [t.isfinite().all() for t in trainable_tensors(self._tagger).values()]
        if found and not bool(torch.stack(found).all()):
            raise self.diverged("weights are", progress)

    def diverged(self, what: str, progress: Progress) -> TrainingError:
        """The error that says so."""
        return diverged(what, progress, self._optimizer, self._settings)


def diverged(
    what: str, progress: Progress, optimizer: torch.optim.Optimizer, settings: TrainSettings
) -> TrainingError:
    """What to say when numbers are no longer finite, and what to lower.

    Args:
        what: the numbers, with their verb.
        progress: where the run stands.
        optimizer: whose groups carry their names and peak rates.
        settings: of the run.
    """
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        rates.setdefault(_RATE_KEYS[group["name"]], group["peak"])
    told = [f"train.{key} (now {rate:.3g})" for key, rate in rates.items()]
    hints = [f"lower {' and '.join(told)}"]
    if not settings.clip_norm:
        hints.append("clip gradients (train.clip_norm = 1.0)")
    if settings.precision == "fp16":
        hints.append('use train.precision = "fp32"')
    return TrainingError(
        f"training diverged: the {what} no longer finite in epoch {progress.epoch}, batch "
        f"{progress.batch}: {', or '.join(hints)}"
    )


def trainable_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _to_json(progress: Progress, accelerator: Accelerator) -> dict[str, Any]:
    scaler = getattr(accelerator, "scaler", None)
    return {
        "progress": {
            "epoch": progress.epoch,
            "batch": progress.batch,
            "step": progress.step,
            "loss_sum": progress.loss_sum,
            "targets": progress.targets,
            "units": progress.units,
            "seconds": progress.seconds,
            "best_epoch": progress.best_epoch,
            "best_f1": progress.best_f1,
            "finished": progress.finished,
            "elapsed": progress.elapsed,
        },
        "history": [report.to_dict() for report in progress.history],
        "scaler": scaler.state_dict() if scaler is not None else None,
    }


def _rng_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_rng(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
