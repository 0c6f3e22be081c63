"""Dropout (Srivastava et al., 2014) whose masks cost a CPU next to nothing.

PyTorch draws a mask on a CPU one number after the other. What is saved of a training step (2 cores
with AVX2, `python benchmarks/dropout.py`): 12 to 14 % with the bundled encoder, 17 % with LoRA at
bert-base's width, nothing with full fine-tuning there. Here a mask's bits come from SFC64
(Doty-Humphrey, 2010; numpy's), four elements to a draw, seeded from PyTorch's generator; so a run
that is resumed with that generator's state draws the same masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["QuickDropout", "attend", "quicken_dropout"]

_STEPS = 1 << 16  # a probability is one of so many steps
_ATTENTION = "nertune_sdpa"


class QuickDropout(nn.Dropout):
    """`nn.Dropout`, with other random numbers on a CPU; the probability is met within 1e-5."""

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of any shape; what is kept grows by one over the share that is kept."""
        if not self.training or not _can_be_quick(self.p, input):
            return super().forward(input)
        return input * _draw(self.p, input)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' `sdpa`, whose masks are drawn quickly on a CPU.

    Args:
        module: the layer.
        query, key, value: `[B, heads, L, D]`.
        attention_mask: bool or added to the scores, `[B, 1 or heads, L, L]`.
        dropout: share of the attention's weights that is dropped.
        kwargs: as for `sdpa`, e.g. `scaling` of the scores (1 / √D by default), `is_causal`.

    Returns:
        `[B, L, heads, D]`, and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    scaling, is_causal = kwargs.get("scaling"), kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_plain = key.shape[1] == query.shape[1] and not any(
        kwargs.get(name) is not None for name in ("position_bias", "softcap", "cache")
    )
    if not is_plain or (causal and attention_mask is None) or not _can_be_quick(dropout, query):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, **kwargs
        )
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    out = (weights * _draw(dropout, weights)).to(value.dtype) @ value
    return out.transpose(1, 2).contiguous(), None


def quicken_dropout(module: nn.Module) -> None:
    """Put `QuickDropout` in the place of every plain `nn.Dropout`, peft's among them.

    Models of transformers that use `sdpa` get `attend` for it; nothing of that is saved.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, QuickDropout(child.p).train(child.training))
        configuration = getattr(parent, "config", None)
        if getattr(configuration, "_attn_implementation", None) == "sdpa":
            _register()
            set_implementation = getattr(parent, "set_attn_implementation", None)
            if set_implementation is not None:
                set_implementation(_ATTENTION)


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_ATTENTION, attend)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def _can_be_quick(p: float, values: Tensor) -> bool:
    is_elsewhere = values.device.type != "cpu" or torch.compiler.is_compiling()
    return not is_elsewhere and round(p * _STEPS) not in (0, _STEPS)


def _draw(p: float, values: Tensor) -> Tensor:
    """A mask for these values: 0 with probability `p`, else 1 / (1 - p)."""
    threshold = round(p * _STEPS)
    seed = int(torch.randint(1 << 62, ()))
    draws = np.random.SFC64(seed).random_raw(-(-values.numel() // 4))
    kept = draws.view(np.uint16)[: values.numel()] >= threshold
    mask = torch.from_numpy(kept).view(values.shape).to(values.dtype)
    return mask.mul_(_STEPS / (_STEPS - threshold))
