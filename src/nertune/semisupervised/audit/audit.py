"""Audit a corpus: k-fold training, then every place where gold and out-of-fold models disagree."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import own_folder, read_manifest
from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.evaluation.metrics import score
from nertune.semisupervised.audit.candidates import Candidates, collect_candidates
from nertune.semisupervised.audit.copies import Copy, find_copies
from nertune.semisupervised.audit.folds import Folds, make_folds
from nertune.semisupervised.audit.out_of_fold import FoldScores, Training, score_out_of_fold
from nertune.semisupervised.audit.reasons import Surfaces, explain
from nertune.semisupervised.audit.records import suspicion_to_dict
from nertune.semisupervised.audit.suspicions import (
    KINDS,
    Suspicion,
    find_suspicions,
    weigh_copy,
)
from nertune.storage.atomic import write_json, write_text
from nertune.training.observer import Observer
from nertune.types import Document, Entity

__all__ = ["Audit", "AuditOptions", "audit", "rank"]

_LOG = logging.getLogger("nertune")
_LEAST = 0.01  # of suspicions less probable none is kept


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How to audit.

    Attributes:
        folds: in how many parts the corpus is parted.
        seeds: models of each fold, whose probabilities are averaged.
        first_seed: the seed of the folds and of the first model; the others follow it.
    """

    folds: int = 5
    seeds: int = 1
    first_seed: int = 1

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigError(f"--folds {self.folds}: expected at least 2")
        if self.seeds < 1:
            raise ConfigError(f"--seeds {self.seeds}: expected at least 1")


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        corpus: what was audited.
        suspicions: the most probable error first.
        not_judged: gold entities that no model can express: document id, entity, reason.
        f1: micro-F1 of the models on the documents that they were not trained on, against the gold
            as it is; the weaker they are, the less a suspicion says.
        options: how it was done.
        settings: of the models.
        notices: what has to be known of it.
    """

    corpus: Corpus
    suspicions: tuple[Suspicion, ...]
    not_judged: tuple[tuple[str, Entity, str], ...]
    f1: float | None
    options: AuditOptions
    settings: Settings
    notices: tuple[str, ...]

    def count(self, least: float = 0.0) -> dict[str, int]:
        """The number of suspicions of each kind from a probability on."""
        found = Counter(s.kind for s in self.suspicions if s.probability >= least)
        return {kind: found[kind] for kind in KINDS}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        documents = self.corpus.documents
        return {
            "data": {
                "path": str(self.corpus.path),
                "sha256": self.corpus.sha256,
                "documents": len(documents),
                "entities": self.corpus.num_entities,
            },
            "folds": self.options.folds,
            "seeds": self.options.seeds,
            "first_seed": self.options.first_seed,
            "settings": self.settings.to_dict(),
            "out_of_fold_f1": self.f1,
            "counts": {str(least): self.count(least) for least in (0.5, 0.9)},
            "not_judged": [
                {"document": name, "start": e.start, "end": e.end, "label": e.label, "reason": why}
                for name, e, why in self.not_judged
            ],
            "notices": list(self.notices),
            "suspicions": [suspicion_to_dict(s, documents[s.index]) for s in self.suspicions],
        }


def audit(
    corpus: Corpus,
    settings: Settings,
    *,
    output: Path,
    options: AuditOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
) -> Audit:
    """Find label errors with models that were trained on the rest of the corpus.

    `OUTPUT/audit.json` and `OUTPUT/audit.jsonl` (a suspicion a line) are written last; the runs
    lie in `OUTPUT/folds`.

    Args:
        corpus: with gold.
        settings: of the models; data, folder and seed are filled in.
        output: the audit's folder.
        options: folds and seeds.
        resume: go on with a killed audit; what is finished is not trained again.
        overwrite: replace what an earlier audit left.
        observers: are told about each training.

    Raises:
        ConfigError: settings or options cannot be used, or the folder holds an audit and neither
            `resume` nor `overwrite` was asked for.
        DataError: the corpus holds no entity, or too few documents for the folds.
        CheckpointError: the audit in the folder is one of other data, folds or settings.
    """
    options = options or AuditOptions()
    if not corpus.labels:
        raise DataError("holds no entity, so there is nothing to audit", path=corpus.path)
    started = _check_start(corpus, settings.model.start_from)
    folds = make_folds(corpus.documents, options.folds, seed=options.first_seed)
    _begin(output, _stamp(corpus, options), resume=resume, overwrite=overwrite)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    training = Training(settings, seeds, resume, overwrite, observers)
    scored = score_out_of_fold(corpus, folds, training, output)
    copies = find_copies(corpus.documents)
    candidates = _collect(corpus.documents, copies, scored)
    suspicions = rank(corpus.documents, candidates, copies)
    found = _summarise(corpus, candidates, suspicions, folds, settings, options)
    found = replace(found, notices=(*started, *found.notices))
    record = found.to_dict()
    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in record.pop("suspicions"))
    write_text(output / "audit.jsonl", "".join(lines))
    write_json(output / "audit.json", record)
    return found


def _check_start(corpus: Corpus, model: str) -> tuple[str, ...]:
    """What has to be known of a tagger that the models start from.

    Raises:
        ConfigError: it was trained on this corpus, so it knows the labels that it is to judge.
    """
    if not model:
        return ()
    folder = own_folder(model)
    if folder is not None and read_manifest(folder).was_trained_on(corpus.sha256):
        raise ConfigError(
            f"model.start_from: {model} was trained on {corpus.path}, so it knows the labels that "
            "it is to judge; leave it out"
        )
    return (
        f"the models start from {model}: documents that it was trained on are judged by a model "
        "that knows their labels",
    )


def _stamp(corpus: Corpus, options: AuditOptions) -> dict[str, Any]:
    return {
        "sha256": corpus.sha256,
        "folds": options.folds,
        "first_seed": options.first_seed,
    }


def _begin(output: Path, stamp: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """See what an earlier audit left; the runs see to themselves."""
    path = output / "plan.json"
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    if path.is_file() and not overwrite:
        if not resume:
            raise ConfigError(
                f"{output} holds an audit: use --resume to continue it, --overwrite to replace it, "
                "or another folder"
            )
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: is damaged; use --overwrite") from error
        changed = [key for key in stamp if earlier.get(key) != stamp[key]]
        if changed:
            told = {"sha256": "data", "folds": "--folds", "first_seed": "--seed"}[changed[0]]
            raise CheckpointError(
                f"{output}: the audit there had other {told}; use --overwrite or another folder"
            )
    if not resume:  # what a resumed audit would replace stays until it is finished
        for name in ("audit.json", "audit.jsonl", "audit.html"):
            (output / name).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, stamp)


def _collect(
    documents: Sequence[Document], copies: Sequence[Copy], scored: Iterator[FoldScores]
) -> dict[int, Candidates]:
    """By index of the document what the models of its fold say."""
    extra: dict[int, list[Entity]] = {}
    for copy in copies:
        extra.setdefault(copy.index, []).extend(copy.suggested)
    found: dict[int, Candidates] = {}
    for _, group in groupby(scored, key=lambda scores: scores.fold):
        models = list(group)
        indices = models[0].indices
        own = [documents[i] for i in indices]
        more = [extra.get(i, []) for i in indices]
        found.update(zip(indices, collect_candidates(own, models, more), strict=True))
    return found


def _summarise(
    corpus: Corpus,
    candidates: Mapping[int, Candidates],
    suspicions: Sequence[Suspicion],
    folds: Folds,
    settings: Settings,
    options: AuditOptions,
) -> Audit:
    documents = corpus.documents
    surfaces = Surfaces(documents)
    predicted = [documents[i].with_entities(_found(candidates[i])) for i in range(len(documents))]
    not_judged = tuple(
        (documents[i].id, entity, why)
        for i in range(len(documents))
        for entity, why in candidates[i].not_judged
    )
    return Audit(
        corpus=corpus,
        suspicions=tuple(explain(s, documents[s.index], surfaces) for s in suspicions),
        not_judged=not_judged,
        f1=score(documents, predicted, num_resamples=0).micro.f1,
        options=options,
        settings=settings,
        notices=folds.notices,
    )


def rank(
    documents: Sequence[Document],
    candidates: Mapping[int, Candidates],
    copies: Sequence[Copy],
) -> list[Suspicion]:
    """All suspicions, the most probable error first; copies take the place of what they explain."""
    by_index: dict[int, list[Suspicion]] = {}
    for copy in copies:
        document = documents[copy.index]
        found = weigh_copy(document, copy, candidates[copy.index], documents[copy.other].id)
        by_index.setdefault(copy.index, []).append(found)
    suspicions = []
    for index, document in enumerate(documents):
        own = by_index.get(index, [])
        suspicions += [s for s in own if s.probability >= _LEAST]
        suspicions += [
            found
            for found in find_suspicions(index, document, candidates[index], least=_LEAST)
            if not any(_is_same_place(found, other) for other in own)
        ]
    return sorted(suspicions, key=lambda s: (-s.probability, s.gold_probability, s.index, s.span))


def _is_same_place(one: Suspicion, other: Suspicion) -> bool:
    (start, end), (first, last) = one.span, other.span
    return start < last and first < end


def _found(candidates: Candidates) -> list[Entity]:
    """The spans that are more likely than not: no two of them overlap."""
    every = (*candidates.gold, *candidates.others)
    return [replace(e, score=None) for e in every if (e.score or 0.0) > 0.5]
