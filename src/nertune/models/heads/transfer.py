"""Heads that go on under other labels: what was learned for a tag stays with that tag.

A classifier has a row, a CRF a start, an end and a row and column of transitions for each tag.
Where a tagger is trained further on other labels, those of the same tags are kept and the others
are new: kept by their number alone, a person's row would name whatever comes in its place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nertune.config.heads import head_names
from nertune.errors import ModelError
from nertune.labels.tagset import TagSet
from nertune.models.encoder import load_encoder, read_config
from nertune.models.heads.base import KeptTags
from nertune.models.hub import fetch_artifact
from nertune.storage.encoders import encoder_folder

__all__ = [
    "Base",
    "adopt_state",
    "find_classifier",
    "fit_classifier",
    "head_parameters",
    "load_with_head",
    "match_tags",
    "read_head_weights",
    "read_weights",
]

_LOG = logging.getLogger("nertune")

# Architectures without a classifier that could be taken for a tagger's.
_PLAIN = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel", "WithLMHead")


def match_tags(old: TagSet | None, new: TagSet) -> KeptTags:
    """The tags of a new set that the old one has, by label and place in the entity.

    None at all where only `O` is common: it was learned against other labels.
    """
    ids = {} if old is None else {new.find(*part): i for part, i in old.parts.items()}
    found = {i: j for i, j in ids.items() if i is not None}
    has_entity = any(new.tags[i] != "O" for i in found)
    return KeptTags(new.tags, dict(sorted(found.items())) if has_entity else {})


@dataclass(frozen=True, slots=True)
class Base:
    """What a tagger is built on.

    Attributes:
        model: transformers' token-classification model, without an adapter, with a classifier for
            the tags that are to be learned.
        kept: what of a trained head is in it; `None` if there was none.
        heads: the weights of the head that was trained with that classifier, by the head's name;
            empty where it has none, as softmax.
        state: the weights of an emitter (an adapter with what it is on, an LSTM) that is trained
            further; they replace those of the one that is built.
        classifier: the full name of the last layer in the model without an adapter.
    """

    model: Any
    kept: KeptTags | None = None
    heads: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    state: Mapping[str, Tensor] | None = None
    classifier: str = "classifier"


def load_with_head(name: str, tagset: TagSet) -> Base:
    """An encoder with a classifier for these tags; rows of tags that it knows are kept.

    What was kept of a trained head is logged. Seed torch before: new rows are drawn from its
    generator.

    Args:
        name: a bundled name, a folder or a hub name; of an encoder, or of anybody's tagger.
        tagset: the tags.

    Raises:
        ModelError: nothing can be loaded from there.
    """
    architectures = read_config(name).architectures or []
    if any("TokenClassification" in a for a in architectures):
        model = load_encoder(name)
        kept = fit_classifier(model, tagset, _known_tags(model.config), name=name)
        _LOG.info("%s", kept.describe(f"{name}: the classifier"))
        return Base(model, kept, read_head_weights(fetch_artifact(name) or encoder_folder(name)))
    is_plain = all(a.endswith(_PLAIN) for a in architectures)
    model = load_encoder(name, tagset, announce=is_plain)
    if not is_plain:
        # E.g. a text classifier's head has the same name, and by chance the same size.
        fit_classifier(model, tagset, None, name=name)
        _LOG.info("%s: the classifier is new: that of %s is none of tags", name, architectures[0])
    return Base(model)


def _known_tags(config: Any) -> TagSet | None:
    """The tags of somebody's outputs; `None` if they name none, as `LABEL_0` does."""
    try:
        return TagSet.from_foreign([config.id2label[i] for i in range(config.num_labels)])
    except (ValueError, KeyError):
        return None


@torch.no_grad()
def fit_classifier(model: Any, tagset: TagSet, old: TagSet | None, *, name: str = "") -> KeptTags:
    """Give a token-classification model a new last layer, with the rows of tags that it knows.

    Args:
        model: transformers' own, without an adapter.
        tagset: the tags of the new layer's outputs.
        old: those of the present ones; `None` if they mean nothing.
        name: the model's, for the message.

    Raises:
        ModelError: its last layer is of a kind that is not known.
    """
    full_name, before = find_classifier(model, name)
    path, _, local = full_name.rpartition(".")
    parent = model.get_submodule(path)
    for parameter in model.parameters():
        parameter._is_hf_initialized = True  # transformers draws anew only what lacks this
    classifier = nn.Linear(before.in_features, len(tagset), bias=before.bias is not None)
    setattr(parent, local, classifier)
    model.config.id2label = dict(enumerate(tagset.tags))
    model.config.label2id = {tag: i for i, tag in enumerate(tagset.tags)}
    model.num_labels = len(tagset)
    for module in (classifier, parent, model):  # some families draw it with the whole model
        model._init_weights(module)
    for parameter in model.parameters():
        parameter.__dict__.pop("_is_hf_initialized", None)
    kept = match_tags(old, tagset)
    for i, j in kept.ids.items():
        classifier.weight[i] = before.weight[j]
        if classifier.bias is not None:
            classifier.bias[i] = before.bias[j]
    return kept


def find_classifier(model: Any, name: str = "") -> tuple[str, nn.Linear]:
    """The linear layer that gives the logits, and its full name.

    Raises:
        ModelError: there is none.
    """
    prefix = f"{model.base_model_prefix}."
    found = [
        (full_name, module)
        for full_name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not full_name.startswith(prefix)
        and module.out_features == model.config.num_labels
    ]
    if not found:
        raise ModelError(
            f"{name}: {type(model).__name__} has no linear layer of {model.config.num_labels} "
            "outputs on top, so that its head cannot be fitted to other labels"
        )
    return found[-1]


@torch.no_grad()
def adopt_state(emitter: nn.Module, base: Base) -> None:
    """Put the weights of an emitter that is trained further into one that was built alike.

    Those of the classifier go by their tags.

    Raises:
        ModelError: they are of another shape.
    """
    assert base.state is not None
    assert base.kept is not None
    last = re.compile(
        rf"(^|\.){re.escape(base.classifier)}(\.modules_to_save\.\w+|\.original_module)?"
        r"\.(weight|bias)"
    )
    for name, tensor in emitter.state_dict().items():
        before = base.state.get(name)
        if before is not None and last.search(name):
            for i, j in base.kept.ids.items():
                tensor[i] = before[j]
        elif before is None or before.shape != tensor.shape:
            raise ModelError(
                f"{name}: the trained weights do not fit what these settings describe; they are of "
                "another version, or of other settings"
            )
        else:
            tensor.copy_(before)


def head_parameters(model: Any) -> dict[str, Tensor]:
    """What of a token-classification model stands on its encoder, by full names."""
    prefix = f"{model.base_model_prefix}."
    return {n: t for n, t in model.state_dict().items() if not n.startswith(prefix)}


def read_head_weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of the head that nertune saved in a tagger's folder, by the head's name.

    Raises:
        ModelError: the file is damaged.
    """
    files = {name: folder / f"{name}.safetensors" for name in head_names()}
    return {name: read_weights(path) for name, path in files.items() if path.is_file()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); copy the folder again") from error
