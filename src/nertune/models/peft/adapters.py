"""Any parameter-efficient method of peft, by its name and with its own options.

What a method needs to know about a token-classification encoder (targets, the head, virtual
tokens) is filled in here; what it cannot do is found out before training and refused with the
reason.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from nertune.config.run import PeftSettings, nearest
from nertune.errors import ArtifactError, ConfigError, MissingDependencyError
from nertune.models.encoder import quiet_transformers
from nertune.models.peft.tuning import (
    chosen_layers,
    encoder_layers,
    find_norms,
    find_targets,
    head_names,
)
from nertune.models.weights import name_some

__all__ = ["add_adapter", "count_virtual_tokens", "list_methods", "refuse_incomplete"]

# Names in use -> peft's.
_ALIASES = {"PREFIX": "PREFIX_TUNING", "PROMPT": "PROMPT_TUNING", "PTUNING": "P_TUNING",
            "LAYERNORM": "LN_TUNING"}  # fmt: skip
_REFUSED = {
    "ADAPTION_PROMPT": "it is made for LLaMA-like decoders",
    "CARTRIDGE": "it compresses a long prompt of a generating model",
    "CPT": "it is made for generating models",
    "LORA": 'it has settings of its own: model.tuning = "lora" and [lora]',
    "MULTITASK_PROMPT_TUNING": "it needs the number of a task with every batch",
    "POLY": "it needs the number of a task with every batch",
    "SHADOW": "it cannot hold a classifier beside it",
    "TRAINABLE_TOKENS": "it trains the embeddings of single new tokens, and a tagger adds none",
    "XLORA": "it mixes adapters that were trained before",
}
_OURS = {
    "task_type": "a tagger's", "peft_type": "peft.method", "inference_mode": "set when needed",
    "target_modules": "peft.targets", "layers_to_transform": "peft.layers",
    "layers_pattern": "peft.layers", "modules_to_save": "the head", "base_model_name_or_path":
    "model.encoder", "total_step": "follows from the data and train.epochs",
}  # fmt: skip

_PREFIX = re.compile(r"^base_model\.(model\.)?")
_COPIES = re.compile(
    r"\.(original_module|modules_to_save\.[^.]+)(?=\.)"
)  # of a head in peft's hands


def list_methods() -> list[str]:
    """The methods that can be asked for, as `peft.method` takes them.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    return sorted(name.lower() for name in _configs() if name not in _REFUSED)


def add_adapter(model: Any, settings: PeftSettings) -> Any:
    """Wrap a token-classification model as one of peft's methods does it.

    Args:
        model: with a new head, which is trained whole and saved with the adapter.
        settings: the method, what it adapts, and its own options.

    Raises:
        ConfigError: no such method or option, or it does not suit this encoder.
        MissingDependencyError: peft, or what the method itself needs, is not installed.
    """
    method, config_class = _find(settings.method)
    values = _arguments(config_class, model, settings)
    try:
        from peft import get_peft_model

        with quiet_transformers():
            wrapped = get_peft_model(model, config_class(**values))
        _probe(wrapped)
    except ImportError as error:
        raise MissingDependencyError(
            error.name or str(error), purpose=f"peft.method {settings.method}"
        ) from error
    except Exception as error:  # peft's methods have no common error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(
            f"peft.method {method.lower()!r} cannot be used with this encoder and these options: "
            f"{reason}"
        ) from error
    return wrapped


def count_virtual_tokens(model: Any) -> int:
    """How many positions a soft prompt takes from every window."""
    configs = getattr(model, "peft_config", None) or {}
    return max((getattr(c, "num_virtual_tokens", None) or 0 for c in configs.values()), default=0)


def refuse_incomplete(weights: Path, model: Any) -> None:
    """Check that an adapter's file holds all that it should, the head included.

    peft leaves what the file lacks as it is in a new adapter, with a warning at most.

    Args:
        weights: the adapter's safetensors file.
        model: what peft made of it.

    Raises:
        ArtifactError: parameters are missing; the message names them.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with quiet_transformers():
        expected = {_PREFIX.sub("", name) for name in get_peft_model_state_dict(model)}
    plain = model.get_base_model()
    for head in head_names(plain):
        for name, _ in getattr(plain, head).named_parameters(prefix=head):
            expected.add(_COPIES.sub("", name))
    with safe_open(weights, framework="pt") as file:
        missing = expected - {_PREFIX.sub("", name) for name in file.keys()}  # noqa: SIM118
    if missing:
        raise ArtifactError(
            f"{weights}: lacks {len(missing)} parameters of this tagger: {name_some(missing)}; the "
            "folder is incomplete, copy it again"
        )


def _configs() -> dict[str, Any]:
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    except ImportError as error:
        raise MissingDependencyError("peft", purpose="an adapter") from error
    return {kind.value: config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _find(method: str) -> tuple[str, Any]:
    configs = _configs()
    plain = method.upper().replace("-", "_")
    name = _ALIASES.get(plain.replace("_", ""), plain)
    if name not in configs:
        by_letters = {known.replace("_", ""): known for known in configs}
        name = by_letters.get(plain.replace("_", ""), name)
    if name in _REFUSED:
        raise ConfigError(f"peft.method {method!r} is nothing for a tagger: {_REFUSED[name]}")
    if name not in configs:
        known = list_methods()
        raise ConfigError(
            f"peft.method {method!r} is unknown to this peft{nearest(method.lower(), known)}; it "
            f"has {', '.join(known)}"
        )
    return name, configs[name]


def _arguments(config_class: Any, model: Any, settings: PeftSettings) -> dict[str, Any]:
    fields = {field.name for field in dataclasses.fields(config_class) if field.init}
    for option in settings.options:
        if option in _OURS:
            raise ConfigError(f"peft.options.{option} is not to be set: it is {_OURS[option]}")
        if option not in fields:
            known = sorted(fields - _OURS.keys())
            raise ConfigError(
                f"peft.options.{option}: peft's {config_class.__name__} has no such option"
                f"{nearest(option, known)}; known: {', '.join(known)}"
            )
    if config_class.__name__ == "AdaLoraConfig":
        defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
        first, last = ({**defaults, **settings.options}[key] for key in ("init_r", "target_r"))
        if isinstance(first, int) and isinstance(last, int) and first <= last:
            raise ConfigError(
                f"peft.options: init_r = {first} must be above target_r = {last}, the mean rank in "
                "the end: AdaLoRA begins with more and gives some up"
            )
    layers = chosen_layers(settings.layers, encoder_layers(model), "peft.layers")
    values: dict[str, Any] = {"task_type": "TOKEN_CLS"}
    if config_class.__name__ == "LNTuningConfig":
        values["target_modules"] = find_norms(model, layers)
    elif "target_modules" in fields:
        values["target_modules"] = list(
            find_targets(model, settings.targets, layers, "peft.targets")
        )
    elif settings.layers != "all":
        raise ConfigError(f"peft.layers: {settings.method} works on all layers or on none")
    if "modules_to_save" in fields:
        values["modules_to_save"] = _head_leaves(model)
    if "feedforward_modules" in fields:  # IA³ scales what goes into these, not what comes out
        inner = set(find_targets(model, ("output",), layers, "peft.targets"))
        values["feedforward_modules"] = [n for n in values["target_modules"] if n in inner]
    if "num_virtual_tokens" in fields:
        values["num_virtual_tokens"] = 20
    if "total_step" in fields:
        values["total_step"] = 1 << 40  # until training knows
    return values | dict(settings.options)


def _head_leaves(model: Any) -> list[str]:
    """The head's single modules: peft cannot merge beside one that is made of several."""
    return [
        ".".join(filter(None, (head, name)))
        for head in head_names(model)
        for name, module in getattr(model, head).named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]


@torch.no_grad()
def _probe(model: Any) -> None:
    """One small window through the model, since some methods fail only then."""
    training = model.training
    with torch.random.fork_rng(devices=[]):
        ids_BL = torch.zeros((2, 4), dtype=torch.int64)
        model.eval()
        logits = model(
            input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL), return_dict=True
        ).logits
        model.train(training)
    length = ids_BL.shape[1]
    if logits.shape[1] not in (length, length + count_virtual_tokens(model)):
        raise ValueError(f"it gives {logits.shape[1]} logits for {length} tokens")
    if not torch.isfinite(logits).all():
        raise ValueError("its logits are not finite")
