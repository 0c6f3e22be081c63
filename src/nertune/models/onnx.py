"""A tagger's emitter as an ONNX graph; reading, decoding and scoring stay what they are.

The graph takes `piece_ids` and `attention` `[B, L]` and gives `emissions` `[B, L, K]`. What a CRF
or the legal transitions add is computed outside, by the same decoder as ever.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from nertune.errors import ArtifactError, ConfigError, MissingDependencyError

__all__ = [
    "Backend",
    "OnnxEmitter",
    "has_int8_instructions",
    "list_layers",
    "need_onnx",
    "open_session",
    "quantize",
    "trace_onnx",
    "write_onnx",
]

Backend = Literal["torch", "onnx", "onnx-int8"]
"""What computes the logits."""


_INPUTS = ("piece_ids", "attention")
_OUTPUT = "emissions"
_OPSET = 17
_MOST_BYTES = 2_000_000_000  # of weights; the graph around them takes some too
_LAYER = re.compile(r"/(?:layers?|h|albert_layers|forwards|backwards)\.(\d+)/")
_LARGE_BYTES = 48 << 20  # an int8 graph from this size on gives one batch all threads
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_QUANTIZED = ("MatMul", "Gemm", "LSTM")


class OnnxEmitter(nn.Module):
    """Calls an ONNX graph the way that a tagger calls its emitter.

    On the CPU, several batches are computed beside each other with one thread each (`map_batches`),
    which leaves no core waiting for another; a single one with all threads. Each way has a session
    of its own, made when it is first needed, so a process that uses both holds the weights twice.

    Args:
        path: the graph.
        device: `cpu`, `cuda` or `cuda:N`; a GPU needs ONNX Runtime's build for it.
        quantized: whether it is an int8 graph; the products of a small one are over too soon to be
            shared out among threads.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ArtifactError: the file is damaged.
        ConfigError: this build of ONNX Runtime, or this machine, cannot compute on the device.

    Shape legend:
        B windows, L tokens, K tags.
    """

    def __init__(self, path: Path, *, device: str = "cpu", quantized: bool = False):
        super().__init__()
        self._path = path
        self._device = device
        self._lock = threading.Lock()
        self._inside = threading.local()
        threads = torch.get_num_threads()
        self._num_workers = threads if device == "cpu" else 1
        self.batch_tokens = 512 if device == "cpu" else 8192  # of one call; see `Predictor`
        is_small = path.is_file() and path.stat().st_size < _LARGE_BYTES
        self._alone = 1 if quantized and is_small else threads
        self._sessions = {self._alone: self._open(self._alone)}

    def _open(self, threads: int) -> Any:
        return open_session(self._path, device=self._device, threads=threads)

    def _session(self) -> Any:
        """The one for this thread: a worker of `map_batches` computes with one thread."""
        threads = 1 if getattr(self._inside, "worker", False) else self._alone
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._open(threads)
            return self._sessions[threads]

    def map_batches(
        self, function: Callable[[_Item], _Result], items: list[_Item]
    ) -> list[_Result]:
        """Call a function that calls this emitter on every item, several at a time; in order."""
        if self._num_workers == 1 or len(items) == 1:
            return [function(item) for item in items]

        def mark() -> None:
            self._inside.worker = True

        with ThreadPoolExecutor(self._num_workers, "nertune-onnx", mark) as pool:
            return list(pool.map(function, items))

    def forward(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        """Emissions `[B, L, K]`, on the CPU.

        Raises:
            ArtifactError: the graph cannot take windows of this number and length.
        """
        arrays = (piece_ids_BL.cpu().numpy(), attention_BL.cpu().numpy())
        inputs = dict(zip(_INPUTS, arrays, strict=True))
        try:
            (emissions_BLK,) = self._session().run([_OUTPUT], inputs)
        except Exception as error:  # see above
            raise ArtifactError(
                f"{self._path}: cannot compute {piece_ids_BL.shape[0]} windows of "
                f"{piece_ids_BL.shape[1]} tokens ({_brief(error)})"
            ) from error
        return torch.from_numpy(emissions_BLK)


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
            f"{path}: cannot be read by ONNX Runtime ({_brief(error)}); export again"
        ) from error
    if session.get_providers()[0] != provider:  # it goes to the CPU without a word
        raise ConfigError(f"device {device}: ONNX Runtime cannot use it here; use --device cpu")
    return session


def write_onnx(emitter: nn.Module, path: Path) -> None:
    """Trace an emitter, any number of windows of any length, and write the graph.

    Args:
        emitter: on the CPU; a LoRA adapter must be merged.
        path: where to.

    Raises:
        MissingDependencyError: onnx is not installed.
        ArtifactError: PyTorch cannot express the model as a graph, or it is larger than a file
            of the format may be (2 GiB).
    """
    ids_BL = torch.ones((2, 7), dtype=torch.int64)
    attention_BL = torch.ones_like(ids_BL)
    attention_BL[1, 4:] = 0  # or a model that looks for padding would be traced without a mask
    axes = {name: {0: "windows", 1: "pieces"} for name in (*_INPUTS, _OUTPUT)}
    trace_onnx(emitter, dict(zip(_INPUTS, (ids_BL, attention_BL), strict=True)), path, axes)


def trace_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Trace a module and write the graph.

    Args:
        module: on the CPU; gives one tensor.
        inputs: what it is called with, in order, by the names that they have in the graph.
        path: where to.
        axes: of the inputs and of the output, whose name is the last one, those that vary.

    Raises:
        MissingDependencyError: onnx is not installed.
        ArtifactError: PyTorch cannot express the model as a graph, or it is larger than a file
            of the format may be (2 GiB).
    """
    need_onnx()
    if sum(p.numel() * p.element_size() for p in module.parameters()) >= _MOST_BYTES:
        raise ArtifactError("this model cannot be exported to ONNX: it is larger than 2 GiB")
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about shapes that the test runs check
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=[[*axes][-1]],
                dynamic_axes={name: dict(own) for name, own in axes.items()},
                opset_version=_OPSET,
                dynamo=False,  # the newer exporter fixes the length of an LSTM's rows
            )
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ArtifactError(f"this model cannot be exported to ONNX: {_brief(error)}") from error


def quantize(source: Path, target: Path, *, leave_out: Iterable[str] = ()) -> None:
    """Write a graph whose matrix products are in int8, activations quantized as they come.

    Weights are quantized symmetrically, each output channel on its own scale (dynamic
    quantization; Zafrir et al., 2019, "Q8BERT").

    Args:
        source: a float32 graph.
        target: where to.
        leave_out: names of nodes that stay float32.

    Raises:
        MissingDependencyError: onnx is not installed.
        ArtifactError: ONNX Runtime cannot quantize this graph.
    """
    need_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    try:
        with _unchanged_root_logger():
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=list(_QUANTIZED),
                nodes_to_exclude=list(leave_out),
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # its errors have no common base but this one
        raise ArtifactError(f"{source}: cannot be quantized ({_brief(error)})") from error


@contextmanager
def _unchanged_root_logger() -> Iterator[None]:
    """Log what ONNX Runtime warns of, but for its hint, and leave the root logger as it was.

    It calls `logging.warning`, which gives a root logger without handlers one for good: each line
    of nertune's log would be printed a second time from then on.
    """
    root = logging.getLogger()
    stand_in = None if root.handlers else logging.lastResort
    root.addFilter(_no_preprocessing_hint)
    if stand_in is not None:
        root.addHandler(stand_in)
    try:
        yield
    finally:
        root.removeFilter(_no_preprocessing_hint)
        if stand_in is not None:
            root.removeHandler(stand_in)


def has_int8_instructions() -> bool | None:
    """Whether the processor multiplies int8 exactly; `None` where the system does not say.

    Without such instructions (VNNI on x86) sums of two products may be cut off, so that an int8
    graph gives other emissions than where it was checked.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    if not (found := re.search(r"^(?:flags|Features)\s*:(.*)$", flags, re.MULTILINE)):
        return None
    return bool({"avx512_vnni", "avx_vnni", "asimddp"} & set(found[1].split()))


def list_layers(path: Path) -> dict[str, list[str]]:
    """The nodes that `quantize` changes, by the layer that they are in; "" for those in none."""
    need_onnx()
    import onnx

    found: dict[str, list[str]] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        if node.op_type in _QUANTIZED:
            match = _LAYER.search(f"/{node.name.lstrip('/')}")
            found.setdefault(match[1] if match else "", []).append(node.name)
    return found


def _no_preprocessing_hint(record: Any) -> bool:
    return "pre-processing" not in record.getMessage()


def need_onnx() -> None:
    """Refuse to go on without the libraries of the extra `onnx`.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "onnx", extra="onnx", purpose="exporting a model"
        ) from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
