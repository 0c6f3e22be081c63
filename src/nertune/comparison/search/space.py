"""What a sweep searches: settings of a recipe, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nertune.config.names import OLD_RATES
from nertune.config.run import (
    Settings,
    apply_override,
    parse_settings,
    read_toml,
    upgrade_values,
    with_changes,
)
from nertune.errors import ConfigError

__all__ = ["Range", "Space", "default_space", "read_space"]


class Range(BaseModel):
    """Numbers from `low` to `high`, both ends counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)
    whole: bool = False

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            numbers = [values.get(key) for key in ("low", "high", "step")]
            return {**values, "whole": all(type(n) is int for n in numbers if n is not None)}
        return values

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.low >= self.high:
            raise ValueError("expected low < high")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("with log, low must be above 0 and there is no step")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value; integers where only whole numbers are meant."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


Space = dict[str, Range | tuple[Any, ...]]
"""`section.key` -> its range, or the values to choose from."""


def read_space(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Settings, Space]:
    """A recipe with a section `[space]`, or without: then the method's default.

    Returns:
        The recipe's values, its settings, and the space. Where the space has names of 0.1.0 the
        values keep theirs too, and each trial is translated whole.

    Raises:
        ConfigError: the file, a setting or a range cannot be used.
    """
    values = read_toml(path)
    wanted = values.pop("space", {})
    for override in overrides:
        apply_override(values, override)
    settings = parse_settings(values, source=str(path))
    if not settings.data.dev:
        raise ConfigError(f"{path}: data.dev is missing: a sweep chooses by dev micro-F1")
    if not isinstance(wanted, Mapping):
        raise ConfigError(f"{path}: space must be a section: write [space]")
    space = {key: _read_range(path, key, given) for key, given in wanted.items()}
    if not any(key.removeprefix("train.") in OLD_RATES for key in space):
        values, _ = upgrade_values(values, source=str(path))
    space = space or default_space(settings)
    firsts = {k: c[0] if isinstance(c, tuple) else c.ends[0] for k, c in space.items()}
    parse_settings(with_changes(values, firsts), source=f"{path}: space")
    return values, settings, space


def _read_range(path: Path, key: str, given: Any) -> Range | tuple[Any, ...]:
    if "." not in key:
        raise ConfigError(f'{path}: space: {key!r}: expected "section.key", in quotation marks')
    if key.startswith(("data.", "run.")):
        raise ConfigError(f"{path}: space: {key}: is not a setting of the model or its training")
    if isinstance(given, list) and len(given) > 1:
        return tuple(given)
    try:
        return Range.model_validate(given)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{path}: space: {key}: {message}, got {given!r}; expected a list of two values or "
            "more, or {low = …, high = …, log = true}"
        ) from error


def default_space(settings: Settings) -> Space:
    """What is worth a search, by the tuning method."""
    rate = "train.learning_rate"
    if settings.model.tuning == "frozen" and settings.train.head_learning_rate is not None:
        rate = "train.head_learning_rate"  # the same there, and the recipe has chosen the name
    space: Space = {rate: Range(low=3e-4, high=1e-2, log=True)}
    if settings.model.emitter == "lstm":
        return space | {
            "lstm.dropout": Range(low=0.2, high=0.7),
            "lstm.hidden_size": (128, 256, 384),
            "train.batch_tokens": (256, 512, 1024),
        }
    tuning = settings.model.tuning
    if tuning in ("full", "top", "bitfit"):
        space["train.learning_rate"] = Range(low=6e-6, high=5e-3, log=True)
        space["train.head_learning_rate"] = Range(low=3e-4, high=1e-2, log=True)
        space["train.batch_tokens"] = (256, 512, 1024)
    elif tuning == "lora":
        space |= {
            # The head apart, so that it still learns at the low rates that some encoders need.
            "train.learning_rate": Range(low=1e-4, high=1e-2, log=True),
            "train.head_learning_rate": Range(low=5e-4, high=5e-3, log=True),
            "lora.rank": (4, 8, 16, 32),
            "lora.alpha": (8, 16, 32, 64),
            "lora.dropout": Range(low=0.0, high=0.3),
            "lora.targets": (["qkv"], ["attention"], ["all-linear"]),
            "train.batch_tokens": (256, 512, 1024),
        }
    elif tuning == "peft":
        space["train.learning_rate"] = Range(low=1e-3, high=1e-1, log=True)
        space["train.head_learning_rate"] = Range(low=3e-4, high=1e-2, log=True)
    space["train.warmup"] = Range(low=0.0, high=0.3)
    return space
