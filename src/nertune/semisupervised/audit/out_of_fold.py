"""Scores of documents under models that were trained without them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nertune.config.run import Settings, parse_settings, with_changes
from nertune.data.corpus import Corpus
from nertune.data.editing.saving import with_documents
from nertune.experiments.folder import RunFolder
from nertune.experiments.train import train
from nertune.inference.predictor import load_model
from nertune.models.heads.base import Head
from nertune.semisupervised.audit.folds import Folds
from nertune.training.observer import Observer

__all__ = ["FoldScores", "Training", "score_out_of_fold"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What one model says about documents that it was not trained on. D documents.

    Attributes:
        fold: the fold's number, from 0.
        seed: of the model.
        indices: of the D documents in the corpus.
        units: of each document, the character spans of its units.
        scores: of each document the `[U, K]` scores, in nats, that `head` takes.
        head: gives the probability of any span.
    """

    fold: int
    seed: int
    indices: tuple[int, ...]
    units: Sequence[Sequence[tuple[int, int]]]
    scores: Sequence[NDArray[np.float32]]
    head: Head


@dataclass(frozen=True, slots=True)
class Training:
    """How the models of an audit are trained.

    Attributes:
        settings: of each; data, folder and seed are filled in.
        seeds: a model for each in every fold.
        resume: go on with killed runs, and do not repeat finished ones.
        overwrite: replace what earlier runs left.
        observers: are told about each training.
    """

    settings: Settings
    seeds: Sequence[int]
    resume: bool = False
    overwrite: bool = False
    observers: Sequence[Observer] = ()

    def run(self, fold: int, seed: int, folder: Path, corpus: Corpus) -> Settings:
        """Train one model; returns its settings."""
        changes = {
            "run.dir": str(folder),
            "run.name": f"fold-{fold + 1}",
            "run.seed": seed,
            "data.dev": "",
            "data.test": "",
        }
        own = parse_settings(with_changes(self.settings.to_dict(), changes))
        train(
            own,
            corpora={"train": corpus},
            resume=self.resume,
            overwrite=self.overwrite,
            observers=self.observers,
        )
        return own


def score_out_of_fold(
    corpus: Corpus, folds: Folds, training: Training, output: Path
) -> Iterator[FoldScores]:
    """Train a model for each fold and seed on the other folds, and let it score the fold.

    The models of a fold come one after the other. Runs lie in `OUTPUT/folds/fold-K/seed-S`; each
    is a run of `experiments.train.train`.

    Args:
        corpus: what is audited.
        folds: of its documents.
        training: of the models.
        output: the audit's folder.

    Raises:
        NertuneError: settings, data or encoder cannot be used, or an earlier run was another one.
    """
    documents, seeds = corpus.documents, training.seeds
    total = len(folds.members) * len(seeds)
    for fold, members in enumerate(folds.members):
        quiet = replace(corpus, notices=())  # which are those of the whole file
        others = with_documents(quiet, [documents[i] for i in folds.others(fold)])
        for place, seed in enumerate(seeds):
            number = 1 + place + len(seeds) * fold
            told = (
                f"fold {fold + 1} of {len(folds.members)}, seed {seed} (model {number} of {total})"
            )
            _LOG.info("%s", told)
            folder = output / "folds" / f"fold-{fold + 1}" / f"seed-{seed}"
            own = training.run(fold, seed, folder, others)
            predictor = load_model(RunFolder(folder).model, device=own.run.device, merge=True)
            encodings, scores = predictor.emissions([documents[i] for i in members])
            units = [encoding.units for encoding in encodings]
            yield FoldScores(fold, seed, members, units, scores, predictor.tagger.head)
