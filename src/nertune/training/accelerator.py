"""Device and precision of a training run, through accelerate."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nertune.errors import ConfigError, MissingDependencyError
from nertune.models.graphs.processor import has_bf16_instructions

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["build_accelerator", "computed_precision"]


def build_accelerator(
    device: torch.device,
    precision: str,
    *,
    project_dir: Path,
    log_with: str | None = None,
) -> Accelerator:
    """The accelerator of this process; one of several if a launcher has started them.

    Args:
        device: where to compute.
        precision: `auto` (bf16 on a GPU or processor that computes with it, else fp32), `fp32`,
            `bf16` or `fp16`.
        project_dir: where trackers write.
        log_with: a tracker.

    Raises:
        ConfigError: fp16 without a GPU.
        MissingDependencyError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingDependencyError("accelerate", purpose="training") from error
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError('train.precision: "fp16" needs a CUDA device; use "auto"')
    # accelerate keeps one device and precision a process; the run before may have had others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=log_with,
        project_dir=str(project_dir),
    )
    if accelerator.num_processes > 1:
        _leave_at_exit()
    return accelerator


def computed_precision(accelerator: Accelerator) -> str:
    """`fp32`, `bf16` or `fp16`."""
    found = accelerator.mixed_precision
    return "fp32" if found == "no" else found


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Without such instructions PyTorch computes bf16 tens of times slower than fp32.
    return device.type == "cpu" and has_bf16_instructions() is True


@cache
def _leave_at_exit() -> None:
    """Part the processes in order: threads of a group that is still there end the process badly."""
    import atexit

    from accelerate import PartialState

    def leave() -> None:
        if torch.distributed.is_initialized():
            PartialState().destroy_process_group()

    atexit.register(leave)
