"""The pre-training loop: rows in, losses down, checkpoints that go on exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nertune.errors import CheckpointError, TrainingError
from nertune.pretraining.masking import corrupt, hide, split_at_random
from nertune.pretraining.model import Losses, PretrainingModel
from nertune.pretraining.packing import Block, PreparedText, RowCursor, next_rows
from nertune.pretraining.schedule import Schedule
from nertune.pretraining.settings import PretrainSettings
from nertune.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    optimizer_tensors,
    restore_optimizer,
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
    """The piece ids that a batch needs.

    Attributes:
        prefix: special pieces before a row, e.g. [CLS].
        suffix: behind it, e.g. [SEP].
        mask: [MASK].
        count: size of the vocabulary.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    mask: int
    count: int


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
    forward = _compiled(model, settings, accelerator)
    model.eval()  # no dropout: a small budget has nothing to overfit
    parameters = [p for p in model.parameters() if p.requires_grad]
    started = time.perf_counter() - progress.seconds
    window = _Window(accelerator.device)
    saved_at = shown_at = time.perf_counter()
    shown_tokens, shown_seconds = progress.tokens, progress.seconds
    while progress.tokens < schedule.tokens:
        rows, length, cursor = _take(text, progress, schedule, settings, pieces)
        factor = schedule.rate(progress.tokens + rows.ids.shape[0] * length // 2)
        rng = np.random.default_rng([settings.seed, 1, progress.step])
        share = _micro_shares(rows.ids.shape[0], length, settings)
        for part in share:
            batch = collate_rows(_slice(rows, part), pieces, settings, rng, accelerator.device)
            weight = (part.stop - part.start) / rows.ids.shape[0]
            losses = forward_losses(forward, batch, accelerator)
            loss = losses.masked + settings.tag_weight * losses.tags
            accelerator.backward(loss * weight)
            window.add(losses, weight)
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        for optimizer, _ in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += rows.ids.shape[0] * length
        progress.text_tokens += rows.ids.size
        progress.cursor = cursor
        progress.seconds = time.perf_counter() - started
        now = time.perf_counter()
        is_last = progress.tokens >= schedule.tokens
        by_step = settings.checkpoint_steps
        is_due = (by_step and progress.step % by_step == 0) or (
            not by_step and now - saved_at > 60 * settings.checkpoint_minutes
        )
        if is_last or is_due or now - shown_at > _REPORT_SECONDS:
            progress.history.append(window.take(progress))
            _refuse_infinite(progress)
            speed = (progress.tokens - shown_tokens) / max(progress.seconds - shown_seconds, 1e-9)
            observer.on_steps(progress, schedule.tokens, speed)
            shown_at, shown_tokens, shown_seconds = now, progress.tokens, progress.seconds
        if is_due or is_last:
            _save(checkpoints, progress, model, optimizers, fingerprint)
            started = time.perf_counter() - progress.seconds
            saved_at = time.perf_counter()
    model.eval()
    return progress


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
    import copy

    trial = copy.deepcopy(model).eval()
    optimizers = build_optimizers(trial, settings)
    forward = _compiled(trial, settings, accelerator)
    schedule = Schedule(settings, tokens=10**12)
    done, started = 0, 0.0
    rng = np.random.default_rng(settings.seed)
    for step in range(steps + 1):
        if step == 1:  # the first step prepares memory and, on a GPU, compiles
            _wait(accelerator.device)
            started = time.perf_counter()
        rows, length, _ = _take(text, PretrainProgress(), schedule, settings, pieces, full=True)
        for part in _micro_shares(rows.ids.shape[0], length, settings):
            batch = collate_rows(_slice(rows, part), pieces, settings, rng, accelerator.device)
            losses = forward_losses(forward, batch, accelerator)
            accelerator.backward(losses.masked + settings.tag_weight * losses.tags)
        for optimizer, _ in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done += rows.ids.shape[0] * length if step else 0
    _wait(accelerator.device)
    return done / (time.perf_counter() - started)


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
        muon = torch.optim.Muon(
            list(matrices.values()), lr=rate, weight_decay=settings.weight_decay
        )
        muon.param_groups[0]["peak"] = rate
        optimizers.append((muon, list(matrices)))
    return optimizers


def _take(
    text: PreparedText,
    progress: PretrainProgress,
    schedule: Schedule,
    settings: PretrainSettings,
    pieces: Pieces,
    *,
    full: bool = False,
) -> tuple[Block, int, RowCursor]:
    """The rows of the next step, their length with special pieces, and the cursor behind them."""
    length = settings.length if full else schedule.row_length(progress.tokens)
    num_rows = (
        max(1, settings.batch_tokens // length) if full else schedule.num_rows(progress.tokens)
    )
    special = len(pieces.prefix) + len(pieces.suffix)
    rows, cursor = next_rows(
        text, progress.cursor, num_rows=num_rows, length=length - special, seed=settings.seed
    )
    return rows, length, cursor


def _micro_shares(num_rows: int, length: int, settings: PretrainSettings) -> Iterator[slice]:
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
    if settings.masking == "word":
        starts = rows.starts
    elif settings.masking == "span":
        starts = split_at_random((num_rows, length), rng)
    else:
        starts = np.ones((num_rows, length), dtype=bool)
    hidden = hide(starts, share=settings.mask_share, rng=rng)
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
    if settings.words != "none":
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
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


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


class _Window:
    """Losses since the last report, summed on the device."""

    def __init__(self, device: torch.device):
        self._device = device
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(2, device=self._device)
        self._steps = 0.0

    def add(self, losses: Losses, weight: float) -> None:
        self._sums += torch.stack([losses.masked, losses.tags]).detach() * weight
        self._steps += weight

    def take(self, progress: PretrainProgress) -> dict[str, float]:
        loss, tag_loss = (self._sums / max(self._steps, 1e-9)).tolist()
        self._clear()
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 3),
            "loss": loss,
            "tag_loss": tag_loss,
        }


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
    before = saved.state["fingerprint"]
    for key in {**fingerprint, **before}:
        if before.get(key) != fingerprint.get(key):
            raise CheckpointError(
                f"cannot resume: {key} was {before.get(key)!r} and is {fingerprint.get(key)!r} "
                "now; resume with the same settings, or start again with --overwrite"
            )
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if set(saved.weights) != set(parameters):
        raise CheckpointError("the checkpoint is of another model; start again with --overwrite")
    with torch.no_grad():
        for name, tensor in saved.weights.items():
            parameters[name].copy_(tensor)
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
