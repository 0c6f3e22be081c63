"""What a run trains, and its training: examples, frozen layers, trainer, checkpoints, log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from nertune.artifacts.load import load_base, load_own_tokenizer
from nertune.artifacts.manifest import hash_encoder
from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.data.document_store import StoredDocuments
from nertune.errors import MissingDependencyError, NotFiniteError
from nertune.evaluation.metrics import Score, score
from nertune.experiments.folder import RunFolder
from nertune.experiments.progress import EpochLines, RunLog
from nertune.experiments.run_data import RunData, log_coverage
from nertune.experiments.run_warnings import find_training_warnings
from nertune.experiments.start import Start
from nertune.inference.predictor import Predictor
from nertune.labels.align import continuation_ids
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.models.device import choose_device
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.base import soft_head
from nertune.models.heads.transfer import Base
from nertune.tokens.units import choose_unit
from nertune.training.accelerator import build_accelerator, computed_precision
from nertune.training.batches import TrainingBatches
from nertune.training.checkpoint import Checkpoints, CheckpointStore
from nertune.training.entity_ratio import choose_entity_ratio
from nertune.training.example_store import store_examples
from nertune.training.examples import Examples, measure_coverage, prepare_examples
from nertune.training.noise import TokenNoise, is_pseudo
from nertune.training.observer import Observer, Observers
from nertune.training.optimizer import group_parameters, group_rates
from nertune.training.process_group import ProcessGroup
from nertune.training.soft_targets import SoftSource, SoftTargets
from nertune.training.stores.hidden_state_cache import StateStore, count_state_bytes, store_states
from nertune.training.trainer import FitResult, Trainer
from nertune.types import Document

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Learner", "build_learner", "fit", "open_accelerator"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class Learner:
    """What a run trains.

    Attributes:
        settings: of the run.
        start: the trained model that it starts from, if it does.
        predictor: the tagger, and how it reads text.
        accelerator: device and precision.
    """

    settings: Settings
    start: Start | None
    predictor: Predictor
    accelerator: Accelerator

    @property
    def encoder(self) -> str:
        """The encoder that the run's model belongs to; empty for an LSTM."""
        if self.start is not None:
            return self.start.encoder
        model = self.settings.model
        return model.encoder if model.emitter == "encoder" else ""

    @property
    def num_parameters(self) -> tuple[int, int]:
        """Those that train, and all."""
        parameters = list(self.predictor.tagger.parameters())
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        return trainable, sum(p.numel() for p in parameters)

    @property
    def rates(self) -> dict[str, float]:
        """The peak learning rate of each group that trains."""
        tagger = self.predictor.tagger
        rates = group_rates(self.settings.train, tagger)
        return {group: rates[group] for group in group_parameters(tagger)}


def build_learner(
    settings: Settings,
    start: Start | None,
    corpus: Corpus,
    soft: SoftSource | None = None,
    accelerator: Accelerator | None = None,
) -> Learner:
    """The tagger as it begins, seeded by `run.seed`.

    Args:
        settings: of the run.
        start: the trained model that it starts from, if it does (`start.open_start`).
        corpus: the training data, which gives labels, unit and an LSTM's vocabulary.
        soft: unlabelled text with a teacher, which gives them too.
        accelerator: from `open_accelerator`; opened here by default.

    Raises:
        NertuneError: the settings do not fit the model, or it cannot be loaded.
    """
    accelerator = accelerator or open_accelerator(settings)
    torch.manual_seed(settings.run.seed)
    documents: Iterable[Document] = corpus.documents
    tagset = TagSet.from_labels([*corpus.labels, *(() if soft is None else soft.labels)])
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
        if soft is not None:
            documents = _Chained(corpus.documents, soft)
        unit = choose_unit(corpus.documents or documents, settings.model.unit)
        tokenizer = build_tokenizer(settings, documents, unit)
        if settings.model.emitter == "encoder":
            base = load_base(settings.model.encoder, tagset)
    tagger = build_tagger(settings, tagset, tokenizer, base)
    segmenter = build_segmenter(tagger, tokenizer, unit, max_pieces=max_pieces, stride=stride)
    predictor = Predictor(tagger.to(accelerator.device), segmenter, tagset)
    return Learner(settings, start, predictor, accelerator)


@dataclass(frozen=True, slots=True)
class _Chained:
    """Labelled documents, then unlabelled ones; to be gone through more than once."""

    labelled: Sequence[Document]
    soft: SoftSource

    def __iter__(self) -> Iterator[Document]:
        yield from self.labelled
        yield from self.soft.documents()


def open_accelerator(settings: Settings) -> Accelerator:
    """Device and precision of a run, and the other processes of it if there are any.

    Raises:
        ConfigError: the precision does not fit the device.
        MissingDependencyError: a tracker is not installed.
        ModelError: the device is not there.
    """
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


def fit(
    learner: Learner,
    data: RunData,
    folder: RunFolder,
    observers: Sequence[Observer],
    *,
    resume: bool,
    overwrite: bool,
    soft: SoftSource | None = None,
) -> tuple[FitResult, dict[str, Any]]:
    """Train; what came of it, and what was done about frozen layers.

    Args:
        learner: what trains; in the end it has the best epoch's weights.
        data: what to train on, and what chooses the best epoch.
        folder: of the run; emptied of an earlier run here and not before, since data or encoder
            may be refused.
        observers: are told about progress.
        resume, overwrite, soft: as for `experiments.train.train`.

    Raises:
        NertuneError: data or settings cannot be used, or training diverged.
    """
    settings, accelerator = learner.settings, learner.accelerator
    group = ProcessGroup(accelerator)
    examples = _prepare(learner, data)
    fingerprint = _agree(learner, data, soft, group)
    if group.is_first:
        folder.begin(overwrite=overwrite)
    if soft is not None:
        examples = replace(examples, soft=_prepare_soft(learner, soft, folder))
    _announce(learner, examples)
    tracker = None
    if settings.train.tensorboard:
        accelerator.init_trackers("tensorboard")
        tracker = accelerator.log
    log = RunLog(folder.log, track=tracker)
    told = Observers([EpochLines(), log, *observers] if group.is_first else [])
    checkpoints = Checkpoints(CheckpointStore(folder.checkpoints), fingerprint, resume=resume)
    dev, states = data.dev, None
    try:
        noise = _noise(learner, examples, data.train.documents)
        states, frozen = _states(learner, examples, folder, has_noise=noise is not None)
        told.on_begin(settings.run.name, settings.train.epochs)
        trainer = Trainer(
            learner.predictor.tagger,
            _batches(learner, examples, states, noise),
            settings.train,
            accelerator,
            evaluate=None if dev is None else partial(_scores, learner.predictor, dev, group),
            observer=told,
            checkpoints=checkpoints,
        )
        return trainer.fit(), frozen
    finally:
        log.close()
        if states is not None:
            states.close()
        for opened in accelerator.trackers:  # `end_training` would part the processes, too
            opened.finish()


def _agree(
    learner: Learner, data: RunData, soft: SoftSource | None, group: ProcessGroup
) -> dict[str, Any]:
    """The fingerprint of the run, which is that of all its processes."""
    hashes = {split: corpus.sha256 for split, corpus in data.items()}
    hashes |= {} if soft is None else {"soft": soft.key}
    fingerprint = _fingerprint(learner, hashes, group.size)
    group.refuse_different(fingerprint, "data, settings or encoder")
    return fingerprint


def _prepare(learner: Learner, data: RunData) -> Examples:
    """The training data as the tagger reads them; what it cannot express is said."""
    segmenter, head = learner.predictor.segmenter, learner.predictor.tagger.head
    train, dev = data.train, data.dev
    dev_documents = () if dev is None else dev.documents
    is_full = train.facts is not None and train.facts.is_full
    learner.predictor.tagger.entity_ratio = choose_entity_ratio(
        learner.settings.train, () if is_full else train.documents, dev_documents, segmenter, head
    )
    examples = None
    if isinstance(train.documents, StoredDocuments):
        examples = store_examples(train, segmenter, head)
        if examples is None:
            _LOG.info("the training examples are held in memory: their targets cannot be stored")
    if examples is None:
        examples = prepare_examples(train.documents, segmenter, head)
    examples.coverage.refuse_if_mostly_lost(train.path, train.documents, segmenter, head)
    coverages = {"train": examples.coverage}
    if dev is not None:
        coverages["dev"] = measure_coverage(dev.documents, segmenter, head)
    log_coverage(coverages)
    return examples


def _prepare_soft(learner: Learner, soft: SoftSource, folder: RunFolder) -> SoftTargets:
    """What the teacher says of the unlabelled text, in the student's units and tags."""
    predictor = learner.predictor
    head = predictor.tagger.head
    soft_head(head)  # refused before the teacher reads
    targets = soft.prepare(predictor.segmenter, head, folder.soft)
    store = targets.store
    _LOG.info(
        "unlabelled text: %s documents, %s units, %s MiB of soft targets",
        f"{store.num_documents:,}", f"{store.num_units:,}", f"{store.num_bytes / 2**20:,.1f}",
    )  # fmt: skip
    return targets


def _announce(learner: Learner, examples: Examples) -> None:
    settings, predictor = learner.settings, learner.predictor
    trainable, total = learner.num_parameters
    _LOG.info(
        "%s: %s of %s parameters train, unit %s, %s, %s", settings.run.name, f"{trainable:,}",
        f"{total:,}", predictor.segmenter.unit, learner.accelerator.device,
        computed_precision(learner.accelerator),
    )  # fmt: skip
    if (processes := learner.accelerator.num_processes) > 1:
        _LOG.info(
            "%s",
            f"{processes} processes train together: a step holds {processes} x "
            f"{settings.train.accumulate} batches of {settings.train.batch_tokens} tokens",
        )
    told = ", ".join(f"{name} {rate:.3g}" for name, rate in learner.rates.items())
    _LOG.info("learning rates: %s", told)
    for message in find_training_warnings(
        settings, examples, predictor.tagger, processes=processes
    ):
        _LOG.warning("%s", message)


def _noise(
    learner: Learner, examples: Examples, documents: Sequence[Document]
) -> TokenNoise | None:
    """What masks tokens of pseudo-labelled and of unlabelled text, where that is asked for."""
    settings = learner.settings
    if not settings.train.noise:
        return None
    noisy = [is_pseudo(documents[window.document]) for window in examples.windows]
    noisy += [] if examples.soft is None else [True] * len(examples.soft.windows)
    if not any(noisy):
        return None
    tokenizer = learner.predictor.segmenter.tokenizer
    return TokenNoise(tokenizer, share=settings.train.noise, seed=settings.run.seed, noisy=noisy)


def _batches(
    learner: Learner, examples: Examples, states: StateStore | None, noise: TokenNoise | None
) -> TrainingBatches:
    settings, predictor = learner.settings, learner.predictor
    continuation: Mapping[int, int] | None = None
    if settings.model.pieces == "all":
        allowed: AllowedTags = predictor.tagger.head.allowed  # of softmax, which alone has this
        continuation = allowed.continuations(continuation_ids(predictor.tagset.tags))
    batches = TrainingBatches(
        examples,
        budget_tokens=settings.train.batch_tokens,
        seed=settings.run.seed,
        pad_id=predictor.segmenter.tokenizer.pad_id,
        continuation=continuation,
        states=states,
        noise=noise,
    )
    batches.num_batches = settings.train.epoch_batches
    return batches


def _states(
    learner: Learner, examples: Examples, folder: RunFolder, *, has_noise: bool
) -> tuple[StateStore | None, dict[str, Any]]:
    """What the frozen layers give, where there are any and it is not too much to keep.

    Returns:
        The store, and for the record: `run_once`, `seconds` that this took, `bytes`.
    """
    predictor, settings = learner.predictor, learner.settings.train
    none = {"run_once": False, "seconds": 0.0, "bytes": 0}
    needed = count_state_bytes(predictor.tagger, examples.lengths, learner.accelerator)
    limit = settings.cache_gib * 2**30
    if not needed or not limit:
        return None, none
    if has_noise:
        _LOG.info("the frozen layers run in every epoch: train.noise masks other tokens each time")
        return None, none
    if needed > limit:
        _LOG.info("%s", f"the frozen layers run in every epoch: what they give takes "
                        f"{needed / 2**30:.1f} GiB, and train.cache_gib is "
                        f"{settings.cache_gib:g}")  # fmt: skip
        return None, none
    _LOG.info("%s", "running the frozen layers, once for all epochs")
    started = time.perf_counter()
    try:
        states = store_states(
            predictor.tagger,
            examples.all_windows,
            pad_id=predictor.segmenter.tokenizer.pad_id,
            accelerator=learner.accelerator,
            folder=folder.path,
        )
    except OSError as error:
        _LOG.info("%s", f"the frozen layers run in every epoch: no room for what they give, "
                        f"{needed / 2**30:.1f} GiB ({error.strerror or error})")  # fmt: skip
        return None, none
    seconds = time.perf_counter() - started
    _LOG.info("%s", f"the frozen layers ran once ({seconds:.0f} s, "
                    f"{needed / 2**20:,.0f} MiB kept{' on disk' if states.is_on_disk else ''}); "
                    "there is no dropout in them")  # fmt: skip
    return states, {"run_once": True, "seconds": seconds, "bytes": needed}


def _fingerprint(
    learner: Learner, data_hashes: Mapping[str, str], processes: int
) -> dict[str, Any]:
    """What a resumed run must share with the killed one to end with the same weights."""
    start = learner.start
    values = learner.settings.to_dict()
    for section, key in (
        ("run", "dir"), ("run", "name"), ("train", "checkpoint_steps"),
        ("train", "checkpoint_minutes"), ("train", "calibrate"),
    ):  # fmt: skip
        values[section].pop(key)
    values["data"] = {name: data_hashes.get(name) for name in ("train", "dev")}
    soft = {"soft": data_hashes["soft"]} if "soft" in data_hashes else {}
    flat = {f"{section}.{key}": v for section, keys in values.items() for key, v in keys.items()}
    if encoder := learner.encoder:  # its frozen weights are in no checkpoint
        flat["encoder"] = hash_encoder(encoder)
    if start is not None:
        flat["start_from"] = start.sha256
    flat["processes"] = processes
    return flat | soft | {"tokenizer": learner.predictor.segmenter.tokenizer.fingerprint()}


def _scores(predictor: Predictor, corpus: Corpus, group: ProcessGroup) -> dict[str, float]:
    """Micro scores; each process tags its share of the documents.

    Raises:
        NotFiniteError: in any process.
    """
    own = corpus.documents[group.rank :: group.size]
    counts, failure = [0, 0, 0], None
    try:
        if own:
            predicted = list(predictor.tag_documents(own, with_scores=False))
            micro = score(own, predicted, num_resamples=0).micro
            counts = [micro.support, micro.predicted, micro.correct]
    except NotFiniteError as error:
        failure = error
    support, found, correct, failed = group.sum([*counts, failure is not None])
    if failed:
        raise failure or NotFiniteError("in another process")
    whole = Score.from_counts(
        support=int(support), predicted=int(found), correct=int(correct), found=int(correct)
    )
    return {
        "precision": whole.precision or 0.0,
        "recall": whole.recall or 0.0,
        "f1": whole.f1 or 0.0,
    }
