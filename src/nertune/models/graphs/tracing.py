"""A PyTorch module as an ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nertune.errors import ArtifactError
from nertune.models.graphs.emitter import INPUTS, OUTPUT, brief
from nertune.models.graphs.onnx import need_onnx

__all__ = ["trace_onnx", "write_onnx"]

_OPSET = 17
_MOST_BYTES = 2_000_000_000  # of weights; the graph around them takes some too


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
    axes = {name: {0: "windows", 1: "pieces"} for name in (*INPUTS, OUTPUT)}
    trace_onnx(emitter, dict(zip(INPUTS, (ids_BL, attention_BL), strict=True)), path, axes)


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
        raise ArtifactError(f"this model cannot be exported to ONNX: {brief(error)}") from error
