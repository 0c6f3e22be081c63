"""Write a trained tagger's folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
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
from nertune.artifacts.plain_base import write_base
from nertune.config.run import LstmSettings, Tuning
from nertune.labels.tagset import TagSet
from nertune.models.encoder import (
    EncoderEmitter,
    quiet_transformers,
)
from nertune.models.heads.crf import Crf
from nertune.models.hub import encoder_kind
from nertune.models.tagger import Tagger
from nertune.storage.atomic import replace_folder, write_text
from nertune.storage.files import hash_file
from nertune.tokens.windows import Segmenter

__all__ = [
    "Trained",
    "add_metrics",
    "save_model",
]


class Trained(Protocol):
    """What is saved of a predictor."""

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


def save_model(
    folder: Path,
    trained: Trained,
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
        trained: the tagger with its segmenter and tags, e.g. a `Predictor`.
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
        _write_weights(draft, trained.tagger)
        kind = encoder_kind(encoder) if encoder else ""
        trained.segmenter.tokenizer.save(draft)
        if tuning in ADAPTED and adapter_folder(encoder) is None:
            model = trained.tagger.emitter.model
            write_base(draft, folder, model, encoder, is_hub=kind == "hub")
        manifest = Manifest(
            format=FORMAT_VERSION,
            nertune=nertune.__version__,
            emitter=emitter,
            tuning=tuning,
            decoder=decoder,
            unit=trained.segmenter.unit,
            max_pieces=trained.segmenter.max_pieces,
            stride=trained.segmenter.stride,
            tags=trained.tagset.tags,
            scheme=trained.tagset.scheme,
            encoder=encoder,
            encoder_kind=kind,
            encoder_sha256=encoder_sha256 or (hash_encoder(encoder) if encoder else ""),
            start_from=start[0],
            start_sha256=start[1],
            encoding=trained.segmenter.tokenizer.style,
            tokenizer_sha256=trained.segmenter.tokenizer.fingerprint(),
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
        (draft / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
        (draft / "README.md").write_text(model_card(manifest), encoding="utf-8")
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
    setattr(config, MARK, MANIFEST)
