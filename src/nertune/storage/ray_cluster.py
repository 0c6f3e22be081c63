"""The connection to Ray, which works on one machine or on several."""

from __future__ import annotations

import logging
from typing import Any

from nertune.errors import ConfigError, MissingDependencyError
from nertune.storage.processes import num_cores
from nertune.storage.telemetry import forbid_telemetry

__all__ = ["RayCluster", "import_ray"]


def import_ray() -> Any:
    """Ray.

    Raises:
        MissingDependencyError: it is not installed.
    """
    forbid_telemetry()
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", extra="ray", purpose="the engine ray") from error
    return ray


class RayCluster:
    """A cluster that runs already, or Ray started on this machine, until `close`.

    Args:
        address: of a running cluster, e.g. `auto`; empty starts Ray here, or takes the one that
            this process is connected to.
        num_cpus: what Ray may hand out where it is started here; 0: as many as there are.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: the cluster cannot be reached.
    """

    def __init__(self, address: str = "", *, num_cpus: int = 0):
        self.ray = ray = import_ray()
        self._is_own = not ray.is_initialized()
        if not self._is_own:
            return
        try:
            ray.init(
                address=address or "local",
                num_cpus=None if address else num_cpus or num_cores(),
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: {' '.join(str(error).split())}") from error

    @property
    def address(self) -> str:
        """Under which other processes reach it."""
        return str(self.ray.get_runtime_context().gcs_address)

    def cpus_each(self, workers: int) -> int:
        """The cores of each of so many workers, if they share the cluster; at least 1."""
        total = int(self.ray.cluster_resources().get("CPU", 1))
        largest = max(
            (int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"]),
            default=1,
        )
        return max(1, min(total // workers, largest))

    @property
    def has_gpus(self) -> bool:
        """Whether any node has one."""
        return bool(self.ray.cluster_resources().get("GPU", 0))

    def close(self) -> None:
        """Leave it; where it was started here, it ends."""
        if self._is_own:
            self.ray.shutdown()
