"""What a trained tagger is on disk.

    model/
    ├── nertune.json            what it is: see `Manifest`
    ├── README.md               model card
    ├── tokenizer.json, …       or chars.txt for an LSTM
    ├── crf.safetensors         with a CRF only
    └── an encoder tuned whole:  config.json, model.safetensors   (transformers' own files)
        with LoRA:               adapter_config.json, adapter_model.safetensors   (peft's own)
                                 base/: the base encoder with the labels, for plain peft
        an LSTM:                 model.safetensors
    └── onnx/                  after `nertune export`: graphs, and parity.json that admits them

Plain transformers and plain peft load these folders; nertune also loads token-classification
folders that it did not write. No pickle is ever read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import nertune
from nertune.artifacts.plain_base import write_base
from nertune.config.run import LstmSettings, Tuning
from nertune.data.corpus import Reading
from nertune.errors import ArtifactError, ConfigError, MissingDependencyError, ModelError
from nertune.inference.onnx import OnnxEmitter, has_int8_instructions
from nertune.inference.predictor import Backend, Predictor
from nertune.labels.schemes import Scheme
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
from nertune.models.heads.crf import Crf, SoftmaxDecoder
from nertune.models.heads.transfer import (
    Base,
    find_classifier,
    fit_classifier,
    load_with_head,
    match_tags,
    read_transitions,
    read_weights,
)
from nertune.models.hub import EncoderKind, encoder_kind, fetch_artifact, find_base
from nertune.models.peft.adapters import refuse_incomplete
from nertune.models.tagger import Tagger
from nertune.storage.atomic import flush, recover_folder, replace_folder
from nertune.storage.encoders import encoder_weights, resolve_encoder
from nertune.storage.files import hash_file, shorten
from nertune.storage.hashing import hash_once
from nertune.storage.paths import user_path
from nertune.tokens.tokenizer import CharTokenizer, EncodingStyle, Tokenizer, load_tokenizer
from nertune.tokens.units import Unit

__all__ = [
    "EXPORTED",
    "EXPORT_FOLDER",
    "FORMAT_VERSION",
    "Manifest",
    "adapter_base",
    "add_metrics",
    "base_encoder",
    "find_graph",
    "hash_encoder",
    "load_base",
    "load_model",
    "load_own_tokenizer",
    "load_trained",
    "merge_adapter",
    "merge_emitter",
    "own_folder",
    "read_manifest",
    "save_model",
    "trained_reading",
    "weight_hashes",
]

FORMAT_VERSION = 2
"""Of what is written. Version 2 says how the tokenizer encodes units, which readers of version 1
would pass over; both versions are read."""
_READ_VERSIONS = (1, 2)
EXPORT_FOLDER = "onnx"
"""Where in a tagger's folder `nertune export` puts what it makes."""
EXPORTED: dict[Backend, str] = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
"""The file of each backend in there."""

_MANIFEST = "nertune.json"
_MARK = "nertune_manifest"  # in config.json
_ADAPTED = ("lora", "peft")  # whose folder holds an adapter alone
_FOREIGN_ADAPTER = (
    "{name}: holds a plain peft adapter: no nertune.json says its tags and its base encoder; merge "
    "it into its base (`merge_and_unload`), save that, and name it"
)
_log = logging.getLogger("nertune")


class Manifest(BaseModel):
    """`nertune.json`.

    Attributes:
        format: version of this layout.
        nertune: version of the library that wrote it.
        emitter, tuning, decoder: what it is.
        unit, max_pieces, stride: how it reads text.
        tags, scheme: what its outputs stand for, in order.
        encoder: the base encoder's name as the recipe had it; empty for an LSTM.
        encoder_kind: what that name stood for; empty in older folders.
        encoder_sha256: hash over the base encoder's weight files; checked for adapters.
        start_from, start_sha256: the model that its run started from and the hash over its
            weights; empty for one that started with an encoder alone.
        encoding: how its tokenizer encodes units; what says nothing is of version 0.1.0.
        tokenizer_sha256: `Tokenizer.fingerprint`.
        lstm: the LSTM's shape.
        settings, data, metrics: of the run that trained it, for the reader.
        files: sha256 of every file in the folder but this one and the model card.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int
    nertune: str
    emitter: Literal["encoder", "lstm"]
    tuning: Tuning
    decoder: Literal["softmax", "crf"]
    unit: Unit
    max_pieces: int = Field(ge=1)
    stride: int = Field(ge=0)
    tags: tuple[str, ...]
    scheme: Scheme = "BIO"
    encoder: str = ""
    encoder_kind: EncoderKind = ""
    encoder_sha256: str = ""
    start_from: str = ""
    start_sha256: str = ""
    encoding: EncodingStyle = "isolated"
    tokenizer_sha256: str
    lstm: LstmSettings | None = None
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    files: dict[str, str] = {}

    @property
    def reading(self) -> Reading:
        """How its training file was read; `auto` for what an older version did not write down."""
        return Reading.from_record(self.data.get("train") or {})

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        TagSet(self.tags, self.scheme)  # raises for tags that are no tags
        if self.emitter == "lstm" and self.lstm is None:
            raise ValueError("the shape of the LSTM is missing")
        return self


def hash_encoder(name: str) -> str:
    """sha256 over an encoder's safetensors files, in the order of their names.

    Raises:
        ModelError: it has none.
    """
    files = encoder_weights(name)
    if not files:
        raise ModelError(
            f"{name}: holds no safetensors weights of its own; convert it once: load it with "
            "transformers, save_pretrained it to a folder, and name that"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(hash_once(file)))
    if (adapter := _adapter_folder(name)) is not None and (adapter / _MANIFEST).is_file():
        # What it is merged into belongs to the weights as well.
        digest.update(_parse_manifest(adapter / _MANIFEST).encoder_sha256.encode("ascii"))
    return digest.hexdigest()


def _adapter_folder(encoder: str) -> Path | None:
    """The folder behind an encoder's name where it holds an adapter and no encoder."""
    folder = Path(resolve_encoder(encoder))
    return folder if (folder / "adapter_config.json").is_file() else None


def adapter_base(name: str) -> str | None:
    """The encoder that an adapter saved by nertune belongs to; `None` if a name means no adapter.

    Where that is an adapter's folder in turn, what lies below all of them.
    """
    base = None
    while (folder := _adapter_folder(name)) is not None and (folder / _MANIFEST).is_file():
        base = name = base_encoder(folder, _parse_manifest(folder / _MANIFEST))
    return base


def load_base(encoder: str, tagset: TagSet) -> Base:
    """What `model.encoder` names, with a classifier for these tags (`heads.load_with_head`).

    An adapter that nertune saved is merged into its own base encoder.

    Raises:
        ModelError: nothing can be loaded from there, or the adapter cannot be merged.
    """
    folder = _adapter_folder(encoder)
    if folder is None:
        return load_with_head(encoder, tagset)
    model, old = merge_adapter(encoder)
    kept = fit_classifier(model, tagset, old, name=encoder)
    _log.info("%s", kept.describe(f"{encoder}: the classifier"))
    return Base(model, kept, read_transitions(folder))


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
    _log.info("%s", kept.describe(f"{folder}: the classifier"))
    transitions = read_transitions(folder)
    if manifest.emitter == "lstm":
        return Base(None, kept, transitions, read_weights(folder / "model.safetensors"))
    state = _load_adapter(folder, manifest, old).state_dict()
    encoder = base_encoder(folder, manifest)
    model = _plain_model(encoder, tagset)
    return Base(model, kept, transitions, state, find_classifier(model, encoder)[0])


def merge_adapter(name: str) -> tuple[Any, TagSet]:
    """The token-classification model that an adapter saved by nertune and its base come to.

    Returns:
        The model, with its own classifier, and its tags.

    Raises:
        ModelError: nertune did not save it, or its method cannot be merged.
        ArtifactError: the folder is damaged, or its base encoder is another one.
    """
    folder = _adapter_folder(name)
    if folder is None or not (folder / _MANIFEST).is_file():
        raise ModelError(_FOREIGN_ADAPTER.format(name=name))
    manifest = read_manifest(folder)
    tagset = TagSet(manifest.tags, manifest.scheme)
    emitter = EncoderEmitter(_load_adapter(folder, manifest, tagset))
    merge_emitter(emitter, name)
    _log.info("%s: the adapter is merged into %s", name, manifest.encoder)
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


def save_model(
    folder: Path,
    predictor: Predictor,
    *,
    emitter: Literal["encoder", "lstm"],
    tuning: Tuning,
    decoder: Literal["softmax", "crf"],
    encoder: str = "",
    lstm: LstmSettings | None = None,
    encoder_sha256: str = "",
    start: tuple[str, str] = ("", ""),
    settings: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    check: Callable[[Path], None] | None = None,
) -> Manifest:
    """Write a tagger's folder under a temporary name, then rename it; an older one is replaced.

    Args:
        folder: where to.
        predictor: the tagger with its segmenter and tags.
        emitter, tuning, decoder, encoder, lstm: what it is (`Manifest`).
        start: folder and hash of the model that its run started from.
        encoder_sha256: of the base encoder; by default that of what its name means now.
        settings, data, metrics: kept for the reader and shown in the model card.
        check: is given the complete folder before it replaces an older one; what it raises leaves
            the older one in place.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_weights(draft, predictor.tagger)
        kind = encoder_kind(encoder) if encoder else ""
        predictor.segmenter.tokenizer.save(draft)
        if tuning in _ADAPTED and _adapter_folder(encoder) is None:
            model = predictor.tagger.emitter.model
            write_base(draft, folder, model, encoder, is_hub=kind == "hub")
        manifest = Manifest(
            format=FORMAT_VERSION,
            nertune=nertune.__version__,
            emitter=emitter,
            tuning=tuning,
            decoder=decoder,
            unit=predictor.segmenter.unit,
            max_pieces=predictor.segmenter.max_pieces,
            stride=predictor.segmenter.stride,
            tags=predictor.tagset.tags,
            scheme=predictor.tagset.scheme,
            encoder=encoder,
            encoder_kind=kind,
            encoder_sha256=encoder_sha256 or (hash_encoder(encoder) if encoder else ""),
            start_from=start[0],
            start_sha256=start[1],
            encoding=predictor.segmenter.tokenizer.style,
            tokenizer_sha256=predictor.segmenter.tokenizer.fingerprint(),
            lstm=lstm,
            settings=settings or {},
            data=data or {},
            metrics=metrics or {},
            files={
                p.name: hash_file(p)
                for p in sorted(draft.iterdir())
                if p.is_file() and p.name != "README.md"
            },
        )
        (draft / _MANIFEST).write_text(_manifest_text(manifest), encoding="utf-8")
        (draft / "README.md").write_text(_model_card(manifest), encoding="utf-8")
        _open_to_all(draft)
        if check is not None:
            check(draft)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _open_to_all(folder: Path) -> None:
    """mkdtemp and safetensors write for the owner alone; what links lead to is left as it is."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _manifest_text(manifest: Manifest) -> str:
    values = manifest.model_dump(mode="json")
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def add_metrics(folder: Path, metrics: dict[str, Any], *, data: dict[str, Any]) -> None:
    """Note further scores of a saved tagger, in its manifest and its model card.

    Args:
        folder: from `save_model`.
        metrics: scores by split; those of other splits stay.
        data: replaces what the manifest says about the data.

    Raises:
        ArtifactError: the folder is damaged.
    """
    manifest = read_manifest(folder)
    told = manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics}, "data": data})
    card = _model_card(told)
    for name, text in ((_MANIFEST, _manifest_text(told)), ("README.md", card)):
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)
        flush(draft)
        draft.replace(folder / name)
    flush(folder)


def _write_weights(folder: Path, tagger: Tagger) -> None:
    from safetensors.torch import save_file

    if isinstance(tagger.emitter, EncoderEmitter):
        # A full model, or peft's adapter with the head inside; both in their own format.
        model = tagger.emitter.model
        # An encoder's own settings may ask for it; transformers then refuses to save them.
        model.config.output_attentions = False
        _mark(model.config)
        with quiet_transformers():
            model.save_pretrained(folder)
    else:
        weights = {k: t.detach().cpu().contiguous() for k, t in tagger.emitter.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
    if isinstance(tagger.decoder, Crf):
        weights = {k: t.detach().cpu().contiguous() for k, t in tagger.decoder.state_dict().items()}
        save_file(weights, folder / "crf.safetensors")


def _mark(config: Any) -> None:
    """Say in config.json that the folder is nertune's: without the manifest, it is not loaded."""
    setattr(config, _MARK, _MANIFEST)


def load_model(
    model: str | Path,
    *,
    device: str = "auto",
    backend: Backend = "torch",
    merge: bool = False,
    encoder: str | Path | None = None,
) -> Predictor:
    """Load a nertune folder, or anybody's token-classification model.

    Args:
        model: the folder or hub name.
        device: `"auto"` takes a GPU where there is one; an exported graph runs on the CPU then.
        backend: what computes the emissions.
        merge: fold an adapter into the encoder's weights, where its method can do that.
        encoder: where an adapter's base encoder is now; its hash decides whether that is it.

    Raises:
        ModelError: nothing can be loaded from there.
        ArtifactError: the folder is damaged, of an unknown version, was not exported, or its base
            encoder is not the one that it was trained on.
    """
    folder = own_folder(str(model), graphs=backend != "torch")
    if backend != "torch":
        return _load_exported(str(model), folder, backend, device)
    base = None if encoder is None else str(encoder)
    predictor = _load_foreign(str(model), base) if folder is None else _load_own(folder, base)
    predictor.tagger.to(choose_device(device)).eval()
    emitter = predictor.tagger.emitter
    if merge and isinstance(emitter, EncoderEmitter) and not emitter.merge_adapter():
        return load_model(model, device=device, encoder=encoder)
    return predictor


def own_folder(name: str, *, graphs: bool = False) -> Path | None:
    """The folder that nertune wrote: this one, `model/` in a run's, or one in the hub's cache.

    Args:
        name: a folder or a hub name; a tagger of nertune's on the hub is fetched whole.
        graphs: of the hub, fetch what `nertune export` made too.

    Returns:
        `None` for all other models.

    Raises:
        ModelError: the name cannot be one.
        ArtifactError: a file of a tagger on the hub cannot be fetched.
    """
    try:
        folder = Path(name).expanduser()
        for replaced in (folder, folder / "model"):
            if replaced.name:
                recover_folder(replaced)
        found = [f for f in (folder, folder / "model") if (f / _MANIFEST).is_file()]
    except (OSError, RuntimeError) as error:  # a name too long for a file, an unknown ~user
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{shorten(name)}: cannot be a model's folder or hub name ({reason})"
        ) from error
    return found[0] if found else fetch_artifact(name, graphs=graphs)


def trained_reading(name: str) -> Reading:
    """How a model's training file was read, so that others are read alike.

    Args:
        name: a folder, or any other name of a model, for which nothing is known.

    Raises:
        ArtifactError: the folder is damaged.
        ModelError: the name cannot be one.
    """
    folder = own_folder(name)
    return Reading() if folder is None else _parse_manifest(folder / _MANIFEST).reading


def read_manifest(folder: Path) -> Manifest:
    """Read and check `nertune.json` and the files that it names.

    Raises:
        ArtifactError: it is not valid, of another version, or a file is missing or changed.
    """
    manifest = _parse_manifest(folder / _MANIFEST)
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise ArtifactError(f"{file}: missing; the folder is incomplete, copy it again")
        if hash_file(file) != expected:
            raise ArtifactError(
                f"{file}: is not the file that was saved (its sha256 differs): damaged, cut off or "
                "changed; copy the folder again"
            )
    return manifest


def _parse_manifest(path: Path) -> Manifest:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.get("format") if isinstance(values, dict) else None
        if version not in _READ_VERSIONS:
            raise ArtifactError(
                f"{path}: format version {version!r}, but this nertune ({nertune.__version__}) "
                f"reads versions up to {FORMAT_VERSION}; use the nertune that wrote it "
                f"({values.get('nertune', 'unknown') if isinstance(values, dict) else 'unknown'})"
            )
        return Manifest.model_validate(values)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); the folder is damaged") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        message = first["msg"].removeprefix("Value error, ")
        raise ArtifactError(f"{path}: {key}: {message}; the folder is damaged") from error


def _load_own(folder: Path, encoder: str | None = None) -> Predictor:
    manifest = read_manifest(folder)
    if encoder is not None and manifest.tuning not in _ADAPTED:
        raise ConfigError(f"{folder}: holds no adapter, so it takes no --encoder")
    tagset = TagSet(manifest.tags, manifest.scheme)
    tokenizer = load_own_tokenizer(folder, manifest)
    if manifest.emitter == "lstm":
        assert manifest.lstm is not None
        tagger = build_lstm(manifest.lstm, manifest.decoder, tagset, tokenizer.vocabulary_size)
        _load_state(tagger.emitter, folder / "model.safetensors")
    else:
        model = (
            load_encoder(str(folder))
            if manifest.tuning not in _ADAPTED
            else _load_adapter(folder, manifest, tagset, encoder)
        )
        _refuse_misfit(str(folder), model, tokenizer, tagset)
        tagger = Tagger(EncoderEmitter(model), _decoder(manifest, tagset))
    return _assemble(folder, manifest, tagger, tokenizer, tagset)


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


def _decoder(manifest: Manifest, tagset: TagSet) -> Crf | SoftmaxDecoder:
    return Crf(tagset) if manifest.decoder == "crf" else SoftmaxDecoder(tagset)


def _assemble(
    folder: Path, manifest: Manifest, tagger: Tagger, tokenizer: Tokenizer, tagset: TagSet
) -> Predictor:
    """The predictor of a tagger whose emitter is ready; a CRF's scores are read here."""
    if manifest.decoder == "crf":
        _load_state(tagger.decoder, folder / "crf.safetensors")
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
    predictor = Predictor(tagger, segmenter, tagset)
    predictor.manifest = manifest
    return predictor


def _load_exported(name: str, folder: Path | None, backend: Backend, device: str) -> Predictor:
    """A predictor whose emissions an exported graph computes; the encoder itself is not read."""
    if folder is None:
        raise ArtifactError(
            f"{name}: --backend {backend} needs a folder that nertune wrote and exported; "
            "this one is not"
        )
    manifest = read_manifest(folder)
    graph = find_graph(folder, manifest, backend)
    chosen = "cpu" if device == "auto" else str(choose_device(device))
    tagset = TagSet(manifest.tags, manifest.scheme)
    tokenizer = load_own_tokenizer(folder, manifest)
    emitter = OnnxEmitter(graph, device=chosen, quantized=backend == "onnx-int8")
    tagger = Tagger(emitter, _decoder(manifest, tagset)).eval()
    return _assemble(folder, manifest, tagger, tokenizer, tagset)


def find_graph(folder: Path, manifest: Manifest, backend: Backend) -> Path:
    """The file that `nertune export` wrote for a backend.

    Raises:
        ArtifactError: there is none, it was refused, it is of other weights, or it is damaged.
    """
    file = EXPORTED[backend]
    wanted = f"nertune export {folder} --to onnx{' --int8' if backend == 'onnx-int8' else ''}"
    path = folder / EXPORT_FOLDER / "parity.json"
    if not path.is_file():
        raise ArtifactError(f"{folder}: was not exported; do it once: {wanted}")
    try:
        parity = json.loads(path.read_text(encoding="utf-8"))
        expected = parity["files"].get(file)
        weights = parity["weights"]
        had_instructions = parity["machine"]["int8_instructions"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); export again: {wanted}") from error
    if expected is None:
        raise ArtifactError(
            f"{folder}: holds no {file}: it was not exported so, or was refused ({path} says why); "
            f"to try again: {wanted}"
        )
    if weights != weight_hashes(manifest):
        raise ArtifactError(
            f"{path}: is of other weights than the folder's; export again: {wanted}"
        )
    if backend == "onnx-int8" and had_instructions and has_int8_instructions() is False:
        raise ArtifactError(
            f"{folder}: its int8 graph was checked on a processor with int8 instructions (VNNI), "
            f"which this one lacks, so that it may find other entities; export here: {wanted}"
        )
    graph = path.with_name(file)
    if not graph.is_file() or hash_file(graph) != expected:
        raise ArtifactError(f"{graph}: missing or damaged; export again: {wanted}")
    return graph


def weight_hashes(manifest: Manifest) -> dict[str, str]:
    """The hashes of a folder's weights, and of the encoder that an adapter belongs to."""
    own = {name: sha for name, sha in manifest.files.items() if name.endswith(".safetensors")}
    return own | ({"encoder": manifest.encoder_sha256} if manifest.tuning in _ADAPTED else {})


def base_encoder(folder: Path, manifest: Manifest, encoder: str | None = None) -> str:
    """The base encoder of an adapter, where it is now (`hub.find_base`).

    Raises:
        ArtifactError: it is nowhere, or what is there is another one.
    """
    return find_base(
        folder,
        manifest.encoder,
        manifest.encoder_sha256,
        kind=manifest.encoder_kind,
        encoder=encoder,
        hash_of=hash_encoder,
    )


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
    if _adapter_folder(encoder) is None:
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


def _load_foreign(name: str, encoder: str | None = None) -> Predictor:
    if encoder is not None:
        raise ConfigError(f"{name}: is no adapter of nertune's, so it takes no --encoder")
    folder = user_path(name)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(_FOREIGN_ADAPTER.format(name=name))
    config = read_config(name)
    if getattr(config, _MARK, None):
        raise ArtifactError(
            f"{name}: was saved by nertune, but its {_MANIFEST} is not there, which says how it "
            "reads text and decodes; copy or fetch all files of the model (in the hub's cache only "
            f"what was fetched is found offline), or take {_MARK!r} out of its config.json to load "
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
    tagger = Tagger(EncoderEmitter(model), SoftmaxDecoder(tagset))
    # Words, with Chinese characters on their own: what such models are trained on.
    return Predictor(tagger, build_segmenter(tagger, tokenizer, "word"), tagset)


def _refuse_misfit(name: str, model: Any, tokenizer: Tokenizer, tagset: TagSet) -> None:
    """A tag without an output, or an id without an embedding, is an index error later on."""
    if model.config.num_labels != len(tagset):
        raise ModelError(
            f"{name}: its model has {model.config.num_labels} outputs, but {len(tagset)} tags are "
            "named; weights and tags do not belong together"
        )
    refuse_missing_embeddings(name, model, tokenizer.vocabulary_size)


def _model_card(manifest: Manifest) -> str:
    """README.md of the folder, with the metadata block that the hub reads."""
    labels = TagSet(manifest.tags, manifest.scheme).labels
    what = "BiLSTM" if manifest.emitter == "lstm" else f"{manifest.encoder}, {manifest.tuning}"
    lines = ["---", "library_name: nertune", "pipeline_tag: token-classification", "tags: [ner]"]
    lines += ["---", "", f"# Named-entity tagger ({what}, {manifest.decoder})", ""]
    lines += [f"Entity types: {', '.join(labels)}. Unit: {manifest.unit}.", ""]
    lines += ["    nertune predict FOLDER 'some text'", ""]
    if manifest.tuning in _ADAPTED:
        kind = "A LoRA adapter" if manifest.tuning == "lora" else "An adapter (peft)"
        lines += [
            f"{kind} for `{manifest.encoder}` (sha256 of its weights "
            f"`{manifest.encoder_sha256[:16]}…`); the classifier is in the adapter.",
            "",
        ]
    for split in ("dev", "test"):
        scores = manifest.metrics.get(split)
        if scores:
            lines += [
                f"## Scores on {split} (strict spans)",
                "",
                "| | P | R | F1 | support |",
                "|---|---|---|---|---|",
            ]
            rows = {"micro": scores["micro"], "macro": scores["macro"], **scores["types"]}
            for name, row in rows.items():
                cells = " | ".join(
                    "–" if row.get(k) is None else f"{row[k]:.4f}"
                    for k in ("precision", "recall", "f1")
                )
                lines.append(f"| {name} | {cells} | {row.get('support', '')} |")
            lines.append("")
            if interval := scores["micro"].get("f1_ci95"):
                number = scores.get("source_documents") or scores.get("documents")
                lines.append(
                    f"Micro F1: 95 % interval [{interval[0]:.4f}, {interval[1]:.4f}] over "
                    f"{number} documents (bootstrap); of this one training."
                )
                lines.append("")
    if manifest.data:
        lines += ["## Data", ""]
        lines += [
            f"- {split}: {info['documents']} documents, {info['entities']} entities, "
            f"sha256 `{info['sha256'][:16]}…`"
            for split, info in manifest.data.items()
            if info
        ]
        lines.append("")
    lines.append(f"Trained with nertune {manifest.nertune}.")
    return "\n".join(lines) + "\n"
