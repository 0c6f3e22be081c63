"""Export a trained tagger to an ordinary transformers folder: merged weights and their labels.

adapter + base -> one model -> the same inputs through both -> a folder

The folder is an artifact of nertune as well, of tuning "full": a CRF, which transformers has no
place for, stays beside the model and nertune decodes with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nertune.artifacts.load import merge_emitter
from nertune.artifacts.manifest import Manifest, own_folder, read_manifest
from nertune.artifacts.save import Description, Provenance, save_model
from nertune.errors import ArtifactError, ConfigError
from nertune.inference.predictor import Predictor, load_model
from nertune.models.encoder import EncoderEmitter
from nertune.storage.paths import user_path

__all__ = ["export_merged"]

_LOG = logging.getLogger("nertune")

_ROUNDING = 1e-3  # so far may float32 logits lie apart, as a share of the largest
_PROBE_WINDOWS, _PROBE_TOKENS = 4, 32


def export_merged(
    model: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    encoder: str | Path | None = None,
) -> dict[str, Any]:
    """Write a tagger as `AutoModelForTokenClassification` and `pipeline` load it.

    Args:
        model: a folder that nertune wrote.
        output: the new folder; by default beside the model's, `-transformers` behind its name.
        overwrite: replace an export that is there.
        encoder: where an adapter's base encoder is now (`artifacts.load.load_tagger`).

    Returns:
        `folder`, `labels`, `tuning` and `decoder` of the model, and `largest_difference` between
        its logits and those of the export.

    Raises:
        ModelError: the method of its adapter cannot be merged.
        ArtifactError: it is no encoder, was not written by nertune, or merging changed its logits.
        ConfigError: the output is there already, or cannot be written to.
    """
    source, manifest = _find_model(model)
    target = _target(source, output, overwrite=overwrite)
    predictor = load_model(source, device="cpu", encoder=encoder)
    check = _LogitCheck(source, _logits(predictor))
    emitter = predictor.tagger.emitter
    assert isinstance(emitter, EncoderEmitter)
    merge_emitter(emitter, str(source))
    description = Description(
        emitter="encoder",
        tuning="full",
        decoder=manifest.decoder,
        encoder=manifest.encoder,
        encoder_sha256=manifest.encoder_sha256,
    )
    provenance = Provenance(
        settings=manifest.settings, data=manifest.data, metrics=manifest.metrics
    )
    try:
        save_model(target, predictor, description, provenance, check=check)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written to: {error.strerror or error}") from error
    _log_differences(manifest)
    return {
        "folder": str(target),
        "labels": list(predictor.tagset.labels),
        "tuning": manifest.tuning,
        "decoder": manifest.decoder,
        "largest_difference": check.difference,
    }


def _log_differences(manifest: Manifest) -> None:
    """What transformers does otherwise than nertune with the same folder."""
    if manifest.decoder != "softmax":
        _LOG.info(
            "%s",
            f"transformers has no place for the head {manifest.decoder!r} and decodes the folder "
            "as softmax; nertune decodes it as before",
        )
    if manifest.is_calibrated:
        _LOG.info(
            "transformers has no place for the calibration and shows scores as the model gives "
            "them; nertune calibrates them as before"
        )


@dataclass(slots=True)
class _LogitCheck:
    """Refuses a draft whose logits are not the model's, so that an older export stays in place.

    Attributes:
        source: the model's folder.
        expected_BLK: the model's logits before its adapter was merged.
        difference: the largest one that was found.
    """

    source: Path
    expected_BLK: Tensor
    difference: float = 0.0

    def __call__(self, draft: Path) -> None:
        found_BLK = _logits(load_model(draft, device="cpu"))
        self.difference = float((self.expected_BLK - found_BLK).abs().max())
        if not self.difference <= _ROUNDING * max(1.0, float(self.expected_BLK.abs().max())):
            raise ArtifactError(
                f"{self.source}: merging changes its logits by up to {self.difference:.1e}: "
                "nothing was written"
            )


def _find_model(model: str | Path) -> tuple[Path, Manifest]:
    """The folder of an encoder that nertune trained, and what it says."""
    source = own_folder(str(model))
    if source is None:
        raise ArtifactError(
            f"{model}: is not a folder that nertune wrote; only those can be exported (another "
            "token-classification model is one for transformers already)"
        )
    manifest = read_manifest(source)
    if manifest.emitter != "encoder":
        raise ArtifactError(f"{source}: is an LSTM, for which transformers has no model")
    return source, manifest


def _target(source: Path, output: str | Path | None, *, overwrite: bool) -> Path:
    """Where to write; what may not be replaced is refused before anything is loaded."""
    beside = source.with_name(f"{source.name}-transformers")
    target = beside if output is None else user_path(str(output))
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--output: {target} is a file; expected a folder")
    full, own = target.resolve(), source.resolve()
    if full == own or full in own.parents or own in full.parents:
        raise ConfigError(f"--output: {target} is the model's own folder; name another one")
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise ConfigError(f"--output: {target} exists; use --overwrite, or name another folder")
        if not (target / "nertune.json").is_file():
            raise ConfigError(
                f"--output: {target} was not written by nertune and is not replaced; name another "
                "folder"
            )
    return target


@torch.inference_mode()
def _logits(predictor: Predictor) -> Tensor:
    """Of a few windows of tokens, drawn with the same seed each time."""
    emitter = predictor.tagger.emitter.eval()
    size = predictor.segmenter.tokenizer.vocabulary_size
    length = min(_PROBE_TOKENS, predictor.segmenter.max_pieces)
    generator = torch.Generator().manual_seed(0)
    ids_BL = torch.randint(size, (_PROBE_WINDOWS, length), generator=generator)
    logits_BLK: Tensor = emitter(ids_BL, torch.ones_like(ids_BL))
    return logits_BLK
