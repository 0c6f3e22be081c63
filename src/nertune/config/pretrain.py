"""The settings of a pre-training run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from nertune.config.names import pretraining_name_here
from nertune.config.run import LoraSettings, Section, apply_override, validate
from nertune.errors import ConfigError

__all__ = ["PretrainSettings", "missing_settings", "parse_pretrain_settings"]

Share = Annotated[float, Field(ge=0, lt=1)]


# What differs from the defaults where nothing else is said. A new encoder: measured on small
# budgets. A continued one: a rate that does not undo what the encoder knows.
_FROM_SCRATCH: dict[str, Any] = {
    "optimizer": "muon", "rate": 3e-3, "embedding_factor": 2.0,
    "ramp": 0.4, "weight_decay": 0.1,
}  # fmt: skip
_CONTINUED: dict[str, Any] = {"rate": 1e-4}
_LORA: dict[str, Any] = {"rate": 1e-3}
_ADAPTER = LoraSettings(
    rank=16,
    dropout=0.0,
    targets=("query", "key", "value", "attention_output", "intermediate", "output"),
)


class PretrainSettings(Section):
    """Everything that decides the weights, and where they go.

    Defaults are those of continuing with an encoder; with `from_scratch` and with `lora` some are
    others (`_FROM_SCRATCH`, `_LORA`), and for a new BERT short rows come first.
    """

    files: tuple[Path, ...] = Field(
        min_length=1,
        description="Text files, one sentence or paragraph per line, plain or compressed (.gz, "
        ".xz, .zst).",
    )
    output: Path = Field(description="Folder of the run; the encoder is in its `model/`.")
    encoder: str = Field("", description="Encoder to continue with.")
    from_scratch: Literal["", "tiny", "small", "medium", "base"] = Field(
        "", description="Or the size of a new encoder with a vocabulary of its own."
    )
    architecture: Literal["bert", "modernbert"] = Field(
        "modernbert", description="Architecture of a new encoder."
    )
    vocabulary: int = Field(
        0, ge=0, description="Largest vocabulary of a new encoder; 0: the default of its size."
    )
    layers: int = Field(0, ge=0, description="Layers of a new encoder; 0: the default of its size.")
    hidden: int = Field(
        0, ge=0, description="Hidden size of a new encoder; 0: the default of its size."
    )
    heads: int = Field(
        0, ge=0, description="Attention heads of a new encoder; 0: the default of its size."
    )
    lora: bool = Field(False, description="Train a LoRA adapter only, and merge it at the end.")
    adapter: LoraSettings = Field(_ADAPTER, description="The adapter; its dropout is not used.")
    tokens: int = Field(0, ge=0, description="Budget in tokens.")
    minutes: float = Field(
        0.0,
        ge=0,
        description="Budget in minutes; converted to tokens with the speed measured at the start.",
    )
    exclude: tuple[Path, ...] = Field(
        (), description="Evaluation files: lines that share 24 characters with them are left out."
    )
    unit: Literal["char", "word", "auto"] = Field("auto", description="As model.unit.")
    word_share: Share = Field(
        0.25,
        description='With unit "char": share of lines in which Latin words and numbers are '
        "tokens of several characters, so that both units work.",
    )
    words: Literal["none", "jieba"] = Field("none", description="Word segmenter (extra: words).")
    word_tags: tuple[Path, ...] = Field(
        (),
        description="Or files with word tags, one for each text file, plain or compressed (.gz, "
        ".xz, .zst).",
    )
    teacher: str = Field("", description="Or a trained tagger, whose entities are the tags.")
    tag_weight: float = Field(0.5, ge=0, description="Weight of the loss of predicting word tags.")
    entity_tags: tuple[str, ...] = Field(
        (),
        description="Word tags that mark entities; empty: the default of the source of the tags.",
    )
    entity_weight: float = Field(
        1.0,
        gt=0,
        description="Weight of entities against other words in the loss of predicting word tags.",
    )
    entity_mask_share: Share = Field(
        0.0, description="Probability that an entity is masked as a whole; 0: like other words."
    )
    masking: Literal["word", "span", "piece"] = Field(
        "word", description="What is masked: whole words, spans, or single tokens (piece)."
    )
    mask_share: float = Field(0.2, gt=0, lt=1, description="Probability that a word is masked.")
    length: int = Field(128, ge=8, description="Tokens in a row, special tokens included.")
    short_length: int = Field(0, ge=0, description="Length of the rows at the start; 0: as length.")
    short_share: Share = Field(0.5, description="Share of the budget in short rows.")
    long_length: int = Field(0, ge=0, description="Length of the rows at the end; 0: as length.")
    long_share: Share = Field(0.1, description="Share of the budget in long rows.")
    batch_tokens: int = Field(8192, ge=1, description="Tokens in a step.")
    ramp: Share = Field(
        0.0,
        description="Share of the budget in which the batch grows from a quarter to its full size.",
    )
    micro_tokens: int = Field(
        0, ge=0, description="Tokens computed at once on the device; 0: the whole batch."
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="Optimizer; muon trains the matrices of the layers, AdamW the rest."
    )
    rate: float = Field(1e-4, gt=0, le=10, description="Peak learning rate of AdamW.")
    muon_rate: float = Field(0.02, gt=0, le=10, description="Peak learning rate of Muon.")
    embedding_factor: float = Field(
        1.0, gt=0, description="Learning rate of the word embeddings as a multiple of the others'."
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    warmup: Share = Field(0.06, description="Share of all steps in which the learning rate rises.")
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: no clipping.")
    sample: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the lines to use, for a budget much smaller than the text.",
    )
    held_out: float = Field(
        0.01, ge=0, le=0.5, description="Share of the lines that are kept for measuring the loss."
    )
    block_pieces: int = Field(
        64_000_000, ge=1000, description="Tokens of text that are shuffled together."
    )
    checkpoint_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints.")
    checkpoint_steps: int = Field(
        0, ge=0, description="Also write a checkpoint after this many steps; 0: by time only."
    )
    seed: int = Field(
        987, ge=0, lt=2**32, description="Seed of new weights, masking and order of the text."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device; auto takes a GPU if there is one."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Number format of the computation; auto: bf16 on a GPU or CPU with bf16 "
        "instructions, else fp32.",
    )
    compile: Literal["auto", "yes", "no"] = Field(
        "auto", description="Use torch.compile; auto: on a GPU."
    )
    storage: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="Number format of the saved weights; they are read as float32."
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: as many as PyTorch chooses.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if isinstance(values.get("adapter"), Mapping):
            values = {**values, "adapter": {**_ADAPTER.model_dump(), **values["adapter"]}}
        if values.get("from_scratch"):
            # Learned positions want short rows first; rotary ones do as well without them
            # (docs/results.md), and they hold more special tokens.
            length = values.get("length", 128)
            is_short = values.get("architecture") == "bert" and isinstance(length, int)
            short = length // 2 if is_short and length >= 64 else 0
            return {**_FROM_SCRATCH, "short_length": short, **values}
        return {**(_LORA if values.get("lora") else _CONTINUED), **values}

    @model_validator(mode="after")
    def _fits(self) -> PretrainSettings:
        if bool(self.encoder) == bool(self.from_scratch):
            raise ValueError(
                "give one of encoder (to continue with it) and from_scratch (to begin a new one)"
            )
        if bool(self.tokens) == bool(self.minutes):
            raise ValueError("give one budget: tokens or minutes")
        if self.lora and self.from_scratch:
            raise ValueError("lora adapts an encoder: it cannot begin one from scratch")
        if self.short_length >= self.length:
            raise ValueError(f"short_length must be below length ({self.length})")
        if 0 < self.short_length < 8:
            raise ValueError("short_length must be 0 or at least 8")
        if 0 < self.long_length <= self.length:
            raise ValueError(f"long_length must be 0 or above length ({self.length})")
        if self.short_length and self.long_length and self.short_share + self.long_share > 1:
            raise ValueError("short_share and long_share must not be above 1 together")
        if self.block_pieces < self.longest:
            raise ValueError(f"block_pieces must be at least as long as a row ({self.longest})")
        self._check_word_tagger()
        return self

    def _check_word_tagger(self) -> None:
        given = [self.words != "none", bool(self.word_tags), bool(self.teacher)]
        if sum(given) > 1:
            raise ValueError(
                "give one of words (a segmenter), word_tags (files) and teacher (a tagger)"
            )
        if self.word_tags and len(self.word_tags) != len(self.files):
            raise ValueError(
                f"word_tags names {len(self.word_tags)} files, but there are {len(self.files)} of "
                "text: give one for each, in the same order"
            )
        asked = {
            "entity_tags": bool(self.entity_tags),
            "entity_weight": self.entity_weight != 1,
            "entity_mask_share": self.entity_mask_share > 0,
        }
        for key in (key for key, is_asked in asked.items() if is_asked):
            if not self.tags_words:
                raise ValueError(
                    f"{key} needs a word tagger that knows entities: words, word_tags or teacher"
                )
        if self.entity_mask_share and self.masking != "word":
            raise ValueError(
                f'entity_mask_share masks whole words: masking must be "word", not {self.masking!r}'
            )

    @property
    def tags_words(self) -> bool:
        """Whether tagging words is a second task."""
        return self.words != "none" or bool(self.word_tags) or bool(self.teacher)

    @property
    def longest(self) -> int:
        """Tokens in the longest row."""
        return max(self.length, self.long_length)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in a section of their own."""
        return {"pretrain": self.model_dump(mode="json")}

    def of_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A record's settings as `to_dict` has them: what the record lacks has its default."""
        kept = dict(values.get("pretrain") or {})
        return {**values, "pretrain": {**missing_settings(kept), **kept}}


def missing_settings(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of what a record or a checkpoint of an earlier version lacks, as JSON values."""
    given = {key: kept[key] for key in PretrainSettings.model_fields if key in kept}
    # A checkpoint names neither: they have no part in the weights.
    try:
        filled = PretrainSettings.model_validate({"files": ["-"], "output": "-", **given})
    except ValidationError:  # of no run of ours
        return {}
    return {k: v for k, v in filled.model_dump(mode="json").items() if k not in given}


def parse_pretrain_settings(
    values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> PretrainSettings:
    """Validate settings; `overrides` are `key=value` or `adapter.key=value`.

    Raises:
        ConfigError: names the key, what it got, what was expected, and the nearest known key.
    """
    merged = copy.deepcopy(dict(values))
    known = list(PretrainSettings.model_fields)
    for override in overrides:
        apply_override(merged, override, flat=True)
    for key, value in merged.items():
        if key not in known:
            told = pretraining_name_here(key, known)
            if not told and isinstance(value, Mapping) and value:  # as in a recipe: train.lr
                inner = next(iter(value))
                same = f"; did you mean {inner}?" if inner in known else ""
                told = same or pretraining_name_here(inner, known)
                key = f"{key}.{inner}"
            raise ConfigError(f"pretrain: unknown setting {key}{told}")
    adapter = merged.get("adapter")
    for key in adapter if isinstance(adapter, Mapping) else ():
        if key not in LoraSettings.model_fields:
            told = pretraining_name_here(key, list(LoraSettings.model_fields))
            raise ConfigError(f"pretrain: unknown setting adapter.{key}{told}")
    return validate(PretrainSettings, merged, source="pretrain")
