"""The training loop, on accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nertune.config.run import TrainSettings
from nertune.errors import NotFiniteError, TrainingError
from nertune.models.peft.adalora import RankSchedule
from nertune.models.tagger import Tagger
from nertune.tokens.batching import Batch
from nertune.training.batches import TrainingBatches
from nertune.training.checkpoint import Checkpoints
from nertune.training.observer import Observer, Pause
from nertune.training.optimizer import build_optimizer, rate_factor
from nertune.training.process_group import ProcessGroup
from nertune.training.progress import EpochReport, Progress, ProgressKeeper, trainable_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["FitResult", "Trainer"]

_Item = TypeVar("_Item")
_CHECK_EVERY = 20  # batches between looks at the loss, each of which waits for the device


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of training. The tagger holds the best epoch's weights."""

    history: list[EpochReport]
    best_epoch: int
    stopped_early: bool
    steps: int  # of the optimizer, in all
    earlier_seconds: float  # of the processes before a resumption, as far as their work was kept


class Trainer:
    """Trains a tagger, keeps the best epoch's weights, stops when it gets no better.

    Given the same arguments on the same machine the weights end the same, whether the run went
    through or was killed and resumed any number of times: to the bit on a CPU. On a GPU some of
    PyTorch's kernels add in an order of their own, so that last digits may differ. Dropout draws
    from torch's own generator: seed it before.

    Args:
        tagger: on the accelerator's device.
        batches: what to train on.
        settings: rates, epochs and the like.
        accelerator: device and precision. Where it is one of several processes, each takes its
            share of a step of N × `settings.accumulate` batches, N being their number.
        evaluate: scores the tagger on the dev set; needs the key `f1`. Without it the last
            epoch counts as the best.
        observer: is told about progress.
        checkpoints: where to keep them, and whether to resume; `None` keeps none. Of several
            processes the first one writes them, and all read them.

    Raises:
        TrainingError: there is nothing to train on.
        ConfigError: AdaLoRA's schedule does not fit into the steps.
    """

    def __init__(
        self,
        tagger: Tagger,
        batches: TrainingBatches,
        settings: TrainSettings,
        accelerator: Accelerator,
        *,
        evaluate: Callable[[], dict[str, float]] | None = None,
        observer: Observer | None = None,
        checkpoints: Checkpoints | None = None,
    ):
        first = batches.order(1)
        if not first:
            raise TrainingError(
                "there is nothing to train on: no training text holds a known token"
            )
        self._tagger, self._batches, self._settings = tagger, batches, settings
        self._accelerator, self._evaluate, self._observer = accelerator, evaluate, observer
        self._group = ProcessGroup(accelerator)
        self._step_batches = settings.accumulate * self._group.size
        optimizer, names = build_optimizer(tagger, settings)
        total_steps = settings.epochs * math.ceil(len(first) / self._step_batches)
        self._ranks = RankSchedule.of(tagger, total_steps)
        self._keeper = ProgressKeeper(
            tagger, optimizer, names, accelerator,
            settings=settings, ranks=self._ranks, checkpoints=checkpoints,
        )  # fmt: skip
        # The state stays where it is: Adam's step counts on a GPU would be waited for at each step.
        self._optimizer = accelerator.prepare(optimizer, device_placement=[False])
        self._parameters = [p for p in tagger.parameters() if p.requires_grad]
        self._progress = Progress()
        self._best: dict[str, Tensor] = {}
        self._loss_sum = torch.tensor(0.0, dtype=torch.float64)
        self._started = 0.0  # so that `perf_counter() - _started` are the epoch's seconds

    def fit(self) -> FitResult:
        """Train until the last epoch, or until dev gets no better.

        Raises:
            TrainingError: the loss, the weights or what the tagger gives on dev are no longer
                finite.
            CheckpointError: the checkpoint belongs to other settings or data.
            ConfigError: the processes have not the same checkpoint.
            Pause: the observer asked for it.
        """
        if (found := self._keeper.resume()) is not None:
            self._progress, self._best = found
            if self._observer is not None:
                self._observer.on_resume(self._progress.epoch, self._progress.batch)
        self._group.refuse_different({"step": self._progress.step}, "their checkpoint")
        self._group.share(p.detach() for p in self._parameters)
        earlier = self._progress.elapsed
        if self._settings.compile and self._batches.states is None:  # which replaces layers
            self._tagger.emitter.compile(dynamic=True)  # in place: names and modules stay
        try:
            while not self._progress.finished:
                self._train_epoch()
                self._finish_epoch()
        except KeyboardInterrupt:
            self._keeper.save_interrupted()
            raise
        self._restore_best()
        return FitResult(
            history=self._progress.history,
            best_epoch=self._progress.best_epoch,
            stopped_early=len(self._progress.history) < self._settings.epochs,
            steps=self._progress.step,
            earlier_seconds=earlier,
        )

    def _train_epoch(self) -> None:
        """The batches of the epoch that are still to do."""
        progress, device = self._progress, self._accelerator.device
        self._tagger.train()
        order = self._batches.order(progress.epoch)
        self._loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64)
        if device.type != "mps":  # which has no float64
            self._loss_sum = self._loss_sum.to(device)
        self._started = time.perf_counter() - progress.seconds
        firsts = range(progress.batch, len(order), self._step_batches)
        own = (i for f in firsts for i in self._own(range(len(order))[f : f + self._step_batches]))
        batches = self._batches.load((order[i] for i in own), device, epoch=progress.epoch)
        for first in firsts:
            group = order[first : first + self._step_batches]
            self._group.seed_step(self._batches.seed, progress.epoch, first)
            loss_sum = self._learn(batches, group)
            progress.batch = first + len(group)
            self._loss_sum = self._loss_sum + loss_sum.to(self._loss_sum.device)
            self._step(first, len(group), len(order))
            self._look(first, len(order))

    def _own(self, group: Sequence[_Item]) -> Sequence[_Item]:
        """Of the batches of a step those that this process computes; there may be none."""
        return group[self._group.rank :: self._group.size]

    def _learn(self, batches: Iterator[Batch], group: Sequence[Sequence[int]]) -> Tensor:
        """The gradients of a step: those of its batches, added up.

        Returns:
            The sum of the loss over the step's targets, in nats, float64.
        """
        counts = [self._batches.count_targets(chosen) for chosen in group]
        # The group's loss is the mean over all that it holds, as if it were one batch.
        total = max(1, sum(counts))
        loss_sum = torch.zeros((), dtype=self._loss_sum.dtype, device=self._loss_sum.device)
        own = self._own(range(len(group)))
        for index in own:
            batch = next(batches)
            with self._accelerator.autocast():
                loss = self._tagger(batch)
            penalty: Tensor | float = 0.0
            if self._ranks is not None and self._group.is_first and index == own[-1]:
                penalty = self._ranks.penalty()  # once a step
            self._accelerator.backward(counts[index] / total * loss + penalty)
            loss_sum = loss_sum + loss.detach().to(loss_sum.device).double() * counts[index]
        self._progress.targets += sum(counts)
        self._progress.units += sum(map(self._batches.count_units, group))
        return self._group.sum_gradients(self._parameters, loss_sum)

    def _step(self, first: int, group_size: int, num_batches: int) -> None:
        """Change the weights by what a group of batches has given."""
        progress, optimizer = self._progress, self._optimizer
        done = (progress.epoch - 1 + first / num_batches) / self._settings.epochs
        # The middle of the step, so that neither the first nor the last has rate zero.
        half = 0.5 * group_size / (self._settings.epochs * num_batches)
        self._set_rates(done + half)
        if self._settings.clip_norm:
            self._accelerator.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._keeper.unmark()
        optimizer.step()
        progress.step += 1
        if self._ranks is not None:
            if getattr(optimizer, "step_was_skipped", False):  # fp16: gradients overflowed
                self._ranks.forget_gradients()
            self._ranks.step(progress.step)
        optimizer.zero_grad()
        progress.seconds = time.perf_counter() - self._started
        self._keeper.mark(progress, self._best, self._loss_sum)

    def _set_rates(self, done: float) -> None:
        settings = self._settings
        factor = rate_factor(done, warmup=settings.warmup, schedule=settings.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def _look(self, first: int, num_batches: int) -> None:
        """Now and then, behind a step, look at the loss, tell the observer, write a checkpoint."""
        progress = self._progress
        is_last = progress.batch == num_batches
        is_due = not is_last and self._keeper.is_due(progress.step)
        is_time = first // _CHECK_EVERY < progress.batch // _CHECK_EVERY
        if not (is_due or is_last or is_time):
            return
        progress.loss_sum = float(self._loss_sum)
        progress.seconds = time.perf_counter() - self._started
        if not math.isfinite(progress.loss_sum):
            raise self._keeper.diverged("loss is", progress)
        if self._observer is not None:
            self._observer.on_batch(
                progress.epoch,
                progress.batch,
                num_batches,
                progress.mean_loss,
                progress.units_per_second,
            )
        if is_due:
            self._keeper.save()
            self._started = time.perf_counter() - progress.seconds

    def _finish_epoch(self) -> None:
        """Score the epoch, keep the best weights, tell the observer, write a checkpoint."""
        progress = self._progress
        self._keeper.refuse_diverged(progress)
        is_best = self._score_epoch()
        if is_best:
            tensors = trainable_tensors(self._tagger)
            self._best = {name: t.detach().cpu().clone() for name, t in tensors.items()}
        pause = self._tell_epoch(is_best)
        progress.finished = self._is_done()
        progress.begin_epoch()
        self._keeper.mark(progress, self._best)
        if self._group.any(pause is not None) and pause is None:
            pause = Pause()  # another process leaves
        leaves = pause is not None and not progress.finished
        if leaves or self._keeper.is_due_after_epoch(progress.step):
            self._keeper.save()
        if leaves:
            assert pause is not None
            try:
                raise pause
            finally:
                del pause  # which holds this frame, and with it all weights

    def _score_epoch(self) -> bool:
        """Score the epoch and add it to the history; whether it is the best so far."""
        progress = self._progress
        dev = None
        if self._evaluate is not None:
            self._tagger.eval()
            try:
                dev = self._evaluate()
            except NotFiniteError as error:  # finite weights may give what is not
                raise self._keeper.diverged("logits on dev are", progress) from error
        progress.history.append(
            EpochReport(
                epoch=progress.epoch,
                loss=progress.mean_loss,
                seconds=progress.seconds,
                tokens_per_second=progress.units_per_second,
                dev=dev,
            )
        )
        f1 = dev["f1"] if dev is not None else float(progress.epoch)
        if f1 < progress.best_f1 or f1 == progress.best_f1 > 0:
            return False  # but while nothing at all is found, the longer trained weights are kept
        progress.best_f1, progress.best_epoch = f1, progress.epoch
        return True

    def _tell_epoch(self, is_best: bool) -> Pause | None:
        """Tell the observer; its wish to leave, if it has one."""
        if self._observer is not None:
            try:
                self._observer.on_epoch(self._progress.history[-1], is_best=is_best)
            except Pause as raised:
                return raised
        return None

    def _is_done(self) -> bool:
        progress, patience = self._progress, self._settings.patience
        # While nothing at all is found yet (F1 of 0), waiting is not a lack of progress.
        waited = progress.epoch - progress.best_epoch if progress.best_f1 > 0 else 0
        steps = progress.step * waited // max(1, progress.epoch)
        is_enough = waited >= patience and steps >= self._settings.patience_steps
        return progress.epoch >= self._settings.epochs or bool(patience and is_enough)

    def _restore_best(self) -> None:
        with torch.no_grad():
            parameters = dict(self._tagger.named_parameters())
            for name, tensor in self._best.items():
                parameters[name].copy_(tensor)
        self._tagger.eval()
        if self._ranks is not None:
            self._ranks.finish()
