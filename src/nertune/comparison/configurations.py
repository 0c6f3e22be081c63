"""What a comparison compared: configurations, data, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nertune.comparison.results import Comparison, Configuration
from nertune.config.run import settings_of_record

__all__ = [
    "CONFIGURATION_HEADINGS",
    "DATA_HEADINGS",
    "configuration_rows",
    "data_rows",
    "describe_encoder",
    "describe_rates",
    "describe_tuning",
    "differing_settings",
    "used_settings",
]

CONFIGURATION_HEADINGS = (
    "configuration", "encoder", "parameters", "tuning", "decoder", "learning rates",
    "epochs trained", "tokens a batch", "seeds",
)  # fmt: skip
DATA_HEADINGS = ("split", "file", "documents", "entities", "sha256", "configurations")

_NOTHING = "–"
_OWN = ("run.name", "run.dir", "run.seed")  # of each run, not of its configuration


def configuration_rows(comparison: Comparison) -> list[list[str]]:
    """One row a configuration, as `CONFIGURATION_HEADINGS` names the cells."""
    seeds = ", ".join(map(str, comparison.seeds))
    rows = []
    for configuration in comparison.configurations:
        settings = _settings(configuration)
        model, train = settings.get("model", {}), settings.get("train", {})
        rows.append([
            configuration.name,
            describe_encoder(configuration),
            f"{configuration.total_parameters:,}",
            describe_tuning(configuration),
            str(model.get("decoder", _NOTHING)),
            describe_rates(configuration),
            _epochs(configuration, train),
            _batch(train),
            seeds,
        ])  # fmt: skip
    return rows


def describe_encoder(configuration: Configuration) -> str:
    """The encoder's name, or the BiLSTM's size."""
    settings = _settings(configuration)
    if "model" not in settings:
        return _NOTHING
    if settings["model"].get("emitter") != "lstm":
        return str(settings["model"].get("encoder", _NOTHING))
    lstm = settings.get("lstm", {})
    size = "×".join(str(lstm[key]) for key in ("layers", "hidden_size") if key in lstm)
    return f"BiLSTM {size}".strip()


def describe_tuning(configuration: Configuration) -> str:
    """What of the encoder trains, with an adapter's rank and targets."""
    settings = _settings(configuration)
    model = settings.get("model", {})
    if model.get("emitter") == "lstm":
        return "from new weights"
    tuning = model.get("tuning")
    if tuning == "lora":
        return _describe_lora(settings.get("lora", {}))
    if tuning == "peft":
        peft = settings.get("peft", {})
        options = [f"{key} {value}" for key, value in (peft.get("options") or {}).items()]
        told = [f"peft: {peft.get('method', _NOTHING)}", _targets(peft), *options]
        return ", ".join(told)
    names = {
        "full": "fine-tuned in full",
        "frozen": "frozen, head only",
        "top": f"top {model.get('top_layers')} layers",
        "bitfit": "biases (BitFit)",
    }
    return names.get(str(tuning), str(tuning or _NOTHING))


def _describe_lora(lora: Mapping[str, Any]) -> str:
    told = [f"LoRA, rank {lora.get('rank')}, alpha {lora.get('alpha')}", _targets(lora)]
    told += [name for key, name in (("dora", "DoRA"), ("rslora", "rsLoRA")) if lora.get(key)]
    if lora.get("init", "default") != "default":
        told.append(f"begun with {lora['init']}")
    if lora.get("ranks"):
        told.append("ranks of layers " + _plain(lora["ranks"]))
    return ", ".join(told)


def _targets(section: Mapping[str, Any]) -> str:
    targets = "targets " + " ".join(section.get("targets") or [_NOTHING])
    layers = section.get("layers", "all")
    return targets if layers == "all" else f"{targets}, layers {_plain(layers)}"


def describe_rates(configuration: Configuration) -> str:
    """The peak learning rates as they were used, by what they train."""
    rates = configuration.records[0].get("rates") if configuration.records else None
    if not rates:
        return _NOTHING
    told = {
        name: f"{name} {_scientific(rate)}"
        for name, rate in rates.items()
        # LoRA's B has the rate of its A unless LoRA+ sets it.
        if not (name == "adapter_b" and rate == rates.get("adapter"))
    }
    return ", ".join(told.values())


def _epochs(configuration: Configuration, train: Mapping[str, Any]) -> str:
    """E.g. `12, 9 of 12`: trained with each seed, and planned."""
    trained = [str(len(record["epochs"])) for record in configuration.records]
    told = trained[0] if len(set(trained)) == 1 else ", ".join(trained)
    return f"{told} of {train['epochs']}" if "epochs" in train else told


def _batch(train: Mapping[str, Any]) -> str:
    if "batch_tokens" not in train:
        return _NOTHING
    accumulate = train.get("accumulate", 1)
    return f"{train['batch_tokens']:,}" + (f" × {accumulate}" if accumulate != 1 else "")


def data_rows(comparison: Comparison) -> list[list[str]]:
    """One row for each file that a configuration was trained, chosen or scored with."""
    found: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for configuration in comparison.configurations:
        for record in configuration.records:
            for split in ("train", "dev", "test"):
                described = (record.get("data") or {}).get(split)
                if described:
                    use = (configuration.name, described)
                    found.setdefault((split, described["path"]), []).append(use)
    order = {"train": 0, "dev": 1, "test": 2}
    rows = []
    for (split, path), uses in sorted(found.items(), key=lambda item: order[item[0][0]]):
        names = list(dict.fromkeys(name for name, _ in uses))
        hashes = {str(described["sha256"]) for _, described in uses}
        drawn = len(hashes) > 1  # a share of the documents, others for each seed
        rows.append([
            split,
            path,
            _common(f"{described['documents']:,}" for _, described in uses),
            _common(f"{described['entities']:,}" for _, described in uses),
            "drawn by seed" if drawn else f"{hashes.pop()[:12]}…",
            "all" if len(names) == len(comparison.configurations) else ", ".join(names),
        ])  # fmt: skip
    return rows


def _common(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def differing_settings(configurations: Sequence[Configuration]) -> list[list[str]]:
    """The settings in which configurations differ: the key, then each one's value.

    What a configuration does not use is `–`: LoRA's rank where there is no LoRA, the encoder of a
    BiLSTM. A key is shown where those that use it differ.
    """
    flat = [used_settings(_settings(configuration)) for configuration in configurations]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = []
    for key in keys:
        spellings = {_plain(values[key]) for values in flat if key in values}
        if len(spellings) > 1:
            rows.append([key, *(_plain(v[key]) if key in v else _NOTHING for v in flat)])
    return rows


def used_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """By `section.key`, without what names a run and without what has no effect.

    Args:
        settings: by section, as a record has them.
    """
    model = settings.get("model", {})
    is_lstm, tuning = model.get("emitter") == "lstm", model.get("tuning")
    unused = {"lstm": not is_lstm, "lora": tuning != "lora", "peft": tuning != "peft"}
    flat = {
        key: value
        for section, values in settings.items()
        if not unused.get(section, False)
        for key, value in _flatten(section, values)
    }
    hidden = [*_OWN, *(["model.encoder", "model.tuning"] if is_lstm else [])]
    if tuning != "top":
        hidden.append("model.top_layers")
    return {key: value for key, value in flat.items() if key not in hidden}


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flatten(f"{prefix}.{key}", item)]
    return [(prefix, value)]


def _settings(configuration: Configuration) -> Mapping[str, Any]:
    """As its first run was trained; the seeds share them."""
    kept = (configuration.records[0].get("settings") or {}) if configuration.records else {}
    return settings_of_record(kept) if kept else {}


def _plain(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, str):
        return value or "none"
    if isinstance(value, float):
        return _scientific(value, digits=6)  # no two that differ may look alike
    return json.dumps(value, ensure_ascii=False)


def _scientific(rate: float, digits: int = 3) -> str:
    """`4e-4` as people write it."""
    text = f"{rate:.{digits}g}"
    if 0 < abs(rate) < 0.01:
        mantissa, exponent = f"{rate:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text
