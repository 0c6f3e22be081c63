"""An adapter's folder as what can be stacked: a pair of small matrices a linear module, and a head.

LoRA (Hu et al., 2022), rsLoRA (Kalajdzievski, 2023) and AdaLoRA (Zhang et al., 2023) add
`x Aᵀ B · scale` to what a linear module gives, and nothing else. Whatever an adapter does beyond
that is found here and named, so that it is computed on its own and never left out.

Axes: I inputs and O outputs of a module, R rank.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nertune.errors import ArtifactError, MissingDependencyError, ModelError
from nertune.models.heads.transfer import read_weights
from nertune.models.weights import name_some

__all__ = ["Adapter", "CannotStackError", "adapter_method", "read_adapter", "read_adapter_config"]

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_([ABE])(?:\.weight)?")
_INITS = (True, False, "gaussian", "orthogonal")  # others change the weights that they adapt
# What is computed here, or says nothing about the computation.
_KNOWN = frozenset(
    {"alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules",
     "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
     "lora_dropout", "megatron_core", "modules_to_save", "peft_type", "peft_version",
     "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
     "task_type", "use_rslora"}
)  # fmt: skip
_KNOWN_OF_ADALORA = frozenset(
    {"beta1", "beta2", "deltaT", "init_r", "orth_reg_weight", "target_r", "tfinal", "tinit",
     "total_step"}
)  # fmt: skip


class CannotStackError(ModelError):
    """An adapter does more than what can be stacked; the message says what."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a model adds to the base encoder.

    Attributes:
        pairs: for each adapted module, by its full name, `A` `[R, I]` and `B` `[R, O]`, which has
            the scale in it; empty for a model that trained its head alone.
        heads: the weights of what stands on the encoder, by their full names.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    heads: Mapping[str, Tensor]


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What peft wrote about an adapter.

    Raises:
        ArtifactError: it cannot be read.
    """
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); copy the folder again") from error
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise ArtifactError(f"{path}: names no peft_type; the folder is damaged, copy it again")
    return config


def adapter_method(config: Mapping[str, Any]) -> str:
    """The name of the method, as a person would say it."""
    method = str(config["peft_type"]).lower()
    if method == "lora" and config.get("use_dora"):
        return "dora"
    return "rslora" if method == "lora" and config.get("use_rslora") else method


def read_adapter(
    folder: Path, linear: Mapping[str, tuple[int, int]], heads: Collection[str]
) -> Adapter:
    """Read an adapter's pairs and head from its folder, without building the model.

    Args:
        folder: from `save_model`.
        linear: the base encoder's linear modules: full name -> inputs and outputs.
        heads: the full names of the parameters that stand on the encoder.

    Raises:
        ArtifactError: the folder does not hold what its config says.
        CannotStackError: the adapter does more than add low-rank products.
        MissingDependencyError: peft is not installed.
    """
    config = read_adapter_config(folder)
    _refuse_other_methods(config)
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; the folder is incomplete, copy it again")
    found: dict[str, dict[str, Tensor]] = {}
    own_heads: dict[str, Tensor] = {}
    strange = []
    for key, tensor in read_weights(path).items():
        name = key.removeprefix(_PREFIX)
        if not torch.isfinite(tensor).all():  # a softmax of ONNX Runtime would pass over it
            raise ArtifactError(
                f"{path}: {name} holds NaN or infinity; load another copy of the model, or train "
                "it again"
            )
        if match := _PAIR.fullmatch(name):
            found.setdefault(match[1], {})[match[2]] = tensor.float()
        elif name in heads:
            own_heads[name] = tensor.float()
        else:
            strange.append(name)
    if strange:
        raise CannotStackError(f"it trains more than linear modules: {name_some(strange)}")
    _refuse_incomplete(path, config, linear, found.keys())
    if missing := set(heads) - own_heads.keys():
        raise ArtifactError(
            f"{path}: lacks {len(missing)} parameters of this tagger: {name_some(missing)}; the "
            "folder is incomplete, copy it again"
        )
    pairs = {name: _pair(path, name, config, parts, linear[name]) for name, parts in found.items()}
    return Adapter(pairs, own_heads)


def _refuse_other_methods(config: Mapping[str, Any]) -> None:
    """Anything in an adapter's config that is not computed here."""
    method = adapter_method(config)
    if config["peft_type"] not in ("LORA", "ADALORA"):
        raise CannotStackError(f"its method, {method}, is no sum of low-rank products")
    known = _KNOWN | (_KNOWN_OF_ADALORA if method == "adalora" else frozenset())
    defaults = _defaults(method)
    for key, value in config.items():
        if key not in known and value not in (None, False, [], {}, defaults.get(key)):
            raise CannotStackError(f"its method, {method}, has {key} = {value!r}")
    if config.get("init_lora_weights", True) not in _INITS:
        raise CannotStackError(
            f"it began as {config['init_lora_weights']}, which changes the encoder's own weights"
        )
    if method == "adalora" and config.get("rank_pattern"):
        raise CannotStackError("its AdaLoRA was saved in the middle of its training")


def _defaults(method: str) -> dict[str, Any]:
    try:
        from peft import AdaLoraConfig, LoraConfig
    except ImportError as error:
        raise MissingDependencyError("peft", purpose="LoRA") from error
    config = AdaLoraConfig if method == "adalora" else LoraConfig
    return {f.name: f.default for f in fields(config) if f.default is not MISSING}


def _refuse_incomplete(
    path: Path, config: Mapping[str, Any], linear: Collection[str], found: Iterable[str]
) -> None:
    """The file must hold the pairs of just the modules that the config targets."""
    from peft.tuners.tuners_utils import check_target_module_exists

    class Targets:
        """As peft reads them."""

        exclude_modules = config.get("exclude_modules")
        modules_to_save = config.get("modules_to_save")
        target_modules = config.get("target_modules") or []
        target_parameters = None
        layers_to_transform = config.get("layers_to_transform")
        layers_pattern = config.get("layers_pattern")

    expected = {name for name in linear if check_target_module_exists(Targets, name)}
    found = set(found)
    if other := found - set(linear):
        raise CannotStackError(f"it adapts what is no linear module: {name_some(other)}")
    if missing := expected - found:
        raise ArtifactError(
            f"{path}: lacks the matrices of {len(missing)} modules that it should adapt: "
            f"{name_some(missing)}; the folder is incomplete, copy it again"
        )
    if surplus := found - expected:
        raise ArtifactError(
            f"{path}: holds matrices of {len(surplus)} modules that its config does not name: "
            f"{name_some(surplus)}; the folder is damaged, copy it again"
        )


def _pair(
    path: Path,
    name: str,
    config: Mapping[str, Any],
    parts: Mapping[str, Tensor],
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """`A` `[R, I]` and `B` `[R, O]` with the scale in it."""
    is_adalora = config["peft_type"] == "ADALORA"
    if set(parts) != ({"A", "B", "E"} if is_adalora else {"A", "B"}):
        raise ArtifactError(f"{path}: the matrices of {name} are not complete; copy it again")
    a_RI, b_OR = parts["A"], parts["B"]
    rank, scale = _rank_and_scale(name, config)
    sizes = (tuple(a_RI.shape), tuple(b_OR.shape))
    if sizes != ((rank, shape[0]), (shape[1], rank)):
        raise ArtifactError(
            f"{path}: the matrices of {name} have the shapes {sizes[0]} and {sizes[1]}, expected "
            f"{(rank, shape[0])} and {(shape[1], rank)}; config and weights do not belong together"
        )
    if is_adalora:
        a_RI = a_RI * parts["E"].reshape(rank, 1)
    return a_RI.contiguous(), (b_OR.T * scale).contiguous()


def _rank_and_scale(name: str, config: Mapping[str, Any]) -> tuple[int, float]:
    """Of a module, as peft derives them from its config."""
    if config["peft_type"] == "ADALORA":
        rank = int(config["init_r"])
        alpha = float(config["lora_alpha"])
        return rank, (alpha if alpha > 0 else float(rank)) / (rank + 1e-5)
    from peft.utils.other import get_pattern_key

    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = int(ranks.get(get_pattern_key([*ranks], name), config["r"]))
    alpha = float(alphas.get(get_pattern_key([*alphas], name), config["lora_alpha"]))
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
