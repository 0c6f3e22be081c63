"""How many processes share the machine; without any heavy import."""

from __future__ import annotations

import os
import sys

from nertune.errors import ConfigError

__all__ = [
    "SIDE_BY_SIDE",
    "check_launcher",
    "is_one_of_several",
    "leave_group",
    "num_cores",
    "num_side_by_side",
    "process_rank",
    "refuse_many_processes",
]

SIDE_BY_SIDE = "NERTUNE_SIDE_BY_SIDE"
"""The environment variable that tells a run how many others are trained at the same time."""

# What torchrun, `accelerate launch` and the MPIs set, and accelerate reads.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LAUNCHED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what the first two set beside it


def num_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def num_side_by_side() -> int:
    """How many runs are trained at the same time, this one included."""
    told = os.environ.get(SIDE_BY_SIDE, "").strip()
    return int(told) if told.isdecimal() else 1


def refuse_many_processes() -> None:
    """Say at once that this takes one process; a process group would wait for the others.

    Raises:
        ConfigError: a launcher has started several.
    """
    for name in _SIZES:
        if _several(name):
            size = os.environ[name]
            raise ConfigError(
                f"this works in one process, but {name}={size} is set: run it without torchrun "
                f"(accelerate launch, mpirun), or unset {name}; of nertune's commands train alone "
                "takes several processes"
            )


def process_rank() -> int:
    """Which process of those that train together this is, from 0."""
    rank = os.environ.get("RANK", "").strip()
    return int(rank) if rank.isdecimal() and _several("WORLD_SIZE") else 0


def check_launcher() -> None:
    """Say at once what would have processes wait for each other in vain.

    Raises:
        ConfigError: a number of processes is set, but not by torchrun or `accelerate launch`.
    """
    if _several("WORLD_SIZE"):
        lacking = [name for name in _LAUNCHED if not os.environ.get(name, "").strip()]
        if lacking:
            raise ConfigError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set, but not {lacking[0]}: start "
                "several processes with torchrun or accelerate launch, or unset WORLD_SIZE"
            )
        return
    for name in _SIZES:
        if _several(name):
            raise ConfigError(
                f"{name}={os.environ[name]} is set: start several processes with torchrun or "
                f"accelerate launch in the place of mpirun, or unset {name}"
            )


def is_one_of_several() -> bool:
    """Whether a launcher has started this process beside others."""
    return _several("WORLD_SIZE")


def leave_group() -> None:
    """End this process now, with success, if it is one of several that trained together.

    Interpreters that end while threads of a process group are there are aborted now and then by
    PyTorch's C++ part ("terminate called without an active exception"), which a launcher takes for
    a failure. All files are written when this is called.
    """
    if is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _several(name: str) -> bool:
    size = os.environ.get(name, "").strip()
    return size.isdecimal() and int(size) > 1
