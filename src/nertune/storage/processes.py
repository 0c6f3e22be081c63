"""Into how many processes a launcher has put a command; without any heavy import."""

from __future__ import annotations

import os

from nertune.errors import ConfigError

__all__ = ["refuse_many_processes"]

# What torchrun, `accelerate launch` and the MPIs set, and accelerate reads.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


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
