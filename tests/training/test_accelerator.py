"""Device and precision of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from nertune.errors import ConfigError
from nertune.training.accelerator import build_accelerator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """accelerate allows one precision a process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.parametrize(
    ("asked", "given", "computed"),
    [
        ("auto", "no", torch.float32),
        ("fp32", "no", torch.float32),
        ("bf16", "bf16", torch.bfloat16),
    ],
)
def test_precision_on_a_cpu(asked: str, given: str, computed: torch.dtype, tmp_path: Path) -> None:
    accelerator = build_accelerator(CPU, asked, project_dir=tmp_path)
    assert accelerator.device == CPU
    assert accelerator.mixed_precision == given
    with accelerator.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == computed


def test_fp16_wants_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"fp16" needs a CUDA device'):
        build_accelerator(CPU, "fp16", project_dir=tmp_path)
