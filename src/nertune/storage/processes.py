"""How many processes share the machine; without any heavy import."""

from __future__ import annotations

import os

from nertune.errors import ConfigError

__all__ = ["SIDE_BY_SIDE", "num_cores", "num_side_by_side", "refuse_many_processes"]

SIDE_BY_SIDE = "NERTUNE_SIDE_BY_SIDE"
"""The environment variable that tells a run how many others are trained at the same time."""

# What torchrun, `accelerate launch` and the MPIs set, and accelerate reads.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def num_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def num_side_by_side() -> int:
    """How many runs are trained at the same time, this one included."""
    told = os.environ.get(SIDE_BY_SIDE, "").strip()
    return int(told) if told.isdecimal() else 1


def refuse_many_processes() -> None:
    """Say at once that training takes one process; a process group would wait for the others.

    Raises:
        ConfigError: a launcher has started several.
    """
    for name in _SIZES:
        size = os.environ.get(name, "").strip()
        if size.isdecimal() and int(size) > 1:
            raise ConfigError(
                f"nertune trains in one process, but {name}={size} is set: run it without torchrun "
                f"(accelerate launch, mpirun), or unset {name}"
            )
