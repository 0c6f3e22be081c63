"""Which device computes."""

from __future__ import annotations

import torch

from nertune.errors import ModelError

__all__ = ["choose_device", "fast_batch_tokens"]


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA, else Apple's MPS, else the CPU.

    Raises:
        ModelError: the device asked for is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f'device {name!r} is not available here; use device = "auto"') from error
    return torch.device(name)


def fast_batch_tokens(device: torch.device) -> int:
    """Padded tokens in a batch, as measured with encoders of 4 × 320 to 12 × 768."""
    return max(512, 256 * torch.get_num_threads()) if device.type == "cpu" else 8192
