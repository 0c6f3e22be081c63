"""One pre-training run, its stages called in order.

text -> (exclusion) -> vocabulary -> tokens on disk -> training -> encoder folder -> record
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

import nertune
from nertune.artifacts.load import merge_adapter
from nertune.artifacts.manifest import adapter_base, hash_encoder
from nertune.config.pretrain import PretrainSettings
from nertune.data.inputs import read_inputs, refuse_pipes
from nertune.errors import CheckpointError, ConfigError, DataError, TokenizerError
from nertune.experiments.folder import RunFolder
from nertune.experiments.pretraining.word_taggers import TaggingTask, build_tagging_task
from nertune.experiments.progress import PretrainLog
from nertune.experiments.record import peak_memory_bytes, software_versions
from nertune.models.device import choose_device
from nertune.models.encoder import (
    has_rotary_positions,
    position_limit,
    quiet_transformers,
    refuse_missing_embeddings,
)
from nertune.models.peft.tuning import add_merging_lora
from nertune.pretraining.batches import TokenIds
from nertune.pretraining.card import encoder_card
from nertune.pretraining.exclusion import WINDOW, Exclusion
from nertune.pretraining.loop import Pretrainer, PretrainProgress
from nertune.pretraining.model import (
    SHAPES,
    PretrainingModel,
    Shape,
    build_encoder,
    load_for_pretraining,
)
from nertune.pretraining.packing import LineEncoder, LineSelection, PreparedText
from nertune.pretraining.text import Line, read_lines
from nertune.pretraining.vocabulary import build_tokenizer, learn_vocabulary, read_tokenizer
from nertune.storage.atomic import replace_folder, write_json
from nertune.storage.files import hash_file
from nertune.storage.processes import refuse_many_processes
from nertune.tokens.tokenizer import EncoderTokenizer, load_tokenizer
from nertune.tokens.units import Unit, choose_unit
from nertune.training.accelerator import build_accelerator, computed_precision
from nertune.training.checkpoint import Checkpoints, CheckpointStore
from nertune.types import Document

__all__ = ["PretrainingObserver", "pretrain"]

_LOG = logging.getLogger("nertune")


class PretrainingObserver(Protocol):
    """Is told how a pre-training run goes."""

    def on_preparation(self, block: int, num_tokens: int) -> None:
        """So many tokens of a block of text are ready."""
        ...

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        """Some steps are done; the newest losses stand last in the history."""
        ...


class _Watch:
    """Tells several observers the same."""

    def __init__(self, observers: Sequence[PretrainingObserver]):
        self._observers = observers

    def on_preparation(self, block: int, num_tokens: int) -> None:
        for observer in self._observers:
            observer.on_preparation(block, num_tokens)

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        for observer in self._observers:
            observer.on_steps(progress, total_tokens, tokens_per_second)


class _Source:
    """What a run reads: its text, without lines of evaluation files, and its word tags.

    Attributes:
        settings: of the run.
        files: the sha256 of every file by its path.
        task: the second task; `None` without a word tagger.
    """

    def __init__(self, settings: PretrainSettings):
        self.settings = settings
        self.files = _hash_files((*settings.files, *settings.exclude, *settings.word_tags))
        self.task = build_tagging_task(settings, self.files)
        self._exclusion: Exclusion | None = None
        if settings.exclude:
            texts = (d.text for path in settings.exclude for d in read_inputs([], path))
            self._exclusion = Exclusion(texts)
            _LOG.info("%s", f"excluding lines that share {WINDOW} characters with "
                            f"{', '.join(map(str, settings.exclude))}")  # fmt: skip

    def lines(self, skip: tuple[int, int] = (0, 0)) -> Iterator[Line]:
        return read_lines(self.settings.files, skip=skip)

    def excludes(self, text: str) -> bool:
        return self._exclusion is not None and self._exclusion.shares(text)

    def kept(self) -> Iterator[str]:
        return (line.text for line in self.lines() if not self.excludes(line.text))

    def preparation(self) -> dict[str, Any]:
        """Everything that decides what the prepared text is."""
        settings = self.settings
        keys = ("encoder", "from_scratch", "vocabulary", "unit", "word_share", "held_out",
                "sample", "block_pieces")  # fmt: skip
        values = settings.model_dump(mode="json")
        made: dict[str, Any] = {key: values[key] for key in keys}
        made["files"] = self._hashes(settings.files)
        made["exclude"] = self._hashes(settings.exclude)
        made["length"] = settings.longest
        made["words"] = self.task.tagger.fingerprint if self.task is not None else None
        if settings.encoder:
            made["encoder"] = hash_encoder(settings.encoder)
            made["tokenizer"] = load_tokenizer(settings.encoder).fingerprint()
        return made

    def fingerprint(self, tokenizer: EncoderTokenizer, num_tokens: int) -> dict[str, Any]:
        """What a resumed run must share with the killed one to end with the same weights.

        Args:
            tokenizer: of the encoder.
            num_tokens: the budget.
        """
        settings = self.settings
        values = settings.model_dump(mode="json")
        for key in ("output", "files", "exclude", "word_tags", "checkpoint_minutes",
                    "checkpoint_steps", "minutes"):  # fmt: skip
            values.pop(key)
        # Where the tags come from, whatever the path is; `words` says it of a segmenter.
        tagger = self.task.tagger if self.task is not None else None
        is_segmenter = settings.words != "none"
        values["teacher"] = "" if tagger is None or is_segmenter else tagger.fingerprint
        values["text"] = self._hashes(settings.files)
        values["excluded"] = self._hashes(settings.exclude)
        values["tokens"] = num_tokens
        values["tokenizer"] = tokenizer.fingerprint()
        if settings.encoder:
            values["encoder"] = hash_encoder(settings.encoder)
        return values

    def _hashes(self, paths: Sequence[Path]) -> list[str]:
        return [self.files[str(path)] for path in paths]


@dataclass(frozen=True, slots=True)
class _Learner:
    """What a run trains, and how it reads text.

    Attributes:
        pretrainer: holds the model.
        tokenizer: of the encoder.
        unit: what a tagger on this encoder labels.
        has_new_head: whether the encoder came without its prediction head.
    """

    pretrainer: Pretrainer
    tokenizer: EncoderTokenizer
    unit: Unit
    has_new_head: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a run.

    Attributes:
        plan: the budget.
        progress: where training ended.
        held_out: losses `before` and `after`.
    """

    plan: dict[str, Any]
    progress: PretrainProgress
    held_out: dict[str, dict[str, float]]


def pretrain(
    settings: PretrainSettings,
    *,
    observers: Sequence[PretrainingObserver] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Pre-train an encoder on raw text, and save it.

    Everything goes into `settings.output`: `model/` (an ordinary transformers folder with its
    tokenizer), `record.json`, `log.jsonl`, `prepared/` (the text in tokens) and, while it runs,
    `checkpoints/`.

    Args:
        settings: the run.
        observers: are told about progress; what they raise ends the run.
        resume: continue a killed run; a finished one is returned as it is.
        overwrite: replace what an earlier run left in the folder.

    Returns:
        The record, as in `record.json`.

    Raises:
        NertuneError: settings, text, encoder or folder cannot be used.
    """
    refuse_many_processes()
    folder = RunFolder(settings.output, "output")
    with folder.locked():
        return _pretrain(settings, folder, tuple(observers), resume=resume, overwrite=overwrite)


def _pretrain(
    settings: PretrainSettings,
    folder: RunFolder,
    observers: Sequence[PretrainingObserver],
    *,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    if finished := folder.check(settings, resume=resume, overwrite=overwrite):
        _LOG.info("%s", f"{settings.output}: finished before, nothing to do")
        return finished
    if settings.threads:
        torch.set_num_threads(settings.threads)
    source = _Source(settings)
    prepared_by = source.preparation()
    folder.begin(overwrite=overwrite)
    _drop_other_preparation(folder, prepared_by)
    unit = choose_unit((Document(t) for t in islice(source.kept(), 2000)), settings.unit)
    tokenizer = _tokenizer(source, folder)
    write_json(folder.prepared / "made-from.json", prepared_by)
    learner = _build_learner(source, tokenizer, unit)
    pretrainer = learner.pretrainer
    watch = _Watch([PretrainLog(folder.log), *observers])
    text = _prepare(source, learner, folder, watch)
    _announce(source, learner, text)
    plan = _plan(pretrainer, text, folder)
    before = pretrainer.measure(text.held_out())
    progress = pretrainer.train(
        text,
        plan["tokens"],
        checkpoints=Checkpoints(
            CheckpointStore(folder.checkpoints),
            source.fingerprint(tokenizer, plan["tokens"]),
            resume=resume,
        ),
        observer=watch,
    )
    held_out = {"before": before, "after": pretrainer.measure(text.held_out())}
    record = _record(source, learner, text, _Outcome(plan, progress, held_out))
    _save_encoder(learner, record, folder.model)
    folder.finish(record)
    return record


def _hash_files(paths: Sequence[Path]) -> dict[str, str]:
    """The sha256 of each file, so that a run resumed on other text is refused.

    Raises:
        ConfigError: a file is missing.
        DataError: one is a pipe or device.
    """
    refuse_pipes(paths)
    hashes = {}
    for path in paths:
        try:
            hashes[str(path)] = hash_file(path)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}; expected a text file"
            ) from error
    return hashes


def _drop_other_preparation(folder: RunFolder, made_from: dict[str, Any]) -> None:
    """Remove prepared text that is not this run's.

    Raises:
        CheckpointError: the run that is resumed was made with it.
    """
    try:
        path = folder.prepared / "made-from.json"
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before == made_from:
        return
    if before and folder.checkpoints.exists():
        key = next(k for k in {**before, **made_from} if before.get(k) != made_from.get(k))
        raise CheckpointError(
            f"cannot resume: {key} was {before.get(key)!r} and is {made_from.get(key)!r} now; "
            "resume with the same settings and text, or start again with --overwrite"
        )
    shutil.rmtree(folder.prepared, ignore_errors=True)


def _tokenizer(source: _Source, folder: RunFolder) -> EncoderTokenizer:
    """The encoder's tokenizer, or one whose vocabulary is learned from the text."""
    settings = source.settings
    folder.prepared.mkdir(parents=True, exist_ok=True)
    if settings.encoder:
        return load_tokenizer(settings.encoder)
    own = folder.prepared / "tokenizer"
    if not own.exists():
        _LOG.info("%s", "learning the vocabulary")
        vocabulary = learn_vocabulary(source.kept(), max_tokens=_shape(settings).vocabulary)
        _LOG.info("%s", f"vocabulary: {len(vocabulary.tokens):,} tokens, "
                        f"{vocabulary.covered:.3%} of the text's characters")  # fmt: skip
        draft = own.with_name(f".tokenizer-{os.getpid()}")
        build_tokenizer(vocabulary, max_tokens=settings.longest).save_pretrained(draft)
        draft.rename(own)
    return read_tokenizer(own)


def _shape(settings: PretrainSettings) -> Shape:
    shape = SHAPES[settings.from_scratch]
    return Shape(
        layers=settings.layers or shape.layers,
        hidden=settings.hidden or shape.hidden,
        heads=settings.heads or shape.heads,
        vocabulary=settings.vocabulary or shape.vocabulary,
    )


def _build_learner(source: _Source, tokenizer: EncoderTokenizer, unit: Unit) -> _Learner:
    settings = source.settings
    token_ids = _token_ids(tokenizer, source.task)
    accelerator = build_accelerator(
        choose_device(settings.device), settings.precision, project_dir=settings.output
    )
    encoder, has_new_head = _build_encoder(settings, tokenizer)
    model = _add_tagger(encoder, source.task, settings.entity_weight).to(accelerator.device)
    pretrainer = Pretrainer(model, settings, token_ids, accelerator)
    return _Learner(pretrainer, tokenizer, unit, has_new_head)


def _token_ids(tokenizer: EncoderTokenizer, task: TaggingTask | None) -> TokenIds:
    mask = tokenizer.backend.mask_token_id
    if mask is None:
        raise TokenizerError(
            f"{tokenizer.name}: its tokenizer has no [MASK] token, so no token can be masked; use "
            "an encoder that was trained as a masked-language model"
        )
    return TokenIds(
        tuple(tokenizer.prefix_ids), tuple(tokenizer.suffix_ids), int(mask),
        tokenizer.vocabulary_size, task.entity_tags if task is not None else (),
    )  # fmt: skip


def _build_encoder(settings: PretrainSettings, tokenizer: EncoderTokenizer) -> tuple[Any, bool]:
    """The masked-language model to train, and whether its prediction head is new."""
    if settings.from_scratch:
        encoder = build_encoder(
            _shape(settings),
            tokenizer.vocabulary_size,
            architecture=settings.architecture,
            max_tokens=settings.longest,
            seed=settings.seed,
        )
        return encoder, False
    torch.manual_seed(settings.seed)
    encoder, has_new_head = _load(settings.encoder)
    refuse_missing_embeddings(settings.encoder, encoder, tokenizer.vocabulary_size)
    limit = position_limit(encoder)
    if limit is not None and settings.longest > limit and has_rotary_positions(encoder):
        # Angles are computed, not learned: it reads longer rows, and learns what they mean.
        encoder.config.max_position_embeddings = settings.longest
        backend = tokenizer.backend
        backend.model_max_length = max(backend.model_max_length, settings.longest)
    elif limit is not None and settings.longest > limit:
        key = "long_length" if settings.long_length else "length"
        raise ConfigError(
            f"{key} = {settings.longest}, but {settings.encoder} reads {limit} tokens at most"
        )
    if settings.lora:
        encoder = add_merging_lora(encoder, settings.adapter)
        if has_new_head:  # nothing to adapt: it must be learned in full
            _train_head(encoder)
    return encoder, has_new_head


def _add_tagger(encoder: Any, task: TaggingTask | None, entity_weight: float) -> PretrainingModel:
    if task is None:
        return PretrainingModel(encoder)
    weights = task.weights(entity_weight)
    is_weighted = entity_weight != 1
    return PretrainingModel(encoder, len(weights), tag_weights=weights if is_weighted else None)


def _train_head(encoder: Any) -> None:
    plain = encoder.get_base_model()
    shared = {id(p) for p in plain.get_input_embeddings().parameters()}
    for name, child in plain.named_children():
        if name != plain.base_model_prefix:
            for parameter in child.parameters():
                parameter.requires_grad_(id(parameter) not in shared)


def _prepare(source: _Source, learner: _Learner, folder: RunFolder, watch: _Watch) -> PreparedText:
    """The text on disk, its first block at least.

    Raises:
        DataError: the first block, which is the longest, is shorter than the longest row: said
            here, and not when the last rows are due.
    """
    settings = source.settings
    words = source.task.tagger if source.task is not None else None
    share = settings.word_share
    text = PreparedText(
        folder.prepared,
        source.lines,
        LineEncoder(learner.tokenizer, learner.unit, word_share=share, words=words),
        block_tokens=settings.block_pieces,
        selection=LineSelection(settings.held_out, settings.sample, source.excludes),
        on_progress=watch.on_preparation,
    )
    length = settings.longest - learner.pretrainer.token_ids.num_special
    if _first_block_size(text) < length:
        raise DataError(
            f"the text is shorter than one row of {length} tokens: give more text, or set a "
            "smaller length"
        )
    return text


def _first_block_size(text: PreparedText) -> int:
    first = text.block(0)
    assert first is not None  # an empty text was refused
    return len(first)


def _announce(source: _Source, learner: _Learner, text: PreparedText) -> None:
    """What is about to be done: the text, the second task, the model."""
    settings, task = source.settings, source.task
    _LOG.info("%s", f"text: {_first_block_size(text):,} tokens ready, unit {learner.unit}, "
                    f"{len(text.held_out()):,} held out")  # fmt: skip
    if settings.exclude:
        found = text.exclusions()
        _LOG.info("%s", f"excluded: {found.lines:,} of {found.lines_seen:,} lines "
                        f"({found.characters:,} characters)")  # fmt: skip
        for file, line, shortened in found.examples:
            _LOG.info("%s", f"  {settings.files[file]}:{line}: {shortened}")
    if task is not None:
        tags = task.tagger.tags
        entities = ", ".join(tags[kind] for kind in task.entity_tags) or "none"
        _LOG.info("%s", f"word tags: {task.tagger.name}, {len(tags)} tags, of entities: {entities}")
    trainable, total = _count_parameters(learner)
    accelerator = learner.pretrainer.accelerator
    name = settings.encoder or f"new {settings.from_scratch} {settings.architecture}"
    _LOG.info("%s", f"{name}: {trainable:,} of {total:,} parameters train, {accelerator.device}, "
                    f"{computed_precision(accelerator)}")  # fmt: skip
    if learner.has_new_head:
        _LOG.info("%s", f"{settings.encoder} came without its prediction head: a new one is "
                        "learned, so the first losses are high")  # fmt: skip


def _count_parameters(learner: _Learner) -> tuple[int, int]:
    """Of the encoder: those that train, and all."""
    parameters = list(learner.pretrainer.model.encoder.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


def _plan(pretrainer: Pretrainer, text: PreparedText, folder: RunFolder) -> dict[str, Any]:
    """The budget in tokens; one in minutes is measured once, so that a resumed run keeps it."""
    settings = pretrainer.settings
    if settings.tokens:
        return {"tokens": settings.tokens}
    path = folder.path / "plan.json"
    if path.exists() and folder.checkpoints.exists():
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan
    speed = pretrainer.time_steps(text)
    plan = {"tokens": max(1, int(speed * settings.minutes * 60)), "tokens_per_second": round(speed)}
    write_json(path, plan)
    _LOG.info("%s", f"{settings.minutes:g} minutes at {speed:,.0f} tokens/s: "
                    f"{plan['tokens']:,} tokens")  # fmt: skip
    return plan


def _save_encoder(learner: _Learner, record: dict[str, Any], target: Path) -> None:
    """Write the encoder under a temporary name, then rename it."""
    settings, encoder = learner.pretrainer.settings, learner.pretrainer.model.encoder
    if settings.lora:
        encoder = encoder.merge_and_unload()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    draft = target.with_name(f".model-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    with quiet_transformers():
        encoder.to("cpu", dtype[settings.storage]).save_pretrained(draft)
        learner.tokenizer.save(draft)
    (draft / "README.md").write_text(encoder_card(record), encoding="utf-8")
    for file in draft.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone
    replace_folder(draft, target)


def _load(name: str) -> tuple[Any, bool]:
    """An encoder with its prediction head, and whether that is new; an adapter is merged."""
    base = adapter_base(name)
    if base is None:
        return load_for_pretraining(name)
    merged, _ = merge_adapter(name)
    model, is_new_head = load_for_pretraining(base)
    prefix = model.base_model_prefix
    getattr(model, prefix).load_state_dict(getattr(merged, prefix).state_dict())
    return model, is_new_head


def _record(
    source: _Source, learner: _Learner, text: PreparedText, outcome: _Outcome
) -> dict[str, Any]:
    task, progress = source.task, outcome.progress
    trainable, total = _count_parameters(learner)
    device = str(learner.pretrainer.accelerator.device)
    return {
        "nertune": nertune.__version__,
        "status": "finished",
        "settings": source.settings.to_dict(),
        "versions": software_versions() | {"words": task.tagger.name if task is not None else ""},
        "files": source.files,
        "word_tags": task.to_dict() if task is not None else None,
        "unit": learner.unit,
        "vocabulary": learner.tokenizer.vocabulary_size,
        "parameters": {"trainable": trainable, "total": total},
        "device": device,
        "threads": torch.get_num_threads(),
        "excluded": asdict(text.exclusions()),
        "plan": outcome.plan,
        "steps": progress.step,
        "tokens": progress.tokens,
        "text_share": progress.text_tokens / progress.tokens,
        "epochs": progress.cursor.epoch,
        "seconds": progress.seconds,
        "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(device),
        "held_out": outcome.held_out,
        "history": progress.history,
    }
