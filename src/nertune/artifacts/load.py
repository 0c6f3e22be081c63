"""Load a trained tagger: a folder of nertune's, by path or from the hub, or anybody's model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from nertune.artifacts.manifest import (
    ADAPTED,
    MANIFEST,
    MARK,
    Manifest,
    adapter_folder,
    base_encoder,
    own_folder,
    read_manifest,
)
from nertune.errors import ArtifactError, ConfigError, MissingDependencyError, ModelError
from nertune.labels.tagset import TagSet
from nertune.models.build import build_lstm, build_segmenter
from nertune.models.device import choose_device
from nertune.models.encoder import (
    EncoderEmitter,
    load_encoder,
    quiet_transformers,
    read_config,
    refuse_missing_embeddings,
)
from nertune.models.heads.base import Head, build_head
from nertune.models.heads.transfer import (
    Base,
    find_classifier,
    fit_classifier,
    head_parameters,
    load_with_head,
    match_tags,
    read_head_weights,
    read_weights,
)
from nertune.models.peft.adapters import refuse_incomplete
from nertune.models.tagger import Tagger
from nertune.storage.paths import user_path
from nertune.tokens.tokenizer import CharTokenizer, Tokenizer, load_tokenizer
from nertune.tokens.windows import Segmenter

__all__ = [
    "HEAD_FILE",
    "LoadedTagger",
    "assemble",
    "load_base",
    "load_head",
    "load_head_with_weights",
    "load_own_tokenizer",
    "load_tagger",
    "load_trained",
    "merge_adapter",
    "merge_emitter",
]

HEAD_FILE = "head.safetensors"
"""What stands on the encoder, in a folder that holds a head alone."""

_FOREIGN_ADAPTER = (
    "{name}: holds a plain peft adapter: no nertune.json says its tags and its base encoder; merge "
    "it into its base (`merge_and_unload`), save that, and name it"
)
_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class LoadedTagger:
    """A trained tagger with all that it needs to read text and to name what it finds.

    Attributes:
        tagger: the model.
        segmenter: how it reads text.
        tagset: what its outputs stand for.
        manifest: what its folder says; `None` for a model that nertune did not save.
    """

    tagger: Tagger
    segmenter: Segmenter
    tagset: TagSet
    manifest: Manifest | None = None


def load_tagger(
    model: str | Path,
    *,
    device: str = "auto",
    merge: bool = False,
    encoder: str | Path | None = None,
) -> LoadedTagger:
    """Load a nertune folder, or anybody's token-classification model.

    Args:
        model: the folder or hub name.
        device: `"auto"` takes a GPU where there is one.
        merge: fold an adapter into the encoder's weights, where its method can do that.
        encoder: where an adapter's base encoder is now; its hash decides whether that is it.

    Raises:
        ModelError: nothing can be loaded from there.
        ArtifactError: the folder is damaged, of an unknown version, or its base encoder is not the
            one that it was trained on.
    """
    folder = own_folder(str(model))
    base = None if encoder is None else str(encoder)
    loaded = _load_foreign(str(model), base) if folder is None else _load_own(folder, base)
    loaded.tagger.to(choose_device(device)).eval()
    emitter = loaded.tagger.emitter
    if merge and isinstance(emitter, EncoderEmitter) and not emitter.merge_adapter():
        return load_tagger(model, device=device, encoder=encoder)
    return loaded


def _load_own(folder: Path, encoder: str | None = None) -> LoadedTagger:
    manifest = read_manifest(folder)
    if encoder is not None and not manifest.needs_base:
        raise ConfigError(f"{folder}: holds no adapter, so it takes no --encoder")
    tagset = TagSet(manifest.tags, manifest.scheme)
    tokenizer = load_own_tokenizer(folder, manifest)
    emitter: nn.Module
    if manifest.emitter == "lstm":
        assert manifest.lstm is not None
        emitter = build_lstm(manifest.lstm, len(tagset), tokenizer.vocabulary_size)
        _load_state(emitter, folder / "model.safetensors")
    else:
        model = _load_model(folder, manifest, tagset, encoder)
        _refuse_misfit(str(folder), model, tokenizer, tagset)
        emitter = EncoderEmitter(model)
    tagger = Tagger(emitter, load_head(folder, manifest, tagset))
    return assemble(folder, manifest, tagger, tokenizer, tagset)


def _load_model(folder: Path, manifest: Manifest, tagset: TagSet, encoder: str | None) -> Any:
    if manifest.head_alone:
        return _load_head_alone(folder, manifest, tagset, encoder)
    if manifest.tuning in ADAPTED:
        return _load_adapter(folder, manifest, tagset, encoder)
    return load_encoder(str(folder))


def _load_head_alone(folder: Path, manifest: Manifest, tagset: TagSet, encoder: str | None) -> Any:
    """The base encoder, under the classifier that the folder holds."""
    model = _plain_model(base_encoder(folder, manifest, encoder), tagset)
    weights = folder / HEAD_FILE
    state = read_weights(weights)
    expected = head_parameters(model)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != {name: tuple(tensor.shape) for name, tensor in expected.items()}:
        raise ArtifactError(f"{weights}: does not fit this tagger; copy the folder again")
    model.load_state_dict(state, strict=False)
    return model


def load_own_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer in a tagger's folder.

    Raises:
        ArtifactError: it is not the one that the tagger learned with.
    """
    tokenizer: Tokenizer = (
        CharTokenizer.from_file(folder / "chars.txt", manifest.unit)
        if manifest.emitter == "lstm"
        else load_tokenizer(folder, manifest.encoding)
    )
    if tokenizer.fingerprint() != manifest.tokenizer_sha256:
        raise ArtifactError(f"{folder}: its tokenizer is not the one that the tagger learned with")
    return tokenizer


def load_head(folder: Path, manifest: Manifest, tagset: TagSet) -> Head:
    """The head of a tagger's folder, without its weights.

    Raises:
        ArtifactError: no head of that name is registered here.
    """
    try:
        return build_head(manifest.decoder, tagset)
    except ConfigError as error:
        raise ArtifactError(f"{folder}: {error}") from error


def load_head_with_weights(folder: Path, manifest: Manifest, tagset: TagSet) -> Head:
    """The head of a tagger's folder, ready to decode.

    Raises:
        ArtifactError: no head of that name is registered here, or its weights do not fit.
    """
    head: Any = load_head(folder, manifest, tagset)
    if head.state_dict():
        _load_state(head, folder / f"{manifest.decoder}.safetensors")
    return cast("Head", head.eval())


def assemble(
    folder: Path, manifest: Manifest, tagger: Tagger, tokenizer: Tokenizer, tagset: TagSet
) -> LoadedTagger:
    """A tagger whose emitter is ready; the head's own weights are read here.

    Raises:
        ArtifactError: the weights do not fit, or the windows are longer than the encoder allows.
    """
    if tagger.head.state_dict():
        _load_state(tagger.head, folder / f"{manifest.decoder}.safetensors")
    try:
        segmenter = build_segmenter(
            tagger,
            tokenizer,
            manifest.unit,
            max_pieces=manifest.max_pieces,
            stride=manifest.stride,
        )
    except ConfigError as error:
        raise ArtifactError(f"{folder}: {error}; the folder is damaged") from error
    return LoadedTagger(tagger, segmenter, tagset, manifest)


def load_base(encoder: str, tagset: TagSet) -> Base:
    """What `model.encoder` names, with a classifier for these tags (`heads.load_with_head`).

    An adapter that nertune saved is merged into its own base encoder.

    Raises:
        ModelError: nothing can be loaded from there, or the adapter cannot be merged.
    """
    folder = adapter_folder(encoder)
    if folder is None:
        return load_with_head(encoder, tagset)
    model, old = merge_adapter(encoder)
    kept = fit_classifier(model, tagset, old, name=encoder)
    _LOG.info("%s", kept.describe(f"{encoder}: the classifier"))
    return Base(model, kept, read_head_weights(folder))


def load_trained(folder: Path, tagset: TagSet) -> Base:
    """An adapter or an LSTM to be trained further as such, with a head for these tags.

    Args:
        folder: from `save_model`.
        tagset: the tags to be learned.

    Raises:
        ArtifactError: the folder is damaged, or the adapter's base encoder is another one.
    """
    manifest = read_manifest(folder)
    old = TagSet(manifest.tags, manifest.scheme)
    kept = match_tags(old, tagset)
    _LOG.info("%s", kept.describe(f"{folder}: the classifier"))
    heads = read_head_weights(folder)
    if manifest.emitter == "lstm":
        return Base(None, kept, heads, read_weights(folder / "model.safetensors"))
    state = _load_adapter(folder, manifest, old).state_dict()
    encoder = base_encoder(folder, manifest)
    model = _plain_model(encoder, tagset)
    return Base(model, kept, heads, state, find_classifier(model, encoder)[0])


def merge_adapter(name: str) -> tuple[Any, TagSet]:
    """The token-classification model that an adapter saved by nertune and its base come to.

    Returns:
        The model, with its own classifier, and its tags.

    Raises:
        ModelError: nertune did not save it, or its method cannot be merged.
        ArtifactError: the folder is damaged, or its base encoder is another one.
    """
    folder = adapter_folder(name)
    if folder is None or not (folder / MANIFEST).is_file():
        raise ModelError(_FOREIGN_ADAPTER.format(name=name))
    manifest = read_manifest(folder)
    tagset = TagSet(manifest.tags, manifest.scheme)
    emitter = EncoderEmitter(_load_adapter(folder, manifest, tagset))
    merge_emitter(emitter, name)
    _LOG.info("%s: the adapter is merged into %s", name, manifest.encoder)
    return emitter.model, tagset


def merge_emitter(emitter: EncoderEmitter, name: str) -> None:
    """Merge an emitter's adapter into its weights.

    Raises:
        ModelError: its method cannot be merged.
    """
    configs = getattr(emitter.model, "peft_config", None) or {}
    method = ", ".join(str(getattr(c.peft_type, "value", "")).lower() for c in configs.values())
    if not emitter.merge_adapter() or isinstance(emitter.model, _peft_models()):
        raise ModelError(
            f"{name}: an adapter of method {method!r} cannot be merged into the encoder's weights"
        )


def _peft_models() -> tuple[type, ...]:
    try:
        from peft import PeftModel
    except ImportError:  # then nothing is one
        return ()
    return (PeftModel,)


def _load_adapter(
    folder: Path, manifest: Manifest, tagset: TagSet, encoder: str | None = None
) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingDependencyError("peft", purpose="LoRA") from error
    found = base_encoder(folder, manifest, encoder)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():  # peft would look for a pickle instead
        raise ArtifactError(f"{weights}: missing; the folder is incomplete, copy it again")
    base = _plain_model(found, tagset)
    try:
        with quiet_transformers():
            model = PeftModel.from_pretrained(base, str(folder))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{weights}: does not fit this tagger ({_brief(error)})") from error
    refuse_incomplete(weights, model)
    return model


def _plain_model(encoder: str, tagset: TagSet) -> Any:
    """What an adapter is put on; its classifier comes with the adapter."""
    if adapter_folder(encoder) is None:
        return load_encoder(encoder, tagset, announce=False)
    model, _ = merge_adapter(encoder)
    fit_classifier(model, tagset, None, name=encoder)
    return model


def _load_state(module: Any, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{path}: does not fit this tagger ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _load_foreign(name: str, encoder: str | None = None) -> LoadedTagger:
    if encoder is not None:
        raise ConfigError(f"{name}: is no adapter of nertune's, so it takes no --encoder")
    folder = user_path(name)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(_FOREIGN_ADAPTER.format(name=name))
    config = read_config(name)
    if getattr(config, MARK, None):
        raise ArtifactError(
            f"{name}: was saved by nertune, but its {MANIFEST} is not there, which says how it "
            "reads text and decodes; copy or fetch all files of the model (in the hub's cache only "
            f"what was fetched is found offline), or take {MARK!r} out of its config.json to load "
            "it as any other token-classification model"
        )
    if not any("TokenClassification" in a for a in config.architectures or []):
        raise ModelError(
            f"{name}: is not a trained tagger (its architecture is "
            f"{', '.join(config.architectures or ['not stated'])}); train one with `nertune train`"
        )
    try:
        tagset = TagSet.from_foreign([config.id2label[i] for i in range(config.num_labels)])
    except (ValueError, KeyError) as error:
        reason = f"output {error} has no name" if isinstance(error, KeyError) else error
        raise ModelError(
            f"{name}: its outputs cannot be read as tags: {reason}; name each of the "
            f"{config.num_labels} in its config.json (of a hub model: in a local copy), e.g. "
            '"id2label": {"0": "O", "1": "B-PER", "2": "I-PER", …}'
        ) from error
    model = load_encoder(name)
    tokenizer = load_tokenizer(name)
    _refuse_misfit(name, model, tokenizer, tagset)
    tagger = Tagger(EncoderEmitter(model), build_head("softmax", tagset))
    # Words, with Chinese characters on their own: what such models are trained on.
    return LoadedTagger(tagger, build_segmenter(tagger, tokenizer, "word"), tagset)


def _refuse_misfit(name: str, model: Any, tokenizer: Tokenizer, tagset: TagSet) -> None:
    """A tag without an output, or an id without an embedding, is an index error later on."""
    if model.config.num_labels != len(tagset):
        raise ModelError(
            f"{name}: its model has {model.config.num_labels} outputs, but {len(tagset)} tags are "
            "named; weights and tags do not belong together"
        )
    refuse_missing_embeddings(name, model, tokenizer.vocabulary_size)
