"""Device and precision of a training run, through accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nertune.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["build_accelerator"]


def build_accelerator(
    device: torch.device,
    precision: str,
    *,
    project_dir: Path,
    log_with: str | None = None,
) -> Accelerator:
    """An accelerator of one process.

    Args:
        device: where to compute.
        precision: `auto` (bf16 on a GPU that has it, else fp32), `fp32`, `bf16` or `fp16`.
        project_dir: where trackers write.
        log_with: a tracker.

    Raises:
        ConfigError: fp16 without a GPU, or several processes.
        MissingDependencyError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingDependencyError("accelerate", purpose="training") from error
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bf16" if has_bf16 else "fp32"
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
        raise ConfigError(
            f"nertune trains in one process; it was started in {accelerator.num_processes}: run "
            "without `accelerate launch`"
        )
    return accelerator
