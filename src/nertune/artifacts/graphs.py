"""The graphs that `nertune export` made of a tagger: found, checked, and chosen among."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, get_args

from nertune.artifacts.manifest import MANIFEST, Manifest, parse_manifest, weight_hashes
from nertune.errors import ArtifactError, ConfigError, NertuneError
from nertune.models.graphs.emitter import GraphEmitter
from nertune.models.graphs.onnx import Backend, OnnxEmitter
from nertune.models.graphs.processor import (
    has_bf16_instructions,
    has_int8_instructions,
    may_have_gpu,
)
from nertune.storage.files import hash_file

__all__ = [
    "EXPORTED",
    "EXPORT_FOLDER",
    "PARITY",
    "Choice",
    "choose_backend",
    "find_graph",
    "is_read_plain",
    "open_graph",
    "resolve_backend",
]

EXPORT_FOLDER = "onnx"
"""Where in a tagger's folder `nertune export` puts what it makes."""
PARITY = "parity.json"
"""What it measured, in there."""
EXPORTED: dict[Backend, str] = {
    "onnx": "model.onnx",
    "onnx-int8": "model-int8.onnx",
    "openvino": "model.onnx",
}
"""The file of each backend in there."""

_LIBRARY: dict[Backend, str] = {
    "onnx": "onnxruntime",
    "onnx-int8": "onnxruntime",
    "openvino": "openvino",
}
_EXTRA: dict[Backend, str] = {"onnx": "onnx", "onnx-int8": "onnx", "openvino": "openvino"}
_MORE: dict[Backend, str] = {
    "onnx": "--to onnx",
    "onnx-int8": "--to onnx --int8",
    "openvino": "--to openvino",
}

_ELSEWHERE = (
    "torch: the model was exported on another kind of processor, so which backend is the fastest "
    "here is not known; export it again"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend and why it was taken; empty where there was none to choose from."""

    backend: Backend
    reason: str = ""


def open_graph(folder: Path, manifest: Manifest, backend: Backend, device: str) -> GraphEmitter:
    """What computes a tagger's emissions with a backend other than `torch`.

    Raises:
        ArtifactError: the tagger was not exported so, or its graph is damaged.
        ConfigError: the backend cannot compute on the device.
        MissingDependencyError: its library is not installed.
    """
    graph = find_graph(folder, manifest, backend)
    if backend != "openvino":
        return OnnxEmitter(graph, device=device, quantized=backend == "onnx-int8")
    if device != "cpu":
        raise ConfigError(f"device {device}: the backend openvino computes on the CPU")
    from nertune.models.graphs.openvino import OpenVinoEmitter

    return OpenVinoEmitter(graph, precision=_read_parity(folder, backend)["openvino"]["precision"])


def find_graph(folder: Path, manifest: Manifest, backend: Backend) -> Path:
    """The file that `nertune export` wrote for a backend.

    Raises:
        ArtifactError: there is none, it was refused, it is of other weights, or it is damaged.
    """
    file = EXPORTED[backend]
    wanted = _command(folder, backend)
    path = folder / EXPORT_FOLDER / PARITY
    parity = _read_parity(folder, backend)
    expected = parity["files"].get(file)
    if expected is None or (backend == "openvino" and _status(parity, backend) != "exported"):
        what = f"no {file}" if expected is None else "nothing for OpenVINO"
        raise ArtifactError(
            f"{folder}: holds {what}: it was not exported so, or was refused ({path} says why); "
            f"to try again: {wanted}"
        )
    if parity["weights"] != weight_hashes(manifest):
        raise ArtifactError(
            f"{path}: is of other weights than the folder's; export again: {wanted}"
        )
    had_instructions = parity["machine"]["int8_instructions"]
    if backend == "onnx-int8" and had_instructions and has_int8_instructions() is False:
        raise ArtifactError(
            f"{folder}: its int8 graph was checked on a processor with int8 instructions (VNNI), "
            f"which this one lacks, so that it may find other entities; export here: {wanted}"
        )
    graph = path.with_name(file)
    if not graph.is_file() or hash_file(graph) != expected:
        raise ArtifactError(f"{graph}: missing or damaged; export again: {wanted}")
    return graph


def is_read_plain(folder: Path) -> bool:
    """Whether the export found that the tokenizer's files say all (`tokens.plain`)."""
    try:
        parity = json.loads((folder / EXPORT_FOLDER / PARITY).read_text(encoding="utf-8"))
        return parity.get("plain_tokenizer") is True
    except (OSError, ValueError, AttributeError):
        return False


def resolve_backend(name: str, model: str | Path, device: str = "auto") -> Choice:
    """The backend of a name, which may be `auto` (`choose_backend`).

    Raises:
        ConfigError: it is unknown.
    """
    if name == "auto":
        return choose_backend(model, device)
    if name not in (known := get_args(Backend)):
        raise ConfigError(f"backend {name!r}: expected auto, {', '.join(known)}")
    return Choice(cast("Backend", name))


def choose_backend(model: str | Path, device: str = "auto") -> Choice:
    """The backend that was the fastest when the tagger was exported, if it can be used here.

    Args:
        model: a folder, or a hub name, which is computed by PyTorch.
        device: that was asked for; a graph is taken on the CPU alone.

    Returns:
        The choice, and a sentence for the user where there was one to be made.
    """
    folder = _exported_folder(model)
    if folder is None or not _is_cpu(device):
        return Choice("torch")
    try:
        manifest = parse_manifest(folder / MANIFEST)
        parity = _read_parity(folder, "onnx")
        machine = parity["machine"]
        here = [has_int8_instructions(), has_bf16_instructions()]
        if [machine["int8_instructions"], machine.get("bf16_instructions")] != here:
            return Choice("torch", _ELSEWHERE)
        speeds: dict[Backend, float] = {
            name: parity[name]["units_per_second"]
            for name in ("torch", *EXPORTED)
            if "units_per_second" in parity.get(name, {})
        }
        lacking = ""
        for backend in sorted(speeds, key=lambda name: -speeds[name]):
            if backend == "torch":
                return Choice("torch", f"torch{lacking}")
            if find_spec(_LIBRARY[backend]) is None:
                extra = _EXTRA[backend]
                lacking = lacking or f"; {backend} was faster: pip install 'nertune[{extra}]'"
                continue
            find_graph(folder, manifest, backend)
            return Choice(backend, f"{backend}{lacking}")
    except (NertuneError, KeyError, TypeError) as error:
        return Choice("torch", f"torch, since the export cannot be used: {error}")
    return Choice("torch")


def _exported_folder(model: str | Path) -> Path | None:
    """The tagger's folder, or `model/` in a run's, if it was exported."""
    try:
        folder = Path(model).expanduser()
        found = [f for f in (folder, folder / "model") if (f / MANIFEST).is_file()]
        return found[0] if found and (found[0] / EXPORT_FOLDER / PARITY).is_file() else None
    except (OSError, RuntimeError):  # a name too long for a file, an unknown ~user
        return None


def _is_cpu(device: str) -> bool:
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return True
    from nertune.models.device import choose_device

    return device == "auto" and choose_device().type == "cpu"


def _command(folder: Path, backend: Backend) -> str:
    return f"nertune export {folder} {_MORE[backend]}"


def _status(parity: dict[str, Any], backend: Backend) -> str:
    return str((parity.get(backend) or {}).get("status", ""))


def _read_parity(folder: Path, backend: Backend) -> dict[str, Any]:
    """What `nertune export` measured.

    Raises:
        ArtifactError: it is not there, or damaged.
    """
    path = folder / EXPORT_FOLDER / PARITY
    wanted = _command(folder, backend)
    if not path.is_file():
        raise ArtifactError(f"{folder}: was not exported; do it once: {wanted}")
    try:
        parity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dict(parity["files"]), parity["weights"], parity["machine"]["int8_instructions"]
        if _status(parity, "openvino") == "exported":
            str(parity["openvino"]["precision"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); export again: {wanted}") from error
    return parity
