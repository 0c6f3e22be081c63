"""Distil teachers into a student, and say what of the gap between them that closes.

The student is a run like any other, in the output folder itself: `model/`, `record.json`, …. Beside
it stands `baseline/`: the same recipe on the labelled documents alone, for as many steps. What was
compared is in `distillation.json`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nertune.config.run import Settings
from nertune.data.corpus import Corpus, Reading
from nertune.data.splits import load_splits
from nertune.errors import CheckpointError, ConfigError
from nertune.evaluation.metrics import score
from nertune.experiments.folder import RunFolder
from nertune.experiments.train import train
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import build_head, soft_head
from nertune.semisupervised.budget import same_budget
from nertune.semisupervised.distillation.teachers import Teachers, load_teachers
from nertune.semisupervised.distillation.text import TaughtText, UnlabelledText
from nertune.storage.atomic import write_json
from nertune.training.observer import Observer
from nertune.types import Document

__all__ = ["DistillOptions", "Distillation", "ScoredTagger", "distill"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """How a student is taught.

    Attributes:
        table: labels of teachers -> the student's; empty drops one.
        most: unlabelled documents at most; 0: all.
        weight: factor of the loss on unlabelled text; that on labelled text has 1.
        temperature: divides the scores of teachers and student on unlabelled text; above 1 it shows
            more of what the teachers hold for possible.
        with_baseline: also train the student without teachers.
        score_test: also score test, all of them.
        resume, overwrite: as for `experiments.train.train`.
    """

    table: Mapping[str, str] = field(default_factory=dict)
    most: int = 0
    weight: float = 1.0
    temperature: float = 1.0
    with_baseline: bool = True
    score_test: bool = False
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ScoredTagger:
    """One of those that are compared.

    Attributes:
        name: what the report calls it.
        role: `teacher`, `ensemble`, `baseline` or `student`.
        f1: micro-F1 by split, in [0, 1].
        seconds: of its training; of a teacher, of scoring it.
        steps: of its optimizer; 0 for teachers.
    """

    name: str
    role: str
    f1: Mapping[str, float]
    seconds: float
    steps: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name, "role": self.role, "f1": dict(self.f1), "seconds": self.seconds,
            "steps": self.steps,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Distillation:
    """What came of it.

    Attributes:
        taggers: teachers, ensemble, baseline, student, in this order; those that there are.
        folder: of the student's run.
        text: which unlabelled text, and how it was used.
        notices: what a reader has to know.
        record: of the student's run.
    """

    taggers: tuple[ScoredTagger, ...]
    folder: Path
    text: Mapping[str, Any]
    notices: tuple[str, ...]
    record: Mapping[str, Any]

    def find(self, role: str) -> ScoredTagger | None:
        """The tagger of this role, of several the first."""
        return next((one for one in self.taggers if one.role == role), None)

    @property
    def taught_by(self) -> ScoredTagger | None:
        """The ensemble, or the only teacher."""
        return self.find("ensemble") or self.find("teacher")

    def share_closed(self, split: str) -> float | None:
        """Which share of the gap between baseline and teachers the student has closed.

        1 is as good as the teachers; `None` where there is no baseline, no score, or no gap.
        """
        three = (self.find("baseline"), self.find("student"), self.taught_by)
        found = [one.f1[split] for one in three if one is not None and split in one.f1]
        if len(found) < 3:
            return None
        baseline, student, teacher = found
        return (student - baseline) / (teacher - baseline) if teacher > baseline else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        splits = sorted({split for one in self.taggers for split in one.f1})
        return {
            "folder": str(self.folder),
            "taggers": [one.to_dict() for one in self.taggers],
            "share_closed": {split: self.share_closed(split) for split in splits},
            "unlabelled": dict(self.text),
            "notices": list(self.notices),
            "student": dict(self.record),
        }


def distill(
    settings: Settings,
    teachers: Sequence[str],
    unlabelled: Sequence[Path],
    *,
    options: DistillOptions | None = None,
    observers: Sequence[Observer] = (),
) -> Distillation:
    """Train a student on what teachers say of unlabelled text, beside its labelled documents.

    Args:
        settings: of the student. `data.train` may be empty: it then learns from the teachers alone;
            `data.dev` chooses the epoch.
        teachers: folders or hub names.
        unlabelled: files of any format and size; labels in them are ignored.
        options: how.
        observers: are told about the progress of student and baseline.

    Raises:
        NertuneError: settings, teachers, text or folder cannot be used.
    """
    options = options or DistillOptions()
    _check(settings, options)
    corpora = _load_corpora(settings, with_test=options.score_test)
    held_out = {d.text for split in ("dev", "test") if split in corpora
                for d in corpora[split].documents}  # fmt: skip
    text = UnlabelledText(unlabelled, most=options.most, seed=settings.run.seed, known=held_out)
    loaded = cache(lambda: load_teachers(teachers, options.table, device=settings.run.device))
    labels = _labels(corpora["train"], loaded(), options.table)
    source = TaughtText(
        text=text,
        load=loaded,
        teachers=tuple((one.name, one.sha256) for one in loaded().each),
        labels=labels,
        table=tuple(sorted(options.table.items())),
        weight=options.weight,
        temperature=options.temperature,
    )
    notices = _notices(text, corpora, options)
    for notice in notices:
        _LOG.warning("%s", notice)
    if options.overwrite:  # it tells of an earlier student
        (settings.run.dir / "distillation.json").unlink(missing_ok=True)
    taggers = _score_teachers(settings, loaded(), labels, corpora, options)
    record = train(
        settings, corpora=corpora, soft=source, observers=observers,
        score_test=options.score_test, resume=options.resume, overwrite=options.overwrite,
    )  # fmt: skip
    if options.with_baseline and corpora["train"].labels:
        baseline = _train_baseline(settings, record, corpora, options, observers)
        taggers.append(_scored("student without teachers", "baseline", baseline))
    taggers.append(_scored("student", "student", record))
    found = Distillation(
        tuple(taggers), settings.run.dir, source.describe(), tuple(notices), record
    )
    write_json(settings.run.dir / "distillation.json", found.to_dict())
    return found


def _check(settings: Settings, options: DistillOptions) -> None:
    """Refuse what can be refused before anything is read."""
    if not options.weight >= 0 or not math.isfinite(options.weight):
        raise ConfigError(f"--weight {options.weight}: expected 0 or more")
    if not 0 < options.temperature <= 100:
        raise ConfigError(f"--temperature {options.temperature}: expected more than 0, at most 100")
    if options.most < 0:
        raise ConfigError(f"--most {options.most}: expected 0 or more")
    if options.score_test and not settings.data.test:
        raise ConfigError("--test: data.test is empty; name the file, e.g. --set data.test=FILE")
    soft_head(build_head(settings.model.decoder, TagSet.from_labels(["X"])))
    for own in (settings, _baseline_settings(settings)):
        folder = RunFolder(own.run.dir)
        # A finished baseline of other steps is seen when it is its turn.
        if own is settings or not options.resume:
            folder.check(own, resume=options.resume, overwrite=options.overwrite)


def _load_corpora(settings: Settings, *, with_test: bool) -> dict[str, Corpus]:
    """Those that the recipe names; without `data.train`, one of no documents in its place."""
    splits = ("train", "dev", "test") if with_test else ("train", "dev")
    if settings.data.train:
        return load_splits(settings.data, splits)
    empty = Corpus(Path("none"), (), "jsonl", Reading(), None, (), (), "")
    return load_splits(settings.data, splits, given={"train": empty})


def _labels(corpus: Corpus, teachers: Teachers, table: Mapping[str, str]) -> tuple[str, ...]:
    """What the student is to know; refuses teachers that do not fit.

    Raises:
        ConfigError: as `Teachers.check`.
    """
    wanted = {table[label] for label in table} - {""}
    labels = corpus.labels or teachers.labels
    teachers.check(labels, wanted)
    return tuple(sorted({*labels, *wanted}))


def _notices(
    text: UnlabelledText, corpora: Mapping[str, Corpus], options: DistillOptions
) -> list[str]:
    found = []
    if text.num_known:
        found.append(
            f"{text.num_known:,} of {len(text):,} unlabelled texts stand in dev or test, too: the "
            "student reads them, so its scores are optimistic"
        )
    if options.with_baseline and not corpora["train"].labels:
        found.append("no labelled training data: there is no student without teachers to compare")
    if "dev" not in corpora:
        found.append("no data.dev: nothing chooses an epoch, and nothing is scored but test")
    return found


def _score_teachers(
    settings: Settings,
    teachers: Teachers,
    labels: Sequence[str],
    corpora: Mapping[str, Corpus],
    options: DistillOptions,
) -> list[ScoredTagger]:
    """Each teacher, in the student's labels, and all together; kept in `teachers.json`."""
    held_out = {split: corpus for split, corpus in corpora.items() if split != "train"}
    path = settings.run.dir / "teachers.json"
    key = json.dumps(
        [[one.sha256 for one in teachers.each], sorted(options.table.items()), list(labels),
         {split: corpus.sha256 for split, corpus in held_out.items()}]
    )  # fmt: skip
    if options.resume and (kept := _read(path)).get("key") == key:
        return [ScoredTagger(**one) for one in kept["taggers"]]
    tagset = TagSet.from_labels(labels)
    groups = [(one.name, "teacher", Teachers((one,))) for one in teachers.each]
    if len(groups) > 1:
        groups.append((f"all {len(groups)} teachers", "ensemble", teachers))
    scored = []
    for name, role, group in groups:
        started = time.perf_counter()
        f1 = {
            split: _f1(corpus, group.tag(corpus.documents, tagset), labels)
            for split, corpus in held_out.items()
        }
        scored.append(ScoredTagger(name, role, f1, time.perf_counter() - started))
        told = ", ".join(f"{split} F1 {value:.4f}" for split, value in f1.items())
        _LOG.info("%s: %s", name, told or "not scored")
    settings.run.dir.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": key, "taggers": [one.to_dict() for one in scored]})
    return scored


def _f1(corpus: Corpus, predicted: Iterable[Document], labels: Sequence[str]) -> float:
    found = score(corpus.documents, list(predicted), types=labels, num_resamples=0)
    return found.micro.f1 or 0.0


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _baseline_settings(settings: Settings) -> Settings:
    run = settings.run.model_copy(
        update={"dir": settings.run.dir / "baseline", "name": f"{settings.run.name} baseline"}
    )
    return settings.model_copy(update={"run": run})


def _train_baseline(
    settings: Settings,
    record: Mapping[str, Any],
    corpora: Mapping[str, Corpus],
    options: DistillOptions,
    observers: Sequence[Observer],
) -> dict[str, Any]:
    """The same recipe without teachers, for as many epochs and steps."""
    epochs, steps = len(record["epochs"]), record["steps"]
    own = same_budget(_baseline_settings(settings), epochs=epochs, steps=steps)
    _LOG.info("%s", f"the student without teachers: {epochs:,} epochs, {steps:,} steps, as with "
                    "them")  # fmt: skip
    try:
        return train(
            own, corpora=corpora, observers=observers, score_test=options.score_test,
            resume=options.resume, overwrite=options.overwrite,
        )  # fmt: skip
    except CheckpointError as error:
        raise CheckpointError(f"the student without teachers: {error}") from error


def _scored(name: str, role: str, record: Mapping[str, Any]) -> ScoredTagger:
    f1 = {
        split: float(record[split]["micro"]["f1"] or 0.0)
        for split in ("dev", "test")
        if record.get(split)
    }
    return ScoredTagger(name, role, f1, float(record["seconds"]), int(record["steps"]))
