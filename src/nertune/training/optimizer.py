"""Parameter groups with rates of their own, the optimizer, and the rate's course."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from nertune.config.run import TrainSettings
from nertune.models.encoder import EncoderEmitter
from nertune.models.peft.tuning import head_names
from nertune.models.tagger import Tagger
from nertune.training.learning_rates import HEAD_RATES, LSTM_RATE, method_factor, suggest_rates

__all__ = ["GroupName", "build_optimizer", "group_parameters", "group_rates", "rate_factor"]

GroupName = Literal["encoder", "adapter", "adapter_b", "head", "crf", "lstm"]


def group_parameters(tagger: Tagger) -> dict[GroupName, dict[str, nn.Parameter]]:
    """The trainable parameters of each group, by name. Empty groups are left out."""
    groups: dict[GroupName, dict[str, nn.Parameter]] = {}
    for name, parameter in tagger.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_group(tagger, name), {})[name] = parameter
    return groups


def _group(tagger: Tagger, name: str) -> GroupName:
    if name.startswith("head."):
        return "crf" if tagger.head.rate_group == "crf" else "head"
    if not isinstance(tagger.emitter, EncoderEmitter):
        return "lstm"
    model: Any = tagger.emitter.model
    has_adapter = hasattr(model, "peft_config")
    if ".lora_" in name:
        return "adapter_b" if ".lora_B." in name else "adapter"
    plain = model.get_base_model() if has_adapter else model
    parts = name.split(".")
    if any(head in parts for head in head_names(plain)):
        return "head"
    return "adapter" if has_adapter else "encoder"


def group_rates(settings: TrainSettings, tagger: Tagger) -> dict[GroupName, float]:
    """Each group's peak learning rate.

    `learning_rate` is that of what is tuned: the encoder's weights, the adapter (LoRA's B has
    `lora_plus` times as much), the BiLSTM, or the head of a frozen encoder. What is not given
    depends on the encoder and the tuning method.
    """
    given = settings.learning_rate
    rates: dict[GroupName, float] = {
        "crf": settings.crf_learning_rate,
        "lstm": given or LSTM_RATE,
        "head": settings.head_learning_rate or given or LSTM_RATE,
    }
    if not isinstance(tagger.emitter, EncoderEmitter):
        return rates
    model: Any = tagger.emitter.model
    suggested = suggest_rates(model.config)
    adapters = getattr(model, "peft_config", {})
    factor = max((method_factor(a.peft_type.value) for a in adapters.values()), default=1.0)
    trained = group_parameters(tagger)
    # Biases alone (BitFit) bear what an adapter does.
    matrices = any(p.ndim > 1 for p in trained.get("encoder", {}).values())
    adapter = given or factor * suggested.adapter / settings.lora_plus
    head_alone = not trained.keys() & {"encoder", "adapter", "adapter_b"}
    head = settings.head_learning_rate or (given if head_alone else None)
    return rates | {
        "encoder": given or (suggested.encoder if matrices else suggested.adapter),
        "adapter": adapter,
        "adapter_b": adapter * settings.lora_plus,
        "head": head or HEAD_RATES["adapter" if adapters else "full"],
    }


def build_optimizer(
    tagger: Tagger, settings: TrainSettings
) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer, and the names of its parameters in its own order.

    Weight decay spares biases, norms, the CRF, and adapters that are not LoRA's pairs of matrices
    (a scale that begins at 1 is not to be drawn to 0); `adam` has none at all.
    """
    rates = group_rates(settings, tagger)
    groups: list[dict[str, Any]] = []
    names: list[str] = []
    for group, parameters in group_parameters(tagger).items():
        for decays in (True, False):
            chosen = {n: p for n, p in parameters.items() if _decays(group, n, p) == decays}
            if chosen:
                decay = settings.weight_decay if decays and settings.optimizer != "adam" else 0.0
                groups.append(
                    {
                        "params": list(chosen.values()),
                        "lr": rates[group],
                        "peak": rates[group],
                        "name": group,
                        "weight_decay": decay,
                    }
                )
                names += chosen
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum), names
    adam = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return adam(groups), names


def _decays(group: GroupName, name: str, parameter: nn.Parameter) -> bool:
    if group == "adapter" and not (".lora_A." in name or ".lora_E." in name):
        return False
    return group != "crf" and parameter.ndim > 1


def rate_factor(
    progress: float, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]
) -> float:
    """The share of the peak rate at a point of the run.

    Args:
        progress: share of the run that is done, 0 … 1.
        warmup: share of the run over which the rate rises from 0.
        schedule: how it falls to 0 afterwards, or stays.
    """
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1 - warmup)
    if schedule == "linear":
        return max(0.0, 1 - rest)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
    return 1.0
