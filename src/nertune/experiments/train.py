"""One run, its stages called in order. The file to read first.

data -> tagger -> training -> model folder -> scores -> record
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

import nertune
from nertune.artifacts.load import load_base, load_own_tokenizer
from nertune.artifacts.manifest import hash_encoder, own_folder
from nertune.artifacts.save import Description, Provenance, add_metrics, save_model
from nertune.config.run import Settings
from nertune.data.corpus import Corpus, save_documents
from nertune.data.duplicates import find_leakage
from nertune.data.splits import SPLITS, load_splits
from nertune.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingDependencyError,
    TrainingError,
)
from nertune.evaluation.metrics import Scores, score
from nertune.experiments.folder import RunFolder
from nertune.experiments.notices import print_logs
from nertune.experiments.progress import RunLog, TrainingDisplay, notify, warn
from nertune.experiments.record import describe_data, peak_memory_bytes, software_versions
from nertune.experiments.run_warnings import find_data_warnings, find_training_warnings
from nertune.experiments.start import Start, open_start
from nertune.inference.predictor import Predictor, load_model
from nertune.labels.align import continuation_ids
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.models.device import choose_device
from nertune.models.heads.transfer import Base
from nertune.storage.processes import refuse_many_processes
from nertune.tokens.units import choose_unit
from nertune.training.accelerator import build_accelerator
from nertune.training.batches import TrainingBatches
from nertune.training.checkpoint import CheckpointStore
from nertune.training.examples import Coverage, Examples, measure_coverage, prepare_examples
from nertune.training.hidden_state_cache import StateStore, count_state_bytes, store_states
from nertune.training.optimizer import group_parameters, group_rates
from nertune.training.progress import Checkpoints
from nertune.training.trainer import FitResult, Observer, Trainer
from nertune.types import Document

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class _Corpora:
    train: Corpus
    dev: Corpus | None
    test: Corpus | None

    def items(self) -> list[tuple[str, Corpus]]:
        named = [("train", self.train), ("dev", self.dev), ("test", self.test)]
        return [(name, corpus) for name, corpus in named if corpus is not None]


def train(
    settings: Settings,
    *,
    console: Console | None = None,
    score_test: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
    corpora: Mapping[str, Corpus] | None = None,
) -> dict[str, Any]:
    """Train, save and score one tagger.

    Everything goes into `settings.run.dir`: `model/`, `record.json`, `log.jsonl`, the predictions
    of what is scored, and while it runs `checkpoints/`. A test set is for final scores only, so
    `data.test` is not even read unless `score_test` asks for it.

    Args:
        settings: the run.
        console: where notices and progress go; stderr by default.
        score_test: also score `data.test`, once, with the weights that are kept.
        resume: go on with a killed run. A finished one is not trained again: with `score_test` its
            model is scored if it was not before, else its record is returned as it is.
        overwrite: replace what an earlier run left in the folder.
        observers: are told about progress; what they raise ends the run.
        corpora: by split, in the place of the files that `settings.data` names.

    Returns:
        The record, as in `record.json`.

    Raises:
        NertuneError: settings, data, encoder or folder cannot be used.
    """
    if not isinstance(settings, Settings):
        raise ConfigError(
            f"settings: expected a Settings, got {type(settings).__name__}; make them "
            "with parse_settings({'data': {'train': …}}) or load_settings(recipe)"
        )
    refuse_many_processes()
    if score_test and not settings.data.test:
        raise ConfigError(
            "--test: data.test is empty; name the file to score, e.g. --set data.test=FILE"
        )
    console = console or Console(stderr=True)
    folder = RunFolder(settings.run.dir)
    if torch.cuda.is_available():  # what earlier runs of this process left in cycles
        gc.collect()
        torch.cuda.empty_cache()
    with folder.locked():
        try:
            if finished := folder.check(settings, resume=resume, overwrite=overwrite):
                return _go_on(
                    finished, settings, folder, console, score_test=score_test, given=corpora
                )
            return _train(
                settings, folder, console, observers,
                score_test=score_test, resume=resume, overwrite=overwrite, given=corpora,
            )  # fmt: skip
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


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "out of memory", "not enough memory")
    )


def _train(
    settings: Settings,
    folder: RunFolder,
    console: Console,
    observers: Sequence[Observer],
    *,
    score_test: bool,
    resume: bool,
    overwrite: bool,
    given: Mapping[str, Corpus] | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    start = open_start(settings)
    corpora = _load_corpora(settings, console, given, with_test=score_test)
    _say_leakage(corpora, console)

    accelerator = _accelerator(settings)
    torch.manual_seed(settings.run.seed)
    with print_logs(console):
        predictor = _build(settings, start, corpora, accelerator)
    result, frozen = _fit(
        settings, start, corpora.train, predictor, corpora.dev, accelerator, folder, console,
        observers, resume=resume, overwrite=overwrite,
        data_hashes={n: c.sha256 for n, c in corpora.items()},
    )  # fmt: skip

    scores = {
        name: _score_split(name, corpus, predictor, folder, console)
        for name, corpus in corpora.items()
        if name != "train"
    }
    record = _record(settings, corpora, predictor, result, scores, accelerator, started)
    record["frozen_layers"] = frozen
    encoder = _encoder_name(settings, start)
    if start is not None:
        record["start_from"] = start.to_dict()
    if encoder:
        record["encoder_sha256"] = hash_encoder(encoder)
    save_model(
        folder.model,
        predictor,
        Description.from_settings(settings, encoder),
        Provenance(
            settings=settings.to_dict(),
            data=record["data"],
            metrics={name: found.to_dict() for name, found in scores.items()},
            start_from="" if start is None else str(start.folder),
            start_sha256="" if start is None else start.sha256,
        ),
    )
    folder.finish(record)
    return record


def _go_on(
    record: dict[str, Any],
    settings: Settings,
    folder: RunFolder,
    console: Console,
    *,
    score_test: bool,
    given: Mapping[str, Corpus] | None,
) -> dict[str, Any]:
    """What is left to do for a finished run: nothing, or its scores on test."""
    _refuse_other_start(record, settings, folder)
    _refuse_other_documents(record, settings, folder, given or {})
    if score_test and record.get("test") is not None:
        _refuse_other_test(record, settings, folder, given)
    # Scores without the predictions that they were counted from cannot be compared.
    has_test = record.get("test") is not None and folder.predictions("test").is_file()
    if not score_test or has_test:
        notify(console, f"{settings.run.dir}: finished before, nothing to do")
        return record
    notify(console, f"{settings.run.dir}: finished before, its model is scored on test")
    corpora = _load_corpora(settings, console, given, with_test=True)
    _say_leakage(corpora, console)
    assert corpora.test is not None
    if not folder.model.exists():
        raise CheckpointError(
            f"{folder.model}: the finished run's model is gone; use --overwrite to train again"
        )
    predictor = load_model(folder.model, device=settings.run.device)
    scores = _score_split("test", corpora.test, predictor, folder, console).to_dict()
    data = {**record["data"], "test": describe_data(corpora.test)}
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


def _load_corpora(
    settings: Settings, console: Console, given: Mapping[str, Corpus] | None, *, with_test: bool
) -> _Corpora:
    data = settings.data
    loaded = load_splits(data, SPLITS if with_test else ("train", "dev"), given=given)
    loaded["train"] = loaded["train"].take_share(data.train_share, settings.run.seed)
    for split, corpus in loaded.items():
        counts = f"{len(corpus.documents):,} documents, {corpus.num_entities:,} entities"
        notify(console, f"{split}: {corpus.path}: {counts}")
        for notice in corpus.notices:
            notify(console, f"  {notice}")
    train = loaded["train"]
    corpora = _Corpora(train, loaded.get("dev"), loaded.get("test"))
    if not train.labels:
        raise DataError("holds no entity to learn from", path=train.path)
    if corpora.dev is None:
        notify(console, "no data.dev: nothing chooses an epoch, so the last one is kept")
    if data.test and not with_test:
        notify(
            console, f"data.test is not scored: add --test, or nertune evaluate MODEL {data.test}"
        )
    for message in find_data_warnings(corpora.train, corpora.dev, corpora.test):
        warn(console, message)
    return corpora


def _say_leakage(corpora: _Corpora, console: Console) -> None:
    """A score on texts that were trained on is no score; say how many there are."""
    named = corpora.items()
    for i, (source, a) in enumerate(named):
        for target, b in named[i + 1 :]:
            leak = find_leakage(a.documents, b.documents, source_name=source, target_name=target)
            if leak.documents:
                warn(
                    console,
                    f"{leak.documents} of {len(b.documents)} {target} texts stand in {source} "
                    f"too: scores on {target} are optimistic",
                )


def _accelerator(settings: Settings) -> Accelerator:
    device = choose_device(settings.run.device)
    if settings.train.tensorboard:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "tensorboard", extra="tensorboard", purpose="train.tensorboard"
            ) from error
    return build_accelerator(
        device,
        settings.train.precision,
        log_with="tensorboard" if settings.train.tensorboard else None,
        project_dir=settings.run.dir,
    )


def _encoder_name(settings: Settings, start: Start | None) -> str:
    """The encoder that the run's model belongs to; empty for an LSTM."""
    if start is not None:
        return start.encoder
    return settings.model.encoder if settings.model.emitter == "encoder" else ""


def _build(
    settings: Settings, start: Start | None, corpora: _Corpora, accelerator: Accelerator
) -> Predictor:
    """The tagger as it begins, and how it reads text."""
    documents = corpora.train.documents
    tagset = TagSet.from_labels(corpora.train.labels)
    max_pieces, stride = settings.model.max_pieces, settings.model.stride
    base: Base | None = None
    if start is not None:
        _LOG.info("%s", start.describe())
        unit = start.manifest.unit
        tokenizer = load_own_tokenizer(start.folder, start.manifest)
        base = start.load(tagset)
        if not max_pieces and stride < 0:
            max_pieces, stride = start.manifest.max_pieces, start.manifest.stride
    else:
        unit = choose_unit(documents, settings.model.unit)
        tokenizer = build_tokenizer(settings, documents, unit)
        if settings.model.emitter == "encoder":
            base = load_base(settings.model.encoder, tagset)
    tagger = build_tagger(settings, tagset, tokenizer, base)
    segmenter = build_segmenter(
        tagger,
        tokenizer,
        unit,
        max_pieces=max_pieces,
        stride=stride,
    )
    return Predictor(tagger.to(accelerator.device), segmenter, tagset)


def _fit(
    settings: Settings,
    start: Start | None,
    corpus: Corpus,
    predictor: Predictor,
    dev: Corpus | None,
    accelerator: Accelerator,
    folder: RunFolder,
    console: Console,
    observers: Sequence[Observer],
    *,
    resume: bool,
    overwrite: bool,
    data_hashes: dict[str, str],
) -> tuple[FitResult, dict[str, Any]]:
    """What came of training, and what was done about frozen layers."""
    examples = prepare_examples(corpus.documents, predictor.segmenter, predictor.tagger.head)
    examples.coverage.refuse_if_mostly_lost(
        corpus.path, corpus.documents, predictor.segmenter, predictor.tagger.head
    )
    coverages = {"train": examples.coverage}
    if dev is not None:
        coverages["dev"] = measure_coverage(
            dev.documents, predictor.segmenter, predictor.tagger.head
        )
    _say_coverage(coverages, console)
    trainable, total = _count_parameters(predictor)
    notify(console, f"{settings.run.name}: {trainable:,} of {total:,} parameters train, "
                    f"unit {predictor.segmenter.unit}, {accelerator.device}")  # fmt: skip
    rates = _rates(settings, predictor)
    told = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
    notify(console, f"learning rates: {told}")
    for message in find_training_warnings(settings, examples, predictor.tagger):
        warn(console, message)
    folder.begin(overwrite=overwrite)  # here, since data or encoder might have been refused
    tracker = None
    if settings.train.tensorboard:
        accelerator.init_trackers("tensorboard")
        tracker = accelerator.log
    log = RunLog(folder.log, track=tracker)
    states = None
    try:
        states, frozen = _states(settings, predictor, examples, accelerator, folder, console)
        with TrainingDisplay(
            console, settings.run.name, settings.train.epochs, [log, *observers]
        ) as display:
            batches = TrainingBatches(
                examples,
                budget_tokens=settings.train.batch_tokens,
                seed=settings.run.seed,
                pad_id=predictor.segmenter.tokenizer.pad_id,
                continuation=(
                    continuation_ids(predictor.tagset.tags)
                    if settings.model.pieces == "all"
                    else None
                ),
                states=states,
            )
            result = Trainer(
                predictor.tagger,
                batches,
                settings.train,
                accelerator,
                evaluate=None if dev is None else lambda: _quick_scores(predictor, dev),
                observer=display,
                checkpoints=Checkpoints(
                    CheckpointStore(folder.checkpoints),
                    _fingerprint(settings, start, predictor, data_hashes),
                    resume=resume,
                ),
            ).fit()
        return result, frozen
    finally:
        log.close()
        if states is not None:
            states.close()
        accelerator.end_training()


def _states(
    settings: Settings,
    predictor: Predictor,
    examples: Examples,
    accelerator: Accelerator,
    folder: RunFolder,
    console: Console,
) -> tuple[StateStore | None, dict[str, Any]]:
    """What the frozen layers give, where there are any and it is not too much to keep.

    Returns:
        The store, and for the record: `run_once`, `seconds` that this took, `bytes`.
    """
    none = {"run_once": False, "seconds": 0.0, "bytes": 0}
    needed = count_state_bytes(predictor.tagger, examples.windows)
    limit = settings.train.cache_gib * 2**30
    if not needed or not limit:
        return None, none
    if needed > limit:
        notify(console, f"the frozen layers run in every epoch: what they give takes "
                        f"{needed / 2**30:.1f} GiB, and train.cache_gib is "
                        f"{settings.train.cache_gib:g}")  # fmt: skip
        return None, none
    notify(console, "running the frozen layers, once for all epochs")
    started = time.perf_counter()
    try:
        states = store_states(
            predictor.tagger,
            examples.windows,
            pad_id=predictor.segmenter.tokenizer.pad_id,
            accelerator=accelerator,
            folder=folder.path,
        )
    except OSError as error:
        notify(console, f"the frozen layers run in every epoch: no room for what they give, "
                        f"{needed / 2**30:.1f} GiB ({error.strerror or error})")  # fmt: skip
        return None, none
    seconds = time.perf_counter() - started
    notify(console, f"the frozen layers ran once ({seconds:.0f} s, "
                    f"{needed / 2**20:,.0f} MiB kept{' on disk' if states.is_on_disk else ''}); "
                    "there is no dropout in them")  # fmt: skip
    return states, {"run_once": True, "seconds": seconds, "bytes": needed}


def _fingerprint(
    settings: Settings, start: Start | None, predictor: Predictor, data_hashes: dict[str, str]
) -> dict[str, Any]:
    """What a resumed run must share with the killed one to end with the same weights."""
    values = settings.to_dict()
    for section, key in (
        ("run", "dir"), ("run", "name"), ("train", "checkpoint_steps"),
        ("train", "checkpoint_minutes"),
    ):  # fmt: skip
        values[section].pop(key)
    values["data"] = {name: data_hashes.get(name) for name in ("train", "dev")}
    flat = {f"{section}.{key}": v for section, keys in values.items() for key, v in keys.items()}
    if encoder := _encoder_name(settings, start):  # its frozen weights are in no checkpoint
        flat["encoder"] = hash_encoder(encoder)
    if start is not None:
        flat["start_from"] = start.sha256
    return flat | {"tokenizer": predictor.segmenter.tokenizer.fingerprint()}


def _quick_scores(predictor: Predictor, corpus: Corpus) -> dict[str, float]:
    predicted = list(predictor.tag_documents(corpus.documents, with_scores=False))
    micro = score(corpus.documents, predicted, num_resamples=0).micro
    return {
        "precision": micro.precision or 0.0,
        "recall": micro.recall or 0.0,
        "f1": micro.f1 or 0.0,
    }


def _score_split(
    name: str, corpus: Corpus, predictor: Predictor, folder: RunFolder, console: Console
) -> Scores:
    if name == "test":  # dev's was said before training
        coverage = measure_coverage(corpus.documents, predictor.segmenter, predictor.tagger.head)
        _say_coverage({name: coverage}, console)
    predicted: Sequence[Document] = list(predictor.tag_documents(corpus.documents))
    save_documents(folder.predictions(name), predicted, format="predictions")
    return score(corpus.documents, predicted, types=predictor.tagset.labels)


def _say_coverage(coverages: Mapping[str, Coverage], console: Console) -> None:
    for split, coverage in coverages.items():
        for line in coverage.describe(split):
            notify(console, line)


def _count_parameters(predictor: Predictor) -> tuple[int, int]:
    parameters = list(predictor.tagger.parameters())
    return (
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    )


def _rates(settings: Settings, predictor: Predictor) -> dict[str, float]:
    """The peak rate of each group that trains."""
    rates = group_rates(settings.train, predictor.tagger)
    return {group: rates[group] for group in group_parameters(predictor.tagger)}


def _record(
    settings: Settings,
    corpora: _Corpora,
    predictor: Predictor,
    result: FitResult,
    scores: dict[str, Scores],
    accelerator: Accelerator,
    started: float,
) -> dict[str, Any]:
    trainable, total = _count_parameters(predictor)
    device = str(accelerator.device)
    return {
        "nertune": nertune.__version__,
        "name": settings.run.name,
        "seed": settings.run.seed,
        "status": "finished",
        "settings": settings.to_dict(),
        "versions": software_versions(),
        "device": device,
        "threads": torch.get_num_threads(),
        "data": {
            split: describe_data(corpus) if corpus is not None else None
            for split, corpus in (
                ("train", corpora.train),
                ("dev", corpora.dev),
                ("test", corpora.test),
            )
        },
        "parameters": {"trainable": trainable, "total": total},
        "rates": _rates(settings, predictor),
        "epochs": [report.to_dict() for report in result.history],
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "seconds": result.earlier_seconds + time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(device),
        "dev": scores["dev"].to_dict() if "dev" in scores else None,
        "test": scores["test"].to_dict() if "test" in scores else None,
    }
