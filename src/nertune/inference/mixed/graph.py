"""The base encoder as an ONNX graph that takes the stacks of all adapters as inputs.

The graph is written once, whatever adapters come later: `piece_ids` and `attention` `[B, L]`,
`slots` `[B]`, and for each linear module a pair of stacks, to the hidden states `[B, L, D]`. Heads
are computed outside, as they are trained, in float32.

Axes: B windows, L tokens, D width, N slots, R rank, I inputs and O outputs of a module.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nertune.errors import ArtifactError
from nertune.inference.mixed.adapters import Adapter
from nertune.inference.mixed.stacks import NO_ADAPTER, Pair, Rows, Segment, Stacks
from nertune.models.graphs.onnx import open_session
from nertune.models.graphs.quantization import quantize
from nertune.models.graphs.tracing import trace_onnx

__all__ = ["EncoderGraph", "GraphParity", "TracedRows"]

States = Callable[[Tensor, Tensor, Rows], Tensor]
"""Token ids, attention and the models of the rows to hidden states."""

_ROUNDING = 1e-3  # so far may float32 states lie apart, as a share of the largest
_MOST_INT8 = 0.1  # so far may int8 states lie apart; 0.02 to 0.04 is usual
_LENGTHS = (1, 2, 5, 16, 40)  # tokens of the windows that are compared
_PROBE_SLOTS = (NO_ADAPTER, 1, 1, 2)


class TracedRows:
    """The products by row as a graph expresses them.

    Args:
        slot_B: the slot of each row.
        stacks: full name of a linear module -> `[N, R, I]` and `[N, R, O]`.
    """

    def __init__(self, slot_B: Tensor, stacks: Mapping[str, tuple[Tensor, Tensor]]):
        self._slot_B = slot_B
        self._stacks = stacks

    def add(self, name: str, input_BLI: Tensor, output_BLO: Tensor) -> Tensor:
        """A linear module's output with what each row's adapter adds to it."""
        if name not in self._stacks:
            return output_BLO
        a_NRI, b_NRO = self._stacks[name]
        a_BRI = a_NRI.index_select(0, self._slot_B)
        b_BRO = b_NRO.index_select(0, self._slot_B)
        return output_BLO + input_BLI @ a_BRI.transpose(1, 2) @ b_BRO


@dataclass(frozen=True, slots=True)
class GraphParity:
    """How far a graph's hidden states lie from PyTorch's, with adapters mixed at random.

    Attributes:
        largest: difference of one number, as a share of the largest number.
        typical: root mean square of the differences, as a share of that of the states.
        alone: the same between a row in a batch and the row alone, both by the graph: how much a
            text's answer depends on its neighbours.
    """

    largest: float
    typical: float
    alone: float

    def holds(self, *, quantized: bool) -> bool:
        """Whether the graph is the encoder but for rounding, or for what int8 costs at most."""
        return self.typical <= _MOST_INT8 if quantized else self.largest <= _ROUNDING


class EncoderGraph:
    """Computes hidden states with ONNX Runtime, on the CPU.

    Args:
        base: the encoder, `(piece_ids_BL, attention_BL, TracedRows) -> states_BLD`, on the CPU.
        linear: its linear modules that are stacked: full name -> inputs and outputs.
        quantized: products of the encoder's own weights in int8, each token on its own scale.

    Raises:
        ArtifactError: PyTorch or ONNX Runtime cannot express the encoder.
        MissingDependencyError: the extra `onnx` is not installed.
    """

    def __init__(self, base: nn.Module, linear: Mapping[str, tuple[int, int]], *, quantized: bool):
        self._linear = dict(linear)
        self._nothing: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        with tempfile.TemporaryDirectory(prefix="nertune-graph-") as folder:
            exact, small = Path(folder) / "encoder.onnx", Path(folder) / "encoder-int8.onnx"
            self._write(base, exact)
            if quantized:
                quantize(exact, small)
            threads = torch.get_num_threads()
            graph = small if quantized else exact
            self._session = open_session(graph, device="cpu", threads=threads)

    def _write(self, base: nn.Module, path: Path) -> None:
        ids_BL = torch.ones((2, 7), dtype=torch.int64)
        attention_BL = torch.ones_like(ids_BL)
        attention_BL[1, 4:] = 0  # or padding would be taken for text
        inputs = {"piece_ids": ids_BL, "attention": attention_BL, "slots": torch.tensor([0, 1])}
        axes = {
            "piece_ids": {0: "windows", 1: "pieces"},
            "attention": {0: "windows", 1: "pieces"},
            "slots": {0: "windows"},
        }
        for i, (num_in, num_out) in enumerate(self._linear.values()):
            for key, width in ((f"a{i}", num_in), (f"b{i}", num_out)):
                inputs[key] = torch.zeros((3, 2, width))
                axes[key] = {0: "all_slots", 1: f"rank{i}"}
        axes["states"] = {0: "windows", 1: "pieces"}
        trace_onnx(_Traced(base, tuple(self._linear)), inputs, path, axes)

    def states(self, piece_ids_BL: Tensor, attention_BL: Tensor, rows: Rows) -> Tensor:
        """The hidden states `[B, L, D]`.

        Raises:
            ArtifactError: ONNX Runtime cannot compute them.
        """
        inputs: dict[str, Any] = {
            "piece_ids": piece_ids_BL.numpy(),
            "attention": attention_BL.numpy(),
            "slots": rows.slot_B.numpy(),
        }
        num_slots = max((len(pair.a_NRI) for pair in rows.pairs.values()), default=1)
        for i, name in enumerate(self._linear):
            inputs[f"a{i}"], inputs[f"b{i}"] = self._stacks(name, rows.pairs.get(name), num_slots)
        try:
            (states_BLD,) = self._session.run(["states"], inputs)
        except Exception as error:  # its errors have no common base but this one
            reason = " ".join(str(error).split())[:300]
            raise ArtifactError(
                f"ONNX Runtime cannot compute {piece_ids_BL.shape[0]} windows of "
                f"{piece_ids_BL.shape[1]} tokens ({reason})"
            ) from error
        return torch.from_numpy(states_BLD)

    def _stacks(
        self, name: str, pair: Pair | None, num_slots: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A module's stacks; of rank 1 and zero where no adapter adapts it."""
        if pair is not None:
            return pair.a_NRI.numpy(), pair.b_NRO.numpy()
        if name not in self._nothing or len(self._nothing[name][0]) < num_slots:
            a, b = (np.zeros((num_slots, 1, width), np.float32) for width in self._linear[name])
            self._nothing[name] = a, b
        return self._nothing[name]

    def compare(self, states: States, vocabulary_size: int, longest: int) -> GraphParity:
        """Hold the graph against PyTorch, on random adapters, tokens and lengths.

        Args:
            states: what PyTorch computes.
            vocabulary_size: ids to draw from.
            longest: tokens that the encoder can read.
        """
        generator = torch.Generator().manual_seed(0)
        pairs = _random_pairs(self._linear, generator)
        largest, highest = 0.0, 0.0
        apart: list[Tensor] = []
        alone: list[Tensor] = []
        found: list[Tensor] = []
        for length in (length for length in _LENGTHS if length <= longest):
            shape = (len(_PROBE_SLOTS), length)
            ids_BL = torch.randint(vocabulary_size, shape, generator=generator)
            attention_BL = torch.ones(shape, dtype=torch.int64)
            attention_BL[0, (length + 1) // 2 :] = 0
            is_token = attention_BL.bool()
            rows = _rows(_PROBE_SLOTS, pairs)
            wanted = states(ids_BL, attention_BL, rows)
            got = self.states(ids_BL, attention_BL, rows)
            last = self.states(ids_BL[-1:], attention_BL[-1:], _rows(_PROBE_SLOTS[-1:], pairs))
            apart.append((got - wanted)[is_token].flatten())
            alone.append((got[-1:] - last).flatten())
            found.append(wanted[is_token].flatten())
            largest = max(largest, float(apart[-1].abs().max()))
            highest = max(highest, float(found[-1].abs().max()))
        scale = float(torch.cat(found).square().mean().sqrt())
        return GraphParity(
            largest=largest / highest,
            typical=float(torch.cat(apart).square().mean().sqrt()) / scale,
            alone=float(torch.cat(alone).square().mean().sqrt()) / scale,
        )


class _Traced(nn.Module):
    """The encoder with its stacks as inputs."""

    def __init__(self, base: nn.Module, names: Sequence[str]):
        super().__init__()
        self.base = base
        self._names = names

    def forward(
        self, piece_ids_BL: Tensor, attention_BL: Tensor, slot_B: Tensor, *stacks: Tensor
    ) -> Tensor:
        pairs = zip(stacks[::2], stacks[1::2], strict=True)
        rows = TracedRows(slot_B, dict(zip(self._names, pairs, strict=True)))
        states_BLD: Tensor = self.base(piece_ids_BL, attention_BL, rows)
        return states_BLD


def _random_pairs(
    linear: Mapping[str, tuple[int, int]], generator: torch.Generator
) -> Mapping[str, Pair]:
    """Two adapters of different ranks, one of which adapts every other module."""
    stacks = Stacks(2, torch.device("cpu"))
    for slot, rank in ((1, 3), (2, 2)):
        adapted = [*linear.items()][:: 3 - slot]
        stacks.put(
            slot,
            Adapter(
                {
                    name: (
                        torch.randn((rank, num_in), generator=generator) / num_in**0.5,
                        torch.randn((rank, num_out), generator=generator) / 10,
                    )
                    for name, (num_in, num_out) in adapted
                },
                {},
            ),
        )
    return stacks.pairs


def _rows(slots: Sequence[int], pairs: Mapping[str, Pair]) -> Rows:
    segments = [Segment(i, i + 1, slot) for i, slot in enumerate(slots)]
    return Rows(segments, pairs, {}, torch.device("cpu"))
