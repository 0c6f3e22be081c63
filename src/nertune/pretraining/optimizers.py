"""AdamW, and Muon (Jordan et al., 2024) that a CPU without bfloat16 instructions can afford."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nertune.config.pretrain import PretrainSettings

__all__ = ["Muon", "NamedOptimizer", "build_optimizers", "orthogonalize"]

NamedOptimizer = tuple[torch.optim.Optimizer, list[str]]
"""An optimizer, and the names of its parameters in its own order."""


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, with float32 in the place of bfloat16 on a CPU.

    PyTorch always orthogonalizes in bfloat16. A CPU that emulates it needs some forty times as
    long, many times as long as forward and backward together. Nesterov's momentum and the
    original adjustment of the learning rate are used, PyTorch's defaults.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, by PyTorch itself where the parameters are on another device than a CPU."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalize(
            gradient.lerp(momentum, group["momentum"]),
            coefficients=group["ns_coefficients"],
            steps=group["ns_steps"],
            eps=group["eps"],
        )
        rows, columns = parameter.shape
        rate = group["lr"] * math.sqrt(max(1, rows / columns))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-rate)


def orthogonalize(
    matrix_MN: Tensor, *, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Bring all singular values near 1 by Newton-Schulz iterations, in the matrix's own dtype.

    Args:
        matrix_MN: any matrix.
        coefficients: of x, x³ and x⁵ in an iteration, where x is a singular value.
        steps: iterations.
        eps: the least norm by which the matrix is divided.
    """
    a, b, c = coefficients
    is_tall = matrix_MN.shape[0] > matrix_MN.shape[1]
    x = matrix_MN.T if is_tall else matrix_MN
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def build_optimizers(model: nn.Module, settings: PretrainSettings) -> list[NamedOptimizer]:
    """AdamW, and with `optimizer = "muon"` Muon for the matrices of the layers."""
    matrices: dict[str, torch.nn.Parameter] = {}
    embeddings: dict[str, torch.nn.Parameter] = {}
    plain: dict[str, torch.nn.Parameter] = {}
    bare: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "word_embeddings" in name or "tok_embeddings" in name:
            embeddings[name] = parameter
        elif parameter.ndim < 2:
            bare[name] = parameter
        elif settings.optimizer == "muon" and (".layer." in name or ".layers." in name):
            matrices[name] = parameter
        else:
            plain[name] = parameter
    groups: list[dict[str, Any]] = []
    names: list[str] = []
    for members, rate, decay in (
        (embeddings, settings.rate * settings.embedding_factor, settings.weight_decay),
        (plain, settings.rate, settings.weight_decay),
        (bare, settings.rate, 0.0),
    ):
        if members:
            groups.append({"params": list(members.values()), "lr": rate, "peak": rate,
                           "weight_decay": decay})  # fmt: skip
            names += members
    optimizers: list[NamedOptimizer] = []
    if groups:
        optimizers.append((torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6), names))
    if matrices:
        rate = settings.muon_rate
        muon = Muon(list(matrices.values()), lr=rate, weight_decay=settings.weight_decay)
        muon.param_groups[0]["peak"] = rate
        optimizers.append((muon, list(matrices)))
    return optimizers
