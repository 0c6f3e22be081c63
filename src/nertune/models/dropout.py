"""Dropout (Srivastava et al., 2014) whose masks cost a CPU next to nothing.

PyTorch draws a mask on a CPU one number after the other: about a seventh of the time of a training
step with LoRA at bert-base's shape, a tenth in the bundled encoder. Here a mask's bits come from
SFC64 (Doty-Humphrey, 2010; numpy's), four elements to a draw, seeded from PyTorch's generator; so a
run that is resumed with that generator's state draws the same masks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["QuickDropout", "quicken_dropout"]

_STEPS = 1 << 16  # a probability is one of so many steps


class QuickDropout(nn.Dropout):
    """`nn.Dropout`, with other random numbers on a CPU; the probability is met within 1e-5."""

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of any shape; what is kept grows by one over the share that is kept."""
        threshold = round(self.p * _STEPS)
        elsewhere = input.device.type != "cpu" or torch.compiler.is_compiling()
        if not self.training or elsewhere or threshold in (0, _STEPS):
            return super().forward(input)
        seed = int(torch.randint(1 << 62, ()))
        draws = np.random.SFC64(seed).random_raw(-(-input.numel() // 4))
        kept = draws.view(np.uint16)[: input.numel()] >= threshold
        mask = torch.from_numpy(kept).view(input.shape).to(input.dtype)
        return input * mask.mul_(_STEPS / (_STEPS - threshold))


def quicken_dropout(module: nn.Module) -> None:
    """Put `QuickDropout` in the place of every plain `nn.Dropout`, peft's among them."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, QuickDropout(child.p).train(child.training))
