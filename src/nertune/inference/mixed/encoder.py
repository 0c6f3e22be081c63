"""One encoder for many adapters: its linear modules and its head ask whose row they compute.

Axes: B windows, L tokens, I inputs and O outputs of a module, K tags of a model.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nertune.artifacts.load import merge_adapter
from nertune.artifacts.manifest import MARK, adapter_folder, hash_encoder
from nertune.errors import ArtifactError, ModelError
from nertune.inference.mixed.stacks import NO_ADAPTER, Rows, Segment
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter, load_encoder
from nertune.models.heads.transfer import find_classifier
from nertune.models.peft.tuning import head_names

__all__ = ["MixedEncoder"]

_PROBE = (3, 5)  # windows and tokens: numbers that no axis has by chance

# Of a config: says nothing about the encoder's computation.
_NAMES = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", MARK, "output_attentions",
     "problem_type", "torch_dtype", "transformers_version"}
)  # fmt: skip


class _Current(threading.local):
    """The batch that this thread computes."""

    rows: Rows | None = None


class _MixedLinear(nn.Linear):
    """A linear module of the base encoder with what each row's adapter adds to it."""

    def __init__(self, linear: nn.Linear, name: str, current: _Current):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._name, self._current = name, current

    def forward(self, input: Tensor) -> Tensor:
        output = functional.linear(input, self.weight, self.bias)
        if (rows := self._current.rows) is not None:
            rows.add(self._name, input, output)
        return output


class _MixedHead(nn.Module):
    """A part of the head: every segment of rows goes through its own model's."""

    def __init__(self, name: str, current: _Current):
        super().__init__()
        self._name, self._current = name, current

    def forward(self, input_BLI: Tensor) -> Tensor:
        """`[B, L, O]`; where the models have different numbers of outputs, zeros behind them."""
        rows = self._current.rows
        assert rows is not None
        outputs = [s.parts[self._name](input_BLI[s.start : s.end]) for s in rows.segments]
        widest = max(output.shape[-1] for output in outputs)
        return torch.cat(
            [functional.pad(output, (0, widest - output.shape[-1])) for output in outputs]
        )


class _Probed(Rows):
    """Notes which modules see something else than one row a window."""

    def __init__(self, segments: list[Segment], device: torch.device):
        super().__init__(segments, {}, device)
        self.others: set[str] = set()

    def add(self, name: str, input_BLI: Tensor, output_BLO: Tensor) -> None:
        if input_BLI.ndim != 3 or input_BLI.shape[0] != self.num_rows:
            self.others.add(name)


class MixedEncoder:
    """A token-classification model whose rows may belong to different adapters.

    Args:
        name: the base encoder, as `load_encoder` takes it, or an adapter's folder, which is merged.
        device: where it computes.

    Attributes:
        name: the base encoder's.
        sha256: of its weights, by which adapters are recognised as its own.
        model: transformers' own, its linear modules and head replaced.
        linear: full name of each linear module -> inputs and outputs.
        unstackable: those that do not see one row a window, so that nothing can be added by row.

    Raises:
        ModelError: it cannot be loaded, or its head cannot be applied by row.
    """

    def __init__(self, name: str, device: torch.device):
        self.name = name
        self.sha256 = hash_encoder(name)
        if adapter_folder(name) is None:
            model = load_encoder(name, TagSet.from_labels(["X"]), announce=False)
        else:
            model, _ = merge_adapter(name)
        self.model: Any = model.to(device).eval()
        self.device = device
        self._current = _Current()
        self._part_names = head_names(model)
        self._classifier = find_classifier(model, name)[0]
        self._parts = {part: getattr(model, part) for part in self._part_names}
        self.linear: dict[str, tuple[int, int]] = {}
        self._replace_modules()
        self.unstackable = self._probe()

    @property
    def head_parameters(self) -> dict[str, Tensor]:
        """The base model's own head, by the full names of its parameters."""
        return {
            f"{part}.{name}": tensor
            for part, module in self._parts.items()
            for name, tensor in module.state_dict().items()
        }

    def is_within(self, emitter: nn.Module) -> bool:
        """Whether a tagger's encoder is this one: the same class, shape and weights."""
        if not isinstance(emitter, EncoderEmitter) or type(emitter.model) is not type(self.model):
            return False
        if _shape(emitter.model.config) != _shape(self.model.config):
            return False
        prefix = f"{self.model.base_model_prefix}."
        own, other = self.model.state_dict(), emitter.model.state_dict()
        names = {name for name in own if name.startswith(prefix)}
        return names == {name for name in other if name.startswith(prefix)} and all(
            torch.equal(own[name], other[name]) for name in names
        )

    def _replace_modules(self) -> None:
        model = self.model
        prefix = f"{model.base_model_prefix}."
        for name, module in list(model.named_modules()):
            if name.startswith(prefix) and type(module) is nn.Linear:
                parent, _, local = name.rpartition(".")
                mixed = _MixedLinear(module, name, self._current).eval()
                setattr(model.get_submodule(parent), local, mixed)
                self.linear[name] = (module.in_features, module.out_features)
        for part in self._part_names:
            setattr(model, part, _MixedHead(part, self._current).eval())

    def build_head(self, heads: Mapping[str, Tensor], num_tags: int) -> dict[str, nn.Module]:
        """A model's own copy of what stands on the encoder.

        Args:
            heads: its weights, by their full names.
            num_tags: K.

        Raises:
            ArtifactError: they do not fit this encoder.
        """
        parts: dict[str, nn.Module] = {}
        for part, template in self._parts.items():
            module = copy.deepcopy(template)
            if self._classifier == part or self._classifier.startswith(f"{part}."):
                module = _with_outputs(module, self._classifier.removeprefix(part)[1:], num_tags)
            state = {
                name.removeprefix(f"{part}."): tensor
                for name, tensor in heads.items()
                if name.startswith(f"{part}.")
            }
            try:
                module.load_state_dict(state)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise ArtifactError(f"its head does not fit the encoder ({reason})") from error
            parts[part] = module.to(self.device).eval()
        return parts

    @torch.inference_mode()
    def logits(self, piece_ids_BL: Tensor, attention_BL: Tensor, rows: Rows) -> Tensor:
        """The logits of a batch `[B, L, K]`, K that of the model with the most tags."""
        self._current.rows = rows
        try:
            output = self.model(
                input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True
            )
        finally:
            self._current.rows = None
        logits_BLK: Tensor = output.logits
        return logits_BLK

    def _probe(self) -> frozenset[str]:
        num_rows, length = _PROBE
        ids_BL = torch.zeros(_PROBE, dtype=torch.int64, device=self.device)
        segment = Segment(0, num_rows, NO_ADAPTER, self._parts, 0)
        rows = _Probed([segment], self.device)
        logits_BLK = self.logits(ids_BL, torch.ones_like(ids_BL), rows)
        if logits_BLK.shape[:2] != (num_rows, length):
            raise ModelError(
                f"{self.name}: gives logits of the shape {tuple(logits_BLK.shape)} for {num_rows} "
                f"windows of {length} tokens, so that adapters cannot be mixed on it"
            )
        return frozenset(rows.others)


def _with_outputs(module: nn.Module, path: str, num_tags: int) -> nn.Module:
    """A head's part with a classifier of so many outputs; at the path "" it is the classifier."""
    old = module.get_submodule(path)
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, num_tags, bias=old.bias is not None)
    if not path:
        return new
    parent, _, local = path.rpartition(".")
    setattr(module.get_submodule(parent), local, new)
    return module


def _shape(config: Any) -> dict[str, Any]:
    """Of an encoder's config, what the computation may depend on."""
    return {key: value for key, value in config.to_dict().items() if key not in _NAMES}
