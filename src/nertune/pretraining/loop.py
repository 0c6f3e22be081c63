"""The pre-training loop: rows in, losses down, checkpoints from which a run resumes exactly."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from nertune.config.pretrain import PretrainSettings, missing_settings
from nertune.errors import TrainingError
from nertune.pretraining.batches import MaskedBatch, TokenIds, collate_rows
from nertune.pretraining.model import Losses, PretrainingModel
from nertune.pretraining.optimizers import NamedOptimizer, build_optimizers
from nertune.pretraining.packing import Block, PreparedText, RowCursor, next_rows
from nertune.pretraining.schedule import Schedule
from nertune.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    CheckpointTimer,
    optimizer_tensors,
    refuse_other_run,
    restore_optimizer,
    restore_weights,
)
from nertune.training.progress import trainable_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["PretrainObserver", "PretrainProgress", "Pretrainer", "forward_losses"]

_REPORT_SECONDS = 10.0
_MEASURED_TOKENS = 8192  # at once


@dataclass(slots=True)
class PretrainProgress:
    """Where a run stands; all of it goes into a checkpoint.

    Attributes:
        step: optimizer steps done.
        tokens: tokens trained on, special ones included.
        text_tokens: of them, text.
        seconds: training time over all processes of the run.
        cursor: where in the text it stands.
        history: `tokens, seconds, loss, tag_loss` as they came.
    """

    step: int = 0
    tokens: int = 0
    text_tokens: int = 0
    seconds: float = 0.0
    cursor: RowCursor = field(default_factory=RowCursor)
    history: list[dict[str, float]] = field(default_factory=list)


class PretrainObserver(Protocol):
    """Is told how it goes."""

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        """Some steps are done; the newest losses stand last in the history."""
        ...


class Pretrainer:
    """Trains a model on rows of text, measures it, and times its steps.

    Args:
        model: on the accelerator's device.
        settings: of the run.
        token_ids: of the tokenizer.
        accelerator: device and precision.
    """

    def __init__(
        self,
        model: PretrainingModel,
        settings: PretrainSettings,
        token_ids: TokenIds,
        accelerator: Accelerator,
    ):
        self.model = model
        self.settings = settings
        self.token_ids = token_ids
        self.accelerator = accelerator

    def train(
        self,
        text: PreparedText,
        num_tokens: int,
        *,
        checkpoints: Checkpoints,
        observer: PretrainObserver,
    ) -> PretrainProgress:
        """Train until the budget is spent.

        The same arguments on the same machine end with the same weights, whether the run went
        through or was killed and resumed: the text's order, the masked tokens and what replaces
        them follow from the seed and the step alone.

        Args:
            text: where the rows come from.
            num_tokens: the budget, in tokens with special ones.
            checkpoints: of this run.
            observer: is told the losses.

        Raises:
            TrainingError: the loss is no longer finite.
            CheckpointError: the checkpoint is of other settings or texts.
        """
        optimizers = build_optimizers(self.model, self.settings)
        keeper = _Keeper(self.model, optimizers, checkpoints)
        progress = keeper.resume() or PretrainProgress()
        schedule = Schedule(self.settings, num_tokens)
        self.model.eval()  # no dropout: a small budget has nothing to overfit
        step = _Step(self.model, self.settings, self.token_ids, optimizers, self.accelerator)
        clock = _Clock(progress)
        steps, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        timer = CheckpointTimer(steps, minutes, checkpoints.clock)
        while progress.tokens < num_tokens:
            self._advance(progress, text, schedule, step)
            clock.tick(progress)
            is_last = progress.tokens >= num_tokens
            is_due = timer.is_due(progress.step)
            if is_last or is_due or clock.report_is_due():
                progress.history.append(step.take_losses(progress))
                _refuse_infinite(progress)
                observer.on_steps(progress, num_tokens, clock.speed(progress))
            if is_last or is_due:
                keeper.save(progress)
                timer.restart()
                clock.resume(progress)
        return progress

    def _advance(
        self, progress: PretrainProgress, text: PreparedText, schedule: Schedule, step: _Step
    ) -> None:
        """One step on the next rows of the text."""
        done = progress.tokens
        length = schedule.row_length(done)
        rows, cursor = next_rows(
            text,
            progress.cursor,
            num_rows=schedule.num_rows(done),
            length=length - self.token_ids.num_special,
            seed=self.settings.seed,
        )
        num_tokens = rows.ids.shape[0] * length
        step.run(rows, length, rate=schedule.rate(done + num_tokens // 2), number=progress.step)
        progress.step += 1
        progress.tokens += num_tokens
        progress.text_tokens += rows.ids.size
        progress.cursor = cursor

    @torch.no_grad()
    def measure(self, block: Block, *, max_rows: int = 512) -> dict[str, float]:
        """Held-out losses with masked tokens that are always the same.

        Returns:
            `loss` (nats per masked token), `perplexity` (its exponential), `pieces` (how many
            tokens are masked; the name is that in records), and with a word tagger `tag_loss`;
            empty where no text was held out.
        """
        was_training = self.model.training
        self.model.eval()
        length = self.settings.length - self.token_ids.num_special
        num_rows = min(max_rows, len(block) // length)
        total, tag_total, num_masked = 0.0, 0.0, 0
        rng = np.random.default_rng(0)
        step = max(1, _MEASURED_TOKENS // self.settings.length)
        for first in range(0, num_rows, step):
            count = min(step, num_rows - first)
            part = slice(first * length, (first + count) * length)
            rows = _slice(block, part).shaped(count, length)
            batch = collate_rows(rows, self.token_ids, self.settings, rng, self.accelerator.device)
            losses = forward_losses(self.model, batch, self.accelerator)
            total += float(losses.masked) * len(batch.targets_N)
            tag_total += float(losses.tags) * count
            num_masked += len(batch.targets_N)
        self.model.train(was_training)
        if not num_masked:
            return {}
        loss = total / num_masked
        result = {"loss": loss, "perplexity": math.exp(min(loss, 50.0)), "pieces": num_masked}
        if self.model.tagger is not None:
            result["tag_loss"] = tag_total / num_rows
        return result

    def time_steps(self, text: PreparedText, *, steps: int = 4) -> float:
        """Tokens per second of whole steps, on a copy of the model that is thrown away."""
        settings, device = self.settings, self.accelerator.device
        trial = copy.deepcopy(self.model).eval()
        optimizers = build_optimizers(trial, settings)
        step = _Step(trial, settings, self.token_ids, optimizers, self.accelerator)
        num_rows = max(1, settings.batch_tokens // settings.length)
        length = settings.length - self.token_ids.num_special
        rows, _ = next_rows(text, RowCursor(), num_rows=num_rows, length=length, seed=settings.seed)
        step.run(rows, settings.length, rate=0.0, number=0)  # prepares memory; on a GPU it compiles
        _wait(device)
        started = time.perf_counter()
        for number in range(steps):
            step.run(rows, settings.length, rate=0.0, number=number)
        _wait(device)
        return steps * num_rows * settings.length / (time.perf_counter() - started)


class _Step:
    """Forward, backward and update, with the losses since the last report."""

    def __init__(
        self,
        model: PretrainingModel,
        settings: PretrainSettings,
        token_ids: TokenIds,
        optimizers: list[NamedOptimizer],
        accelerator: Accelerator,
    ):
        self._forward = _compiled(model, settings, accelerator)
        self._settings = settings
        self._token_ids = token_ids
        self._optimizers = [optimizer for optimizer, _ in optimizers]
        self._accelerator = accelerator
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(2, device=self._accelerator.device)
        self._steps = 0

    def run(self, rows: Block, length: int, *, rate: float, number: int) -> None:
        """One step, in parts where the device cannot take it whole; `rate` is of the peak."""
        settings, device = self._settings, self._accelerator.device
        rng = np.random.default_rng([settings.seed, 1, number])
        num_rows = rows.ids.shape[0]
        for part in _parts(num_rows, length, settings):
            batch = collate_rows(_slice(rows, part), self._token_ids, settings, rng, device)
            losses = forward_losses(self._forward, batch, self._accelerator)
            weight = (part.stop - part.start) / num_rows
            loss = losses.masked + settings.tag_weight * losses.tags
            self._accelerator.backward(loss * weight)
            self._sums += torch.stack([losses.masked, losses.tags]).detach() * weight
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters, settings.clip_norm)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._steps += 1

    def take_losses(self, progress: PretrainProgress) -> dict[str, float]:
        """Means since the last time; waits for the device."""
        loss, tag_loss = (self._sums / max(self._steps, 1)).tolist()
        self._clear()
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 3),
            "loss": loss,
            "tag_loss": tag_loss,
        }


class _Clock:
    """Training time over all processes of a run, and when a report is due."""

    def __init__(self, progress: PretrainProgress):
        self._shown_at = time.perf_counter()
        self._started = self._shown_at - progress.seconds
        self._shown_tokens, self._shown_seconds = progress.tokens, progress.seconds

    def tick(self, progress: PretrainProgress) -> None:
        progress.seconds = time.perf_counter() - self._started

    def report_is_due(self) -> bool:
        return time.perf_counter() - self._shown_at > _REPORT_SECONDS

    def speed(self, progress: PretrainProgress) -> float:
        """Tokens per second since the last report, which this is."""
        tokens = progress.tokens - self._shown_tokens
        seconds = max(progress.seconds - self._shown_seconds, 1e-9)
        self._shown_at = time.perf_counter()
        self._shown_tokens, self._shown_seconds = progress.tokens, progress.seconds
        return tokens / seconds

    def resume(self, progress: PretrainProgress) -> None:
        """What was done since the last tick is not training, e.g. writing a checkpoint."""
        self._started = time.perf_counter() - progress.seconds


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Writes and reads the checkpoints of a run.

    Attributes:
        model: what trains.
        optimizers: of its parameters.
        checkpoints: where to.
    """

    model: PretrainingModel
    optimizers: list[NamedOptimizer]
    checkpoints: Checkpoints

    def save(self, progress: PretrainProgress) -> None:
        self.checkpoints.store.save(
            Checkpoint(
                step=progress.step,
                state={"progress": asdict(progress), "fingerprint": self.checkpoints.fingerprint},
                weights=trainable_tensors(self.model),
                best={},
                optimizer={
                    f"{i}/{key}": tensor
                    for i, (optimizer, names) in enumerate(self.optimizers)
                    for key, tensor in optimizer_tensors(optimizer, names).items()
                },
                rng={},
            )
        )

    def resume(self) -> PretrainProgress | None:
        """Put everything back as the newest checkpoint has it.

        `None` where there is none, or where the run is not to resume.
        """
        if not self.checkpoints.resume or (saved := self.checkpoints.store.latest()) is None:
            return None
        defaults = missing_settings(saved.state["fingerprint"])
        refuse_other_run(saved, self.checkpoints.fingerprint, defaults=defaults)
        restore_weights(saved, trainable_tensors(self.model))
        for i, (optimizer, names) in enumerate(self.optimizers):
            own = {
                key.removeprefix(f"{i}/"): tensor
                for key, tensor in saved.optimizer.items()
                if key.startswith(f"{i}/")
            }
            restore_optimizer(optimizer, names, own)
        values = dict(saved.state["progress"])
        values["cursor"] = RowCursor(**values["cursor"])
        return PretrainProgress(**values)


def _parts(num_rows: int, length: int, settings: PretrainSettings) -> Iterator[slice]:
    limit = settings.micro_tokens or settings.batch_tokens
    size = max(1, limit // length)
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))


def _slice(rows: Block, part: slice) -> Block:
    return Block(rows.ids[part], rows.starts[part], rows.tags[part])


def forward_losses(model: Any, batch: MaskedBatch, accelerator: Accelerator) -> Losses:
    """The losses of a batch, in the precision that was chosen."""
    with accelerator.autocast():
        losses: Losses = model(batch.ids_BL, batch.positions_N, batch.targets_N, batch.tags_BL)
    return losses


def _compiled(model: PretrainingModel, settings: PretrainSettings, accelerator: Accelerator) -> Any:
    wanted = settings.compile == "yes" or (
        settings.compile == "auto" and accelerator.device.type == "cuda"
    )
    return torch.compile(model, dynamic=True) if wanted else model


def _refuse_infinite(progress: PretrainProgress) -> None:
    newest = progress.history[-1]
    if not math.isfinite(newest["loss"] + newest["tag_loss"]):
        raise TrainingError(
            f"the loss is no longer finite at step {progress.step}: lower rate, or use "
            'precision = "fp32"'
        )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
