"""An ONNX graph whose matrix products are in int8, each token on a scale of its own.

ONNX Runtime's dynamic quantization takes one scale for all that is computed together, so that a
text's answer depends on its neighbours in the batch, and an outlier in one text costs all others
precision. Here each token's activations have their own scale (as in LLM.int8(); Dettmers et al.,
2022), and each output channel of a weight has its own: a row alone and in a batch gives the same
bits.

Axes: I inputs and O outputs of a product.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError
from nertune.models.graphs.emitter import brief
from nertune.models.graphs.onnx import need_onnx
from nertune.models.graphs.processor import has_int8_instructions

__all__ = ["list_layers", "quantize"]

_MIDDLE = 128  # what stands for 0 in uint8
_HIGHEST = 127
_OWN_DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators
_LAYER = re.compile(r"/(?:layers?|h|albert_layers|forwards|backwards)\.(\d+)/")
_TINY = 1e-30  # the scale of a token that is all zeros


def quantize(source: Path, target: Path, *, leave_out: Iterable[str] = ()) -> None:
    """Write a graph whose products with constant weights are in int8, activations by token.

    On a processor that has no int8 instructions and so may cut off the sum of two products, weights
    have 7 bits, which no sum exceeds. LSTMs, which are one node each, are left to ONNX Runtime: all
    that is computed together has one scale there.

    Args:
        source: a float32 graph.
        target: where to.
        leave_out: names of nodes that stay float32.

    Raises:
        MissingDependencyError: onnx is not installed.
        ArtifactError: the graph has nothing that could be quantized, or ONNX Runtime cannot
            quantize its LSTMs.
    """
    need_onnx()
    import onnx

    kept = set(leave_out)
    model = onnx.load(str(source))
    has_lstm = any(n.op_type == "LSTM" and n.name not in kept for n in model.graph.node)
    if has_lstm:
        _quantize_lstms(source, target, kept)
        model = onnx.load(str(target))
    rewriter = _Rewriter(model.graph, highest=_HIGHEST if has_int8_instructions() else 63)
    if not rewriter.rewrite(kept) and not has_lstm and not kept:
        raise ArtifactError("this graph has no product with a weight that could be in int8")
    if not any(opset.domain == _OWN_DOMAIN for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(_OWN_DOMAIN, 1))
    onnx.save(model, str(target))


def list_layers(path: Path) -> dict[str, list[str]]:
    """The nodes that `quantize` changes, by the layer that they are in; "" for those in none."""
    need_onnx()
    import onnx

    found: dict[str, list[str]] = {}
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "LSTM" or _weight(node, weights) is not None:
            match = _LAYER.search(f"/{node.name.lstrip('/')}")
            found.setdefault(match[1] if match else "", []).append(node.name)
    return found


def _weight(node: Any, weights: Mapping[str, Any]) -> Any | None:
    """The constant matrix that a node multiplies by, if it does nothing else."""
    found = weights.get(node.input[1]) if node.op_type == "MatMul" else None
    return found if found is not None and len(found.dims) == 2 else None


def _quantize_lstms(source: Path, target: Path, leave_out: Iterable[str]) -> None:
    """Weights symmetric, each output channel on its own scale (Zafrir et al., 2019, "Q8BERT")."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    try:
        with _unchanged_root_logger():
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["LSTM"],
                nodes_to_exclude=list(leave_out),
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # its errors have no common base but this one
        raise ArtifactError(f"{source}: cannot be quantized ({brief(error)})") from error


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


def _no_preprocessing_hint(record: Any) -> bool:
    return "pre-processing" not in record.getMessage()


class _Rewriter:
    """Replaces the products of a graph.

    Args:
        graph: onnx's.
        highest: the largest integer of a weight.
    """

    def __init__(self, graph: Any, *, highest: int):
        self._graph = graph
        self._highest = highest
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._activations: dict[str, tuple[str, str]] = {}

    def rewrite(self, leave_out: Collection[str]) -> int:
        """Change the graph in place, but for some nodes; how many were changed."""
        replaced: Counter[str] = Counter()
        for node in self._graph.node:
            weight = _weight(node, self._weights)
            if weight is None or node.name in leave_out:
                self._nodes.append(node)
                continue
            self._replace(node, weight)
            replaced[weight.name] += 1
        kept = [
            tensor
            for name, tensor in self._weights.items()
            if not replaced[name] or replaced[name] < self._uses[name]
        ]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend([*kept, *self._constants.values()])
        return replaced.total()

    def _replace(self, node: Any, weight: Any) -> None:
        """`x W` as `(round(x · 127 / m) round(W / s)) · s / 127 · m`, m the token's largest."""
        from onnx import helper

        integers, scales = self._quantized(weight)
        rounded, largest = self._rounded(node.input[0])
        scaled = f"{node.output[0]}_int8_scaled"
        one = self._constant("int8_one", np.array(1, np.float32))
        middle = self._constant("int8_middle", np.array(_MIDDLE, np.uint8))
        # One node, which does not write the integers of the product to memory.
        inputs = [rounded, integers, one, scales, middle]
        product = helper.make_node("MatMulIntegerToFloat", inputs, [scaled], domain=_OWN_DOMAIN)
        self._nodes.append(product)
        self._add("Mul", [scaled, largest], node.output[0])

    def _quantized(self, weight: Any) -> tuple[str, str]:
        """The names of a weight's integers `[I, O]` and of what they stand for `[O]`, over 127."""
        names = f"{weight.name}_int8", f"{weight.name}_scale"
        if names[0] not in self._constants:
            from onnx import numpy_helper

            weight_IO: NDArray[np.float32] = numpy_helper.to_array(weight)
            scale_O = np.maximum(np.abs(weight_IO).max(axis=0), _TINY) / self._highest
            self._constant(names[0], np.rint(weight_IO / scale_O).astype(np.int8))
            self._constant(names[1], (scale_O / _HIGHEST).astype(np.float32))
        return names

    def _rounded(self, values: str) -> tuple[str, str]:
        """The names of a tensor's integers and of the largest number of each token."""
        if values not in self._activations:
            name = f"{values}_int8"
            tiny = self._constant("int8_tiny", np.array(_TINY, np.float32))
            highest = self._constant("int8_highest", np.array(_HIGHEST, np.float32))
            one = self._constant("int8_one", np.array(1, np.float32))
            middle = self._constant("int8_middle", np.array(_MIDDLE, np.uint8))
            nothing = self._constant("int8_zero", np.array(0, np.float32))
            axis = self._constant("int8_axis", np.array([-1], np.int64))
            self._add("ReduceMax", [values], f"{name}_most", axes=[-1], keepdims=1)
            self._add("ReduceMin", [values], f"{name}_least", axes=[-1], keepdims=1)
            self._add("Neg", [f"{name}_least"], f"{name}_most_below")
            self._add("Max", [f"{name}_most", f"{name}_most_below", tiny], f"{name}_finite")
            # A maximum passes over NaN, which must not become a number.
            self._add("ReduceSum", [values, axis], f"{name}_sum", keepdims=1)
            self._add("Mul", [f"{name}_sum", nothing], f"{name}_zero")
            self._add("Add", [f"{name}_finite", f"{name}_zero"], f"{name}_largest")
            self._add("Div", [highest, f"{name}_largest"], f"{name}_factor")
            self._add("Mul", [values, f"{name}_factor"], f"{name}_stretched")
            self._add("QuantizeLinear", [f"{name}_stretched", one, middle], f"{name}_integers")
            self._activations[values] = f"{name}_integers", f"{name}_largest"
        return self._activations[values]

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self._constants:
            from onnx import numpy_helper

            self._constants[name] = numpy_helper.from_array(values, name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
