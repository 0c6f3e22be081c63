"""An ONNX graph whose matrix products are in int8, each token on a scale of its own.

ONNX Runtime's dynamic quantization takes one scale for all that is computed together, so that a
text's answer depends on its neighbours in the batch, and an outlier in one text costs all others
precision. Here each token's activations have their own scale (as in LLM.int8(); Dettmers et al.,
2022), and each output channel of a weight has its own: a row alone and in a batch gives the same
bits.

Axes: I inputs and O outputs of a product.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError
from nertune.models.graphs.onnx import need_onnx
from nertune.models.graphs.processor import has_int8_instructions

__all__ = ["quantize_rows"]

_MIDDLE = 128  # what stands for 0 in uint8
_HIGHEST = 127
_TINY = 1e-30  # the scale of a token that is all zeros


def quantize_rows(source: Path, target: Path) -> None:
    """Write a graph whose products with constant weights are in int8, activations by token.

    On a processor that has no int8 instructions and so may cut off the sum of two products, weights
    have 7 bits, which no sum exceeds.

    Args:
        source: a float32 graph.
        target: where to.

    Raises:
        MissingDependencyError: onnx is not installed.
        ArtifactError: the graph has no product that could be quantized.
    """
    need_onnx()
    import onnx

    model = onnx.load(str(source))
    rewriter = _Rewriter(model.graph, highest=_HIGHEST if has_int8_instructions() else 63)
    rewriter.rewrite()
    onnx.save(model, str(target))


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

    def rewrite(self) -> None:
        """Change the graph in place."""
        replaced: Counter[str] = Counter()
        for node in self._graph.node:
            weight = self._weights.get(node.input[1]) if node.op_type == "MatMul" else None
            if weight is None or len(weight.dims) != 2:
                self._nodes.append(node)
                continue
            self._replace(node, weight)
            replaced[weight.name] += 1
        if not replaced:
            raise ArtifactError("this graph has no product with a weight that could be in int8")
        kept = [
            tensor
            for name, tensor in self._weights.items()
            if not replaced[name] or replaced[name] < self._uses[name]
        ]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend([*kept, *self._constants.values()])

    def _replace(self, node: Any, weight: Any) -> None:
        """`x W` as `(round(x · 127 / m) round(W / s)) · s / 127 · m`, m the token's largest."""
        integers, scales = self._quantized(weight)
        rounded, largest = self._rounded(node.input[0])
        name = f"{node.output[0]}_int8"
        middle = self._constant("int8_middle", np.array(_MIDDLE, np.uint8))
        self._add("MatMulInteger", [rounded, integers, middle], f"{name}_product")
        self._add("Cast", [f"{name}_product"], f"{name}_float", to=1)
        self._add("Mul", [f"{name}_float", scales], f"{name}_scaled")
        self._add("Mul", [f"{name}_scaled", largest], node.output[0])

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
            middle = self._constant("int8_shift", np.array(_MIDDLE, np.float32))
            nothing = self._constant("int8_zero", np.array(0, np.float32))
            axis = self._constant("int8_axis", np.array([-1], np.int64))
            self._add("Abs", [values], f"{name}_size")
            self._add("ReduceMax", [f"{name}_size"], f"{name}_most", axes=[-1], keepdims=1)
            self._add("Max", [f"{name}_most", tiny], f"{name}_finite")
            # A maximum passes over NaN, which must not become a number.
            self._add("ReduceSum", [values, axis], f"{name}_sum", keepdims=1)
            self._add("Mul", [f"{name}_sum", nothing], f"{name}_zero")
            self._add("Add", [f"{name}_finite", f"{name}_zero"], f"{name}_largest")
            self._add("Div", [highest, f"{name}_largest"], f"{name}_factor")
            self._add("Mul", [values, f"{name}_factor"], f"{name}_stretched")
            self._add("Round", [f"{name}_stretched"], f"{name}_round")
            self._add("Add", [f"{name}_round", middle], f"{name}_shifted")
            self._add("Cast", [f"{name}_shifted"], f"{name}_integers", to=2)
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
