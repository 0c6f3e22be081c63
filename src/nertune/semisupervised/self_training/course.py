"""One seed: the teacher, the students, and the baseline of the same budget.

Each run is one of `experiments.train`, in a folder of its own, and goes on by itself when it was
killed; what lies between two runs is written whole or not at all, and made again if it is missing.

    seed-1/pool.jsonl.gz              the unlabelled texts that were drawn
    seed-1/round-0/                   the teacher's run; round-0-2, … those of further teachers
    seed-1/round-1/pseudo.jsonl.gz    what the teacher says of them
    seed-1/round-1/completed.jsonl.gz partially labelled documents, with what the teacher filled in
    seed-1/round-1/run/               the student's run
    seed-1/baseline/
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings, with_changes
from nertune.data.corpus import Corpus
from nertune.errors import DataError
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor, load_model
from nertune.semisupervised.budget import same_budget
from nertune.semisupervised.self_training.completion import complete_documents, is_partial
from nertune.semisupervised.self_training.labelling import PseudoLabels, label_pool
from nertune.semisupervised.self_training.options import Options, student_epochs
from nertune.semisupervised.self_training.pool import (
    Pool,
    PoolCounts,
    draw_pool,
    read_unlabelled,
)
from nertune.semisupervised.self_training.results import Round, SeedResult, Trained
from nertune.semisupervised.self_training.source import TeacherSource
from nertune.storage.atomic import write_whole
from nertune.training.observer import Observer
from nertune.types import Document

__all__ = ["Course", "change_settings"]

_LOG = logging.getLogger("nertune")
_SEED_STEP = 1_000_003  # between the seeds of the teachers, so that other --seeds have others


@dataclass(frozen=True, slots=True)
class Course:
    """The runs of one seed.

    Attributes:
        settings: of the recipe, with the seed.
        corpora: by split: `train` as far as the recipe's share of it, `dev`, perhaps `test`, whose
            texts are kept out of the pool.
        unlabelled: files; may be none where training documents are labelled in part.
        options: of self-training.
        folder: of the seed.
        observers: are told about the progress of each run.
    """

    settings: Settings
    corpora: Mapping[str, Corpus]
    unlabelled: Sequence[Path]
    options: Options
    folder: Path
    observers: Sequence[Observer] = ()

    @property
    def seed(self) -> int:
        return self.settings.run.seed

    def run(self) -> SeedResult:
        """All rounds, then the baseline.

        Raises:
            NertuneError: no text is left, or a run cannot be done.
        """
        pool = self._pool()
        if self.unlabelled:
            _LOG.info("%s", f"seed {self.seed}: {pool.counts.describe()}")
        teachers = self._teachers()
        first, *others = sorted(teachers, key=lambda one: -one.f1)
        rounds = [Round(0, first, others=tuple(others))]
        for number in range(1, self.options.rounds + 1):
            taught_by = teachers if number == 1 else [rounds[-1].trained]
            rounds.append(self._round(number, taught_by, pool))
        baseline = self._baseline(rounds)
        return SeedResult(
            seed=self.seed,
            labelled={
                "documents": len(self.corpora["train"].documents),
                "entities": self.corpora["train"].num_entities,
            },
            pool=pool.counts.to_dict(),
            rounds=tuple(rounds),
            baseline=baseline,
        )

    def _teachers(self) -> list[Trained]:
        """Those of round 0: the recipe as it stands, with one seed or several."""
        corpus, found = self.corpora["train"], []
        for number in range(1, self.options.teachers + 1):
            place, name, settings = "round-0", "teacher", self.settings
            if number > 1:
                place, name = f"round-0-{number}", f"teacher {number}"
                seed = (self.seed + _SEED_STEP * (number - 1)) % 2**32
                settings = change_settings(settings, {"run.seed": seed})
            found.append(self._train(place, name, settings, corpus))
        return found

    def _train(
        self,
        place: str,
        name: str,
        settings: Settings,
        corpus: Corpus,
        soft: TeacherSource | None = None,
    ) -> Trained:
        """A run on some training documents; a killed one goes on, a finished one is read."""
        folder = self.folder / place
        values = {"run.dir": str(folder), "run.name": f"{name}, seed {self.seed}"}
        own = change_settings(settings, values | {"data.train_share": 1.0, "data.test": ""})
        corpora = {"train": corpus, "dev": self.corpora["dev"]}
        record = train(own, corpora=corpora, soft=soft, resume=True, observers=self.observers)
        return Trained.of_record(folder, record)

    def _pool(self) -> Pool:
        if not self.unlabelled:
            return Pool((), PoolCounts())
        path = self.folder / "pool.jsonl.gz"
        if path.is_file():
            head, documents = _read(path)
            return Pool(tuple(documents), PoolCounts(**head))
        texts = read_unlabelled(self.unlabelled, join=self.corpora["train"].joined)
        pool = draw_pool(texts, self.corpora, most=self.options.most, seed=self.seed)
        _write(path, pool.counts.to_dict(), pool.documents)
        return pool

    def _round(self, number: int, teachers: Sequence[Trained], pool: Pool) -> Round:
        """A student, trained on pseudo-labels and on the labelled documents."""
        models = [teacher.folder / "model" for teacher in teachers]
        predictors = [load_model(model, device=self.settings.run.device) for model in models]
        corpus, num_filled_in = self._labelled(number, predictors)
        head, documents = self._pseudo(number, predictors, pool, corpus)
        soft = None
        if documents and self.options.labels == "soft":
            soft = TeacherSource(predictors, [read_manifest(model) for model in models], documents)
        elif documents:
            both = [*corpus.documents, *documents]
            joined = Corpus.from_documents(both, name=f"{corpus.path} + pseudo-labels")
            corpus = replace(joined, reading=corpus.reading)
        best = max(teachers, key=lambda one: one.f1)
        settings = self._student(predictors[0], best, documents)
        trained = self._train(f"round-{number}/run", f"student {number}", settings, corpus, soft)
        return Round(number, trained, head["pseudo"], head["thresholds"],
                     num_filled_in=num_filled_in)  # fmt: skip

    def _pseudo(
        self, number: int, teachers: Sequence[Predictor], pool: Pool, labelled: Corpus
    ) -> tuple[dict[str, Any], list[Document]]:
        """What the teachers say of unlabelled text, and its counts; nothing where there is none."""
        if not pool.documents:
            return {"pseudo": {}, "thresholds": {}}, []
        path = self.folder / f"round-{number}" / "pseudo.jsonl.gz"
        if path.is_file():
            head, documents = _read(path)
        else:
            _LOG.info("%s", f"round {number}: tagging {len(pool.documents):,} documents")
            found = self._label(teachers, pool, labelled)
            head, documents = _describe(found), found.documents
            _write(path, head, documents)
        if not documents:
            raise DataError(
                f"round {number}: nothing that the teacher found is sure enough to learn from; "
                "lower --precision, or use --labels soft"
            )
        counts = head["pseudo"]
        _LOG.info("%s", f"round {number}: {counts['documents']:,} pseudo-labelled documents, "
                        f"{counts['entities']:,} entities")  # fmt: skip
        return head, documents

    def _labelled(self, number: int, teachers: Sequence[Predictor]) -> tuple[Corpus, int | None]:
        """The labelled documents, partial ones completed, and how many entities that added."""
        corpus = self.corpora["train"]
        if not is_partial(corpus):
            return corpus, None
        path = self.folder / f"round-{number}" / "completed.jsonl.gz"
        if path.is_file():
            _, documents = _read(path)
        else:
            documents = list(complete_documents(teachers, corpus.documents))
            _write(path, {}, documents)
        completed = Corpus.from_documents(documents, name=f"{corpus.path}, completed")
        num_filled_in = completed.num_entities - corpus.num_entities
        _LOG.info("%s", f"round {number}: {num_filled_in:,} entities filled in where training "
                        "documents are labelled in part")  # fmt: skip
        return replace(completed, reading=corpus.reading), num_filled_in

    def _label(self, teachers: Sequence[Predictor], pool: Pool, labelled: Corpus) -> PseudoLabels:
        dev = self.corpora["dev"].documents
        return label_pool(teachers, pool.documents, labelled.documents, dev, self.options)

    def _student(
        self, predictor: Predictor, teacher: Trained, pseudo: Sequence[Document]
    ) -> Settings:
        """The recipe for a student."""
        units = _count_units(predictor, self.corpora["train"].documents)
        epochs = self.options.epochs or student_epochs(
            self.settings.train.epochs,
            units=units,
            all_units=units + _count_units(predictor, pseudo),
        )
        changes: dict[str, Any] = {
            "train.epochs": epochs,
            "train.noise": self.options.noise,
            # Texts without tokens must not make another choice than the labelled ones did.
            "model.unit": predictor.segmenter.unit,
        }
        if self.options.from_teacher:
            changes["model.start_from"] = str(teacher.folder)
        return change_settings(self.settings, changes)

    def _baseline(self, rounds: Sequence[Round]) -> Trained:
        """The labelled data alone, for as many steps, with as many looks at dev."""
        settings = same_budget(
            self.settings,
            epochs=sum(one.epochs for one in rounds),
            steps=sum(one.steps for one in rounds),
        )
        return self._train("baseline", "baseline", settings, self.corpora["train"])


def change_settings(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some replaced, by `section.key`."""
    return Settings.model_validate(with_changes(settings.to_dict(), changes))


def _count_units(predictor: Predictor, documents: Iterable[Document]) -> int:
    return sum(len(predictor.visible_units(document)) for document in documents)


def _describe(found: PseudoLabels) -> dict[str, Any]:
    thresholds = {} if found.thresholds is None else asdict(found.thresholds)
    return {"pseudo": found.counts.to_dict(), "thresholds": thresholds}


def _write(path: Path, head: Mapping[str, Any], documents: Iterable[Document]) -> None:
    """A line of counts, then a line a document, with scores, scope and meta."""

    def write(part: Path) -> None:
        with part.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
            for value in ({"counts": dict(head)}, *map(Document.to_dict, documents)):
                stream.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)


def _read(path: Path) -> tuple[dict[str, Any], list[Document]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        head = json.loads(next(stream))["counts"]
        return head, [Document.from_dict(json.loads(line)) for line in stream]
