"""AdaLoRA while it trains: which singular directions stay (Zhang et al., 2023).

peft holds the method; what a training loop must do for it is here: the penalty that keeps the
directions orthogonal, the look at their importance after every step, and its state for checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nertune.errors import ConfigError
from nertune.models.tagger import Tagger

__all__ = ["RankSchedule", "without_ranks"]

_PREFIX = "ranks."
_WARMUP, _SETTLING = 0.1, 0.3  # shares of all steps, where the settings leave them open


class RankSchedule:
    """The course of a run's ranks.

    Args:
        tuner: peft's `AdaLoraModel`.
        total_steps: optimizer steps of the run, at most.

    Raises:
        ConfigError: the settings leave no step in which ranks could be given up.
    """

    def __init__(self, tuner: Any, total_steps: int):
        self._tuner = tuner
        self._config = tuner.peft_config[tuner.trainable_adapter_name]
        self._config.total_step = total_steps
        is_open = not self._config.tinit and not self._config.tfinal
        if is_open:
            self._config.tinit = int(_WARMUP * total_steps)
            self._config.tfinal = int(_SETTLING * total_steps)
        room = total_steps - self._config.tinit - self._config.tfinal
        self._has_room = room > 1  # to weigh the directions before any of them goes
        if not is_open and not self._has_room:
            raise ConfigError(
                f"peft.options: tinit = {self._config.tinit} and tfinal = {self._config.tfinal} "
                f"leave none of this run's {total_steps} steps to give ranks up in; leave both "
                "out, or train for more epochs"
            )
        self._allocator = tuner.rankallocator
        parameters = list(tuner.model.named_parameters())
        self._bases = [p for name, p in parameters if ".lora_A." in name or ".lora_B." in name]

    @classmethod
    def of(cls, tagger: Tagger, total_steps: int) -> RankSchedule | None:
        """`None` for all but AdaLoRA."""
        tuner = getattr(getattr(tagger.emitter, "model", None), "base_model", None)
        return cls(tuner, total_steps) if hasattr(tuner, "rankallocator") else None

    def penalty(self) -> Tensor:
        """Mean distance of the directions' products from the identity, times its weight."""
        total = torch.zeros((), device=self._bases[0].device)
        for basis in self._bases:
            wide = basis if basis.shape[0] <= basis.shape[1] else basis.T
            identity = torch.eye(wide.shape[0], device=wide.device, dtype=wide.dtype)
            total = total + torch.linalg.matrix_norm(wide @ wide.T - identity)
        weight: float = self._config.orth_reg_weight
        return weight * total / len(self._bases)

    def step(self, number: int) -> None:
        """Behind the optimizer's step of this number (from 1), before gradients are dropped."""
        if self._has_room:
            self._tuner.update_and_allocate(number)

    def forget_gradients(self) -> None:
        """Those that are not finite count as nothing, where a step was left out for them."""
        for name, parameter in self._tuner.model.named_parameters():
            if "lora_" in name and parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """Its state."""
        found = {
            f"{_PREFIX}{kind}.{name}": tensor
            for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            for name, tensor in getattr(self._allocator, kind).items()
        }
        for name, kept in (self._config.rank_pattern or {}).items():
            found[f"{_PREFIX}kept.{name}"] = torch.as_tensor(kept)
        return found

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up the state that lies in a checkpoint's weights."""
        pattern: dict[str, Any] = {}
        device = self._bases[0].device
        for key, tensor in weights.items():
            if key.startswith(_PREFIX):
                kind, _, name = key.removeprefix(_PREFIX).partition(".")
                if kind == "kept":
                    pattern[name] = tensor.tolist()
                else:
                    getattr(self._allocator, kind)[name] = tensor.to(device)
        self._config.rank_pattern = pattern or None

    def finish(self) -> None:
        """Directions that went are zero; they are saved as such, whatever epoch was the best."""
        self._config.rank_pattern = None


def without_ranks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights alone."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(_PREFIX)}
