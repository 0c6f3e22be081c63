"""What a model is to a server: one that shares batches, or one that computes on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from nertune.artifacts.extended import find_parts
from nertune.artifacts.load import LoadedTagger, assemble, load_head, load_own_tokenizer
from nertune.artifacts.manifest import (
    ADAPTED,
    MANIFEST,
    Manifest,
    base_encoder,
    hash_encoder,
    own_folder,
    parse_manifest,
    read_manifest,
)
from nertune.artifacts.parts import Overlap
from nertune.errors import ArtifactError, ModelError
from nertune.inference.mixed.adapters import (
    Adapter,
    CannotStackError,
    adapter_method,
    read_adapter,
    read_adapter_config,
)
from nertune.inference.mixed.encoder import MixedEncoder
from nertune.inference.predictor import Predictor, load_model
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter, refuse_missing_embeddings
from nertune.models.graphs.onnx import Backend
from nertune.models.heads.base import Head
from nertune.models.heads.calibration import Calibration
from nertune.models.peft.tuning import head_names
from nertune.models.tagger import Tagger
from nertune.models.weights import name_some
from nertune.tokens.tokenizer import Tokenizer
from nertune.tokens.windows import Segmenter

_Result = TypeVar("_Result")

__all__ = ["Joined", "Mixed", "Model", "Own", "Reader", "ServedModel"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What users are told about a model.

    Attributes:
        name: by which it is asked for.
        labels: what its entities may be, in the order of its tags.
        encoder: the base encoder's name as the model's recipe has it; empty for an LSTM.
        method: what was trained: `lora`, `rslora`, another method of peft, `full`, `frozen`, `top`,
            `bitfit`, `lstm`; `base` for the bare base encoder with its own head; `extended` for a
            model of several parts.
        unit: what carries a tag, `char` or `word`.
        decoder: the name of its head, e.g. `crf`.
        mixes: whether it shares batches with other models.
        why_not: why it does not; empty where it does.
    """

    name: str
    labels: tuple[str, ...]
    encoder: str
    method: str
    unit: str
    decoder: str
    mixes: bool
    why_not: str = ""


@dataclass(eq=False, slots=True)
class Mixed:
    """A model that shares batches.

    Attributes:
        served: what users are told.
        head: decodes what its rows give.
        segmenter: how it reads text.
        tagset: its tags.
        adapter: what was read of it; `None` while it is on disk alone.
        read: reads it again.
        calibration: of the scores of its entities.
    """

    served: ServedModel
    head: Head
    segmenter: Segmenter
    tagset: TagSet
    adapter: Adapter | None
    read: Callable[[], Adapter]
    calibration: Calibration


@dataclass(eq=False, slots=True)
class Own:
    """A model that computes in batches of its own.

    Attributes:
        served: what users are told.
        segmenter: how it reads text.
        predictor: the model; `None` while it is on disk alone.
        read: reads it again.
    """

    served: ServedModel
    segmenter: Segmenter
    predictor: Predictor | None
    read: Callable[[], Predictor]


@dataclass(eq=False, slots=True)
class Joined:
    """A model that was extended.

    Attributes:
        served: what users are told.
        parts: its models, the oldest first; each tags every document.
        overlaps: for each part but the first, see `inference.combination`.
    """

    served: ServedModel
    parts: tuple[Mixed | Own, ...]
    overlaps: tuple[Overlap, ...]


Model = Mixed | Own | Joined


class Reader:
    """Reads models from their folders, and finds out which of them can share batches.

    The base encoder is the one that is named, or that of the first adapter which can be stacked.

    Args:
        encoder: the base encoder, or where it is now; `None` takes that of the first adapter.
        device: where models compute.
        backend: what computes the logits.

    Attributes:
        base: the base encoder, once it is known.
        pad_id: the token that fills its batches.
    """

    def __init__(self, encoder: str | None, device: torch.device, backend: Backend):
        self._device = device
        self._backend = backend
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self.base = None if encoder is None else MixedEncoder(encoder, device, backend)
        self.pad_id: int | None = None

    def read(self, name: str, model: str) -> Model:
        """Read a model.

        Args:
            name: by which it will be asked for.
            model: its folder, or what else `load_model` takes.

        Raises:
            ModelError: it cannot be loaded.
            ArtifactError: its folder is damaged, or its base encoder is another one.
        """
        with _disk_errors(model):
            folder = own_folder(model)
            if folder is None:
                return self._read_one(name, model)
            found = find_parts(folder)
            if found.extended is None:
                return self._read_one(name, model)
            parts = tuple(self._read_one(name, str(place)) for place in found.folders)
            return Joined(_describe_all(name, parts), parts, found.extended.overlaps)

    def _read_one(self, name: str, model: str) -> Mixed | Own:
        """Read a model that was not extended, or a part of one that was."""
        folder = own_folder(model)
        if folder is not None:
            manifest = read_manifest(folder)
            if manifest.tuning in ADAPTED and manifest.emitter == "encoder":
                return self._read_adapter(name, folder, manifest)
        return self._read_full(name, model)

    def _read_adapter(self, name: str, folder: Path, manifest: Manifest) -> Mixed | Own:
        method = adapter_method(read_adapter_config(folder))
        try:
            base = self._base_of(folder, manifest)
            adapter = self._stackable(base, folder, manifest)
            loaded = self._assemble(base, folder, manifest)
        except CannotStackError as error:
            return self._own(name, str(folder), method, str(error))

        def read() -> Adapter:
            return self._stackable(base, folder, manifest)

        return Mixed(
            served=_describe(name, method, loaded, manifest.encoder),
            head=loaded.tagger.head,
            segmenter=loaded.segmenter,
            tagset=loaded.tagset,
            adapter=adapter,
            read=_Again(folder, _fingerprint(manifest), read),
            calibration=manifest.calibration or Calibration(),
        )

    def _base_of(self, folder: Path, manifest: Manifest) -> MixedEncoder:
        """The encoder that batches share, if it is this adapter's."""
        if self.base is None:
            self.base = MixedEncoder(base_encoder(folder, manifest), self._device, self._backend)
        if manifest.encoder_sha256 != self.base.sha256:
            raise CannotStackError(
                f"its base encoder {manifest.encoder!r} (sha256 {manifest.encoder_sha256[:12]}…) "
                f"is not {self.base.name!r} (sha256 {self.base.sha256[:12]}…), which batches share"
            )
        return self.base

    def _stackable(self, base: MixedEncoder, folder: Path, manifest: Manifest) -> Adapter:
        adapter = read_adapter(folder, base.linear, base.head_shapes.keys())
        base.check_head(adapter.heads, len(manifest.tags))
        if other := adapter.pairs.keys() & base.unstackable:
            raise CannotStackError(
                f"it adapts modules that the encoder computes once for all rows: {name_some(other)}"
            )
        return adapter

    def _assemble(self, base: MixedEncoder, folder: Path, manifest: Manifest) -> LoadedTagger:
        """A model's tags, its head with its weights, and how it reads text."""
        tagset = TagSet(manifest.tags, manifest.scheme)
        tokenizer = self._tokenizer(folder, manifest)
        refuse_missing_embeddings(str(folder), base.model, tokenizer.vocabulary_size)
        self._refuse_other_padding(tokenizer)
        tagger = Tagger(EncoderEmitter(base.model), load_head(folder, manifest, tagset))
        loaded = assemble(folder, manifest, tagger, tokenizer, tagset)
        loaded.tagger.head.to(self._device).eval()
        return loaded

    def _tokenizer(self, folder: Path, manifest: Manifest) -> Tokenizer:
        """That of the folder; one object for all models whose tokenizer is the same."""
        key = (manifest.tokenizer_sha256, manifest.encoding)
        if key not in self._tokenizers:
            self._tokenizers[key] = load_own_tokenizer(folder, manifest)
        return self._tokenizers[key]

    def _refuse_other_padding(self, tokenizer: Tokenizer) -> None:
        """Some encoders count positions by what is not padding."""
        if self.pad_id is None:
            self.pad_id = tokenizer.pad_id
        if tokenizer.pad_id != self.pad_id:
            raise CannotStackError(
                f"its tokenizer pads with the token {tokenizer.pad_id}, the others' with "
                f"{self.pad_id}"
            )

    def _read_full(self, name: str, model: str) -> Mixed | Own:
        """A model with weights of its own; those of the encoder may be the base encoder's."""
        backend: Backend = "torch" if self._may_be_base(model) else self._backend
        read = self._loader(model, self._moved_base(model), backend)
        predictor = read()
        manifest = predictor.manifest
        method: str = "full" if manifest is None else manifest.tuning
        if manifest is not None and manifest.emitter == "lstm":
            return self._own(name, model, "lstm", "it is an LSTM", predictor)
        try:
            base = self._base_within(predictor)
        except CannotStackError as error:
            is_loaded = self._backend == "torch" or not self._may_be_base(model)
            return self._own(name, model, method, str(error), predictor if is_loaded else None)
        if _is_base(base, model):
            method = "base"
        encoder = base.name if manifest is None else manifest.encoder
        return Mixed(
            served=_describe(name, method, predictor, encoder),
            head=predictor.tagger.head,
            segmenter=predictor.segmenter,
            tagset=predictor.tagset,
            adapter=_head_alone(predictor),
            read=_again(model, manifest, lambda: _head_alone(read())),
            calibration=predictor.calibration,
        )

    def _base_within(self, predictor: Predictor) -> MixedEncoder:
        """The encoder that batches share, if a model with its own weights has the same."""
        base = self.base
        if base is None:
            raise CannotStackError(
                "no encoder was named, and no adapter was there before it, to say which encoder "
                "batches share"
            )
        if not base.is_within(predictor.tagger.emitter):
            raise CannotStackError(f"its encoder is not {base.name!r}, which batches share")
        self._refuse_other_padding(predictor.segmenter.tokenizer)
        base.check_head(_head_alone(predictor).heads, len(predictor.tagset))
        return base

    def _may_be_base(self, model: str) -> bool:
        """Whether a model with its own weights may have the encoder that batches share."""
        if self.base is None:
            return False
        folder = own_folder(model)
        is_frozen = folder is not None and parse_manifest(folder / MANIFEST).tuning == "frozen"
        return is_frozen or _is_base(self.base, model)

    def _loader(self, model: str, encoder: str | None, backend: Backend) -> Callable[[], Predictor]:
        def read() -> Predictor:
            device = str(self._device)
            return load_model(model, device=device, backend=backend, merge=True, encoder=encoder)

        return read

    def _own(
        self,
        name: str,
        model: str,
        method: str,
        why_not: str,
        predictor: Predictor | None = None,
    ) -> Own:
        """A model that computes on its own, because of `why_not`."""
        read = self._loader(model, self._moved_base(model), self._backend)
        predictor = predictor or read()
        manifest = predictor.manifest
        encoder = model if manifest is None else manifest.encoder
        return Own(
            served=_describe(name, method, predictor, encoder, why_not),
            segmenter=predictor.segmenter,
            predictor=predictor,
            read=_again(model, manifest, read),
        )

    def _moved_base(self, model: str) -> str | None:
        """Where a model's base encoder is now, if it is the one that batches share."""
        folder = own_folder(model)
        if folder is None or self.base is None:
            return None
        manifest = parse_manifest(folder / MANIFEST)
        same = manifest.needs_base and manifest.encoder_sha256 == self.base.sha256
        return self.base.name if same else None


@contextmanager
def _disk_errors(model: str) -> Iterator[None]:
    """A file that goes while it is read is no fault of the program."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ArtifactError(f"{model}: cannot be read ({reason}); copy the folder again") from error


class _Read(Protocol):
    """What a model was read as."""

    @property
    def segmenter(self) -> Segmenter: ...

    @property
    def tagset(self) -> TagSet: ...

    @property
    def manifest(self) -> Manifest | None: ...


def _describe(name: str, method: str, read: _Read, encoder: str, why_not: str = "") -> ServedModel:
    return ServedModel(
        name=name,
        labels=read.tagset.labels,
        encoder=encoder,
        method=method,
        unit=read.segmenter.unit,
        decoder="softmax" if read.manifest is None else read.manifest.decoder,
        mixes=not why_not,
        why_not=why_not,
    )


def _describe_all(name: str, parts: Sequence[Mixed | Own]) -> ServedModel:
    """An extended model, of its parts."""
    served = [part.served for part in parts]
    return ServedModel(
        name=name,
        labels=tuple(label for one in served for label in one.labels),
        encoder=served[0].encoder,
        method="extended",
        unit=served[0].unit,
        decoder=", ".join(dict.fromkeys(one.decoder for one in served)),
        mixes=all(one.mixes for one in served),
        why_not=next((one.why_not for one in served if not one.mixes), ""),
    )


@dataclass(frozen=True, slots=True)
class _Again(Generic[_Result]):
    """Reads a model again, if its folder holds what it held.

    Attributes:
        folder: of the model.
        fingerprint: what it held.
        read: what to do then.
    """

    folder: Path
    fingerprint: tuple[object, ...]
    read: Callable[[], _Result]

    def __call__(self) -> _Result:
        with _disk_errors(str(self.folder)):
            if _fingerprint(read_manifest(self.folder)) != self.fingerprint:
                raise ArtifactError(
                    f"{self.folder}: holds another model than the one that was loaded; load it "
                    "again"
                )
            return self.read()


def _again(
    model: str, manifest: Manifest | None, read: Callable[[], _Result]
) -> Callable[[], _Result]:
    """How a model is read again; anybody's model has nothing by which to tell that it changed."""
    folder = own_folder(model)
    if folder is None or manifest is None:
        return read
    return _Again(folder, _fingerprint(manifest), read)


def _fingerprint(manifest: Manifest) -> tuple[object, ...]:
    """What decides what a model finds."""
    return (
        manifest.tags,
        manifest.unit,
        manifest.max_pieces,
        manifest.stride,
        manifest.encoder_sha256,
        None if manifest.calibration is None else manifest.calibration.model_dump_json(),
        tuple(sorted(manifest.files.items())),
    )


def _is_base(base: MixedEncoder, model: str) -> bool:
    try:
        return hash_encoder(model) == base.sha256
    except ModelError:
        return False


def _head_alone(predictor: Predictor) -> Adapter:
    """What a model adds to an encoder that is just the base."""
    emitter = predictor.tagger.emitter
    assert isinstance(emitter, EncoderEmitter)
    heads = {
        f"{part}.{name}": tensor.detach().cpu()
        for part in head_names(emitter.model)
        for name, tensor in getattr(emitter.model, part).state_dict().items()
    }
    return Adapter({}, heads)
