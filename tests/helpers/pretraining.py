"""Pre-training runs of a moment, which can be killed and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.raw_text import MadeUpTagger, make_pretrain_settings, prepare_text, tiny_tokenizer
from helpers.tiny import session_folder
from nertune.config.pretrain import PretrainSettings
from nertune.models.peft.tuning import add_merging_lora
from nertune.pretraining.batches import TokenIds
from nertune.pretraining.loop import Pretrainer, PretrainProgress
from nertune.pretraining.model import PretrainingModel, Shape, build_encoder
from nertune.pretraining.packing import PreparedText
from nertune.pretraining.words import Word
from nertune.training.accelerator import build_accelerator
from nertune.training.checkpoint import Checkpoints, CheckpointStore

__all__ = [
    "Halves",
    "Killed",
    "Run",
    "Watcher",
    "accelerator",
    "make_model",
    "pretrainer",
    "run",
    "token_ids",
    "weights",
]


class Halves(MadeUpTagger):
    """Two characters are a word; what kind depends on the first one."""

    name = "halves 1"
    tags = ("even", "odd")
    entity_tags = ("odd",)

    def cut_text(self, text: str) -> Iterator[Word]:
        for i in range(0, len(text), 2):
            yield len(text[i : i + 2]), self.tags[ord(text[i]) % 2]


class Killed(Exception):
    """In the place of a kill."""


@dataclass
class Watcher:
    """Keeps what it is told, and dies at a step."""

    dies_at: int = 0
    told: list[tuple[int, int, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        assert tokens_per_second > 0
        self.told.append((progress.step, progress.tokens, total_tokens))
        self.losses.append(progress.history[-1]["loss"])
        if progress.step == self.dies_at:
            raise Killed


@cache
def token_ids() -> TokenIds:
    tokenizer = tiny_tokenizer()
    return TokenIds(
        tuple(tokenizer.prefix_ids),
        tuple(tokenizer.suffix_ids),
        tokenizer.backend.mask_token_id,
        tokenizer.vocabulary_size,
        entity_tags=(1,),
    )


def make_model(settings: PretrainSettings, *, lora: bool = False) -> PretrainingModel:
    shape = Shape(layers=2, hidden=32, heads=2, vocabulary=300)
    encoder = build_encoder(
        shape,
        tiny_tokenizer().vocabulary_size,
        architecture=settings.architecture,
        max_tokens=settings.longest,
        seed=settings.seed,
    )
    if lora:
        encoder = add_merging_lora(encoder, settings.adapter)
    if settings.words == "none":
        return PretrainingModel(encoder)
    weight = settings.entity_weight
    return PretrainingModel(encoder, 2 * len(Halves.tags), tag_weights=[1.0, 1.0, weight, weight])


@dataclass
class Run:
    """One training run in a folder, which can be killed and resumed."""

    folder: Path
    settings: PretrainSettings
    lora: bool = False
    fingerprint: dict[str, Any] = field(default_factory=lambda: {"rate": 1, "text": "a"})
    block_tokens: int = 10**6
    lines: tuple[str, ...] | None = None

    def text(self) -> PreparedText:
        words = None if self.settings.words == "none" else Halves()
        return prepare_text(
            self.folder / "prepared", self.lines, words=words, block_tokens=self.block_tokens
        )

    def go(
        self, watcher: Watcher | None = None, *, resume: bool = False
    ) -> tuple[PretrainingModel, PretrainProgress]:
        model = make_model(self.settings, lora=self.lora)
        progress = pretrainer(model, self.settings).train(
            self.text(),
            self.settings.tokens,
            checkpoints=Checkpoints(self.checkpoints, self.fingerprint, resume=resume),
            observer=watcher or Watcher(),
        )
        return model, progress

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.folder / "checkpoints")


@cache
def accelerator() -> Any:
    return build_accelerator(torch.device("cpu"), "fp32", project_dir=session_folder())


def run(folder: Path, *, lora: bool = False, block_tokens: int = 10**6, **changes: Any) -> Run:
    folder.mkdir(exist_ok=True)
    settings = make_pretrain_settings(folder, **changes)
    return Run(folder, settings, lora, block_tokens=block_tokens)


def weights(model: PretrainingModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def pretrainer(model: PretrainingModel, settings: PretrainSettings) -> Pretrainer:
    """On the CPU, with the tokens of `tiny_tokenizer`."""
    return Pretrainer(model, settings, token_ids(), accelerator())
