"""The training loop, on accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from nertune.config.run import TrainSettings
from nertune.errors import NotFiniteError, TrainingError
from nertune.models.peft.adalora import RankSchedule
from nertune.models.tagger import Tagger
from nertune.tokens.batching import Batch, collate, epoch_batches
from nertune.training.checkpoint import CheckpointStore
from nertune.training.examples import Examples
from nertune.training.hidden_state_cache import StateStore
from nertune.training.optimizer import build_optimizer, rate_factor
from nertune.training.progress import EpochReport, Progress, ProgressKeeper, trainable_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["EpochReport", "FitResult", "Observer", "Pause", "fit", "trainable_tensors"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_CHECK_EVERY = 20  # batches between looks at the loss, each of which waits for the device


class Pause(Exception):
    """Raised by an observer's `on_epoch`: leave, with a checkpoint from which to go on.

    `fit` writes the epoch's checkpoint and raises it again, unless training is finished anyway.
    """


class Observer(Protocol):
    """Is told how training goes, e.g. to show and to log it."""

    def on_resume(self, epoch: int, batch: int) -> None:
        """Training goes on in this epoch, behind so many of its batches."""
        ...

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        """Some batches of an epoch are done; `loss` is the epoch's mean so far."""
        ...

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        """An epoch is done and scored."""
        ...


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of training. The tagger holds the best epoch's weights."""

    history: list[EpochReport]
    best_epoch: int
    stopped_early: bool
    earlier_seconds: float  # of the lives before a resumption, as far as their work was kept


def fit(
    tagger: Tagger,
    examples: Examples,
    settings: TrainSettings,
    *,
    accelerator: Accelerator,
    seed: int,
    pad_id: int,
    continuation: Sequence[int] | None = None,
    states: StateStore | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
    observer: Observer | None = None,
    checkpoints: CheckpointStore | None = None,
    fingerprint: dict[str, Any] | None = None,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Train a tagger, keep the best epoch's weights, stop when it gets no better.

    Given the same arguments on the same machine the weights end the same, whether the run went
    through or was killed and resumed any number of times: to the bit on a CPU. On a GPU some of
    PyTorch's kernels add in an order of their own, so that last digits may differ.

    Args:
        tagger: on the accelerator's device.
        examples: what to train on; at least one window.
        settings: rates, epochs and the like.
        accelerator: device and precision.
        seed: orders the batches. Dropout draws from torch's own generator.
        pad_id: fills batches.
        continuation: with the piece strategy `all`, `align.continuation_ids`.
        states: what the frozen layers give for every window, if they are not to be run again.
        evaluate: scores the tagger on the dev set; needs the key `f1`. Without it the last
            epoch counts as the best.
        observer: is told about progress.
        checkpoints: where to keep them; `None` keeps none.
        fingerprint: what a checkpoint must share with the run that resumes it.
        resume: go on from the newest checkpoint, if there is one.
        clock: gives the seconds by which checkpoints are due.

    Raises:
        TrainingError: there is nothing to train on, or the loss, the weights or what the tagger
            gives on dev are no longer finite.
        CheckpointError: the checkpoint belongs to other settings or data.
        ConfigError: AdaLoRA's schedule does not fit into the steps.
        Pause: the observer asked for it.
    """
    if not examples.windows:
        raise TrainingError("there is nothing to train on: no training text holds a known piece")
    optimizer, names = build_optimizer(tagger, settings)
    lengths = [len(window.piece_ids) for window in examples.windows]
    first = epoch_batches(lengths, budget_tokens=settings.batch_tokens, seed=seed, epoch=1)
    total_steps = settings.epochs * math.ceil(len(first) / settings.accumulate)
    ranks = RankSchedule.of(tagger, total_steps)
    keeper = ProgressKeeper(
        tagger, optimizer, names, accelerator,
        store=checkpoints, settings=settings, fingerprint=fingerprint, ranks=ranks, clock=clock,
    )  # fmt: skip
    progress = Progress()
    best: dict[str, Tensor] = {}
    if resume and (found := keeper.resume()) is not None:
        progress, best = found
        if observer is not None:
            observer.on_resume(progress.epoch, progress.batch)
    earlier = progress.elapsed
    # The state stays where it is: Adam's step counts on a GPU would be waited for at each step.
    optimizer = accelerator.prepare(optimizer, device_placement=[False])
    if settings.compile and states is None:  # which replaces layers from call to call
        tagger.emitter.compile(dynamic=True)  # in place: names and modules stay what they are
    try:
        while not progress.finished:
            tagger.train()
            batches = epoch_batches(
                lengths, budget_tokens=settings.batch_tokens, seed=seed, epoch=progress.epoch
            )
            _train_epoch(
                tagger, examples, batches, settings, progress, optimizer, accelerator,
                pad_id=pad_id, continuation=continuation, states=states, ranks=ranks,
                observer=observer, keeper=keeper, best=best,
            )  # fmt: skip
            keeper.refuse_diverged(progress)
            is_best = _finish_epoch(progress, evaluate, tagger, keeper)
            if is_best:
                best = {n: t.detach().cpu().clone() for n, t in trainable_tensors(tagger).items()}
            pause = _tell_epoch(observer, progress, is_best)
            progress.finished = _is_done(progress, settings)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            progress.loss_sum, progress.targets = 0.0, 0
            progress.units, progress.seconds = 0, 0.0
            keeper.mark(progress, best)
            leaves = pause is not None and not progress.finished
            if leaves or keeper.is_due_after_epoch(progress.step):
                keeper.save()
            if leaves:
                assert pause is not None
                try:
                    raise pause
                finally:
                    del pause  # which holds this frame, and with it all weights
    except KeyboardInterrupt:
        keeper.save_interrupted()
        raise

    with torch.no_grad():
        parameters = dict(tagger.named_parameters())
        for name, tensor in best.items():
            parameters[name].copy_(tensor)
    tagger.eval()
    if ranks is not None:
        ranks.finish()
    return FitResult(
        history=progress.history,
        best_epoch=progress.best_epoch,
        stopped_early=len(progress.history) < settings.epochs,
        earlier_seconds=earlier,
    )


def _train_epoch(
    tagger: Tagger,
    examples: Examples,
    batches: Sequence[Sequence[int]],
    settings: TrainSettings,
    progress: Progress,
    optimizer: Any,
    accelerator: Accelerator,
    *,
    pad_id: int,
    continuation: Sequence[int] | None,
    states: StateStore | None,
    ranks: RankSchedule | None,
    observer: Observer | None,
    keeper: ProgressKeeper,
    best: dict[str, Tensor],
) -> None:
    """The batches of one epoch that are still to do."""
    parameters = [p for p in tagger.parameters() if p.requires_grad]
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64)
    if accelerator.device.type != "mps":  # which has no float64
        loss_sum = loss_sum.to(accelerator.device)
    started = time.perf_counter() - progress.seconds
    targets = examples.count_targets(all_pieces=continuation is not None)

    def prepare(chosen: Sequence[int]) -> Batch:
        batch = collate(
            [examples.windows[i] for i in chosen],
            pad_id=pad_id,
            tags=[examples.tags[i] for i in chosen],
            continuation=continuation,
        )
        if states is not None:
            batch = replace(batch, states_BLD=states.batch(chosen))
        return batch.to(accelerator.device)

    ahead = accelerator.device.type != "cpu"  # whose cores are all at work
    prepared = (
        _map_ahead(prepare, batches[progress.batch :])
        if ahead
        else map(prepare, batches[progress.batch :])
    )
    for number, batch in enumerate(prepared, start=progress.batch):
        chosen = batches[number]
        group_start = number - number % settings.accumulate
        group = batches[group_start : group_start + settings.accumulate]
        group_size = len(group)
        progress.batch = number + 1
        is_step = progress.batch - group_start == group_size
        num_targets = sum(targets[i] for i in chosen)
        # The group's loss is the mean over all that it holds, as if it were one batch.
        share = num_targets / max(1, sum(targets[i] for indices in group for i in indices))
        with accelerator.autocast():
            loss = tagger(batch)
        penalty = ranks.penalty() if ranks is not None and is_step else 0.0
        accelerator.backward(share * loss + penalty)
        loss_sum = loss_sum + loss.detach().to(loss_sum.device).double() * num_targets
        progress.targets += num_targets
        progress.units += sum(len(examples.tags[i]) for i in chosen)
        if is_step:
            done = (progress.epoch - 1 + group_start / len(batches)) / settings.epochs
            # The middle of the step, so that neither the first nor the last has rate zero.
            half = 0.5 * group_size / (settings.epochs * len(batches))
            _set_rates(optimizer, settings, done + half)
            if settings.clip_norm:
                accelerator.clip_grad_norm_(parameters, settings.clip_norm)
            keeper.unmark()
            optimizer.step()
            progress.step += 1
            if ranks is not None:
                if getattr(optimizer, "step_was_skipped", False):  # fp16: gradients overflowed
                    ranks.forget_gradients()
                ranks.step(progress.step)
            optimizer.zero_grad()
            progress.seconds = time.perf_counter() - started
            keeper.mark(progress, best, loss_sum)
        is_last = progress.batch == len(batches)
        is_due = is_step and not is_last and keeper.is_due(progress.step)
        if is_due or is_last or progress.batch % _CHECK_EVERY == 0:
            progress.loss_sum = float(loss_sum)
            progress.seconds = time.perf_counter() - started
            if not math.isfinite(progress.loss_sum):
                raise keeper.diverged("loss is", progress)
            if observer is not None:
                _report(observer, progress, len(batches))
        if is_due:
            keeper.save()
            started = time.perf_counter() - progress.seconds


def _map_ahead(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Like `map`, the next result computed by another thread while this one is used."""
    with ThreadPoolExecutor(1, "nertune-batches") as pool:
        coming = pool.submit(function, items[0]) if items else None
        for item in (*items[1:], None):
            if coming is None:
                return
            result = coming.result()
            coming = None if item is None else pool.submit(function, item)
            yield result


def _set_rates(optimizer: Any, settings: TrainSettings, progress: float) -> None:
    factor = rate_factor(progress, warmup=settings.warmup, schedule=settings.schedule)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _report(observer: Observer, progress: Progress, num_batches: int) -> None:
    observer.on_batch(
        progress.epoch,
        progress.batch,
        num_batches,
        progress.loss_sum / max(1, progress.targets),
        progress.units / max(progress.seconds, 1e-9),
    )


def _finish_epoch(
    progress: Progress,
    evaluate: Callable[[], dict[str, float]] | None,
    tagger: Tagger,
    keeper: ProgressKeeper,
) -> bool:
    """Score the epoch and add it to the history; whether it is the best so far."""
    dev = None
    if evaluate is not None:
        tagger.eval()
        try:
            dev = evaluate()
        except NotFiniteError as error:  # finite weights may give what is not
            raise keeper.diverged("logits on dev are", progress) from error
    f1 = dev["f1"] if dev is not None else float(progress.epoch)
    progress.history.append(
        EpochReport(
            epoch=progress.epoch,
            loss=progress.loss_sum / max(1, progress.targets),
            seconds=progress.seconds,
            tokens_per_second=progress.units / max(progress.seconds, 1e-9),
            dev=dev,
        )
    )
    if f1 < progress.best_f1 or f1 == progress.best_f1 > 0:
        return False  # but while nothing at all is found, the longer trained weights are kept
    progress.best_f1, progress.best_epoch = f1, progress.epoch
    return True


def _tell_epoch(observer: Observer | None, progress: Progress, is_best: bool) -> Pause | None:
    """Tell it; the wish to leave, if it has one."""
    if observer is not None:
        try:
            observer.on_epoch(progress.history[-1], is_best=is_best)
        except Pause as raised:
            return raised
    return None


def _is_done(progress: Progress, settings: TrainSettings) -> bool:
    # While nothing at all is found yet (F1 of 0), waiting is not a lack of progress.
    waited = progress.epoch - progress.best_epoch if progress.best_f1 > 0 else 0
    return progress.epoch >= settings.epochs or bool(
        settings.patience and waited >= settings.patience
    )
