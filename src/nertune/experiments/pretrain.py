"""One pre-training run, its stages called in order.

text -> (exclusion) -> vocabulary -> pieces on disk -> training -> encoder folder -> record
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

import nertune
from nertune.artifacts.load import merge_adapter
from nertune.artifacts.manifest import adapter_base, hash_encoder
from nertune.config.pretrain import PretrainSettings
from nertune.data.inputs import read_inputs
from nertune.errors import CheckpointError, ConfigError, DataError, TokenizerError
from nertune.experiments.folder import RunFolder
from nertune.experiments.progress import PretrainDisplay, notify
from nertune.experiments.record import peak_memory_bytes, software_versions
from nertune.experiments.word_taggers import TaggingTask, build_tagging_task
from nertune.models.device import choose_device
from nertune.models.encoder import (
    position_limit,
    quiet_transformers,
    refuse_missing_embeddings,
)
from nertune.models.peft.tuning import add_merging_lora
from nertune.pretraining.exclusion import WINDOW, Exclusion
from nertune.pretraining.loop import (
    Pieces,
    PretrainProgress,
    measure,
    time_steps,
)
from nertune.pretraining.loop import pretrain as fit
from nertune.pretraining.model import (
    SHAPES,
    PretrainingModel,
    Shape,
    build_encoder,
    load_for_pretraining,
)
from nertune.pretraining.packing import LineEncoder, PreparedText
from nertune.pretraining.schedule import Schedule
from nertune.pretraining.text import Line, read_lines
from nertune.pretraining.vocabulary import build_tokenizer, learn_vocabulary, read_tokenizer
from nertune.pretraining.words import WordTagger
from nertune.storage.atomic import replace_folder, write_json
from nertune.storage.files import hash_file
from nertune.storage.processes import refuse_many_processes
from nertune.tokens.tokenizer import EncoderTokenizer, load_tokenizer
from nertune.tokens.units import Unit, choose_unit
from nertune.training.accelerator import build_accelerator
from nertune.training.checkpoint import CheckpointStore
from nertune.types import Document

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["pretrain"]


class _Text:
    """The raw text of a run: its lines, without those of evaluation files."""

    def __init__(self, settings: PretrainSettings, console: Console):
        self.files = settings.files
        self._exclusion: Exclusion | None = None
        if settings.exclude:
            texts = (d.text for path in settings.exclude for d in read_inputs([], path))
            self._exclusion = Exclusion(texts)
            notify(console, f"excluding lines that share {WINDOW} characters with "
                            f"{', '.join(map(str, settings.exclude))}")  # fmt: skip

    def lines(self, skip: tuple[int, int] = (0, 0)) -> Iterator[Line]:
        return read_lines(self.files, skip=skip)

    def excludes(self, text: str) -> bool:
        return self._exclusion is not None and self._exclusion.shares(text)

    def kept(self) -> Iterator[str]:
        return (line.text for line in self.lines() if not self.excludes(line.text))


def pretrain(
    settings: PretrainSettings,
    *,
    console: Console | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Pre-train an encoder on raw text, and save it.

    Everything goes into `settings.output`: `model/` (an ordinary transformers folder with its
    tokenizer), `record.json`, `log.jsonl`, `prepared/` (the text in pieces) and, while it runs,
    `checkpoints/`.

    Args:
        settings: the run.
        console: where notices and progress go; stderr by default.
        resume: go on with a killed run; a finished one is returned as it is.
        overwrite: replace what an earlier run left in the folder.

    Returns:
        The record, as in `record.json`.

    Raises:
        NertuneError: settings, text, encoder or folder cannot be used.
    """
    refuse_many_processes()
    console = console or Console(stderr=True)
    folder = RunFolder(settings.output, "output")
    with folder.locked():
        return _pretrain(settings, folder, console, resume=resume, overwrite=overwrite)


def _pretrain(
    settings: PretrainSettings,
    folder: RunFolder,
    console: Console,
    *,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    if finished := folder.check(settings, resume=resume, overwrite=overwrite):
        notify(console, f"{settings.output}: finished before, nothing to do")
        return finished
    if settings.threads:
        torch.set_num_threads(settings.threads)
    files = _hash_files((*settings.files, *settings.exclude, *settings.word_tags))
    task = build_tagging_task(settings, files)
    words = task.tagger if task is not None else None
    text = _Text(settings, console)
    prepared_by = _preparation(settings, files, words)
    folder.begin(overwrite=overwrite)
    _drop_other_preparation(folder, prepared_by)
    unit = choose_unit((Document(t) for t in islice(text.kept(), 2000)), settings.unit)
    tokenizer = _tokenizer(settings, text, folder, console)
    write_json(folder.prepared / "made-from.json", prepared_by)
    pieces = _pieces(tokenizer, task)
    accelerator = build_accelerator(
        choose_device(settings.device), settings.precision, project_dir=settings.output
    )
    model, is_new_head = _model(settings, tokenizer, task)
    model.to(accelerator.device)
    with PretrainDisplay(console, folder.log) as display:
        prepared = PreparedText(
            folder.prepared,
            text.lines,
            LineEncoder(tokenizer, unit, word_share=settings.word_share, words=words),
            block_pieces=settings.block_pieces,
            held_out=settings.held_out,
            sample=settings.sample,
            excludes=text.excludes,
            on_progress=display.on_preparation,
        )
        first = prepared.block(0)
        assert first is not None  # an empty text was refused
        _refuse_short(len(first), settings, pieces)
        _say_text(prepared, len(first), unit, settings, console)
        _say_task(task, console)
        _say_model(model, settings, is_new_head, accelerator, console)
        plan = _plan(settings, folder, model, prepared, pieces, accelerator, console)
        before = _held_out(model, prepared, settings, pieces, accelerator)
        progress = fit(
            model,
            prepared,
            settings,
            Schedule(settings, plan["tokens"]),
            pieces,
            accelerator=accelerator,
            checkpoints=CheckpointStore(folder.checkpoints),
            fingerprint=_fingerprint(settings, files, tokenizer, words, plan),
            observer=display,
            resume=resume,
        )
    after = _held_out(model, prepared, settings, pieces, accelerator)
    record = _record(settings, files, prepared, model, tokenizer, unit, plan, progress,
                     {"before": before, "after": after}, task, accelerator)  # fmt: skip
    _save_encoder(model, tokenizer, settings, record, folder.model)
    folder.finish(record)
    return record


def _hash_files(paths: Sequence[Path]) -> dict[str, str]:
    """The sha256 of each file, so that a run resumed on other text is refused.

    Raises:
        ConfigError: a file is missing.
    """
    hashes = {}
    for path in paths:
        try:
            hashes[str(path)] = hash_file(path)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}; expected a text file"
            ) from error
    return hashes


def _preparation(
    settings: PretrainSettings, files: dict[str, str], words: WordTagger | None
) -> dict[str, Any]:
    """Everything that decides what the prepared text is."""
    keys = ("encoder", "from_scratch", "vocabulary", "unit", "word_share", "held_out",
            "sample", "block_pieces")  # fmt: skip
    values = settings.model_dump(mode="json")
    made: dict[str, Any] = {key: values[key] for key in keys}
    made["files"] = [files[str(path)] for path in settings.files]
    made["exclude"] = [files[str(path)] for path in settings.exclude]
    made["length"] = settings.longest
    made["words"] = words.fingerprint if words is not None else None
    if settings.encoder:
        made["encoder"] = hash_encoder(settings.encoder)
        made["tokenizer"] = load_tokenizer(settings.encoder).fingerprint()
    return made


def _drop_other_preparation(folder: RunFolder, made_from: dict[str, Any]) -> None:
    """Remove prepared text that is not this run's.

    Raises:
        CheckpointError: a run that is to go on was made with it.
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


def _tokenizer(
    settings: PretrainSettings, text: _Text, folder: RunFolder, console: Console
) -> EncoderTokenizer:
    """The encoder's tokenizer, or one whose vocabulary is learned from the text."""
    folder.prepared.mkdir(parents=True, exist_ok=True)
    if settings.encoder:
        return load_tokenizer(settings.encoder)
    own = folder.prepared / "tokenizer"
    if not own.exists():
        notify(console, "learning the vocabulary")
        vocabulary = learn_vocabulary(text.kept(), max_pieces=_shape(settings).vocabulary)
        notify(console, f"vocabulary: {len(vocabulary.pieces):,} pieces, "
                        f"{vocabulary.covered:.3%} of the text's characters")  # fmt: skip
        draft = own.with_name(f".tokenizer-{os.getpid()}")
        build_tokenizer(vocabulary, max_pieces=settings.longest).save_pretrained(draft)
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


def _pieces(tokenizer: EncoderTokenizer, task: TaggingTask | None) -> Pieces:
    mask = tokenizer.backend.mask_token_id
    if mask is None:
        raise TokenizerError(
            f"{tokenizer.name}: its tokenizer has no [MASK] piece, so hidden pieces cannot be "
            "marked; use an encoder that was trained as a masked-language model"
        )
    return Pieces(
        tuple(tokenizer.prefix_ids), tuple(tokenizer.suffix_ids), int(mask),
        tokenizer.vocabulary_size, task.entity_tags if task is not None else (),
    )  # fmt: skip


def _model(
    settings: PretrainSettings,
    tokenizer: EncoderTokenizer,
    task: TaggingTask | None,
) -> tuple[PretrainingModel, bool]:
    """The model to train, and whether its prediction head is new."""
    is_new_head = False
    if settings.from_scratch:
        encoder = build_encoder(
            _shape(settings),
            tokenizer.vocabulary_size,
            architecture=settings.architecture,
            max_pieces=settings.longest,
            seed=settings.seed,
        )
    else:
        torch.manual_seed(settings.seed)
        encoder, is_new_head = _load(settings.encoder)
        refuse_missing_embeddings(settings.encoder, encoder, tokenizer.vocabulary_size)
        limit = position_limit(encoder)
        if limit is not None and settings.longest > limit:
            key = "long_length" if settings.long_length else "length"
            raise ConfigError(
                f"{key} = {settings.longest}, but {settings.encoder} reads {limit} pieces at most"
            )
        if settings.lora:
            encoder = add_merging_lora(encoder, settings.adapter)
            if is_new_head:  # nothing to adapt: it must be learned whole
                _train_head(encoder)
    if task is None:
        return PretrainingModel(encoder), is_new_head
    weights = task.weights(settings.entity_weight)
    is_weighted = settings.entity_weight != 1
    model = PretrainingModel(encoder, len(weights), tag_weights=weights if is_weighted else None)
    return model, is_new_head


def _train_head(encoder: Any) -> None:
    plain = encoder.get_base_model()
    shared = {id(p) for p in plain.get_input_embeddings().parameters()}
    for name, child in plain.named_children():
        if name != plain.base_model_prefix:
            for parameter in child.parameters():
                parameter.requires_grad_(id(parameter) not in shared)


def _say_text(
    prepared: PreparedText, pieces: int, unit: Unit, settings: PretrainSettings, console: Console
) -> None:
    notify(console, f"text: {pieces:,} pieces ready, unit {unit}, "
                    f"{len(prepared.held_out()):,} held out")  # fmt: skip
    if settings.exclude:
        found = prepared.exclusions()
        notify(console, f"excluded: {found.lines:,} of {found.lines_seen:,} lines "
                        f"({found.characters:,} characters)")  # fmt: skip
        for file, line, text in found.examples:
            notify(console, f"  {settings.files[file]}:{line}: {text}")


def _say_task(task: TaggingTask | None, console: Console) -> None:
    if task is not None:
        tags = task.tagger.tags
        entities = ", ".join(tags[kind] for kind in task.entity_tags) or "none"
        notify(console, f"word tags: {task.tagger.name}, {len(tags)} tags, of entities: {entities}")


def _refuse_short(num_tokens: int, settings: PretrainSettings, pieces: Pieces) -> None:
    """Say at the start that the last rows are longer than the text, not at the end of a run.

    Raises:
        DataError: the first block, which is the longest, is shorter than the longest row.
    """
    length = settings.longest - len(pieces.prefix) - len(pieces.suffix)
    if num_tokens < length:
        raise DataError(
            f"the text is shorter than one row of {length} pieces: give more text, or set a "
            "smaller length"
        )


def _say_model(
    model: PretrainingModel,
    settings: PretrainSettings,
    is_new_head: bool,
    accelerator: Accelerator,
    console: Console,
) -> None:
    parameters = list(model.encoder.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    name = settings.encoder or f"new {settings.from_scratch} {settings.architecture}"
    notify(console, f"{name}: {trainable:,} of {sum(p.numel() for p in parameters):,} parameters "
                    f"train, {accelerator.device}, {accelerator.mixed_precision}")  # fmt: skip
    if is_new_head:
        notify(console, f"{settings.encoder} came without its prediction head: a new one is "
                        "learned, so the first losses are high")  # fmt: skip


def _plan(
    settings: PretrainSettings,
    folder: RunFolder,
    model: PretrainingModel,
    prepared: PreparedText,
    pieces: Pieces,
    accelerator: Accelerator,
    console: Console,
) -> dict[str, Any]:
    """The budget in tokens; one in minutes is measured once, so that a resumed run keeps it."""
    if settings.tokens:
        return {"tokens": settings.tokens}
    path = folder.path / "plan.json"
    if path.exists() and folder.checkpoints.exists():
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan
    speed = time_steps(model, prepared, settings, pieces, accelerator=accelerator)
    plan = {"tokens": max(1, int(speed * settings.minutes * 60)), "tokens_per_second": round(speed)}
    write_json(path, plan)
    notify(console, f"{settings.minutes:g} minutes at {speed:,.0f} tokens/s: "
                    f"{plan['tokens']:,} tokens")  # fmt: skip
    return plan


def _held_out(
    model: PretrainingModel,
    prepared: PreparedText,
    settings: PretrainSettings,
    pieces: Pieces,
    accelerator: Accelerator,
) -> dict[str, float]:
    return measure(model, prepared.held_out(), settings, pieces, accelerator=accelerator)


def _fingerprint(
    settings: PretrainSettings,
    files: dict[str, str],
    tokenizer: EncoderTokenizer,
    words: WordTagger | None,
    plan: dict[str, Any],
) -> dict[str, Any]:
    """What a resumed run must share with the killed one to end with the same weights."""
    values = settings.model_dump(mode="json")
    for key in ("output", "files", "exclude", "word_tags", "checkpoint_minutes", "checkpoint_steps",
                "minutes"):  # fmt: skip
        values.pop(key)
    # Where the tags come from, whatever the path is; `words` says it of a segmenter.
    values["teacher"] = words.fingerprint if words is not None and settings.words == "none" else ""
    values["text"] = [files[str(path)] for path in settings.files]
    values["excluded"] = [files[str(path)] for path in settings.exclude]
    values["tokens"] = plan["tokens"]
    values["tokenizer"] = tokenizer.fingerprint()
    if settings.encoder:
        values["encoder"] = hash_encoder(settings.encoder)
    return values


def _save_encoder(
    model: PretrainingModel,
    tokenizer: EncoderTokenizer,
    settings: PretrainSettings,
    record: dict[str, Any],
    target: Path,
) -> None:
    """Write the encoder under a temporary name, then rename it."""
    encoder = model.encoder
    if settings.lora:
        encoder = encoder.merge_and_unload()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    draft = target.with_name(f".model-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    with quiet_transformers():
        encoder.to("cpu", dtype[settings.storage]).save_pretrained(draft)
        tokenizer.save(draft)
    (draft / "README.md").write_text(_card(record), encoding="utf-8")
    for file in draft.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone
    replace_folder(draft, target)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


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


def _card(record: dict[str, Any]) -> str:
    """A model card: data, steps, cost, limits."""
    settings = record["settings"]["pretrain"]
    origin = settings["encoder"] or f"from scratch ({settings['from_scratch']})"
    after = record["held_out"]["after"]
    quality = (
        f"Held-out perplexity {after['perplexity']:.1f} ({after['loss']:.3f} nats per hidden "
        f"piece, {after['pieces']} of them)."
        if after
        else "No text was held out to measure it."
    )
    lengths = [length for key in ("length", "long_length") if (length := settings[key])]
    limits = (
        f"Positions beyond {max(lengths)} were not trained."
        if settings["from_scratch"]
        else f"It was trained further in rows of {' and '.join(map(str, lengths))} pieces."
    )
    share = settings["entity_mask_share"]
    entities = f"; whole entities, {share:.0%}" if share else ""
    return f"""# Model card

An encoder for nertune and transformers, pre-trained with `nertune pretrain` {record["nertune"]}.

- Begun: {origin}.
- Text: {", ".join(Path(p).name for p in settings["files"])}.
- Budget: {record["tokens"]:,} pieces in {record["steps"]:,} steps, {_duration(record["seconds"])} \
on {record["device"]}.
- Masking: {settings["masking"]}, {settings["mask_share"]:.0%}{entities}.
- {_card_of_words(record["word_tags"])}
- {quality}

**Limits.** {limits} It knows what its text knows.
"""


def _card_of_words(word_tags: dict[str, Any] | None) -> str:
    if word_tags is None:
        return "No second task."
    entities = ", ".join(word_tags["entity_tags"]) or "none"
    return (
        f"Second task: the word tags of {word_tags['tagger']} ({len(word_tags['tags'])} tags; of "
        f"entities: {entities}). They are another tagger's, with its mistakes, and the encoder "
        "knows what that tagger was trained on."
    )


def _record(
    settings: PretrainSettings,
    files: dict[str, str],
    prepared: PreparedText,
    model: PretrainingModel,
    tokenizer: EncoderTokenizer,
    unit: Unit,
    plan: dict[str, Any],
    progress: PretrainProgress,
    held_out: dict[str, dict[str, float]],
    task: TaggingTask | None,
    accelerator: Accelerator,
) -> dict[str, Any]:
    parameters = list(model.encoder.parameters())
    device = str(accelerator.device)
    return {
        "nertune": nertune.__version__,
        "status": "finished",
        "settings": settings.to_dict(),
        "versions": software_versions() | {"words": task.tagger.name if task is not None else ""},
        "files": files,
        "word_tags": task.to_dict() if task is not None else None,
        "unit": unit,
        "vocabulary": tokenizer.vocabulary_size,
        "parameters": {
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "total": sum(p.numel() for p in parameters),
        },
        "device": device,
        "threads": torch.get_num_threads(),
        "excluded": asdict(prepared.exclusions()),
        "plan": plan,
        "steps": progress.step,
        "tokens": progress.tokens,
        "text_share": progress.text_tokens / progress.tokens,
        "epochs": progress.cursor.epoch,
        "seconds": progress.seconds,
        "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(device),
        "held_out": held_out,
        "history": progress.history,
    }
