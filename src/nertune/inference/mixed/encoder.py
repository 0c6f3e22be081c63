"""One encoder for many adapters: its linear modules and its head ask whose row they compute.

Axes: B windows, L tokens, I inputs and O outputs of a module, K tags of a model.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nertune.artifacts.load import merge_adapter
from nertune.artifacts.manifest import MARK, adapter_folder, hash_encoder
from nertune.errors import ArtifactError, ConfigError, ModelError
from nertune.inference.mixed.adapters import CannotStackError
from nertune.inference.mixed.graph import EncoderGraph, GraphParity
from nertune.inference.mixed.stacks import Rows
from nertune.labels.tagset import TagSet
from nertune.models.build import LONGEST_DEFAULT_WINDOW
from nertune.models.encoder import EncoderEmitter, load_encoder, position_limit
from nertune.models.graphs.onnx import Backend
from nertune.models.heads.transfer import find_classifier
from nertune.models.weights import name_some

__all__ = ["MIXED_BACKENDS", "MixedEncoder"]

MIXED_BACKENDS: tuple[Backend, ...] = ("torch", "onnx", "onnx-int8")
"""What can compute rows of different adapters."""

_LOG = logging.getLogger("nertune")

_PROBE = (3, 5)  # windows and tokens: numbers that no axis has by chance

# Of a config: says nothing about the encoder's computation.
_NAMES = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", MARK, "output_attentions",
     "problem_type", "torch_dtype", "transformers_version"}
)  # fmt: skip


class _Adds(Protocol):
    """What adds to the output of linear modules."""

    def add(self, name: str, input_BLI: Tensor, output_BLO: Tensor) -> Tensor: ...


class _Current(threading.local):
    """What this thread computes.

    Attributes:
        adds: adds to the output of the encoder's linear modules.
        heads: applies the heads; without it the base's own is applied.
        states_BLD: hidden states that a graph gave.
    """

    adds: _Adds | None = None
    heads: Rows | None = None
    states_BLD: Tensor | None = None


class _RowLinear(nn.Linear):
    """A linear module with the base encoder's weights, which knows its name."""

    def __init__(self, linear: nn.Linear, name: str, current: _Current):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._name, self._current = name, current


class _MixedLinear(_RowLinear):
    """A linear module of the base encoder with what each row's adapter adds to it."""

    def forward(self, input: Tensor) -> Tensor:
        output = functional.linear(input, self.weight, self.bias)
        adds = self._current.adds
        return output if adds is None else adds.add(self._name, input, output)


class _HeadLinear(_RowLinear):
    """A linear module of the head: every row's own."""

    def forward(self, input: Tensor) -> Tensor:
        heads = self._current.heads
        if heads is None:
            return functional.linear(input, self.weight, self.bias)
        return heads.apply_linear(self._name, input)


class _HeadNorm(nn.LayerNorm):
    """A norm of the head: every row's own."""

    def __init__(self, norm: nn.LayerNorm, name: str, current: _Current):
        nn.Module.__init__(self)
        self.normalized_shape, self.eps = norm.normalized_shape, norm.eps
        self.elementwise_affine = norm.elementwise_affine
        self.weight, self.bias = norm.weight, norm.bias
        self._name, self._current = name, current

    def forward(self, input: Tensor) -> Tensor:
        heads, shape = self._current.heads, self.normalized_shape
        if heads is None:
            return functional.layer_norm(input, shape, self.weight, self.bias, self.eps)
        return heads.apply_norm(self._name, functional.layer_norm(input, shape, eps=self.eps))


class _Given(nn.Module):
    """In the place of the encoder: the hidden states that a graph gave."""

    def __init__(self, current: _Current):
        super().__init__()
        self._current = current

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self._current.states_BLD)


class _Bare(nn.Module):
    """The encoder without its head, with other products by row."""

    def __init__(self, base: nn.Module, current: _Current):
        super().__init__()
        self.base = base
        self._current = current

    def forward(self, piece_ids_BL: Tensor, attention_BL: Tensor, adds: _Adds) -> Tensor:
        self._current.adds = adds
        try:
            output = self.base(
                input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True
            )
        finally:
            self._current.adds = None
        states_BLD: Tensor = output[0]
        return states_BLD


class _Probe:
    """Notes which modules see something else than one row a window."""

    def __init__(self, num_rows: int):
        self._num_rows = num_rows
        self.others: set[str] = set()

    def add(self, name: str, input_BLI: Tensor, output_BLO: Tensor) -> Tensor:
        if input_BLI.ndim != 3 or input_BLI.shape[0] != self._num_rows:
            self.others.add(name)
        return output_BLO


class MixedEncoder:
    """A token-classification model whose rows may belong to different adapters.

    Args:
        name: the base encoder, as `load_encoder` takes it, or an adapter's folder, which is merged.
        device: where it computes.
        backend: what computes its hidden states; a graph is written and held against PyTorch first.

    Attributes:
        name: the base encoder's.
        sha256: of its weights, by which adapters are recognised as its own.
        model: transformers' own, its linear modules and head replaced.
        linear: full name of each linear module -> inputs and outputs.
        head_shapes: of the parameters that stand on the encoder, by their full names.
        head_problem: what of the head cannot be stacked; empty where all can.
        unstackable: linear modules that do not see one row a window, so that nothing can be added
            by row.
        parity: how a graph compared; `None` where there is none.

    Raises:
        ModelError: it cannot be loaded, or its head cannot be applied by row.
        ArtifactError: its graph cannot be written, or is not the encoder.
    """

    def __init__(self, name: str, device: torch.device, backend: Backend = "torch"):
        if backend not in MIXED_BACKENDS:
            raise ConfigError(
                f"backend {backend}: mixed batches are computed by {', '.join(MIXED_BACKENDS)}"
            )
        if backend != "torch" and device.type != "cpu":
            raise ConfigError(
                f"device {device}: mixed batches of an ONNX graph are computed on the CPU; "
                'take device = "cpu", or the backend torch'
            )
        self.name = name
        self.sha256 = hash_encoder(name)
        if adapter_folder(name) is None:
            model = load_encoder(name, TagSet.from_labels(["X"]), announce=False)
        else:
            model, _ = merge_adapter(name)
        self.model: Any = model.to(device).eval()
        self.device = device
        self._current = _Current()
        self._classifier = find_classifier(model, name)[0]
        prefix = f"{model.base_model_prefix}."
        self.head_shapes = {
            name: tuple(parameter.shape)
            for name, parameter in model.named_parameters()
            if not name.startswith(prefix)
        }
        self.linear: dict[str, tuple[int, int]] = {}
        self.head_problem = ""
        self._replace_modules()
        self._computing: Any = self.model
        self._graph: EncoderGraph | None = None
        self.parity: GraphParity | None = None
        self.unstackable = self._find_unstackable()
        if backend != "torch":
            self._use_graph(quantized=backend == "onnx-int8")

    @cached_property
    def digest(self) -> str:
        """A hash of the encoder's weights without its head."""
        return _digest(getattr(self.model, self.model.base_model_prefix))

    def is_within(self, emitter: nn.Module) -> bool:
        """Whether a tagger's encoder is this one: the same class, shape and weights."""
        if not isinstance(emitter, EncoderEmitter) or type(emitter.model) is not type(self.model):
            return False
        if _shape(emitter.model.config) != _shape(self.model.config):
            return False
        return self.digest == _digest(getattr(emitter.model, self.model.base_model_prefix))

    def _replace_modules(self) -> None:
        model, prefix = self.model, f"{self.model.base_model_prefix}."
        for name, module in list(model.named_modules()):
            mixed: nn.Module | None = None
            if name.startswith(prefix):
                if type(module) is nn.Linear:
                    mixed = _MixedLinear(module, name, self._current)
                    self.linear[name] = (module.in_features, module.out_features)
            elif name and f"{name}." != prefix:
                mixed = self._head_module(name, module)
            if mixed is not None:
                parent, _, local = name.rpartition(".")
                setattr(model.get_submodule(parent), local, mixed.eval())

    def _head_module(self, name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return _HeadLinear(module, name, self._current)
        if type(module) is nn.LayerNorm:
            return _HeadNorm(module, name, self._current)
        if any(True for _ in module.parameters(recurse=False)):
            self.head_problem = f"{name}, a {type(module).__name__}"
        return None

    def check_head(self, parameters: Mapping[str, Tensor], num_tags: int) -> None:
        """Whether a model's head is one for this encoder.

        Args:
            parameters: by their full names.
            num_tags: of the model.

        Raises:
            CannotStackError: heads of this encoder cannot be stacked.
            ArtifactError: a parameter is missing, or of another shape.
        """
        if self.head_problem:
            raise CannotStackError(
                f"the heads of its encoder hold {self.head_problem}, which cannot be stacked"
            )
        expected = {
            name: (num_tags, *shape[1:]) if name.rpartition(".")[0] == self._classifier else shape
            for name, shape in self.head_shapes.items()
        }
        found = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        if found != expected:
            wrong = {name for name in found | expected if found.get(name) != expected.get(name)}
            raise ArtifactError(
                f"its head does not fit the encoder {self.name!r}: {name_some(wrong)}; the folder "
                "is damaged, copy it again"
            )

    @torch.inference_mode()
    def logits(self, piece_ids_BL: Tensor, attention_BL: Tensor, rows: Rows) -> Tensor:
        """The logits of a batch `[B, L, K]`, K that of the model in memory with the most tags."""
        states_BLD = None
        if self._graph is not None:
            states_BLD = self._graph.states(piece_ids_BL, attention_BL, rows)
        current = self._current
        current.adds, current.heads, current.states_BLD = rows, rows, states_BLD
        try:
            return self._run(piece_ids_BL, attention_BL)
        finally:
            current.adds = current.heads = current.states_BLD = None

    def _run(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        output = self._computing(
            input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True
        )
        logits_BLK: Tensor = output.logits
        return logits_BLK

    @torch.inference_mode()
    def _find_unstackable(self) -> frozenset[str]:
        num_rows, length = _PROBE
        ids_BL = torch.zeros(_PROBE, dtype=torch.int64, device=self.device)
        self._current.adds = probe = _Probe(num_rows)
        try:
            logits_BLK = self._run(ids_BL, torch.ones_like(ids_BL))
        finally:
            self._current.adds = None
        if logits_BLK.shape[:2] != (num_rows, length):
            raise ModelError(
                f"{self.name}: gives logits of the shape {tuple(logits_BLK.shape)} for {num_rows} "
                f"windows of {length} tokens, so that adapters cannot be mixed on it"
            )
        return frozenset(probe.others)

    def _use_graph(self, *, quantized: bool) -> None:
        """Let ONNX Runtime compute the encoder, once it was held against PyTorch."""
        prefix = self.model.base_model_prefix
        bare = _Bare(getattr(self.model, prefix), self._current).eval()
        linear = {name: s for name, s in self.linear.items() if name not in self.unstackable}
        graph = EncoderGraph(bare, linear, quantized=quantized)
        size = self.model.get_input_embeddings().weight.shape[0]
        longest = position_limit(self.model) or LONGEST_DEFAULT_WINDOW
        with torch.inference_mode():
            self.parity = parity = graph.compare(bare, size, longest)
        what = "int8" if quantized else "float32"
        _LOG.info(
            "%s",
            f"{self.name} as an {what} graph: hidden states within {parity.typical:.1e} of "
            f"PyTorch's (root mean square), {parity.largest:.1e} at most; a row alone and beside "
            f"others within {parity.alone:.1e}",
        )
        if not parity.holds(quantized=quantized):
            raise ArtifactError(
                f"{self.name}: its {what} graph is not the encoder: hidden states differ by "
                f"{parity.typical:.1e} (root mean square), {parity.largest:.1e} at most, as a share"
            )
        _ = self.digest  # of the weights, which go
        getattr(self.model, prefix).to("meta")
        self._computing = copy.copy(self.model)
        self._computing._modules = {**self.model._modules, prefix: _Given(self._current)}
        self._graph = graph


def _digest(encoder: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _shape(config: Any) -> dict[str, Any]:
    """Of an encoder's config, what the computation may depend on."""
    return {key: value for key, value in config.to_dict().items() if key not in _NAMES}
