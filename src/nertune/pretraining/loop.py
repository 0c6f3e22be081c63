"""The pre-training loop: rows in, losses down, checkpoints that go on exactly."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nertune.config.pretrain import PretrainSettings, missing_settings
from nertune.errors import TrainingError
from nertune.pretraining.masking import corrupt, hide, join_entities, split_at_random
from nertune.pretraining.model import Losses, PretrainingModel
from nertune.pretraining.muon import Muon
from nertune.pretraining.packing import Block, PreparedText, RowCursor, next_rows
from nertune.pretraining.schedule import Schedule
from nertune.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    optimizer_tensors,
    refuse_other_run,
    restore_optimizer,
    restore_weights,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "PieceBatch",
    "Pieces",
    "PretrainObserver",
    "PretrainProgress",
    "build_optimizers",
    "collate_rows",
    "forward_losses",
    "measure",
    "pretrain",
    "time_steps",
]

_REPORT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pieces:
    """The piece ids, and the numbers of word tags, that a batch needs.

    Attributes:
        prefix: special pieces before a row, e.g. [CLS].
        suffix: behind it, e.g. [SEP].
        mask: [MASK].
        count: size of the vocabulary.
        entity_tags: numbers of the word tags that name entities.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    mask: int
    count: int
    entity_tags: tuple[int, ...] = ()


@dataclass(slots=True)
class PretrainProgress:
    """Where a run stands; all of it goes into a checkpoint.

    Attributes:
        step: optimizer steps done.
        tokens: pieces trained on, special ones included.
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


@dataclass(frozen=True, slots=True)
class PieceBatch:
    """What the model gets; see `PretrainingModel.forward`."""

    ids_BL: Tensor
    positions_N: Tensor
    targets_N: Tensor
    tags_BL: Tensor | None


def pretrain(
    model: PretrainingModel,
    text: PreparedText,
    settings: PretrainSettings,
    schedule: Schedule,
    pieces: Pieces,
    *,
    accelerator: Accelerator,
    checkpoints: CheckpointStore,
    fingerprint: dict[str, Any],
    observer: PretrainObserver,
    resume: bool,
) -> PretrainProgress:
    """Train until the budget is spent.

    The same arguments on the same machine end with the same weights, whether the run went
    through or was killed and resumed: the text's order, the hidden pieces and what replaces them
    follow from the seed and the step alone.

    Raises:
        TrainingError: the loss is no longer finite.
        CheckpointError: the checkpoint is of other settings or texts.
    """
    optimizers = build_optimizers(model, settings)
    progress = PretrainProgress()
    if resume and (saved := checkpoints.latest()) is not None:
        progress = _restore(saved, model, optimizers, fingerprint)
    model.eval()  # no dropout: a small budget has nothing to overfit
    step = _Step(model, settings, pieces, optimizers, accelerator)
    clock = _Clock(progress, settings)
    while progress.tokens < schedule.tokens:
        rows, length, cursor = _take(text, progress, schedule, settings, pieces)
        middle = progress.tokens + rows.ids.shape[0] * length // 2
        step.run(rows, length, rate=schedule.rate(middle), number=progress.step)
        progress.step += 1
        progress.tokens += rows.ids.shape[0] * length
        progress.text_tokens += rows.ids.size
        progress.cursor = cursor
        clock.tick(progress)
        is_last = progress.tokens >= schedule.tokens
        is_due = clock.checkpoint_is_due(progress)
        if is_last or is_due or clock.report_is_due():
            progress.history.append(step.take_losses(progress))
            _refuse_infinite(progress)
            observer.on_steps(progress, schedule.tokens, clock.speed(progress))
        if is_last or is_due:
            _save(checkpoints, progress, model, optimizers, fingerprint)
            clock.saved(progress)
    return progress


class _Step:
    """Forward, backward and update, with the losses since the last report."""

    def __init__(
        self,
        model: PretrainingModel,
        settings: PretrainSettings,
        pieces: Pieces,
        optimizers: list[tuple[torch.optim.Optimizer, list[str]]],
        accelerator: Accelerator,
    ):
        self._forward = _compiled(model, settings, accelerator)
        self._settings = settings
        self._pieces = pieces
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
            batch = collate_rows(_slice(rows, part), self._pieces, settings, rng, device)
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
    """Training time over all processes of a run, and what is due when."""

    def __init__(self, progress: PretrainProgress, settings: PretrainSettings):
        self._settings = settings
        self._saved_at = self._shown_at = time.perf_counter()
        self._started = self._saved_at - progress.seconds
        self._shown_tokens, self._shown_seconds = progress.tokens, progress.seconds

    def tick(self, progress: PretrainProgress) -> None:
        progress.seconds = time.perf_counter() - self._started

    def checkpoint_is_due(self, progress: PretrainProgress) -> bool:
        if every := self._settings.checkpoint_steps:
            return progress.step % every == 0
        waited = time.perf_counter() - self._saved_at
        return waited > 60 * self._settings.checkpoint_minutes

    def report_is_due(self) -> bool:
        return time.perf_counter() - self._shown_at > _REPORT_SECONDS

    def speed(self, progress: PretrainProgress) -> float:
        """Tokens per second since the last report, which this is."""
        tokens = progress.tokens - self._shown_tokens
        seconds = max(progress.seconds - self._shown_seconds, 1e-9)
        self._shown_at = time.perf_counter()
        self._shown_tokens, self._shown_seconds = progress.tokens, progress.seconds
        return tokens / seconds

    def saved(self, progress: PretrainProgress) -> None:
        """Writing a checkpoint is not training."""
        self._saved_at = time.perf_counter()
        self._started = self._saved_at - progress.seconds


def time_steps(
    model: PretrainingModel,
    text: PreparedText,
    settings: PretrainSettings,
    pieces: Pieces,
    *,
    accelerator: Accelerator,
    steps: int = 4,
) -> float:
    """Tokens per second of whole steps, on a copy of the model that is thrown away."""
    trial = copy.deepcopy(model).eval()
    step = _Step(trial, settings, pieces, build_optimizers(trial, settings), accelerator)
    special = len(pieces.prefix) + len(pieces.suffix)
    num_rows = max(1, settings.batch_tokens // settings.length)
    rows, _ = next_rows(
        text, RowCursor(), num_rows=num_rows, length=settings.length - special, seed=settings.seed
    )
    step.run(rows, settings.length, rate=0.0, number=0)  # prepares memory; on a GPU it compiles
    _wait(accelerator.device)
    started = time.perf_counter()
    for number in range(steps):
        step.run(rows, settings.length, rate=0.0, number=number)
    _wait(accelerator.device)
    return steps * num_rows * settings.length / (time.perf_counter() - started)


@torch.no_grad()
def measure(
    model: PretrainingModel,
    block: Block,
    settings: PretrainSettings,
    pieces: Pieces,
    *,
    accelerator: Accelerator,
    max_rows: int = 512,
) -> dict[str, float]:
    """Held-out losses with hidden pieces that are always the same.

    Returns:
        `loss` (nats per hidden piece), `perplexity` (its exponential), `pieces` (hidden ones),
        and with a word tagger `tag_loss`; empty where no text was held out.
    """
    was_training = model.training
    model.eval()
    length = settings.length - len(pieces.prefix) - len(pieces.suffix)
    num_rows = min(max_rows, len(block) // length)
    total, tag_total, hidden, rows_done = 0.0, 0.0, 0, 0
    rng = np.random.default_rng(0)
    step = max(1, 8192 // settings.length)
    for first in range(0, num_rows, step):
        count = min(step, num_rows - first)
        part = slice(first * length, (first + count) * length)
        rows = _slice(block, part).shaped(count, length)
        batch = collate_rows(rows, pieces, settings, rng, accelerator.device)
        losses = forward_losses(model, batch, accelerator)
        num_hidden = len(batch.targets_N)
        total += float(losses.masked) * num_hidden
        tag_total += float(losses.tags) * count
        hidden += num_hidden
        rows_done += count
    model.train(was_training)
    if not hidden:
        return {}
    loss = total / hidden
    result = {"loss": loss, "perplexity": math.exp(min(loss, 50.0)), "pieces": hidden}
    if model.tagger is not None:
        result["tag_loss"] = tag_total / rows_done
    return result


def build_optimizers(
    model: PretrainingModel, settings: PretrainSettings
) -> list[tuple[torch.optim.Optimizer, list[str]]]:
    """One or two optimizers, each with the names of its parameters in its own order."""
    matrices: dict[str, torch.nn.Parameter] = {}
    embeddings: dict[str, torch.nn.Parameter] = {}
    plain: dict[str, torch.nn.Parameter] = {}
    bare: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "word_embeddings" in name or "tok_embeddings" in name:
            embeddings[name] = parameter
        elif parameter.ndim < 2:
            bare[name] = parameter
        elif settings.optimizer == "muon" and (".layer." in name or ".layers." in name):
            matrices[name] = parameter
        else:
            plain[name] = parameter
    groups: list[dict[str, Any]] = []
    names: list[str] = []
    for members, rate, decay in (
        (embeddings, settings.rate * settings.embedding_factor, settings.weight_decay),
        (plain, settings.rate, settings.weight_decay),
        (bare, settings.rate, 0.0),
    ):
        if members:
            groups.append({"params": list(members.values()), "lr": rate, "peak": rate,
                           "weight_decay": decay})  # fmt: skip
            names += members
    optimizers: list[tuple[torch.optim.Optimizer, list[str]]] = []
    if groups:
        optimizers.append((torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6), names))
    if matrices:
        rate = settings.muon_rate
        muon = Muon(list(matrices.values()), lr=rate, weight_decay=settings.weight_decay)
        muon.param_groups[0]["peak"] = rate
        optimizers.append((muon, list(matrices)))
    return optimizers


def _take(
    text: PreparedText,
    progress: PretrainProgress,
    schedule: Schedule,
    settings: PretrainSettings,
    pieces: Pieces,
) -> tuple[Block, int, RowCursor]:
    """The rows of the next step, their length with special pieces, and the cursor behind them."""
    length = schedule.row_length(progress.tokens)
    special = len(pieces.prefix) + len(pieces.suffix)
    rows, cursor = next_rows(
        text,
        progress.cursor,
        num_rows=schedule.num_rows(progress.tokens),
        length=length - special,
        seed=settings.seed,
    )
    return rows, length, cursor


def _parts(num_rows: int, length: int, settings: PretrainSettings) -> Iterator[slice]:
    limit = settings.micro_tokens or settings.batch_tokens
    size = max(1, limit // length)
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))


def _slice(rows: Block, part: slice) -> Block:
    return Block(rows.ids[part], rows.starts[part], rows.tags[part])


def collate_rows(
    rows: Block,
    pieces: Pieces,
    settings: PretrainSettings,
    rng: np.random.Generator,
    device: torch.device,
) -> PieceBatch:
    """Hide words, and put the special pieces around each row."""
    num_rows, length = rows.ids.shape
    share: float | np.ndarray[Any, np.dtype[np.float64]] = settings.mask_share
    if settings.masking == "word":
        starts = rows.starts
        if settings.entity_mask_share:
            kinds = rows.tags // 2
            entities = np.isin(kinds, pieces.entity_tags)
            starts = join_entities(starts, kinds, entities)
            share = np.where(entities, settings.entity_mask_share, settings.mask_share)
    elif settings.masking == "span":
        starts = split_at_random((num_rows, length), rng)
    else:
        starts = np.ones((num_rows, length), dtype=bool)
    hidden = hide(starts, share=share, rng=rng)
    original = rows.ids.astype(np.int64)
    replaced = corrupt(original, hidden, mask_id=pieces.mask, num_ids=pieces.count, rng=rng)
    before, behind = len(pieces.prefix), len(pieces.suffix)
    wide = np.empty((num_rows, before + length + behind), dtype=np.int64)
    wide[:, :before] = pieces.prefix
    wide[:, before : before + length] = replaced
    wide[:, before + length :] = pieces.suffix
    row, column = np.nonzero(hidden)
    positions = row * wide.shape[1] + before + column
    tags = None
    if settings.tags_words:
        wide_tags = np.full(wide.shape, -100, dtype=np.int64)
        wide_tags[:, before : before + length] = rows.tags
        tags = _to(wide_tags, device)
    return PieceBatch(
        ids_BL=_to(wide, device),
        positions_N=_to(positions, device),
        targets_N=_to(original[hidden], device),
        tags_BL=tags,
    )


def _to(array: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def forward_losses(model: Any, batch: PieceBatch, accelerator: Accelerator) -> Losses:
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


def _save(
    checkpoints: CheckpointStore,
    progress: PretrainProgress,
    model: PretrainingModel,
    optimizers: list[tuple[torch.optim.Optimizer, list[str]]],
    fingerprint: dict[str, Any],
) -> None:
    state = asdict(progress)
    checkpoints.save(
        Checkpoint(
            step=progress.step,
            state={"progress": state, "fingerprint": fingerprint},
            weights={n: p.detach() for n, p in model.named_parameters() if p.requires_grad},
            best={},
            optimizer={
                f"{i}/{key}": tensor
                for i, (optimizer, names) in enumerate(optimizers)
                for key, tensor in optimizer_tensors(optimizer, names).items()
            },
            rng={},
        )
    )


def _restore(
    saved: Checkpoint,
    model: PretrainingModel,
    optimizers: list[tuple[torch.optim.Optimizer, list[str]]],
    fingerprint: dict[str, Any],
) -> PretrainProgress:
    defaults = missing_settings(saved.state["fingerprint"])
    refuse_other_run(saved, fingerprint, defaults=defaults)
    restore_weights(saved, {n: p for n, p in model.named_parameters() if p.requires_grad})
    for i, (optimizer, names) in enumerate(optimizers):
        own = {
            key.removeprefix(f"{i}/"): tensor
            for key, tensor in saved.optimizer.items()
            if key.startswith(f"{i}/")
        }
        restore_optimizer(optimizer, names, own)
    values = dict(saved.state["progress"])
    values["cursor"] = RowCursor(**values["cursor"])
    return PretrainProgress(**values)
