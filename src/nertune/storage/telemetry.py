"""Libraries that report to their makers are told not to."""

from __future__ import annotations

import os

__all__ = ["forbid_telemetry"]

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, from 1.29 on: names and hashes of models
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: the cluster and the libraries in use
}


def forbid_telemetry() -> None:
    """Call it before ONNX Runtime or Ray is imported; a user's own choice in the environment stays.

    Their official packages send what they collect, and ask nobody.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
