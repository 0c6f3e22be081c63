"""A tagger's emitter as an ONNX graph; reading, decoding and scoring stay what they are.

The graph takes `piece_ids` and `attention` `[B, L]` and gives `emissions` `[B, L, K]`. What a CRF
or the legal transitions add is computed outside, by the same decoder as ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError, ConfigError, MissingDependencyError
from nertune.models.graphs.emitter import OUTPUT, GraphEmitter, brief
from nertune.models.graphs.threads import num_threads
from nertune.storage.telemetry import forbid_telemetry

__all__ = [
    "AnyBackend",
    "Backend",
    "OnnxEmitter",
    "need_onnx",
    "open_session",
]

Backend = Literal["torch", "onnx", "onnx-int8", "openvino"]
"""What computes the logits."""
AnyBackend = Literal["auto", "torch", "onnx", "onnx-int8", "openvino"]
"""The same, or the fastest that `nertune export` has admitted."""


_LARGE_BYTES = 48 << 20  # an int8 graph from this size on gives one batch all threads


class OnnxEmitter(GraphEmitter):
    """Emissions by ONNX Runtime.

    Each way to compute (`GraphEmitter`) has a session of its own, so a process that uses both holds
    the weights twice.

    Args:
        path: the graph.
        device: `cpu`, `cuda` or `cuda:N`; a GPU needs ONNX Runtime's build for it.
        quantized: whether it is an int8 graph; the products of a small one are over too soon to be
            shared out among threads.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ArtifactError: the file is damaged.
        ConfigError: this build of ONNX Runtime, or this machine, cannot compute on the device.
    """

    def __init__(self, path: Path, *, device: str = "cpu", quantized: bool = False):
        threads = num_threads()
        is_small = path.is_file() and path.stat().st_size < _LARGE_BYTES
        super().__init__(
            path,
            workers=threads if device == "cpu" else 1,
            alone=1 if quantized and is_small else threads,
        )
        self._device = device
        if device != "cpu":
            self.batch_tokens = 8192
        self._begin()

    def _open(self, *, beside: bool) -> Any:
        threads = 1 if beside else self._alone
        return open_session(self._path, device=self._device, threads=threads)

    def _compute(self, opened: Any, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        (emissions_BLK,) = opened.run([OUTPUT], inputs)
        found: NDArray[np.float32] = emissions_BLK
        return found


def _provider_options(kind: str, number: str) -> dict[str, str | int]:
    # In TF32, ONNX Runtime's default on CUDA, a graph could decode otherwise than was compared.
    return {"device_id": int(number or 0), "use_tf32": "0"} if kind == "cuda" else {}


def open_session(path: Path, *, device: str, threads: int) -> Any:
    """An ONNX Runtime session for a graph.

    Args:
        path: the graph.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: that share one batch on the CPU.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ArtifactError: the file is damaged.
        ConfigError: ONNX Runtime cannot compute on the device.
    """
    forbid_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime", extra="onnx", purpose="an exported model"
        ) from error
    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind, "")
    if provider not in onnxruntime.get_available_providers():
        raise ConfigError(
            f"device {device}: this build of ONNX Runtime computes on "
            f"{', '.join(onnxruntime.get_available_providers())}; use --device cpu, or "
            "install onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between two texts take the core that reads and decodes them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[(provider, _provider_options(kind, number))],
        )
    except Exception as error:  # its errors have no common base but this one
        raise ArtifactError(
            f"{path}: cannot be read by ONNX Runtime ({brief(error)}); export again"
        ) from error
    if session.get_providers()[0] != provider:  # it goes to the CPU without a word
        raise ConfigError(f"device {device}: ONNX Runtime cannot use it here; use --device cpu")
    return session


def need_onnx() -> None:
    """Refuse to go on without the libraries of the extra `onnx`.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    forbid_telemetry()
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "onnx", extra="onnx", purpose="exporting a model"
        ) from error
