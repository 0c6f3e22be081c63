"""A trainer put together from plain arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nertune.config.run import TrainSettings
from nertune.models.tagger import Tagger
from nertune.training.batches import TrainingBatches
from nertune.training.checkpoint import Checkpoints, CheckpointStore
from nertune.training.examples import Examples
from nertune.training.observer import Observer
from nertune.training.stores.hidden_state_cache import StateStore
from nertune.training.trainer import FitResult, Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    """Train to the end."""
    batches = TrainingBatches(
        examples, budget_tokens=settings.batch_tokens, seed=seed, pad_id=pad_id,
        continuation=continuation, states=states,
    )  # fmt: skip
    kept = None
    if checkpoints is not None:
        kept = Checkpoints(checkpoints, fingerprint, resume=resume, clock=clock)
    return Trainer(
        tagger, batches, settings, accelerator,
        evaluate=evaluate, observer=observer, checkpoints=kept,
    ).fit()  # fmt: skip
