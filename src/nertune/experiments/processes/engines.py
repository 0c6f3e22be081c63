"""Where runs that are trained at the same time are computed: on this machine, or by Ray."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import nertune
from nertune.errors import ConfigError
from nertune.storage.processes import SIDE_BY_SIDE, num_cores

__all__ = ["LOCAL", "EngineName", "RunEngine", "check_engine", "open_engine"]

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class RunEngine:
    """How a command is started as a child process.

    Attributes:
        cluster: the address of Ray; empty: the child computes on this machine.
        cpus: cores of a run where Ray computes it.
        gpus: GPUs of a run where Ray computes it.
    """

    cluster: str = ""
    cpus: int = 1
    gpus: int = 0

    def command(self, command: Sequence[str]) -> list[str]:
        """The command to start here, with the environment of `environment`.

        With Ray it is one that starts `command` on a node and passes on what it reads and writes
        (`experiments.processes.ray_relay`).
        """
        if not self.cluster:
            return list(command)
        job = {
            "address": self.cluster,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "command": list(command),
            "folder": str(Path.cwd()),
        }
        return [sys.executable, "-m", "nertune.experiments.processes.ray_relay", json.dumps(job)]

    def environment(self, runs: int) -> dict[str, str]:
        """That of one of several runs at the same time: its threads, and how many there are.

        The user's own `OMP_NUM_THREADS` stays.
        """
        if runs == 1 and not self.cluster:
            return dict(os.environ)
        threads = self.cpus if self.cluster else max(1, num_cores() // runs)
        found = {"OMP_NUM_THREADS": str(threads), **os.environ, SIDE_BY_SIDE: str(runs)}
        home, path = str(Path(nertune.__file__).parents[1]), os.environ.get("PYTHONPATH", "")
        return {**found, "PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home}


LOCAL = RunEngine()
"""This machine."""


def check_engine(name: str, address: str = "") -> EngineName:
    """The engine of a name.

    Raises:
        ConfigError: it is unknown, or has no use for an address.
    """
    if name not in ("local", "ray"):
        raise ConfigError(f"--engine {name!r}: expected local or ray")
    if address and name != "ray":
        raise ConfigError("--address is that of a Ray cluster: add --engine ray")
    return cast("EngineName", name)


@contextmanager
def open_engine(name: str, workers: int, address: str = "") -> Iterator[RunEngine]:
    """The engine while it is needed.

    Args:
        name: `local` or `ray`.
        workers: runs at the same time, which share the cores of the machine or the cluster.
        address: of a Ray cluster; empty starts Ray on this machine.

    Raises:
        ConfigError: there is no such engine, or it cannot be reached.
        MissingDependencyError: Ray is not installed.
    """
    if check_engine(name, address) == "local":
        yield LOCAL
        return
    from nertune.storage.ray_cluster import RayCluster

    cluster = RayCluster(address)
    try:
        yield RunEngine(cluster.address, cluster.cpus_each(workers), int(cluster.has_gpus))
    finally:
        cluster.close()
