"""Which device computes."""

from __future__ import annotations

import torch

from nertune.errors import ModelError

__all__ = ["choose_device"]


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
