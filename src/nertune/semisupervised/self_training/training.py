"""`nertune self-train`: all seeds, the comparison with the baseline, and the best model."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nertune.config.run import Settings
from nertune.data.corpus import Corpus, load_corpus
from nertune.data.inputs import expand_files, hash_inputs
from nertune.data.samples import resolve_data
from nertune.data.several import is_pattern
from nertune.data.splits import load_splits
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.evaluation.metrics import document_counts
from nertune.evaluation.resampling import caveats
from nertune.evaluation.significance import compare_counts
from nertune.experiments.folder import RunFolder
from nertune.experiments.record import describe_data, first_difference
from nertune.inference.predictor import load_model
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import build_head, soft_head
from nertune.models.heads.calibration import has_chain
from nertune.semisupervised.self_training.completion import is_partial
from nertune.semisupervised.self_training.course import Course, change_settings
from nertune.semisupervised.self_training.options import Options
from nertune.semisupervised.self_training.results import (
    Comparison,
    SeedResult,
    SelfTrainingResult,
    Trained,
)
from nertune.storage.atomic import replace_folder, write_json
from nertune.storage.processes import refuse_many_processes
from nertune.training.observer import Observer
from nertune.types import Document

__all__ = ["Request", "self_train"]

_LOG = logging.getLogger("nertune")
_PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        settings: of the recipe; `run.seed` and `run.dir` are set for each run.
        unlabelled: files of text; may be none where training documents are labelled in part.
        output: the folder.
        options: how students learn.
        seeds: of all that is random: the draw of unlabelled texts, of `data.train_share`, new
            weights, dropout, masked tokens and batches.
        score_test: also compare on `data.test`.
    """

    settings: Settings
    unlabelled: tuple[Path, ...]
    output: Path
    options: Options = field(default_factory=Options)
    seeds: tuple[int, ...] = (1,)
    score_test: bool = False


def self_train(
    request: Request,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
) -> SelfTrainingResult:
    """Self-training (Scudder, 1965; Yarowsky, 1995) with noisy students (Xie et al., 2020).

    A teacher is trained on the labelled data, or several with different seeds, which are heard
    together. It tags unlabelled text, and a student learns from both, from the start of the recipe
    and with a part of the unlabelled text's tokens masked. Where training documents are labelled in
    part, the teacher fills in what their scope leaves open. The student is the next teacher. Dev
    chooses the best round. Beside it a baseline is trained on the labelled data alone, with as many
    steps and looks at dev as all rounds together.

    Args:
        request: what is asked for.
        resume: go on with what a killed process left in the folder.
        overwrite: replace what is there.
        observers: are told about the progress of each run.

    Returns:
        The result, which is in `report.json` too. The best model is in `OUTPUT/model`.

    Raises:
        ConfigError: recipe, options or folder cannot be used.
        CheckpointError: what is to be resumed had other settings, options or data.
        DataError: a file is missing or cannot be read, or no unlabelled text is left.
        TrainingError: a run failed.
    """
    refuse_many_processes()
    _check(request)
    corpora = load_splits(_without_missing_test(request).data)
    if not request.unlabelled and not is_partial(corpora["train"]):
        raise ConfigError(
            "--unlabelled: name at least one file of text without labels; it may be left out only "
            "where training documents are labelled in part (docs/few-labels.md#partial-labels)"
        )
    folder = RunFolder(request.output, "--output")
    with folder.locked():
        _begin(request, corpora, resume=resume, overwrite=overwrite)
        results = tuple(_course(request, corpora, seed, observers).run() for seed in request.seeds)
        best = max(results, key=lambda one: one.best.trained.f1)
        _keep_model(best.best.trained.folder / "model", request.output / "model")
        result = _summarise(request, corpora, results, best.seed)
        write_json(request.output / "report.json", result.to_dict())
        return result


def _check(request: Request) -> None:
    settings = request.settings
    if not settings.data.dev:
        raise ConfigError(
            "self-train needs data.dev: it chooses epochs, thresholds and the best round; name a "
            "file, e.g. --set data.dev=FILE, or cut one off with nertune data split"
        )
    for path in request.unlabelled:
        if not is_pattern(path) and not resolve_data(str(path)).exists():
            raise DataError("--unlabelled: there is no such file or folder", path=path)
    if request.score_test and not settings.data.test:
        raise ConfigError(
            "--test: data.test is empty; name the file to score, e.g. --set data.test=FILE"
        )
    if not request.seeds or len(set(request.seeds)) != len(request.seeds):
        raise ConfigError(f"--seeds {request.seeds}: expected different numbers, at least one")
    if not all(0 <= seed < 2**32 for seed in request.seeds):
        raise ConfigError(f"--seeds {request.seeds}: expected numbers from 0 to 4,294,967,295")
    head = build_head(settings.model.decoder, TagSet.from_labels(["X"]))
    if not has_chain(head):
        raise ConfigError(
            "self-train needs a head that gives each unit probabilities of tags (softmax, crf), "
            f"and this one is a {type(head).__name__}"
        )
    if request.options.labels == "soft":
        soft_head(head)


def _without_missing_test(request: Request) -> Settings:
    """The test file is read even if it is not scored: its texts must not be learned from."""
    name = request.settings.data.test
    if request.score_test or not name or name.startswith("sample:") or Path(name).exists():
        return request.settings
    _LOG.warning(
        "%s", f"data.test: there is no {name}, so its texts cannot be kept out of --unlabelled"
    )
    return change_settings(request.settings, {"data.test": ""})


def _begin(
    request: Request, corpora: Mapping[str, Corpus], *, resume: bool, overwrite: bool
) -> None:
    """See what is in the folder; a plan says what it was made for."""
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    output, path = request.output, request.output / _PLAN
    plan = _plan(request, corpora)
    ours = [one for one in (output / "model", *sorted(output.glob("seed-*"))) if one.exists()]
    if ours and not path.exists():
        raise ConfigError(
            f"--output: {ours[0]} was not written by self-train, which would replace it; use "
            "another --output"
        )
    # A plan alone is of a start that failed, e.g. since a file was not there.
    if any(output.glob("seed-*/*")) and not overwrite:
        if not resume:
            raise ConfigError(
                f"--output: {output} holds self-training; use --resume to continue it, --overwrite "
                "to start again, or another --output"
            )
        held = _read_json(path)
        held["options"] = {**Options().to_dict(), **held.get("options", {})}  # of earlier versions
        if told := first_difference(held, plan):
            raise CheckpointError(f"{output}: {told}; use --overwrite, or another --output")
    if overwrite:
        _remove(output)
    write_json(path, plan)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged; use --overwrite to begin again") from error


def _plan(request: Request, corpora: Mapping[str, Corpus]) -> dict[str, Any]:
    """What decides the runs; more seeds, and scores on test, may be asked for later."""
    settings = request.settings.to_dict()
    for key in ("dir", "name", "seed"):
        settings["run"].pop(key)
    for key in ("checkpoint_steps", "checkpoint_minutes"):
        settings["train"].pop(key)
    found, _ = expand_files([resolve_data(str(path)) for path in request.unlabelled])
    files = {one.path: one.sha256 for one in hash_inputs(found)}
    return {
        "settings": settings,
        "options": request.options.to_dict(),
        "unlabelled": files,
        "data": {split: corpus.sha256 for split, corpus in corpora.items()},
    }


def _remove(output: Path) -> None:
    """Only what self-training writes; the plan, which says whose the rest is, goes last."""
    for name in ("report.json", "report.md"):
        (output / name).unlink(missing_ok=True)
    for folder in (output / "model", *output.glob("seed-*")):
        shutil.rmtree(folder, ignore_errors=True)
    (output / _PLAN).unlink(missing_ok=True)


def _course(
    request: Request, corpora: Mapping[str, Corpus], seed: int, observers: Sequence[Observer]
) -> Course:
    settings = change_settings(request.settings, {"run.seed": seed})
    labelled = corpora["train"].take_share(settings.data.train_share, seed)
    return Course(
        settings=settings,
        corpora={**corpora, "train": labelled},
        unlabelled=request.unlabelled,
        options=request.options,
        folder=request.output / f"seed-{seed}",
        observers=observers,
    )


def _keep_model(best: Path, model: Path) -> None:
    draft = model.with_name(".model-best")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(best, draft)
    replace_folder(draft, model)


def _summarise(
    request: Request, corpora: Mapping[str, Corpus], results: tuple[SeedResult, ...], best: int
) -> SelfTrainingResult:
    comparisons = []
    splits = ("dev", "test") if request.score_test else ("dev",)
    for split in splits:
        gold = corpora[split].documents
        found = {
            name: np.stack([
                document_counts(gold, _predictions(request, split, gold, trained))
                for trained in chosen
            ])
            for name, chosen in (
                ("best", [one.best.trained for one in results]),
                ("baseline", [one.baseline for one in results]),
                ("teacher", [one.rounds[0].trained for one in results]),
            )
        }  # fmt: skip
        comparisons += [
            Comparison(
                split=split,
                against=name,
                f1=_f1(found["best"]),
                other_f1=_f1(found[name]),
                difference=compare_counts(found["best"], found[name]),
            )
            for name in ("baseline", "teacher")
        ]
    return SelfTrainingResult(
        output=request.output,
        options=request.options.to_dict(),
        data={split: describe_data(corpora[split]) for split in ("train", *splits)},
        seeds=results,
        best_seed=best,
        comparisons=tuple(comparisons),
        notices=_notices(corpora[splits[-1]], results, splits[-1]),
    )


def _predictions(
    request: Request, split: str, gold: Sequence[Document], trained: Trained
) -> Sequence[Document]:
    if split == "dev":  # as the run itself found
        path = RunFolder(trained.folder).predictions("dev")
        return load_corpus(path, format="jsonl").documents
    predictor = load_model(trained.folder / "model", device=request.settings.run.device)
    return list(predictor.tag_documents(gold, with_scores=False))


def _f1(counts: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[float, ...]:
    gold, predicted, correct = counts.sum(axis=1).T
    return tuple((2 * correct / np.maximum(gold + predicted, 1)).tolist())


def _notices(scored: Corpus, results: Sequence[SeedResult], split: str) -> tuple[str, ...]:
    """What a reader has to know."""
    told = []
    if split == "dev":
        told.append(
            "Dev chose the best round, and in every run the best epoch, so scores on dev are "
            "optimistic, those of self-training more so than the baseline's; --test compares on "
            "test data."
        )
    if len(results) == 1:
        told.append(
            f"One seed ({results[0].seed}): two trained models are compared, not two methods, as "
            "another seed may give another order; use three or more, e.g. --seeds 1,2,3."
        )
    if stayed := [str(one.seed) for one in results if not one.best.number]:
        told.append(
            f"No student was better on dev than its teacher with seed {', '.join(stayed)}: there "
            "round 0 is the best."
        )
        students = [one.trained for seed in results if not seed.best.number
                    for one in seed.rounds[1:]]  # fmt: skip
        if growing := [one.epochs for one in students if one.best_epoch == one.epochs]:
            told.append(
                f"{len(growing)} of {len(students)} such students were best in their last epoch, "
                f"after {min(growing)} epochs or more: they may need more, see --epochs."
            )
    told += [
        f"{split.capitalize()} data of {caveat}."
        for caveat in caveats(len(scored.documents), scored.num_entities)
    ]
    return tuple(told)
