"""The frozen lower part of an encoder, computed once.

Where only the upper layers of an encoder train (an adapter on the top layers, or the head alone),
what the layers below give for a window is the same in every epoch. `FrozenPrefix` computes it, and
lets the encoder go on from it.

It is the encoder's own code that runs, masks and position embeddings included: for a moment its
embeddings answer with what was stored, and its lower layers are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FrozenPrefix"]

# Families whose layers get nothing from below but the hidden states, the mask and, in ModernBERT,
# position embeddings that follow from the lengths. (DeBERTa's first layer has a convolution.)
_FAMILIES = frozenset(
    {"bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"}
)


class FrozenPrefix:
    """The layers of an encoder below the lowest one that trains.

    Args:
        model: a token-classification model, wrapped by peft or not.
        num_layers: how many layers it has that do not train, from below; at least 1.

    Shape legend:
        B windows, L tokens, D width, K tags.
    """

    def __init__(self, model: Any, num_layers: int):
        self._model = model
        self.num_layers = num_layers
        self._backbone = _backbone(model)
        self._holder, self._name = _find_layers(self._backbone)
        layers = getattr(self._holder, self._name)
        self._lower = nn.ModuleList(layers[:num_layers])
        self._upper = nn.ModuleList(layers[num_layers:])
        self.width = int(self._backbone.config.hidden_size)

    @classmethod
    def of(cls, model: Any) -> FrozenPrefix | None:
        """What can be computed once; `None` if the lowest layer trains or the family is unknown."""
        if any(c.is_prompt_learning for c in getattr(model, "peft_config", {}).values()):
            return None  # what a soft prompt adds comes in below
        backbone = _backbone(model)
        if getattr(backbone.config, "model_type", "") not in _FAMILIES:
            return None
        holder, name = _find_layers(backbone)
        below = [p for n, p in backbone.named_parameters() if "embeddings" in n.split(".")[0]]
        if any(p.requires_grad for p in below):
            return None
        count = 0
        for layer in getattr(holder, name):
            if any(p.requires_grad for p in layer.parameters()):
                break
            count += 1
        return cls(model, count) if count else None

    @torch.no_grad()
    def states(self, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        """What the frozen layers give, `[B, L, D]`, without dropout; rows of padding are junk."""
        found: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        was_training = self._backbone.training
        self._backbone.eval()
        hook = self._lower[-1].register_forward_hook(stop)
        try:
            self._backbone(input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True)
        except _Reached:
            pass
        finally:
            hook.remove()
            self._backbone.train(was_training)
        return found[0]

    def emissions(self, states_BLD: Tensor, piece_ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        """Emissions `[B, L, K]`, going on from what `states` gave."""
        with self._without_lower_layers(states_BLD):
            output = self._model(
                input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True
            )
        logits: Tensor = output.logits
        return logits

    @contextmanager
    def _without_lower_layers(self, states_BLD: Tensor) -> Iterator[None]:
        backbone = self._backbone
        replaced: dict[str, nn.Module] = {"embeddings": _Stored(states_BLD)}
        if hasattr(backbone, "embeddings_project"):  # ELECTRA
            replaced["embeddings_project"] = nn.Identity()
        own = {name: getattr(backbone, name) for name in replaced}
        layers = getattr(self._holder, self._name)
        try:
            for name, module in replaced.items():
                setattr(backbone, name, module)
            setattr(self._holder, self._name, self._upper)
            yield
        finally:
            for name, module in own.items():
                setattr(backbone, name, module)
            setattr(self._holder, self._name, layers)


class _Reached(Exception):
    """The frozen layers are done."""


class _Stored(nn.Module):
    """Takes the place of the embeddings."""

    def __init__(self, states_BLD: Tensor):
        super().__init__()
        self.states_BLD = states_BLD

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.states_BLD


def _backbone(model: Any) -> Any:
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(plain, plain.base_model_prefix)


def _find_layers(backbone: Any) -> tuple[nn.Module, str]:
    """The module that holds the list of layers, and the list's name in it."""
    for holder in (backbone, *backbone.children()):
        for name in ("layer", "layers"):
            if isinstance(getattr(holder, name, None), nn.ModuleList):
                return holder, name
    raise LookupError(f"{type(backbone).__name__} has no list of layers")
