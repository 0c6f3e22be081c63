"""The settings of a run: a TOML recipe, validated. Unknown keys are refused, the nearest named.

A recipe has the sections `[run] [data] [model] [lstm] [lora] [peft] [train]`; every key has a
default but `data.train`. Paths are relative to the working folder. In `data.*`, `sample:train`
names the bundled sample corpus and `${NAME:-default}` an environment variable.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nertune.config.heads import HeadName
from nertune.config.names import name_here, nearest, section_here, upgrade_values
from nertune.errors import ConfigError

__all__ = [
    "DataSettings",
    "LoraSettings",
    "LstmSettings",
    "ModelSettings",
    "PeftSettings",
    "RunSettings",
    "Section",
    "Settings",
    "TrainFile",
    "TrainSettings",
    "Tuning",
    "apply_override",
    "flat_settings_of_record",
    "load_settings",
    "nearest",
    "parse_settings",
    "read_toml",
    "same_settings",
    "settings_of_record",
    "upgrade_values",
    "validate",
    "with_changes",
]

_LOG = logging.getLogger("nertune")

Tuning = Literal["full", "frozen", "top", "bitfit", "lora", "peft"]
"""What of an encoder trains."""

Rate = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all settings: frozen, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


S = TypeVar("S", bound=Section)


class RunSettings(Section):
    """Where a run lives and what it runs on."""

    name: str = Field("", description="Name in reports; by default the recipe's file name.")
    dir: Path = Field(
        Path("runs/run"),
        description="Folder of the run; without it, that of a recipe NAME.toml is runs/NAME.",
    )
    seed: int = Field(
        987, ge=0, lt=2**32, description="Seed of new weights, dropout and batch order."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device; auto takes a GPU if there is one."
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: as many as PyTorch chooses.")


class TrainFile(Section):
    """One of several training files: `[[data.train]]`."""

    file: str = Field(min_length=1, description="The file.")
    map: dict[str, str] = Field(
        default_factory=dict, description='Its labels under other names; "" drops a label.'
    )
    labels: tuple[str, ...] | None = Field(
        None,
        description="What it is labelled for, after the map; by default what occurs in it, where "
        "the files have different labels.",
    )
    complete: bool = Field(
        True, description="Whether its unmarked text is known to hold no entity of its labels."
    )

    @field_validator("file")
    @classmethod
    def _expand(cls, value: str) -> str:
        return _expand_variables(value)

    @field_validator("labels")
    @classmethod
    def _refuse_empty(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(value or ()):
            raise ValueError("a label is empty")
        return value


class DataSettings(Section):
    """The corpora and how to read them."""

    train: str | tuple[TrainFile, ...] = Field(
        description="Training file; or several, as tables [[data.train]] with file, map, labels "
        "and complete (Partial labels)."
    )
    dev: str = Field(
        "", description="Development file: selects the best epoch; needed for early stopping."
    )
    test: str = Field("", description="Test file: read only by `train --test` and `compare`.")
    format: str = Field(
        "auto", description="Name of the file format, e.g. conll or jsonl; auto detects it."
    )
    scheme: Literal["auto", "BIO", "IOB1", "BIOES", "BIOS", "BMES", "BILOU", "IO"] = Field(
        "auto", description="Tag scheme of a CoNLL file; auto detects it."
    )
    join: Literal["auto", "none", "space"] = Field(
        "auto",
        description="What joins the tokens of a CoNLL file into a text; auto: nothing for "
        "character-level data, else a space.",
    )
    offsets: Literal["auto", "codepoint", "utf16", "byte", "grapheme"] = Field(
        "auto",
        description="What the offsets in a file count; auto: code points if they fit.",
    )
    strict: bool = Field(
        False, description="Refuse tags that break the scheme instead of repairing them."
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description='Options of the format itself, e.g. columns = "0,3" of conll.',
    )
    storage: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="Where the training documents are held; disk: in a cache that runs share "
        "(NERTUNE_CACHE), so that memory does not depend on their number; auto: on disk if the "
        "file is larger than 64 MiB. Several training files are always held in memory.",
    )
    train_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the training documents to use, drawn with run.seed; a smaller "
        "share is part of a larger one.",
    )

    @field_validator("dev", "test")
    @classmethod
    def _expand(cls, value: str) -> str:
        return _expand_variables(value)

    @field_validator("train", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _expand_variables(value)
        if not isinstance(value, list | tuple):
            raise ValueError("expected a file, or a list of tables with file, map, labels")
        return tuple(_train_file(item, i) for i, item in enumerate(value, 1))

    @property
    def train_files(self) -> tuple[TrainFile, ...]:
        """The training files; one without a table has the defaults."""
        if isinstance(self.train, str):
            return (TrainFile(file=self.train),) if self.train else ()
        return self.train


def _train_file(value: Any, number: int) -> TrainFile:
    """One item of `data.train`.

    Raises:
        ValueError: it is no file, or a key or value of it is not known.
    """
    if isinstance(value, TrainFile):
        return value
    if isinstance(value, str):
        value = {"file": value}
    known = list(TrainFile.model_fields)
    if not isinstance(value, Mapping):
        raise ValueError(f"file {number}: expected a name or a table with {', '.join(known)}")
    for key in value:
        if key not in known:
            raise ValueError(
                f"file {number}: unknown key {key!r}{nearest(key, known)} (known: "
                f"{', '.join(known)})"
            )
    try:
        return TrainFile.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        told = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"file {number}: {key}: {told}") from error


class ModelSettings(Section):
    """What is trained."""

    emitter: Literal["encoder", "lstm"] = Field(
        "encoder",
        description="What computes the logits: a pre-trained encoder or a BiLSTM ([lstm]).",
    )
    encoder: str = Field("mini-zh", description="Bundled name, folder or hub name.")
    start_from: str = Field(
        "",
        description="Folder of a finished run: continue with its model, with the same or "
        "other labels. Encoder, tokenizer and unit come from that model.",
    )
    tuning: Tuning = Field(
        "full",
        description="Which weights of the encoder are trained: all, none (frozen), the top "
        "layers, the biases (bitfit), a LoRA adapter ([lora]), or another "
        "method of peft ([peft]). The head is always trained.",
    )
    top_layers: int = Field(2, ge=1, description='Number of trained layers with tuning = "top".')
    decoder: HeadName = Field(
        "softmax",
        description="The head, which chooses tags: softmax; crf, which learns transitions between "
        "tags; or one that was registered.",
    )
    unit: Literal["char", "word", "auto"] = Field(
        "auto",
        description="What carries a tag; auto: characters for character-level data, else words.",
    )
    pieces: Literal["first", "all"] = Field(
        "first", description="Which tokens of a unit are trained to predict its tag."
    )
    max_pieces: int = Field(
        0, ge=0, description="Length of a window in tokens; 0: what the encoder allows."
    )
    stride: int = Field(
        -1, ge=-1, description="Tokens that neighbouring windows share; -1: a quarter of a window."
    )

    @field_validator("start_from")
    @classmethod
    def _expand(cls, value: str) -> str:
        return _expand_variables(value)

    @model_validator(mode="after")
    def _fits(self) -> ModelSettings:
        if self.decoder != "softmax" and self.pieces == "all":
            what = "a CRF" if self.decoder == "crf" else f"the head {self.decoder!r}"
            raise ValueError(
                f"{what} scores units, so later tokens carry no tags: "
                'use pieces = "first" or decoder = "softmax"'
            )
        if self.emitter == "lstm" and self.tuning != "full":
            raise ValueError(
                f'emitter "lstm" is trained in full: tuning = "{self.tuning}" needs '
                'emitter = "encoder"'
            )
        return self


class LstmSettings(Section):
    """The BiLSTM; used when `model.emitter = "lstm"`."""

    embedding_size: int = Field(256, ge=1, description="Size of the character embeddings.")
    hidden_size: int = Field(256, ge=1, description="Hidden size of each direction.")
    layers: int = Field(2, ge=1, description="Number of layers.")
    dropout: Share = Field(0.5, description="Dropout probability.")
    chars: str = Field(
        "",
        description="File with the known characters (chars.txt); empty: the characters of "
        "the training data.",
    )
    min_count: int = Field(
        1,
        ge=1,
        description="Characters that occur less often in the training data are read as unknown.",
    )
    unknown: Share = Field(
        0.01,
        description="Share of the training tokens that are read as unknown, so that the "
        "unknown character is trained.",
    )

    @field_validator("chars")
    @classmethod
    def _expand(cls, value: str) -> str:
        return _expand_variables(value)


Layers = Literal["all"] | str | tuple[int, ...]
_LAYERS = 'Adapted layers: "all", "top-K", "bottom-K", or a list of layers counted from 0.'


def _check_layers(value: Any) -> Any:
    if isinstance(value, str):
        fits = bool(re.fullmatch(r"all|(top|bottom)-[1-9]\d*", value))
    else:  # `type`, since True is an int too
        fits = isinstance(value, list | tuple) and {type(layer) for layer in value} == {int}
    if not fits:
        raise ValueError('expected "all", "top-K", "bottom-K" or a list of layer numbers')
    return value


class LoraSettings(Section):
    """Low-rank adapters (Hu et al., 2022); used when `model.tuning = "lora"`."""

    rank: int = Field(8, ge=1, description="Rank of the update.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / rank.")
    rslora: bool = Field(
        False, description="Scale by alpha / √rank instead (rsLoRA; Kalajdzievski, 2023)."
    )
    dora: bool = Field(
        False,
        description="Learn the magnitude of each weight vector separately (DoRA; Liu et "
        "al., 2024).",
    )
    init: Literal["default", "gaussian", "orthogonal", "olora", "pissa"] = Field(
        "default",
        description="How A and B are initialised; pissa (Meng et al., 2024) and olora "
        "(Büyükakyüz, 2024) take them from the weights.",
    )
    dropout: Share = Field(0.1, description="Dropout probability.")
    targets: tuple[str, ...] = Field(
        ("query", "key", "value"),
        min_length=1,
        description="Adapted modules: query, key, value, attention_output, intermediate, "
        "output; qkv, qv, attention, ffn, all-linear; or module names.",
    )
    layers: Layers = Field("all", description=_LAYERS)
    ranks: dict[str, int] = Field(
        default_factory=dict, description='Ranks of single layers, e.g. {"3" = 16}.'
    )
    alphas: dict[str, int] = Field(
        default_factory=dict,
        description="Alphas of single layers; by default the scale stays the same: alpha / "
        "rank, or with rsLoRA alpha / √rank.",
    )

    _check_layers = field_validator("layers", mode="before")(_check_layers)

    @field_validator("ranks", "alphas")
    @classmethod
    def _by_layer(cls, value: dict[str, int]) -> dict[str, int]:
        for layer, number in value.items():
            if not layer.isdecimal() or number < 1:
                raise ValueError(f'{layer!r} = {number}: expected layer = number, e.g. "3" = 16')
        return {str(int(layer)): number for layer, number in value.items()}


class PeftSettings(Section):
    """Any other method of peft; used when `model.tuning = "peft"`."""

    method: str = Field(
        "ia3", description="The method's name in peft: ia3, vera, adalora, prefix, …"
    )
    targets: tuple[str, ...] = Field(
        ("query", "key", "value"),
        min_length=1,
        description="As in [lora]; not for soft prompts and ln_tuning.",
    )
    layers: Layers = Field("all", description=_LAYERS)
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the method, as in its config class in peft."
    )

    _check_layers = field_validator("layers", mode="before")(_check_layers)


class TrainSettings(Section):
    """The loop."""

    epochs: int = Field(20, ge=1, description="Epochs, at most.")
    batch_tokens: int = Field(
        1024, ge=1, description="Tokens in a batch, padding included, at most."
    )
    accumulate: int = Field(1, ge=1, description="Batches in an optimizer step.")
    epoch_batches: int = Field(
        0,
        ge=0,
        description="Batches in an epoch, behind which dev is scored; 0: one pass over the "
        "training data. Passes follow each other without a break.",
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimizer.")
    learning_rate: Rate | None = Field(
        None,
        description="Peak learning rate of what is tuned: the encoder, the adapter, the "
        'BiLSTM, or with tuning = "frozen" the head. The default depends on the '
        "encoder and the method.",
    )
    head_learning_rate: Rate | None = Field(
        None, description="Peak learning rate of the head; by default 1e-3, with an adapter 2e-3."
    )
    crf_learning_rate: Rate = Field(
        1e-2, description="Peak learning rate of the CRF's transitions."
    )
    lora_plus: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Learning rate of B as a multiple of A's (LoRA+; Hayou et al., 2024).",
    )
    weight_decay: float = Field(
        0.01, ge=0, description="Weight decay; not for biases and norms, not with adam."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    warmup: Share = Field(0.1, description="Share of all steps in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate falls after the warm-up."
    )
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: no clipping.")
    patience: int = Field(
        5,
        ge=0,
        description="Epochs without a better dev micro-F1 before training stops; 0: never "
        "stop early.",
    )
    patience_steps: int = Field(
        500,
        ge=0,
        description="Training stops early only after at least so many optimizer steps without a "
        "better dev micro-F1: with few sentences, an epoch is a few steps, and small data need "
        "many (Mosbach et al., 2021).",
    )
    entity_ratio: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of units in entities that training keeps to in documents whose unmarked "
        "text is unknown; 0: it does not. The default is that of the fully labelled documents of "
        "dev, else of train, else 0.15.",
    )
    entity_ratio_margin: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="How far from train.entity_ratio the expected share may be; by default a tenth "
        "of a ratio that was measured, a third of any other.",
    )
    entity_ratio_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of the penalty for leaving that margin, against the loss per unit.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Number format of the computation; auto: bf16 on a GPU or CPU with bf16"
        " instructions, else fp32.",
    )
    compile: bool = Field(
        False,
        description="Compile the model (torch.compile); pays off in long runs on a GPU. "
        "Results are equal up to rounding, with other dropout masks. Not used "
        "if frozen layers run once.",
    )
    checkpoint_minutes: float = Field(
        5.0,
        ge=0,
        description="Minutes between checkpoints; 0: after every epoch. An interrupt "
        "(Ctrl-C) always writes one.",
    )
    checkpoint_steps: int = Field(
        0, ge=0, description="Also write a checkpoint after this many steps; 0: by time only."
    )
    cache_gib: float = Field(
        16.0,
        ge=0,
        description="Frozen lower layers run once, without dropout, and their output is "
        "kept up to this size in GiB (on disk above 2 GiB). 0: run them in "
        "every epoch.",
    )
    noise: Share = Field(
        0.0,
        description="Share of the tokens of pseudo-labelled documents (meta.pseudo is true, as "
        "self-train sets it) and of unlabelled text that are replaced by the mask token.",
    )
    calibrate: bool = Field(
        True,
        description="Calibrate the scores of entities on data.dev after training: of those with a "
        "score of 0.8, about 80 % should then be right. Which entities are found stays the same.",
    )
    tensorboard: bool = Field(False, description="Write TensorBoard events (extra: tensorboard).")


class Settings(Section):
    """All settings of a run."""

    run: RunSettings = RunSettings()
    data: DataSettings
    model: ModelSettings = ModelSettings()
    lstm: LstmSettings = LstmSettings()
    lora: LoraSettings = LoraSettings()
    peft: PeftSettings = PeftSettings()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _one_rate_each(self) -> Settings:
        rate, head = self.train.learning_rate, self.train.head_learning_rate
        if head is None:
            return self
        if self.model.emitter == "lstm":
            raise ValueError(
                f"train.head_learning_rate = {head:g}: a BiLSTM trains with one rate, its output "
                "layer too: set train.learning_rate instead"
            )
        if self.model.tuning == "frozen" and rate is not None and rate != head:
            raise ValueError(
                f'with model.tuning = "frozen" the head is all that is tuned, so '
                f"train.learning_rate = {rate:g} and train.head_learning_rate = {head:g} are both "
                "its rate: set one of them, or both to the same"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json")

    def of_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A record's settings as `to_dict` has them."""
        return settings_of_record(values)


def load_settings(recipe: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a recipe and apply `section.key=value` overrides.

    Args:
        recipe: a TOML file.
        overrides: values in TOML's notation; what is not TOML is taken as a string.

    Raises:
        ConfigError: the file or an override cannot be used.
    """
    values = read_toml(recipe)
    for override in overrides:
        apply_override(values, override)
    run = values.setdefault("run", {})
    if isinstance(run, dict):
        if run.get("name", "") == "":
            run["name"] = recipe.stem
        if run.get("dir", "") == "":
            run["dir"] = f"runs/{run['name']}"
    return parse_settings(values, source=str(recipe))


def read_toml(recipe: Path) -> dict[str, Any]:
    """A recipe's values as they stand there.

    Raises:
        ConfigError: the file cannot be read, or a path in it was written with backslashes that TOML
            reads as escapes.
    """
    text = ""
    try:
        text = recipe.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{recipe}: cannot read the recipe: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found = re.search(r"at line (\d+)", str(error))
        number = int(found[1]) if found else 0
        line = text.splitlines()[number - 1] if 0 < number <= len(text.splitlines()) else ""
        where = f"{recipe}:{number}" if number else f"{recipe}"
        raise ConfigError(f"{where}: not a TOML file: {error}{_escape_hint(line)}") from error
    _refuse_escapes(values, text, recipe)
    return values


_PATHS = (*(("data", split) for split in ("train", "dev", "test")), ("run", "dir"),
          ("model", "encoder"), ("lstm", "chars"))  # fmt: skip


def _refuse_escapes(values: Mapping[str, Any], text: str, recipe: Path) -> None:
    r"""Refuse paths with control characters: `"C:\temp\new"` has a tab and a line break."""
    for section, key in _PATHS:
        content = values.get(section)
        path = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(path, str) and not path.isprintable() and re.search(r"[\x00-\x1f]", path):
            pattern = re.compile(rf"\s*(?:{section}\s*\.\s*)?{key}\s*=.*\\")
            lines = (n for n, line in enumerate(text.splitlines(), 1) if pattern.match(line))
            number = next(lines, None)
            where = f"{recipe}:{number}" if number else f"{recipe}"
            raise ConfigError(
                f"{where}: {section}.{key}: got {path!r}, a path with control characters"
                + _escape_hint('"\\')
            )


def _escape_hint(line: str) -> str:
    r"""What to do about a line with `"…\…`; empty for any other."""
    if not re.search(r'"[^"]*\\', line):
        return ""
    return (
        "; between double quotes a backslash begins an escape: write the path in single quotes, "
        r"e.g. 'C:\data\train.conll', or with forward slashes"
    )


def parse_settings(values: Mapping[str, Any], *, source: str = "settings") -> Settings:
    """Validate settings. Names that 0.1.0 had are read, and a warning says what as.

    Raises:
        ConfigError: names the key, what it got, what was expected, and the nearest known key.
    """
    values, notices = upgrade_values(values, source=source)
    _refuse_unknown(values, source)
    settings = validate(Settings, values, source=source)
    for notice in notices:
        _LOG.warning("%s: %s", source, notice)
    return settings


def validate(kind: type[S], values: Mapping[str, Any], *, source: str) -> S:
    """Make settings of known keys.

    Raises:
        ConfigError: names the key, what it got and what was expected.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        if first["type"] == "missing":
            key = "data.train" if key == "data" else key
            raise ConfigError(
                f"{source}: {key} is missing; set it in the recipe or with --set {key}=…"
            ) from error
        got = f", got {first['input']!r}"
        if isinstance(first["input"], Mapping | BaseModel):
            got = "" if first["type"] == "value_error" else ", got a section"
        message = first["msg"].removeprefix("Value error, ")
        where = f"{key}: " if key else ""
        raise ConfigError(f"{source}: {where}{message}{got}") from error


def settings_of_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """A record's settings by section, ready to be compared with `Settings.to_dict()`.

    Old names are translated, and what the record lacks has its default: a setting that came later
    does not make a finished run another one. What this version does not know stays as it is, so
    that a comparison names it.

    Args:
        values: `settings` of a record; they are not changed.

    Raises:
        ConfigError: an old name stands beside a new one, or has a value that it never could have.
    """
    upgraded, _ = upgrade_values(values, source="record")
    return upgraded | {
        section: {**defaults, **(upgraded.get(section) or {})}
        for section, defaults in _defaults().items()
    }


def flat_settings_of_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same of settings by `section.key`; other keys stay as they are."""
    sections: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if dot and section in Settings.model_fields:
            sections.setdefault(section, {})[name] = value
        else:
            others[key] = value
    settings = settings_of_record(sections)
    return {f"{s}.{name}": v for s, kept in settings.items() for name, v in kept.items()} | others


def same_settings(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; numbers up to rounding, as translated rates are."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            same_settings(v, other[k]) for k, v in one.items()
        )
    if isinstance(one, float) and isinstance(other, float):
        return one == other or math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """JSON values of all settings that have a default."""
    found = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        found[section] = kind.model_construct().model_dump(mode="json")
    return found


def apply_override(values: dict[str, Any], override: str, *, flat: bool = False) -> None:
    """Set one value from `section.key=value`, at any depth, or `key=value` where `flat` allows it.

    Keys are written as in TOML: `lora.ranks.3=16`, `peft.options."a.b"=1`. A value that is not
    TOML is taken as a string.

    Raises:
        ConfigError: it is not of that form, or leads through a value.
    """
    key, equals, text = override.partition("=")
    path = _read_path(key)
    if not equals or len(path) < (1 if flat else 2):
        form = "key=value, e.g. --set length=64" if flat else (
            "section.key=value, e.g. --set train.epochs=5"
        )  # fmt: skip
        told = ""
        if path and not flat:
            told = name_here(path[0], {s: _fields(s) for s in Settings.model_fields})
        raise ConfigError(f"--set {override!r}: expected {form}{told}")
    _assign(values, path, _read_value(text, override), f"--set {override!r}")


def _read_path(key: str) -> list[str]:
    """A dotted key in TOML's notation; empty if it is none."""
    try:
        inner: Any = tomllib.loads(f"{key.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(inner, dict) and len(inner) == 1:
        name, inner = next(iter(inner.items()))
        path.append(name)
    return path if inner == 0 else []


def _read_value(text: str, override: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text.strip()[:1] in ("'", '"'):
            raise ConfigError(
                f"--set {override!r}: not a string of TOML: {error}{_escape_hint(text)}"
            ) from error
        return text


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's values with some of them replaced, by `section.key`.

    Raises:
        ConfigError: a key leads through a value.
    """
    copied: dict[str, Any] = copy.deepcopy(dict(values))
    for name, value in changes.items():
        _assign(copied, name.split("."), value, name)
    return copied


def _assign(values: dict[str, Any], path: Sequence[str], value: Any, told: str) -> None:
    *sections, key = path
    inner: Any = values
    for depth, section in enumerate(sections, start=1):
        inner = inner.setdefault(section, {})
        if not isinstance(inner, dict):
            where = ".".join(sections[:depth])
            raise ConfigError(f"{told}: {where} is not a section but a value, {inner!r}")
    inner[key] = value


def _refuse_unknown(values: Mapping[str, Any], source: str) -> None:
    known = {section: _fields(section) for section in Settings.model_fields}
    for section, content in values.items():
        if section not in known:
            if isinstance(content, Mapping):
                inner = next(iter(content), "")
                told = section_here(section, list(known)) or name_here(section, known)
                told = told or (inner and name_here(inner, known, value=content[inner]))
                raise ConfigError(f"{source}: unknown section [{section}]{told}")
            told = name_here(section, known, value=content)
            raise ConfigError(f"{source}: unknown setting {section}, outside of a section{told}")
        if not isinstance(content, Mapping):
            raise ConfigError(f"{source}: {section} must be a section: write [{section}]")
        for key, value in content.items():
            if key not in known[section]:
                told = name_here(key, known, section, value)
                raise ConfigError(f"{source}: unknown key {section}.{key}{told}")


def _fields(section: str) -> list[str]:
    annotation = Settings.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return list(annotation.model_fields)


def _expand_variables(value: str) -> str:
    """Fill in `${NAME}` and `${NAME:-default}`.

    A folder variable may also name the sub-folder itself: with NERTUNE_DATA=/x/peoples,
    `${NERTUNE_DATA}/peoples/train` is `/x/peoples/train`.
    """

    def fill(match: re.Match[str]) -> str:
        found = os.environ.get(match[1]) or match[2]
        if found is None:
            raise ValueError(f"environment variable {match[1]} is not set")
        following = match[3] or ""
        return found.rstrip("/").removesuffix(following) + following if following else found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}(/[^/]+(?=/))?", fill, value)
