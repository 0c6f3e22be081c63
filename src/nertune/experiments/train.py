"""One run, its stages called in order. The file to read first.

data -> tagger -> training -> model folder -> scores -> record
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import nertune
from nertune.artifacts.manifest import hash_encoder, own_folder
from nertune.artifacts.save import Description, Provenance, add_metrics, save_model
from nertune.config.run import Settings
from nertune.data.corpus import Corpus, save_fitting
from nertune.data.splits import load_splits
from nertune.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
)
from nertune.evaluation.calibration import FittedCalibration
from nertune.evaluation.metrics import Scores, score
from nertune.experiments.calibrate import calibrate
from nertune.experiments.fitting import Learner, build_learner, fit, open_accelerator
from nertune.experiments.folder import RunFolder
from nertune.experiments.record import describe_data, peak_memory_bytes, software_versions
from nertune.experiments.run_data import RunData, load_run_data, log_coverage
from nertune.experiments.start import open_start
from nertune.inference.predictor import Predictor, load_model
from nertune.storage.processes import (
    check_launcher,
    is_one_of_several,
    num_side_by_side,
    refuse_many_processes,
)
from nertune.training.accelerator import computed_precision
from nertune.training.examples import measure_coverage
from nertune.training.observer import Observer
from nertune.training.process_group import ProcessGroup
from nertune.training.soft_targets import SoftSource
from nertune.training.trainer import FitResult
from nertune.types import Document

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class _Run:
    """What was asked for; see `train`."""

    settings: Settings
    folder: RunFolder
    observers: tuple[Observer, ...]
    given: Mapping[str, Corpus] | None
    score_test: bool
    resume: bool
    overwrite: bool
    soft: SoftSource | None


def train(
    settings: Settings,
    *,
    score_test: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
    corpora: Mapping[str, Corpus] | None = None,
    soft: SoftSource | None = None,
) -> dict[str, Any]:
    """Train, save and score one tagger.

    Everything goes into `settings.run.dir`: `model/`, `record.json`, `log.jsonl`, the predictions
    of what is scored, and while it runs `checkpoints/`. A test set is for final scores only, so
    `data.test` is not even read unless `score_test` asks for it.

    Args:
        settings: the run.
        score_test: also score `data.test`, once, with the weights that are kept.
        resume: go on with a killed run. A finished one is not trained again: with `score_test` its
            model is scored if it was not before, else its record is returned as it is.
        overwrite: replace what an earlier run left in the folder.
        observers: are told about progress; what they raise ends the run.
        corpora: by split, in the place of the files that `settings.data` names.
        soft: unlabelled text with a teacher, learned beside the training data, which may be empty.

    Returns:
        The record, as in `record.json`. Where several processes train together (torchrun,
        `accelerate launch`), the first one alone writes and returns it, the others return `{}`.

    Raises:
        NertuneError: settings, data, encoder or folder cannot be used.
    """
    _refuse_unusable(settings, score_test=score_test)
    check_launcher() if soft is None else refuse_many_processes()
    folder = RunFolder(settings.run.dir)
    run = _Run(settings, folder, tuple(observers), corpora, score_test, resume, overwrite, soft)
    if torch.cuda.is_available():  # what earlier runs of this process left in cycles
        gc.collect()
        torch.cuda.empty_cache()
    # One process alone needs no device to return a finished run.
    accelerator = open_accelerator(settings) if is_one_of_several() else None
    group = None if accelerator is None else ProcessGroup(accelerator)
    with ExitStack() as stack:
        try:
            if group is not None and not group.is_first:
                return _train(run, accelerator) if group.any(False) else {}
            if finished := _open_folder(run, stack, group):
                return _complete(run, finished)
            return _train(run, accelerator)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
    # Out here the error is gone, and with it the frames that held the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise TrainingError(
        f"out of memory: lower train.batch_tokens ({settings.train.batch_tokens}; train.accumulate "
        'keeps the steps as large), set train.precision = "bf16", or train less of the encoder'
    )


def _open_folder(run: _Run, stack: ExitStack, group: ProcessGroup | None) -> dict[str, Any] | None:
    """Lock the folder and see what is there; the other processes hear whether to train.

    Returns:
        The record of a finished run that is resumed.
    """
    trains = False
    try:
        stack.enter_context(run.folder.locked())
        finished = run.folder.check(run.settings, resume=run.resume, overwrite=run.overwrite)
        trains = finished is None
        return finished
    finally:
        if group is not None:
            group.any(trains)


def _refuse_unusable(settings: Any, *, score_test: bool) -> None:
    if not isinstance(settings, Settings):
        raise ConfigError(
            f"settings: expected a Settings, got {type(settings).__name__}; make them "
            "with parse_settings({'data': {'train': …}}) or load_settings(recipe)"
        )
    if score_test and not settings.data.test:
        raise ConfigError(
            "--test: data.test is empty; name the file to score, e.g. --set data.test=FILE"
        )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "out of memory", "not enough memory")
    )


def _train(run: _Run, accelerator: Accelerator | None) -> dict[str, Any]:
    started = time.perf_counter()
    settings = run.settings
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    start = open_start(settings)  # refused before the data are read
    data = load_run_data(settings, run.given, with_test=run.score_test, soft=run.soft)
    learner = build_learner(settings, start, data.train, run.soft, accelerator)
    result, frozen = fit(
        learner, data, run.folder, run.observers,
        resume=run.resume, overwrite=run.overwrite, soft=run.soft,
    )  # fmt: skip
    if not learner.accelerator.is_main_process:
        return {}
    fitted = None
    if data.dev is not None and settings.train.calibrate:
        fitted = calibrate(learner.predictor, data.dev.documents)
    scores = {
        split: _score_split(split, corpus, learner.predictor, run.folder)
        for split, corpus in data.items()
        if split != "train"
    }
    outcome = _Outcome(result, scores, frozen, fitted, started)
    record = _record(learner, data, outcome)
    if run.soft is not None:
        record["soft"] = {"key": run.soft.key, **run.soft.describe()}
    _save(learner, record, scores, run.folder)
    run.folder.finish(record)
    return record


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a run: training, scores, frozen layers, calibration; and when it began."""

    result: FitResult
    scores: Mapping[str, Scores]
    frozen_layers: Mapping[str, Any]
    calibration: FittedCalibration | None
    started: float


def _save(
    learner: Learner, record: dict[str, Any], scores: Mapping[str, Scores], folder: RunFolder
) -> None:
    settings, start = learner.settings, learner.start
    save_model(
        folder.model,
        learner.predictor,
        Description.from_settings(settings, learner.encoder),
        Provenance(
            settings=settings.to_dict(),
            data=record["data"],
            metrics={name: found.to_dict() for name, found in scores.items()},
            start_from="" if start is None else str(start.folder),
            start_sha256="" if start is None else start.sha256,
        ),
    )


def _complete(run: _Run, record: dict[str, Any]) -> dict[str, Any]:
    """What is left to do for a finished run: nothing, or its scores on test."""
    settings, folder, given = run.settings, run.folder, run.given
    _refuse_other_start(record, settings, folder)
    _refuse_other_documents(record, settings, folder, given or {})
    _refuse_other_soft(record, folder, run.soft)
    if run.score_test and record.get("test") is not None:
        _refuse_other_test(record, settings, folder, given)
    # Scores without the predictions that they were counted from cannot be compared.
    has_test = record.get("test") is not None and folder.predictions("test").is_file()
    if not run.score_test or has_test:
        _LOG.info("%s", f"{settings.run.dir}: finished before, nothing to do")
        return record
    _LOG.info("%s", f"{settings.run.dir}: finished before, its model is scored on test")
    test = load_run_data(settings, given, with_test=True, soft=run.soft).test
    assert test is not None
    if not folder.model.exists():
        raise CheckpointError(
            f"{folder.model}: the finished run's model is gone; use --overwrite to train again"
        )
    predictor = load_model(folder.model, device=settings.run.device)
    scores = _score_split("test", test, predictor, folder).to_dict()
    data = {**record["data"], "test": describe_data(test)}
    add_metrics(folder.model, {"test": scores}, data=data)
    own = record["settings"]
    own = {**own, "data": {**own["data"], "test": settings.data.test}}
    record = {**record, "settings": own, "data": data, "test": scores}
    folder.finish(record)
    return record


def _refuse_other_documents(
    record: dict[str, Any], settings: Settings, folder: RunFolder, given: Mapping[str, Corpus]
) -> None:
    """Documents in memory have no name of their own: their content says whether they are others."""
    for split in ("train", "dev"):
        if split not in given:
            continue
        corpus = given[split]
        if split == "train":
            corpus = corpus.take_share(settings.data.train_share, settings.run.seed)
        if corpus.sha256 != (record["data"].get(split) or {}).get("sha256"):
            raise CheckpointError(
                f"{folder.path}: the finished run had other {split} documents than those given; "
                "use overwrite to train again, or another run.dir"
            )


def _refuse_other_soft(record: dict[str, Any], folder: RunFolder, soft: SoftSource | None) -> None:
    """A finished run on other unlabelled text, or of another teacher, is not what is asked for."""
    before, now = (record.get("soft") or {}).get("key"), None if soft is None else soft.key
    if before != now:
        raise CheckpointError(
            f"{folder.path}: the finished run learned from other unlabelled text, another teacher, "
            "or with other weights of it; use overwrite to train again, or another run.dir"
        )


def _refuse_other_start(record: dict[str, Any], settings: Settings, folder: RunFolder) -> None:
    """The model that a finished run started from may be gone, but no other in its place."""
    before = (record.get("start_from") or {}).get("sha256")
    if before is None or own_folder(settings.model.start_from) is None:
        return
    start = open_start(settings)
    if start is not None and start.sha256 != before:
        raise CheckpointError(
            f"{folder.path}: the finished run started from another model than {start.folder} is "
            f"now (sha256 {before[:12]}…, now {start.sha256[:12]}…); use --overwrite or another "
            "run.dir"
        )


def _refuse_other_test(
    record: dict[str, Any],
    settings: Settings,
    folder: RunFolder,
    given: Mapping[str, Corpus] | None,
) -> None:
    """A score of another file must not pass for what was asked for."""
    test = load_splits(settings.data, given=given)["test"]
    if test.sha256 != record["data"]["test"]["sha256"]:
        raise CheckpointError(
            f"{folder.path}: the run was scored on a test file of other content "
            f"({record['data']['test']['path']}); score {settings.data.test} with "
            f"nertune evaluate {folder.model} {settings.data.test}"
        )


def _score_split(name: str, corpus: Corpus, predictor: Predictor, folder: RunFolder) -> Scores:
    if name == "test":  # dev's was said before training
        coverage = measure_coverage(corpus.documents, predictor.segmenter, predictor.tagger.head)
        log_coverage({name: coverage})
    predicted: Sequence[Document] = list(predictor.tag_documents(corpus.documents))
    save_fitting(folder.predictions(name), predicted, format="predictions")
    scores = score(corpus.documents, predicted, types=predictor.tagset.labels)
    if scores.num_ignored:
        _LOG.info(
            "%s: %s predictions are not counted: the partial labels do not say whether they are "
            "right", name, f"{scores.num_ignored:,}",
        )  # fmt: skip
    return scores


def _record(learner: Learner, data: RunData, outcome: _Outcome) -> dict[str, Any]:
    settings, result, scores = learner.settings, outcome.result, outcome.scores
    trainable, total = learner.num_parameters
    device = str(learner.accelerator.device)
    record = {
        "nertune": nertune.__version__,
        "name": settings.run.name,
        "seed": settings.run.seed,
        "status": "finished",
        "settings": settings.to_dict(),
        "versions": software_versions(),
        "device": device,
        "precision": computed_precision(learner.accelerator),
        "threads": torch.get_num_threads(),
        "side_by_side": num_side_by_side(),
        "processes": learner.accelerator.num_processes,
        "data": {
            split: describe_data(corpus) if corpus is not None else None
            for split, corpus in (
                ("train", data.train),
                ("dev", data.dev),
                ("test", data.test),
            )
        },
        "parameters": {"trainable": trainable, "total": total},
        "rates": learner.rates,
        "epochs": [report.to_dict() for report in result.history],
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "steps": result.steps,
        "seconds": result.earlier_seconds + time.perf_counter() - outcome.started,
        "peak_memory_bytes": peak_memory_bytes(device),
        "dev": scores["dev"].to_dict() if "dev" in scores else None,
        "test": scores["test"].to_dict() if "test" in scores else None,
    }
    record["frozen_layers"] = dict(outcome.frozen_layers)
    record["calibration"] = None if outcome.calibration is None else outcome.calibration.to_dict()
    if learner.start is not None:
        record["start_from"] = learner.start.to_dict()
    if learner.encoder:
        record["encoder_sha256"] = hash_encoder(learner.encoder)
    return record
