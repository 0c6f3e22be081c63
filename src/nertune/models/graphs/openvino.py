"""A tagger's graph computed by OpenVINO, in bfloat16 where the processor has it.

The graph is the float32 one of `models.graphs.onnx`: OpenVINO reads it as it is, and rounds weights
and activations while it compiles.
"""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError, MissingDependencyError
from nertune.models.graphs.emitter import GraphEmitter, brief
from nertune.models.graphs.threads import num_threads

__all__ = ["OpenVinoEmitter", "openvino_precision"]

_LARGE_BYTES = 96 << 20  # a graph from this size on gives one batch all threads


class OpenVinoEmitter(GraphEmitter):
    """Emissions by OpenVINO, on the CPU.

    Args:
        path: the graph, in ONNX's format.
        precision: `bf16` or `f32`; without it what is fastest here (`openvino_precision`). Where
            the processor has no products in bfloat16, `bf16` is `f32`.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ArtifactError: the file is damaged.
    """

    def __init__(self, path: Path, *, precision: str = ""):
        threads = num_threads()
        is_small = path.is_file() and path.stat().st_size < _LARGE_BYTES
        super().__init__(path, workers=threads, alone=1 if is_small else threads)
        self._threads = threads
        self._core = _import_openvino().Core()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: cannot be read by OpenVINO ({brief(error)}); export again"
            ) from error
        best = openvino_precision()
        self.precision = precision if precision and best == "bf16" else best
        self._begin()

    def _open(self, *, beside: bool) -> _Compiled:
        # One thread a stream where batches are computed beside each other, and where one alone
        # takes one thread, too: then both ways are the same.
        streams = self._threads if beside or self._alone == 1 else 1
        compiled = self._core.compile_model(
            self._model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self.precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": self._threads,
                # Processes beside each other would all be bound to the first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        return _Compiled(compiled)

    def _compute(
        self, opened: _Compiled, inputs: dict[str, NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        return opened.run(inputs)


class _Compiled:
    """A compiled graph and its requests, of which each serves one thread at a time."""

    def __init__(self, compiled: Any):
        self._compiled = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        request.infer(inputs, share_inputs=True)
        found: NDArray[np.float32] = np.array(request.get_output_tensor(0).data, dtype=np.float32)
        self._idle.put(request)
        return found


def openvino_precision() -> str:
    """What OpenVINO computes in here: `bf16` where the processor has such products, else `f32`.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    found = _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in found else "f32"


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "openvino", extra="openvino", purpose="a model exported to OpenVINO"
        ) from error
    return openvino
