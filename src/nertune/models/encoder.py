"""The encoder emitter: transformers' `AutoModelForTokenClassification`, unchanged."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nertune.errors import MissingDependencyError, ModelError
from nertune.labels.tagset import TagSet
from nertune.models.frozen_layers import FrozenPrefix
from nertune.models.weights import load_checkpoint, name_some
from nertune.storage.encoders import reach_hub, resolve_encoder

__all__ = [
    "EncoderEmitter",
    "has_rotary_positions",
    "load_encoder",
    "loading_errors",
    "position_limit",
    "quiet_transformers",
    "read_config",
    "refuse_missing_embeddings",
]

_LOG = logging.getLogger("nertune")


class EncoderEmitter(nn.Module):
    """Calls a token-classification model and gives its logits.

    Args:
        model: a transformers model, wrapped by peft or not.

    Shape legend:
        B windows, L tokens, K tags.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    @property
    def prefix(self) -> FrozenPrefix | None:
        """Its lower layers, where they are frozen; what trains may change between calls."""
        return FrozenPrefix.of(self.model)

    def forward(
        self, piece_ids_BL: Tensor, attention_BL: Tensor, states_BLD: Tensor | None = None
    ) -> Tensor:
        """Emissions `[B, L, K]`; with what `prefix.states` gave, from there on."""
        if states_BLD is not None:
            prefix = self.prefix
            assert prefix is not None, "states of frozen layers, but none is frozen"
            return prefix.emissions(states_BLD, piece_ids_BL, attention_BL)
        # return_dict is said here, since a model's own settings may ask for tuples.
        output = self.model(input_ids=piece_ids_BL, attention_mask=attention_BL, return_dict=True)
        # Prompt tuning and P-tuning give emissions for their virtual tokens, which come first.
        logits: Tensor = output.logits[:, -piece_ids_BL.shape[1] :]
        return logits

    def merge_adapter(self) -> bool:
        """Fold an adapter into the weights that it adapts, where there is one that can be.

        Returns:
            False if its method began and could not: the model is of no more use then.
        """
        tuner: Any = getattr(self.model, "base_model", None)
        if hasattr(self.model, "peft_config") and hasattr(tuner, "merge_and_unload"):
            try:
                self.model = _unwrapped(tuner.merge_and_unload())
            except (NotImplementedError, ValueError):  # what some methods say only then
                return False
        return True


def _unwrapped(model: Any) -> Any:
    """Without peft's wrapper around a trained head, which some methods leave when they merge."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):
            parent, _, local = name.rpartition(".")
            trained = module.modules_to_save[module.active_adapters[0]]
            setattr(model.get_submodule(parent), local, trained)
    return model


def load_encoder(name: str, tagset: TagSet | None = None, *, announce: bool = True) -> Any:
    """A token-classification model from a bundled name, a folder or the hub, in float32.

    Only safetensors are read; remote code is never run. No parameter of the encoder is left to
    chance (`weights.load_checkpoint`).

    Args:
        name: the encoder.
        tagset: gives a head of that many outputs, which is new unless it is there in that size;
            `None` takes the head that is there, which must be whole.
        announce: log that a head is new.

    Raises:
        ModelError: nothing can be loaded from there, or a parameter is missing or of another shape.
        MissingDependencyError: transformers is not installed.
    """
    try:
        from transformers import AutoModelForTokenClassification
    except ImportError as error:
        raise MissingDependencyError("transformers", purpose="an encoder") from error
    settings: dict[str, Any] = {}
    if tagset is not None:
        settings = {
            "num_labels": len(tagset),
            "id2label": dict(enumerate(tagset.tags)),
            "label2id": {tag: i for i, tag in enumerate(tagset.tags)},
        }
    location = resolve_encoder(name)
    reach_hub(location)
    # transformers would put it on its base by itself, read from a pickle if need be.
    if (Path(location) / "adapter_config.json").is_file():
        raise ModelError(
            f"{name}: holds an adapter (adapter_config.json); merge it into its base "
            "(`merge_and_unload`), save that, and name it"
        )
    with loading_errors(name, location, "token-classification"), quiet_transformers():
        model, head = load_checkpoint(
            AutoModelForTokenClassification, name, new_head=tagset is not None, **settings
        )
    if head.new and announce:
        _LOG.info("%s: the classifier is new: %s", name, name_some(head.new))
    return model


def read_config(name: str) -> Any:
    """The config.json of an encoder or a model: a bundled name, a folder or a hub name.

    Raises:
        ModelError: it cannot be read.
        MissingDependencyError: transformers is not installed.
    """
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingDependencyError("transformers", purpose="an encoder") from error
    location = resolve_encoder(name)
    reach_hub(location)
    with loading_errors(name, location, "token-classification"), quiet_transformers():
        return AutoConfig.from_pretrained(location, trust_remote_code=False)


@contextlib.contextmanager
def loading_errors(name: str, location: str, kind: str) -> Iterator[None]:
    """Turn what transformers may raise while loading into one line that a user can act on.

    Args:
        name: what was asked for.
        location: where it was looked for.
        kind: of model, for the message.

    Raises:
        ModelError: in the place of the library's error.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{name}: {_plain(error, location, kind)}") from error
    except Exception as error:
        # safetensors has an error class of its own, without a common base.
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelError(f"{name}: its safetensors file is damaged ({error})") from error


def _plain(error: Exception, location: str, kind: str) -> str:
    """One line that a user can act on, for what transformers says in many."""
    text = " ".join(str(error).split())
    if not Path(location).is_dir():
        cause = textwrap.shorten(text.partition(". ")[0], 200, placeholder=" …")
        return (
            "is neither a bundled encoder nor a folder, and it could not be fetched from the hub "
            f"(a wrong name, or no connection): {cause}"
        )
    if "safetensors" in text:
        return (
            "holds no safetensors weights; nertune loads no pickle. Convert it once with "
            f"`model.save_pretrained(folder)`, which writes model.safetensors ({text[:160]})"
        )
    return f"cannot be loaded as a {kind} model: {text[:300]}"


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report (a new head is what was asked for), bars or notes about itself."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers about itself
            yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def refuse_missing_embeddings(name: str, model: Any, vocabulary_size: int) -> None:
    """A token id without an embedding would be an index error in the middle of training.

    Raises:
        ModelError: the tokenizer has more ids than the model embeddings.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if vocabulary_size > rows:
        raise ModelError(
            f"{name}: its tokenizer has {vocabulary_size} ids but the model {rows} embeddings; "
            "tokenizer and weights do not belong together"
        )


def has_rotary_positions(model: Any) -> bool:
    """Whether positions are angles (Su et al., 2021), so that none has weights of its own."""
    learned = any("position_embeddings" in name for name, _ in model.named_parameters())
    return not learned and bool(getattr(model.config, "rope_parameters", None))


def position_limit(model: Any) -> int | None:
    """The longest input that the encoder's position embeddings allow, in tokens, if bounded."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return int(limit) - int(padding) - 1  # as RoBERTa: positions begin behind the pad id
    return int(limit)
