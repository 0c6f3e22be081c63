"""How many threads compute, with or without PyTorch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["num_threads", "set_num_threads"]

_CPUS = Path("/sys/devices/system/cpu")
_chosen: int | None = None


def num_threads() -> int:
    """PyTorch's number where it is loaded; else what it would be.

    That is OMP_NUM_THREADS, but not more than the cores that this process may use: two hardware
    threads of one core count once.
    """
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    if _chosen is not None:
        return _chosen
    cores = _num_cores()
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(int(told), cores) if told.isdigit() and int(told) else cores


def set_num_threads(number: int) -> None:
    """Compute with so many threads in this process, with PyTorch too if it is loaded later.

    Args:
        number: at least 1.
    """
    global _chosen
    _chosen = number
    os.environ["OMP_NUM_THREADS"] = str(number)  # PyTorch reads it when it is loaded
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def _num_cores() -> int:
    if not hasattr(os, "sched_getaffinity"):  # not on Linux
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            told = (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
        except OSError:
            told = str(cpu)
        cores.add(told.strip())
    return len(cores)
