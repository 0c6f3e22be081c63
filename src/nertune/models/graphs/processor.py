"""What the processor can do."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

__all__ = ["has_bf16_instructions", "has_int8_instructions", "may_have_gpu"]

_INT8 = {"avx512_vnni", "avx_vnni", "asimddp"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_GPU_FILES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")  # NVIDIA, Jetson, AMD, WSL


def has_int8_instructions() -> bool | None:
    """Whether the processor multiplies int8 exactly; `None` where the system does not say.

    Without such instructions (VNNI on x86) sums of two products may be cut off, so that an int8
    graph gives other emissions than where it was checked.
    """
    flags = _flags()
    return None if flags is None else bool(_INT8 & flags)


def has_bf16_instructions() -> bool | None:
    """Whether the processor multiplies bfloat16; `None` where the system does not say."""
    flags = _flags()
    return None if flags is None else bool(_BF16 & flags)


def may_have_gpu() -> bool:
    """Whether PyTorch could find a GPU, told without PyTorch, which takes a second to import.

    On Linux a driver's device file says so; elsewhere it may always be.
    """
    if not sys.platform.startswith("linux"):
        return True
    return any(any(Path("/dev").glob(pattern)) for pattern in _GPU_FILES)


@cache
def _flags() -> frozenset[str] | None:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", told, re.MULTILINE)
    return None if found is None else frozenset(found[1].split())
