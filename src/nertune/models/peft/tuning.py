"""What trains of an encoder: head, top layers, biases, a LoRA adapter; and what targets mean.

`adapters` has the other methods of peft.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from nertune.config.run import LoraSettings
from nertune.errors import ConfigError, MissingDependencyError
from nertune.models.encoder import quiet_transformers

__all__ = [
    "add_lora",
    "add_merging_lora",
    "chosen_layers",
    "encoder_layers",
    "find_norms",
    "find_targets",
    "freeze_encoder",
    "head_names",
    "train_biases",
    "train_top_layers",
]

# Friendly names -> how the module is called in one model family or another.
_FRIENDLY: dict[str, tuple[str, ...]] = {
    "query": (
        "attention.self.query",
        "attention.q_lin",
        "attn.q_proj",
        "self_attn.q_proj",
        "attention.attention.query",
        "attention.self.query_proj",
        "attention.query",
    ),
    "key": (
        "attention.self.key",
        "attention.k_lin",
        "attn.k_proj",
        "self_attn.k_proj",
        "attention.attention.key",
        "attention.self.key_proj",
        "attention.key",
    ),
    "value": (
        "attention.self.value",
        "attention.v_lin",
        "attn.v_proj",
        "self_attn.v_proj",
        "attention.attention.value",
        "attention.self.value_proj",
        "attention.value",
    ),
    "attention_output": (
        "attention.output.dense",
        "attention.out_lin",
        "attention.dense",
        "attn.Wo",
        "attn.o_proj",
        "self_attn.o_proj",
    ),
    "intermediate": (
        "intermediate.dense",
        "ffn.lin1",
        "ffn",
        "mlp.Wi",
        "mlp.gate_proj",
        "mlp.up_proj",
    ),
    "output": ("output.dense", "ffn.lin2", "ffn_output", "mlp.Wo", "mlp.down_proj"),
}
_GROUPS = {
    "qkv": ("query", "key", "value"),
    "qv": ("query", "value"),
    "attention": ("query", "key", "value", "attention_output"),
    "ffn": ("intermediate", "output"),
}
# Families whose query, key and value are one matrix: asking for any of them means all three.
_FUSED = ("attn.Wqkv",)
_LAST_NORMS = ("final_norm.", "norm.")  # ModernBERT; LLaMA's kin, such as EuroBERT
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|albert_layers)\.(\d+)\.(.+)$")


def head_names(model: Any) -> list[str]:
    """The new parts on top of the encoder: `classifier` for BERT, `head` too for ModernBERT."""
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]


def freeze_encoder(model: Any) -> None:
    """Leave only the head trainable."""
    for parameter in getattr(model, model.base_model_prefix).parameters():
        parameter.requires_grad_(False)


def train_top_layers(model: Any, count: int) -> None:
    """Leave the head and so many layers below it trainable (Lee et al., 2019).

    A norm behind the last layer trains too.

    Raises:
        ConfigError: there are not so many layers.
    """
    num_layers = encoder_layers(model)
    if count > num_layers:
        raise ConfigError(f"model.top_layers: {count}, but the encoder has {num_layers} layers")
    freeze_encoder(model)
    for name, parameter in getattr(model, model.base_model_prefix).named_parameters():
        match = _LAYER.search(name)
        if (match and int(match[1]) >= num_layers - count) or name.startswith(_LAST_NORMS):
            parameter.requires_grad_(True)


def train_biases(model: Any) -> None:
    """Leave the head and the encoder's biases trainable (BitFit; Ben Zaken et al., 2022).

    Raises:
        ConfigError: the encoder has none.
    """
    freeze_encoder(model)
    encoder = getattr(model, model.base_model_prefix)
    biases = [p for name, p in encoder.named_parameters() if name.endswith("bias")]
    if not biases:
        raise ConfigError(
            f'model.tuning = "bitfit": {type(encoder).__name__} has no biases; tuning = "peft" '
            'with peft.method = "beft" adds some, with "ln_tuning" trains its norms'
        )
    for parameter in biases:
        parameter.requires_grad_(True)


def encoder_layers(model: Any) -> int:
    """How many transformer layers the encoder has."""
    indices = [int(match[1]) for name, _ in model.named_modules() if (match := _LAYER.search(name))]
    return max(indices, default=-1) + 1


def find_targets(
    model: Any, targets: Sequence[str], layers: Sequence[int], key: str = "lora.targets"
) -> dict[str, int]:
    """The linear modules to adapt: full name -> layer.

    Raises:
        ConfigError: a target matches no linear module; names those that there are.
    """
    linear = {
        name: (int(match[1]), match[2])
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (match := _LAYER.search(name))
    }
    chosen: dict[str, int] = {}
    if "all-linear" in targets:
        chosen = {name: layer for name, (layer, _) in linear.items()}
    for target in [part for t in targets for part in _GROUPS.get(t, (t,)) if t != "all-linear"]:
        suffixes = _FRIENDLY.get(target, (target,))
        fused = _FUSED if target in ("query", "key", "value") else ()
        found = {
            name: layer
            for name, (layer, local) in linear.items()
            if local in (*suffixes, *fused)
            or (target not in _FRIENDLY and f".{local}".endswith(f".{target}"))
        }
        if not found:
            known = sorted({local for _, local in linear.values()})
            raise ConfigError(
                f"{key}: {target!r} matches no linear module of this encoder; friendly "
                f"names: {', '.join((*_FRIENDLY, *_GROUPS, 'all-linear'))}; its modules: "
                f"{', '.join(known)}"
            )
        chosen |= found
    wanted = {name: layer for name, layer in chosen.items() if layer in set(layers)}
    return dict(sorted(wanted.items(), key=lambda item: (item[1], item[0])))


def find_norms(model: Any, layers: Sequence[int]) -> list[str]:
    """The full names of the layers' norms: modules with a weight of one axis."""
    return [
        name
        for name, module in model.named_modules()
        if (match := _LAYER.search(name))
        and int(match[1]) in set(layers)
        and getattr(getattr(module, "weight", None), "ndim", 0) == 1
    ]


def chosen_layers(
    choice: str | Sequence[int], num_layers: int, key: str = "lora.layers"
) -> list[int]:
    """Layer numbers from `"all"`, `"top-K"`, `"bottom-K"` or a list (negative: from the top).

    Raises:
        ConfigError: a layer does not exist.
    """
    if choice == "all":
        return list(range(num_layers))
    if isinstance(choice, str):
        side, _, count = choice.partition("-")
        if int(count) > num_layers:
            raise ConfigError(f"{key}: {choice!r}, but the encoder has {num_layers} layers")
        every = list(range(num_layers))
        return every[-int(count) :] if side == "top" else every[: int(count)]
    for layer in choice:
        if not -num_layers <= layer < num_layers:
            raise ConfigError(f"{key}: {layer}, but the encoder has layers 0 to {num_layers - 1}")
    return sorted({layer % num_layers for layer in choice})


def add_lora(model: Any, settings: LoraSettings) -> Any:
    """Wrap a token-classification model with a LoRA adapter (Hu et al., 2022) through peft.

    The head is trained whole and saved with the adapter.

    Raises:
        ConfigError: targets, layers or ranks do not fit the encoder.
        MissingDependencyError: peft is not installed.
    """
    return _wrap(model, settings, task_type="TOKEN_CLS", modules_to_save=head_names(model))


def add_merging_lora(model: Any, settings: LoraSettings) -> Any:
    """Wrap a model with a LoRA adapter alone, which is to be merged into its weights.

    Raises:
        ConfigError: targets, layers or ranks do not fit the encoder.
        MissingDependencyError: peft is not installed.
    """
    return _wrap(model, settings, task_type=None, modules_to_save=None)


def _wrap(
    model: Any, settings: LoraSettings, *, task_type: str | None, modules_to_save: list[str] | None
) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingDependencyError("peft", purpose="LoRA") from error
    layers = chosen_layers(settings.layers, encoder_layers(model))
    targets = find_targets(model, settings.targets, layers)
    for key, numbers in (("ranks", settings.ranks), ("alphas", settings.alphas)):
        if other := [number for number in numbers if int(number) not in layers]:
            raise ConfigError(
                f"lora.{key}: layer {other[0]} is not among the adapted ones {layers}"
            )
    ranks, alphas = {}, {}
    for name, layer in targets.items():
        rank = settings.ranks.get(str(layer), settings.rank)
        # Without one of its own, the scale is that of the other layers: alpha / rank, or with
        # rsLoRA alpha / sqrt(rank).
        ratio = rank / settings.rank
        same = settings.alpha * (math.sqrt(ratio) if settings.rslora else ratio)
        alpha = settings.alphas.get(str(layer), same)
        if rank != settings.rank:
            ranks[name] = rank
        if alpha != settings.alpha:
            alphas[name] = alpha
    initial: Any = True if settings.init == "default" else settings.init
    config = LoraConfig(
        task_type=task_type,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        init_lora_weights=initial,
        target_modules=list(targets),
        rank_pattern=ranks,
        alpha_pattern=alphas,
        modules_to_save=modules_to_save,
    )
    try:
        with quiet_transformers():
            return get_peft_model(model, config)
    except ValueError as error:  # e.g. orthogonal matrices of an odd rank
        raise ConfigError(f"lora: {' '.join(str(error).split())[:300]}") from error
