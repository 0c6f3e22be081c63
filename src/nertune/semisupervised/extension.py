"""New entity types for a trained model: a further part on its frozen encoder.

The new part (a head, mostly with an adapter) is trained as any run is; then both are put into one
folder (`artifacts.parts`). The model's own files are copied byte for byte and computed as before,
so what it found stays the same to the bit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nertune
from nertune.artifacts.extended import (
    Addition,
    Parts,
    add_extended_metrics,
    find_parts,
    save_extended,
)
from nertune.artifacts.manifest import MANIFEST, hash_encoder, own_folder
from nertune.artifacts.parts import Extended, Overlap, whole_of
from nertune.config.run import ModelSettings, Settings, nearest
from nertune.data.corpus import Corpus, save_fitting
from nertune.data.splits import SPLITS, load_splits
from nertune.data.statistics import content_hash
from nertune.errors import ArtifactError, CheckpointError, ConfigError, ModelError
from nertune.evaluation.metrics import score
from nertune.experiments.folder import RunFolder
from nertune.experiments.train import train
from nertune.inference.combination import combine_answers
from nertune.inference.predictor import Predictor, load_model
from nertune.storage.hashing import hash_once
from nertune.training.observer import Observer
from nertune.types import Document, Scope

__all__ = ["Extension", "extend"]

_LOG = logging.getLogger("nertune")

_PART = "part"
"""The folder of the new part's own run, in that of the extension."""
_WHY_NOT = {
    "full": "it trains all of the encoder's weights",
    "top": "it trains weights of the encoder",
    "bitfit": "it trains biases of the encoder",
}
_CHECKED = 500  # training documents that answers are compared on where there is no dev file


@dataclass(frozen=True, slots=True)
class Extension:
    """What is to be extended, and how.

    Attributes:
        model: the folder or hub name of a model that nertune wrote.
        labels: the new ones; empty: all of the training file that the model does not find.
        overlap: what becomes of a new entity that overlaps an old one: `keep` keeps both,
            `old-wins` leaves the new one out.
        encoder: where the model's base encoder is now, if not where it was.
    """

    model: str
    labels: tuple[str, ...] = ()
    overlap: Overlap = "keep"
    encoder: str | None = None


def extend(
    extension: Extension,
    settings: Settings,
    *,
    score_test: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Train a part for new types, and write the extended model to `model/` in `run.dir`.

    Entities of labels that the model finds already are left out of the new part's targets.

    Args:
        extension: what is extended, and how.
        settings: of the new part's run: data, tuning (`lora`, `peft` or `frozen`), seed.
        score_test: also score `data.test`.
        resume: continue a killed run, or return the record of a finished one.
        overwrite: replace what an earlier run left in the folder.
        observers: are told about the training's progress.

    Returns:
        The record, as in `record.json`: scores of old labels (before, after), of new ones, of all.

    Raises:
        NertuneError: the model cannot be extended so, or data or settings cannot be used.
    """
    old = _open(extension)
    inner = _new_part(extension, settings, old)
    if score_test and not settings.data.test:
        raise ConfigError(
            "--test: data.test is empty; name the file to score, e.g. --set data.test=FILE"
        )
    folder = RunFolder(settings.run.dir)
    _refuse_own_folder(old, extension, folder)
    with folder.locked():
        finished = folder.check(settings, resume=resume, overwrite=overwrite)
        if finished is not None:
            _refuse_other_extension(finished, extension, old, folder)
            if not score_test:
                _LOG.info("%s", f"{folder.path}: finished before, nothing to do")
                return finished
        elif not (resume or overwrite):
            _refuse_unfinished(inner, folder)
        data = _read(settings, extension, old, with_test=score_test)
        if finished is None:
            folder.begin(overwrite=overwrite)
        elif finished["test"] is not None:
            _refuse_other_test(finished, data, folder)
            return finished
        trained = train(
            inner,
            corpora=data.targets,
            score_test=score_test,
            resume=resume or finished is not None,
            overwrite=overwrite,
            observers=observers,
        )
        work = _Work(extension, settings, folder, old, data)
        return _finish(work, trained) if finished is None else _add_test(work, finished, trained)


def _refuse_own_folder(old: Parts, extension: Extension, folder: RunFolder) -> None:
    if old.folder.resolve().is_relative_to(folder.path.resolve()):
        raise ConfigError(
            f"run.dir: {folder.path} holds {extension.model}, which would be replaced; use another "
            "run.dir"
        )


def _refuse_unfinished(inner: Settings, folder: RunFolder) -> None:
    """What an earlier extension left before it was killed."""
    left = RunFolder(inner.run.dir)
    if left.record.exists() or left.checkpoints.exists():
        raise ConfigError(
            f"run.dir: {folder.path} holds an unfinished extension; use --resume to continue it, "
            "--overwrite to start again, or another run.dir"
        )


def _open(extension: Extension) -> Parts:
    """The model that is extended.

    Raises:
        ConfigError: it is none that can be extended.
    """
    name = extension.model
    folder = own_folder(name)
    if folder is None:
        raise ConfigError(
            f"{name}: is not the folder of a run, nor of a model that nertune wrote; only those "
            "can be extended"
        )
    if (whole := whole_of(folder)) is not None:
        raise ConfigError(f"{name}: is one part of the extended model {whole}: extend that")
    old = find_parts(folder)
    if old.manifests[0].emitter == "lstm":
        raise ConfigError(
            f"{name}: is a BiLSTM, which has no pre-trained encoder that a part for new types "
            "could share; train one model on all labels, e.g. with model.start_from"
        )
    return old


def _new_part(extension: Extension, settings: Settings, old: Parts) -> Settings:
    """The settings of the new part's run: those of the recipe, on the model's encoder."""
    model, unit = settings.model, old.manifests[0].unit
    if model.start_from:
        raise ConfigError(
            "model.start_from: an extension begins with the encoder of the model that it extends: "
            "leave model.start_from out"
        )
    if model.emitter == "lstm":
        raise ConfigError(
            f'model.emitter = "lstm", but {extension.model} is an encoder: leave it out'
        )
    if model.tuning in _WHY_NOT:
        raise ConfigError(
            f'model.tuning = "{model.tuning}": {_WHY_NOT[model.tuning]}, so that nothing would be '
            f'shared with {extension.model}, which needs them as they are; take "lora", "peft" or '
            '"frozen", or train a model of its own with nertune train'
        )
    if model.unit not in ("auto", unit):
        raise ConfigError(
            f'model.unit = "{model.unit}", but {extension.model} labels "{unit}", and one answer '
            "has one unit: leave model.unit out"
        )
    base = old.locate_base(extension.encoder)
    _refuse_other_encoder(model, base, extension, old)
    return settings.model_copy(
        update={
            "model": model.model_copy(update={"encoder": base, "unit": unit}),
            "run": settings.run.model_copy(update={"dir": settings.run.dir / _PART}),
        }
    )


def _refuse_other_encoder(
    model: ModelSettings, base: str, extension: Extension, old: Parts
) -> None:
    default = ModelSettings.model_fields["encoder"].default
    first = old.manifests[0]
    if model.encoder in (default, base, first.encoder, extension.model, str(old.folder)):
        return
    try:
        is_base = hash_encoder(model.encoder) == hash_encoder(base)
    except ModelError:
        is_base = False
    if not is_base:
        raise ConfigError(
            f"model.encoder: {model.encoder}, but the new part shares the encoder of "
            f"{extension.model} ({base}): leave model.encoder out"
        )


@dataclass(frozen=True, slots=True)
class _Data:
    """The corpora of an extension.

    Attributes:
        gold: as the files have them, by split.
        targets: what the new part learns and is chosen by: without other labels.
    """

    gold: Mapping[str, Corpus]
    targets: Mapping[str, Corpus]


def _read(settings: Settings, extension: Extension, old: Parts, *, with_test: bool) -> _Data:
    """Read the files, and take other labels out of what is learned.

    Raises:
        ConfigError: there is no new label, or one that is asked for is not new.
        DataError: a file cannot be used.
    """
    splits = SPLITS if with_test else SPLITS[:2]
    gold = load_splits(settings.data, splits)
    _check_labels(extension, gold["train"].labels, old.labels)
    asked = set(extension.labels)

    def is_learned(label: str) -> bool:
        return label not in old.labels and (not asked or label in asked)

    present = {label for corpus in gold.values() for label in corpus.labels}
    learned = {label for label in present if is_learned(label)}
    targets = {split: _restrict(corpus, learned) for split, corpus in gold.items()}
    return _Data(gold, targets)


def _check_labels(extension: Extension, present: Sequence[str], known: Sequence[str]) -> None:
    for label in extension.labels:
        if label in known:
            raise ConfigError(
                f"--labels {label}: {extension.model} finds {label} already, and what it finds "
                "stays as it is: leave it out, or give the new type another name (nertune data "
                "map renames labels of a file)"
            )
        if label not in present:
            raise ConfigError(
                f"--labels {label}: no entity of data.train has this label; it has "
                f"{', '.join(present) or 'none'}{nearest(label, present)}"
            )
    if set(present) <= set(known):
        raise ConfigError(
            f"data.train: has no label that {extension.model} does not find already "
            f"({', '.join(known)}); to train it further on the same labels, see model.start_from"
        )


def _restrict(corpus: Corpus, learned: set[str]) -> Corpus:
    """A corpus without entities of other labels; what was left out is a notice."""
    left_out = Counter[str]()
    documents = []
    for document in corpus.documents:
        left_out.update(e.label for e in document.entities if e.label not in learned)
        scope = document.scope
        if scope.labels is not None:
            others = tuple(label for label in scope.labels if label in learned)
            scope = Scope(others, scope.complete, scope.unknown)
        kept = tuple(e for e in document.entities if e.label in learned)
        documents.append(replace(document, entities=kept, scope=scope))
    if not left_out:
        return corpus
    told = ", ".join(f"{count:,} {label}" for label, count in sorted(left_out.items()))
    return replace(
        corpus,
        documents=tuple(documents),
        notices=(*corpus.notices, f"left out of what the new part learns: {told}"),
        sha256=content_hash(documents),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """An extension whose part is trained."""

    extension: Extension
    settings: Settings
    folder: RunFolder
    old: Parts
    data: _Data

    @property
    def model(self) -> str:
        return self.extension.model


def _finish(work: _Work, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Score, put both into one folder, compare that with the old model, and write the record."""
    device, folder = work.settings.run.device, work.folder
    before = load_model(work.old.folder, device=device, merge=True, encoder=work.extension.encoder)
    new = load_model(folder.path / _PART / "model", device=device, merge=True)
    overlaps = work.old.extended.overlaps if work.old.extended is not None else ()
    after = Predictor.combine(
        [*(before.parts or [before]), new], [*overlaps, work.extension.overlap]
    )
    splits = [split for split in ("dev", "test") if split in work.data.gold]
    scores = {split: _score(work, split, before, after) for split in splits}
    documents = _documents_to_check(work.data)
    same = _Same(documents, before, after, work)
    extended = save_extended(
        folder.model,
        work.old,
        Addition(
            folder.path / _PART / "model",
            work.extension.overlap,
            trained["parameters"]["trainable"],
            {split: found["all"] or found["new"] for split, found in scores.items()},
        ),
        check=same.check,
    )
    record = _record(work, trained, extended)
    record |= {split: scores.get(split) for split in ("dev", "test")}
    record["compared"] = same.counts
    folder.finish(record)
    return record


def _record(work: _Work, trained: Mapping[str, Any], extended: Extended) -> dict[str, Any]:
    added = extended.parts[-1]
    return {
        "nertune": nertune.__version__,
        "name": work.settings.run.name,
        "seed": work.settings.run.seed,
        "status": "finished",
        "settings": work.settings.to_dict(),
        "extends": {
            "model": work.model,
            "folder": str(work.old.folder),
            "sha256": hash_once(work.old.folder / MANIFEST),
        },
        "labels": {"old": list(work.old.labels), "new": list(added.labels)},
        "asked_labels": list(work.extension.labels),
        "overlap": work.extension.overlap,
        "data": trained["data"],
        "parameters": trained["parameters"],
        "bytes": {"added": added.bytes, "model": sum(part.bytes for part in extended.parts)},
        "best_epoch": trained["best_epoch"],
        "seconds": trained["seconds"],
        "part": f"{_PART}/record.json",
    }


def _score(work: _Work, split: str, before: Predictor, after: Predictor) -> dict[str, Any]:
    """The scores of old labels before and after, of new ones, and of all.

    An old label of which the file has no entity, and that no scope in it names, is one that it was
    not labelled for: what is found of it is no error, and not counted. `None` stands for scores of
    old labels where that is all of them.
    """
    gold = work.data.gold[split].documents
    new_labels = after.parts[-1].labels
    named = {entity.label for document in gold for entity in document.entities}
    named.update(label for document in gold for label in document.scope.labels or ())
    old_labels = tuple(label for label in before.labels if label in named)
    if others := [label for label in before.labels if label not in named]:
        told = ", ".join(others)
        _LOG.info("%s", f"{split} has no entity of {told}: what is found of them is not scored")
    found_before = [*before.tag_documents(gold)]
    found = [*after.tag_documents(gold)]
    save_fitting(work.folder.predictions(split), found, format="predictions")
    has_old = bool(old_labels)

    def of(labels: Sequence[str], tagged: Sequence[Document]) -> dict[str, Any]:
        return score(_only(gold, labels), _only(tagged, labels), types=labels).to_dict()

    return {
        "old_before": of(old_labels, found_before) if has_old else None,
        "old": of(old_labels, found) if has_old else None,
        "new": of(new_labels, found),
        "all": of((*old_labels, *new_labels), found) if has_old else None,
        "overlaps": _count_overlaps(after, gold),
    }


def _only(documents: Sequence[Document], labels: Sequence[str]) -> list[Document]:
    known = set(labels)
    return [d.with_entities(e for e in d.entities if e.label in known) for d in documents]


def _count_overlaps(after: Predictor, documents: Sequence[Document]) -> dict[str, int]:
    """How many new entities there are, and how many of them overlap an old one."""
    parts = [[*part.tag_documents(documents, with_scores=False)] for part in after.parts]
    new = sum(len(document.entities) for document in parts[-1])
    keep = ["keep"] * (len(parts) - 2)
    apart = 0
    for answers in zip(*parts, strict=True):
        all_old = combine_answers(answers[:-1], keep)  # type: ignore[arg-type]
        joined = combine_answers([all_old, answers[-1]], ["old-wins"])
        apart += len(joined.entities) - len(all_old.entities)
    return {"new_entities": new, "overlap_old": new - apart}


def _documents_to_check(data: _Data) -> Sequence[Document]:
    if "dev" in data.gold:
        return data.gold["dev"].documents
    return data.gold["train"].documents[:_CHECKED]


class _Same:
    """Compares the folder of an extended model with the old model and the new part.

    Attributes:
        counts: documents and entities that were compared, for the record.
    """

    def __init__(
        self, documents: Sequence[Document], before: Predictor, after: Predictor, work: _Work
    ):
        self._documents, self._before, self._after = documents, before, after
        self._work = work
        self.counts: dict[str, int] = {}

    def check(self, folder: Path) -> None:
        """Tag with the folder's model.

        Raises:
            ArtifactError: an old entity differs, in its probability's last bit if nowhere else.
        """
        work = self._work
        encoder = None
        if work.old.manifests[0].needs_base:
            encoder = work.old.locate_base(work.extension.encoder)
        loaded = load_model(folder, device=work.settings.run.device, merge=True, encoder=encoder)
        old_labels = self._before.labels
        found = [*loaded.tag_documents(self._documents)]
        expected = [*self._before.tag_documents(self._documents)]
        num_old = 0
        for one, other, document in zip(
            _only(found, old_labels), expected, self._documents, strict=True
        ):
            if one.entities != other.entities:
                raise ArtifactError(
                    f"the extended model would answer otherwise than {work.model} in "
                    f"{document.id or document.text[:40]!r}, so it is not written"
                )
            num_old += len(one.entities)
        whole = [*self._after.tag_documents(self._documents)]
        if [d.entities for d in whole] != [d.entities for d in found]:
            raise ArtifactError(
                "the new part answers otherwise in the extended model than alone, so that is not "
                "written"
            )
        num_all = sum(len(document.entities) for document in found)
        self.counts = {
            "documents": len(found), "old_entities": num_old, "new_entities": num_all - num_old
        }  # fmt: skip


def _refuse_other_extension(
    record: Mapping[str, Any], extension: Extension, old: Parts, folder: RunFolder
) -> None:
    """A finished extension of another model, or made otherwise, is not what was asked for."""
    asked = {
        "the model": (record["extends"]["sha256"], hash_once(old.folder / MANIFEST)),
        "--overlap": (record["overlap"], extension.overlap),
        "--labels": (record["asked_labels"], list(extension.labels)),
    }
    for name, (before, now) in asked.items():
        if before != now:
            raise CheckpointError(
                f"{folder.path}: was made with another value of {name} ({before!r}, now {now!r}); "
                "use --overwrite or another run.dir"
            )


def _refuse_other_test(record: Mapping[str, Any], data: _Data, folder: RunFolder) -> None:
    """A score of another file must not pass for what was asked for."""
    scored, test = record["data"]["test"], data.targets["test"]
    if scored["sha256"] != test.sha256:
        raise CheckpointError(
            f"{folder.path}: was scored on a test file of other content ({scored['path']}); score "
            f"{test.path} with nertune evaluate {folder.model} {test.path}"
        )


def _add_test(work: _Work, record: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """The scores on test of an extension that was finished without them."""
    device = work.settings.run.device
    encoder = work.extension.encoder
    before = load_model(work.old.folder, device=device, merge=True, encoder=encoder)
    after = load_model(work.folder.model, device=device, merge=True, encoder=encoder)
    scores = _score(work, "test", before, after)
    add_extended_metrics(work.folder.model, {"test": scores["all"] or scores["new"]})
    own = record["settings"]
    own = {**own, "data": {**own["data"], "test": work.settings.data.test}}
    data = {**record["data"], "test": trained["data"]["test"]}
    scored = {**record, "settings": own, "data": data, "test": scores}
    work.folder.finish(scored)
    return scored
