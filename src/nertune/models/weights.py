"""Weights of a checkpoint: every parameter of the encoder is filled, or loading is refused.

transformers fills what a checkpoint lacks, or holds in another shape, with random numbers and only
logs it. Here its loading report is read instead.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nertune.errors import ModelError
from nertune.storage.encoders import encoder_weights, resolve_encoder

__all__ = ["CheckpointHead", "load_checkpoint", "name_some"]

_LOG = logging.getLogger("nertune")

WRAPPERS = ("module", "_orig_mod", "model", "base_model", "encoder", "backbone", "transformer",
            "bert", "roberta", "plm", "lm")  # fmt: skip
"""Names under which training code holds a model: the one table by which keys are translated.

`module` is DataParallel's, `_orig_mod` that of `torch.compile`; the others are attributes of
Lightning modules and of models that people write around an encoder.
"""

# Modules that no logits depend on, so that a checkpoint may come without them.
_UNUSED = re.compile(r"(^|\.)pooler\.")
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """What a checkpoint held of a model's head.

    Attributes:
        missing: parameters that it lacks; they are new.
        mismatched: parameters of another shape; they are new too. Each name with the shape in the
            checkpoint.
    """

    missing: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def new(self) -> tuple[str, ...]:
        """The parameters that were not loaded, in the order of their names."""
        return tuple(sorted([*self.missing, *(name for name, _ in self.mismatched)]))


def load_checkpoint(
    auto_class: Any, name: str, *, new_head: bool, **settings: Any
) -> tuple[Any, CheckpointHead]:
    """A model in float32 whose encoder is filled from a checkpoint, parameter by parameter.

    Only safetensors are read; remote code is never run.

    Args:
        auto_class: transformers' class for the task.
        name: a bundled name, a folder or a hub name.
        new_head: whether the head may be new; it is drawn from torch's generator then.
        settings: handed on to `from_pretrained`, e.g. `num_labels`.

    Returns:
        The model, and what the checkpoint held of its head.

    Raises:
        ModelError: a parameter is missing, of another shape, or belongs to a layer that the
            model does not have.
    """
    location = resolve_encoder(name)
    model, report = _load(auto_class, location, **settings)
    if prefix := _wrapper(model, report):
        weights = _unwrapped(location, prefix, model.base_model_prefix)
        model, report = _load(type(model), None, config=model.config, state_dict=weights)
        model.config._name_or_path = location  # what an adapter names as its base
        _LOG.warning("%s: its weights are named %s…; the prefix is taken off", name, prefix)
    _refuse_misfit(name, model, report, new_head=new_head)
    return model, _of_head(model, report)


def _load(model_class: Any, location: str | None, **settings: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    model, report = model_class.from_pretrained(
        location,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported by name then; `_refuse_misfit` decides about it
        **settings,
    )
    return model, report


def _in_encoder(model: Any, key: str) -> bool:
    return key.startswith(f"{model.base_model_prefix}.") and not _UNUSED.search(key)


def _of_head(model: Any, report: dict[str, Any]) -> CheckpointHead:
    outside = f"{model.base_model_prefix}."
    return CheckpointHead(
        tuple(sorted(k for k in report["missing_keys"] if not k.startswith(outside))),
        tuple(
            sorted(
                (key, tuple(shape))
                for key, shape, _ in report["mismatched_keys"]
                if not key.startswith(outside)
            )
        ),
    )


def _wrapper(model: Any, report: dict[str, Any]) -> str:
    """The prefix under which a checkpoint holds what the encoder lacks; empty without one."""
    base = f"{model.base_model_prefix}."
    lacking = {key.removeprefix(base) for key in report["missing_keys"] if _in_encoder(model, key)}
    found = Counter(
        key.removesuffix(rest)
        for key in report["unexpected_keys"]
        for rest in _endings(key)
        if rest in lacking
    )
    known = [
        prefix
        for prefix, _ in found.most_common()
        if all(part in (*WRAPPERS, model.base_model_prefix) for part in prefix[:-1].split("."))
    ]
    return known[0] if known else ""


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]


def _unwrapped(location: str, prefix: str, base: str) -> dict[str, Any]:
    """The weights of a checkpoint under the names that the model has for them.

    What stands beside the encoder, such as its classifier, loses the wrapper's name alone.
    """
    from safetensors.torch import load_file

    outer = "".join(f"{part}." for part in prefix.split(".")[:-2])
    weights: dict[str, Any] = {}
    for file in encoder_weights(location):
        for key, tensor in load_file(file).items():
            if key.startswith(prefix):
                weights[f"{base}.{key.removeprefix(prefix)}"] = tensor
            elif outer and key.startswith(outer):
                weights[key.removeprefix(outer)] = tensor
            else:
                weights[key] = tensor
    return weights


def _refuse_misfit(name: str, model: Any, report: dict[str, Any], *, new_head: bool) -> None:
    wrong = [key for key in report["missing_keys"] if _counts(model, key, new_head=new_head)]
    shapes = [
        f"{key} ({_size(shape)} instead of {_size(expected)})"
        for key, shape, expected in sorted(report["mismatched_keys"])
        if _counts(model, key, new_head=new_head)
    ]
    surplus = _surplus(model, report["unexpected_keys"])
    reasons = []
    if wrong:
        reasons.append(f"{len(wrong)} parameters are not in its weights: {name_some(wrong)}")
    if shapes:
        reasons.append(f"{len(shapes)} have another shape there: {name_some(shapes)}")
    if surplus:
        reasons.append(
            f"the weights hold {len(surplus)} parameters that config.json has no place for: "
            f"{name_some(surplus)}"
        )
    if not reasons:
        return
    strange = sorted(set(report["unexpected_keys"]) - set(surplus))
    if wrong and strange and any(_in_encoder(model, key) for key in wrong):
        reasons.append(f"they hold instead: {name_some(strange, 2)}")
    raise ModelError(
        f"{name}: config.json and weights do not belong together: {'; '.join(reasons)}. Nothing is "
        f"filled with random numbers: save the {'encoder' if new_head else 'model'} again with "
        "transformers' save_pretrained"
    )


def _counts(model: Any, key: str, *, new_head: bool) -> bool:
    """Whether a parameter has to come from the checkpoint."""
    if _UNUSED.search(key):
        return False
    return _in_encoder(model, key) or not new_head


def _surplus(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Parameters of the encoder that the model does not have, e.g. those of its upper layers.

    Buffers of older versions, poolers and heads of other tasks are none.
    """
    base = f"{model.base_model_prefix}."
    parts = {name for name, _ in getattr(model, model.base_model_prefix).named_children()}
    return sorted(
        key
        for key in unexpected
        if key.endswith(".weight")
        and not _UNUSED.search(key)
        and key.removeprefix(base).split(".")[0] in parts
    )


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def name_some(names: Iterable[str], shown: int = _SHOWN) -> str:
    """The first of some names, and how many there are besides."""
    every = sorted(names, key=_by_number)
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
