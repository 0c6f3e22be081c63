"""Names of settings: those that 0.1.0 had are translated to those of today.

Importing: config.py only, which offers `upgrade_values` to everyone else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nertune.errors import ConfigError

__all__ = ["OLD_RATES", "upgrade_values"]

_OLD_ENCODER_FACTOR = 0.1  # the encoder's share of `rate` in 0.1.0 where a recipe named none
_NEW_RATES = ("learning_rate", "head_learning_rate", "crf_learning_rate")

_Rate = Annotated[float, Field(gt=0, le=10)]


class _OldRates(BaseModel):
    """Learning rates as 0.1.0 had them in [train], with its limits."""

    model_config = ConfigDict(frozen=True)

    rate: _Rate | None = None
    encoder_factor: float | None = Field(None, gt=0, le=1)
    head_rate: _Rate | None = None
    adapter_rate: _Rate | None = None
    crf_rate: _Rate | None = None


OLD_RATES = tuple(_OldRates.model_fields)
"""Keys of [train] that 0.1.0 knew and that have other names today."""


def upgrade_values(
    values: Mapping[str, Any], *, source: str = "settings"
) -> tuple[dict[str, Any], list[str]]:
    """Settings of any version under the names of today, with the same effect.

    In 0.1.0 `train.rate` was a base: the head's and an adapter's rate, and ten times the encoder's.

    Args:
        values: of a recipe or a record, by section. They are not changed.
        source: where they come from, for errors.

    Returns:
        The values, and one line for each old name that was read.

    Raises:
        ConfigError: an old name has a value that 0.1.0 refused, or stands beside a new one.
    """
    train = values.get("train")
    if not isinstance(train, Mapping) or not any(key in train for key in OLD_RATES):
        return dict(values), []
    given = {k: train[k] for k in OLD_RATES if train.get(k) is not None}
    beside = [key for key in _NEW_RATES if train.get(key) is not None]
    if given and beside:
        raise ConfigError(
            f"{source}: train.{next(iter(given))} is an old name and stands beside the new "
            f"train.{beside[0]}: use the new names alone "
            "(learning_rate, head_learning_rate, crf_learning_rate)"
        )
    old = _read_old(given, source)
    came_of = _translate(old, values.get("model"))
    new = {key: value for found in came_of.values() for key, value in found.items()}
    kept = {key: value for key, value in train.items() if key not in OLD_RATES}
    return {**values, "train": {**kept, **new}}, [_tell(k, came_of.get(k, {})) for k in given]


def _read_old(given: Mapping[str, Any], source: str) -> _OldRates:
    try:
        old = _OldRates.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{source}: train.{first['loc'][0]}: {first['msg']}, got {first['input']!r}"
        ) from error
    if old.encoder_factor is not None and old.rate is None:
        raise ConfigError(
            f"{source}: train.encoder_factor = {old.encoder_factor:g} is a share of train.rate, "
            "which is not given: set train.learning_rate, the encoder's own, instead"
        )
    return old


def _translate(old: _OldRates, model: Any) -> dict[str, dict[str, float]]:
    """For each old name the new ones that it decides, with their values."""
    model = model if isinstance(model, Mapping) else {}
    tuning = model.get("tuning", "full")
    came_of: dict[str, dict[str, float]] = {key: {} for key in OLD_RATES}
    if old.crf_rate is not None:
        came_of["crf_rate"]["crf_learning_rate"] = old.crf_rate
    if model.get("emitter") == "lstm":
        if old.rate is not None:
            came_of["rate"]["learning_rate"] = old.rate
        return came_of
    if tuning in ("lora", "peft"):
        if old.adapter_rate is not None:
            came_of["adapter_rate"]["learning_rate"] = old.adapter_rate
        elif old.rate is not None:
            came_of["rate"]["learning_rate"] = old.rate
    elif tuning != "frozen" and old.rate is not None:
        encoder = old.rate * (old.encoder_factor or _OLD_ENCODER_FACTOR)
        came_of["rate"]["learning_rate"] = encoder
        if old.encoder_factor is not None:
            came_of["encoder_factor"]["learning_rate"] = encoder
    if old.head_rate is not None:
        came_of["head_rate"]["head_learning_rate"] = old.head_rate
    elif old.rate is not None:  # of a frozen encoder, the head is what is tuned
        key = "learning_rate" if tuning == "frozen" else "head_learning_rate"
        came_of["rate"][key] = old.rate
    return came_of


def _tell(old: str, new: Mapping[str, float]) -> str:
    if not new:
        return f"train.{old} is an old name and trains nothing here: left out"
    read = ", ".join(f"{key} = {value:g}" for key, value in new.items())
    return f"train.{old} is now train.{next(iter(new))}: read as {read}"
