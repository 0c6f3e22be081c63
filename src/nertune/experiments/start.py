"""Where a run starts: with an encoder, or with what an earlier run learned (`model.start_from`).

| earlier run     | this run         | what goes on                                |
|-----------------|------------------|---------------------------------------------|
| full, frozen, … | any tuning       | the encoder's weights                       |
| adapter         | the same adapter | the adapter, on the same base encoder       |
| adapter         | any other tuning | the encoder with the adapter merged into it |
| LSTM            | LSTM             | its weights and vocabulary                  |

Rows of the classifier and transitions of the CRF go on where their tags do (`models.heads`); unit
and tokenizer are the earlier run's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.artifacts.load import load_base, load_trained
from nertune.artifacts.manifest import (
    Manifest,
    base_encoder,
    own_folder,
    read_manifest,
    weight_hashes,
)
from nertune.config.run import LoraSettings, LstmSettings, ModelSettings, PeftSettings, Settings
from nertune.errors import ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.heads.transfer import Base

__all__ = ["Start", "open_start"]

_ADAPTERS: dict[str, type[LoraSettings | PeftSettings]] = {
    "lora": LoraSettings,
    "peft": PeftSettings,
}
_FREE = ("dropout", "unknown")  # of an LSTM or an adapter: they are in no weight


@dataclass(frozen=True, slots=True)
class Start:
    """A finished run's model from which another run goes on.

    Attributes:
        folder: its folder.
        manifest: what it is.
        sha256: over its weights, and its base encoder's where it is an adapter.
        goes_on: whether the weights that were trained are trained further as what they are; else
            they are those of the encoder, an adapter merged.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    goes_on: bool

    @property
    def encoder(self) -> str:
        """The encoder that the new run's model belongs to; empty for an LSTM."""
        if self.manifest.emitter == "lstm":
            return ""
        if not self.goes_on:
            return str(self.folder)
        if self.manifest.tuning not in ("lora", "peft"):
            return self.manifest.encoder
        return base_encoder(self.folder, self.manifest)

    def load(self, tagset: TagSet) -> Base:
        """Its weights, with a head for these tags.

        Raises:
            ModelError: the folder or its base encoder cannot be loaded.
        """
        if self.goes_on:
            return load_trained(self.folder, tagset)
        return load_base(str(self.folder), tagset)

    def describe(self) -> str:
        """One line for people."""
        manifest = self.manifest
        what = "LSTM" if manifest.emitter == "lstm" else f"{manifest.encoder}, {manifest.tuning}"
        return (
            f"started from {self.folder} ({what}, {manifest.decoder}): its tokenizer, unit "
            f"{manifest.unit}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        return {"folder": str(self.folder), "sha256": self.sha256, "encoder": self.encoder}


def open_start(settings: Settings) -> Start | None:
    """What `model.start_from` names; `None` where a run starts with an encoder or a new LSTM.

    Raises:
        ConfigError: it is no model of nertune, or a setting contradicts it; names the key.
        ArtifactError: the folder is damaged.
    """
    name = settings.model.start_from
    if not name:
        return None
    folder = own_folder(name)
    if folder is None:
        raise ConfigError(
            f"model.start_from: {name} is not the folder of a run, nor of a model that nertune "
            "wrote; any other model is named with model.encoder"
        )
    manifest = read_manifest(folder)
    _refuse_other_kind(settings, manifest, (name, str(folder)))
    goes_on = manifest.emitter == "lstm" or (
        manifest.tuning in _ADAPTERS and manifest.tuning == settings.model.tuning
    )
    if goes_on and manifest.emitter == "encoder":
        _refuse_other_adapter(settings, manifest)
    hashes = json.dumps(weight_hashes(manifest), sort_keys=True)
    return Start(folder, manifest, hashlib.sha256(hashes.encode()).hexdigest(), goes_on)


def _refuse_other_kind(settings: Settings, manifest: Manifest, names: tuple[str, str]) -> None:
    model = settings.model
    if model.emitter != manifest.emitter:
        raise ConfigError(
            f'model.emitter = "{model.emitter}", but model.start_from is '
            f"{'an LSTM' if manifest.emitter == 'lstm' else 'an encoder'}: set model.emitter = "
            f'"{manifest.emitter}"'
        )
    if model.unit not in ("auto", manifest.unit):
        raise ConfigError(
            f'model.unit = "{model.unit}", but model.start_from was trained with '
            f'"{manifest.unit}": leave model.unit out'
        )
    if manifest.emitter == "encoder":
        default = ModelSettings.model_fields["encoder"].default
        if model.encoder not in (default, manifest.encoder, *names):
            raise ConfigError(
                f"model.encoder: {model.encoder}, but model.start_from was trained on "
                f"{manifest.encoder}: leave model.encoder out"
            )
        return
    if settings.lstm.chars:
        raise ConfigError(
            "lstm.chars: the vocabulary is that of model.start_from: leave lstm.chars out"
        )
    assert manifest.lstm is not None
    _refuse_difference("lstm", settings.lstm, manifest.lstm, free=("chars", "min_count"))


def _refuse_other_adapter(settings: Settings, manifest: Manifest) -> None:
    section = manifest.tuning
    kind = _ADAPTERS[section]
    trained = kind.model_validate(manifest.settings.get(section, {}))
    _refuse_difference(section, getattr(settings, section), trained, hint=(
        ", or choose another model.tuning, so that the adapter is merged into the encoder first"
    ))  # fmt: skip


def _refuse_difference(
    section: str,
    asked: LstmSettings | LoraSettings | PeftSettings,
    trained: LstmSettings | LoraSettings | PeftSettings,
    *,
    free: tuple[str, ...] = (),
    hint: str = "",
) -> None:
    """Weights of one shape cannot be those of another."""
    before = trained.model_dump(mode="json")
    for key, value in asked.model_dump(mode="json").items():
        if key not in (*_FREE, *free) and value != before[key]:
            raise ConfigError(
                f"{section}.{key} = {json.dumps(value)}, but model.start_from was trained with "
                f"{json.dumps(before[key])}: set it so{hint}"
            )
