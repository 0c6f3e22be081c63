"""Calibrate a tagger's scores on documents that it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import MANIFEST, own_folder, read_manifest
from nertune.artifacts.parts import parse_extended
from nertune.artifacts.save import refuse_part, save_calibration
from nertune.data.corpus import load_alike
from nertune.data.samples import resolve_data
from nertune.errors import ArtifactError, DataError
from nertune.evaluation.calibration import FittedCalibration, fit_calibration
from nertune.inference.predictor import Predictor, load_model
from nertune.storage.paths import user_path
from nertune.types import Document

__all__ = ["calibrate", "calibrate_model"]

_LOG = logging.getLogger("nertune")


def calibrate(
    predictor: Predictor, documents: Sequence[Document], *, name: str = "dev"
) -> FittedCalibration | None:
    """Fit a predictor's calibration, set it, and say what it does.

    Args:
        predictor: its calibration is replaced; nothing is changed where none can be fitted.
        documents: with gold entities, not trained on; those that are labelled in part are left out.
        name: of the documents, for messages.

    Returns:
        What was fitted; `None` where too few entities are predicted in fully labelled documents.
    """
    encodings, scores = predictor.emissions(documents)
    units = [encoding.units for encoding in encodings]
    fitted = fit_calibration(predictor.tagger.head, scores, documents, units)
    if fitted is None:
        _LOG.info("%s", "scores are not calibrated: that needs 30 entities found in fully labelled "
                        f"documents of {name}, some of them right and some wrong")  # fmt: skip
        return None
    predictor.calibration = fitted.calibration
    if not fitted.steps:
        told = f"scores are used as they are: no calibration was better on {name} (five folds)"
        _LOG.info("%s", told)
        return fitted
    steps = ", ".join(fitted.steps)
    _LOG.info("%s", f"scores calibrated on {name} ({steps}): expected calibration error "
                    f"{fitted.ece_before:.3f} → {fitted.ece_after:.3f} "
                    "(five folds)")  # fmt: skip
    return fitted


def calibrate_model(
    model: str | Path, file: str | Path, *, device: str = "auto", encoder: str | None = None
) -> dict[str, Any]:
    """Fit the calibration of a saved tagger on a file, and store it in the tagger's folder.

    Args:
        model: a folder that nertune wrote; an older calibration is replaced.
        file: documents with gold entities that the tagger was not trained on; read as its training
            file was.
        device: where the tagger computes.
        encoder: where an adapter's base encoder is now.

    Returns:
        `folder`, `file`, and what `FittedCalibration.to_dict` gives.

    Raises:
        ArtifactError: the folder is not nertune's, is damaged, or is of an extended model or of a
            part of one.
        DataError: the file cannot be used, the tagger was trained on it, or finds too little in it.
    """
    folder = _find_folder(model)
    manifest = read_manifest(folder)
    corpus = load_alike(resolve_data(str(file)), manifest.reading)
    if manifest.was_trained_on(corpus.sha256):
        raise DataError(
            "the tagger was trained on it, so it is surer there than elsewhere; name documents "
            "that it has not seen, e.g. dev",
            path=corpus.path,
        )
    predictor = load_model(folder, device=device, merge=True, encoder=encoder)
    fitted = calibrate(predictor, corpus.documents, name=corpus.path.name)
    if fitted is None:
        raise DataError(
            "the tagger's scores cannot be calibrated on it: that needs 30 entities found in fully "
            "labelled documents, some of them right and some wrong; give more documents",
            path=corpus.path,
        )
    save_calibration(folder, fitted.calibration)
    return {"folder": str(folder), "file": str(corpus.path), **fitted.to_dict()}


def _find_folder(model: str | Path) -> Path:
    """Where the calibration is stored; what has no place for one is refused."""
    folder = own_folder(str(model))
    if folder is None:
        raise ArtifactError(
            f"{model}: is not a folder that nertune wrote, so there is no place for a calibration"
        )
    if not user_path(str(model)).exists():
        raise ArtifactError(
            f"{model}: is a model on the hub, whose copy in the cache is not changed; download it "
            "to a folder, and name that"
        )
    if parse_extended(folder / MANIFEST) is not None:
        raise ArtifactError(
            f"{folder}: was extended, and its parts stay what was saved; calibrate a model before "
            "it is extended"
        )
    refuse_part(folder)
    return folder
