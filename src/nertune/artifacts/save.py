"""Write a trained tagger's folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import nertune
from nertune.artifacts.card import model_card
from nertune.artifacts.manifest import (
    ADAPTED,
    FORMAT_VERSION,
    MANIFEST,
    MARK,
    Manifest,
    adapter_folder,
    hash_encoder,
    manifest_text,
    read_manifest,
)
from nertune.artifacts.parts import whole_of
from nertune.artifacts.plain_base import write_base
from nertune.config.run import LstmSettings, Settings, Tuning
from nertune.errors import ArtifactError
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter, quiet_transformers
from nertune.models.heads.calibration import Calibration
from nertune.models.hub import encoder_kind
from nertune.models.tagger import Tagger
from nertune.storage.atomic import replace_folder, write_text
from nertune.storage.files import hash_file
from nertune.tokens.windows import Segmenter

__all__ = [
    "Description",
    "Provenance",
    "Trained",
    "add_metrics",
    "open_to_all",
    "refuse_part",
    "save_calibration",
    "save_model",
]


class Trained(Protocol):
    """What is saved of a predictor."""

    calibration: Calibration

    @property
    def tagger(self) -> Tagger:
        """The model."""
        ...

    @property
    def segmenter(self) -> Segmenter:
        """How it reads text."""
        ...

    @property
    def tagset(self) -> TagSet:
        """What its outputs stand for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a tagger is; see `Manifest`.

    Attributes:
        emitter: what computes its logits.
        tuning: what of the encoder was trained.
        decoder: the name of its head.
        encoder: the base encoder's name as the recipe has it; empty for an LSTM.
        encoder_sha256: of the base encoder; empty: that of what its name means now.
        lstm: the LSTM's shape.
    """

    emitter: Literal["encoder", "lstm"]
    tuning: Tuning
    decoder: str
    encoder: str = ""
    encoder_sha256: str = ""
    lstm: LstmSettings | None = None

    @classmethod
    def from_settings(cls, settings: Settings, encoder: str) -> Description:
        """Of a run.

        Args:
            settings: of the run.
            encoder: the base encoder; not used for an LSTM.
        """
        is_lstm = settings.model.emitter == "lstm"
        return cls(
            emitter=settings.model.emitter,
            tuning=settings.model.tuning,
            decoder=settings.model.decoder,
            encoder="" if is_lstm else encoder,
            lstm=settings.lstm if is_lstm else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a tagger comes from: kept for the reader, and shown in the model card.

    Attributes:
        settings: of the run that trained it.
        data: what it was trained and scored on, by split.
        metrics: its scores, by split.
        start_from: the model that its run started from; empty: an encoder alone.
        start_sha256: over that model's weights.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    start_sha256: str = ""


def save_model(
    folder: Path,
    trained: Trained,
    description: Description,
    provenance: Provenance | None = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> Manifest:
    """Write a tagger's folder under a temporary name, then rename it; an older one is replaced.

    Args:
        folder: where to.
        trained: the tagger with its segmenter and tags, e.g. a `Predictor`.
        description: what it is.
        provenance: where it comes from.
        check: is given the complete folder before it replaces an older one; what it raises leaves
            the older one in place.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_files(draft, folder, trained, description)
        manifest = _make_manifest(draft, trained, description, provenance or Provenance())
        (draft / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
        (draft / "README.md").write_text(model_card(manifest), encoding="utf-8")
        open_to_all(draft)
        if check is not None:
            check(draft)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _write_files(draft: Path, folder: Path, trained: Trained, description: Description) -> None:
    """Weights, tokenizer, and for an adapter its base encoder with the labels."""
    _write_weights(draft, trained.tagger, description.decoder)
    trained.segmenter.tokenizer.save(draft)
    encoder = description.encoder
    if description.tuning in ADAPTED and adapter_folder(encoder) is None:
        is_hub = encoder_kind(encoder) == "hub"
        write_base(draft, folder, trained.tagger.emitter.model, encoder, is_hub=is_hub)


def _make_manifest(
    draft: Path, trained: Trained, description: Description, provenance: Provenance
) -> Manifest:
    """The manifest of a folder that holds all files but this one and the model card."""
    encoder, segmenter = description.encoder, trained.segmenter
    sha256 = description.encoder_sha256 or (hash_encoder(encoder) if encoder else "")
    return Manifest(
        format=FORMAT_VERSION,
        nertune=nertune.__version__,
        emitter=description.emitter,
        tuning=description.tuning,
        decoder=description.decoder,
        unit=segmenter.unit,
        max_pieces=segmenter.max_pieces,
        stride=segmenter.stride,
        tags=trained.tagset.tags,
        scheme=trained.tagset.scheme,
        encoder=encoder,
        encoder_kind=encoder_kind(encoder) if encoder else "",
        encoder_sha256=sha256,
        start_from=provenance.start_from,
        start_sha256=provenance.start_sha256,
        encoding=segmenter.tokenizer.style,
        tokenizer_sha256=segmenter.tokenizer.fingerprint(),
        lstm=description.lstm,
        calibration=None if trained.calibration == Calibration() else trained.calibration,
        settings=provenance.settings,
        data=provenance.data,
        metrics=provenance.metrics,
        files={
            p.name: hash_file(p)
            for p in sorted(draft.iterdir())
            if p.is_file() and p.name != "README.md"  # peft's own, which the model card replaces
        },
    )


def open_to_all(folder: Path) -> None:
    """Let others read a folder with what is in it.

    mkdtemp and safetensors write for the owner alone; what links lead to is left as it is.
    """
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


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
    card = model_card(told)
    write_text(folder / MANIFEST, manifest_text(told))
    write_text(folder / "README.md", card)


def refuse_part(folder: Path) -> None:
    """Refuse to change what is a part of an extended model.

    Raises:
        ArtifactError: it is one.
    """
    if (whole := whole_of(folder)) is not None:
        raise ArtifactError(
            f"{folder}: is a part of the extended model {whole}, which would no longer be what was "
            "saved; calibrate a model before it is extended"
        )


def save_calibration(folder: Path, calibration: Calibration) -> None:
    """Store a calibration in a saved tagger's manifest; the weights stay as they are.

    Args:
        folder: from `save_model`.
        calibration: replaces an older one.

    Raises:
        ArtifactError: the folder is damaged, or a part of an extended model.
    """
    refuse_part(folder)
    manifest = read_manifest(folder)
    told = manifest.model_copy(update={"calibration": calibration})
    write_text(folder / MANIFEST, manifest_text(told))


def _write_weights(folder: Path, tagger: Tagger, decoder: str) -> None:
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
    if state := tagger.head.state_dict():
        weights = {k: t.detach().cpu().contiguous() for k, t in state.items()}
        save_file(weights, folder / f"{decoder}.safetensors")


def _mark(config: Any) -> None:
    """Say in config.json that the folder is nertune's: without the manifest, it is not loaded."""
    setattr(config, MARK, MANIFEST)
