"""The runs of a comparison: planned from recipes, then reused, resumed or trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nertune
from nertune.artifacts.manifest import hash_encoder
from nertune.comparison.configurations import used_settings
from nertune.comparison.results import Record, Split
from nertune.config.run import Settings, load_settings, settings_of_record
from nertune.data.corpus import Corpus, load_corpus
from nertune.data.splits import CorpusCache, load_splits
from nertune.errors import ConfigError, DataError, ModelError, TrainingError
from nertune.evaluation.metrics import document_counts
from nertune.experiments.folder import RunFolder
from nertune.experiments.processes.engines import LOCAL, RunEngine
from nertune.experiments.processes.subprocess import (
    Runner,
    RunRequest,
    run_in_subprocess,
    stop_runs,
)
from nertune.experiments.record import first_difference
from nertune.experiments.start import open_start
from nertune.storage.atomic import write_json
from nertune.storage.encoders import resolve_encoder
from nertune.types import Document

__all__ = [
    "PlannedRun",
    "RunOptions",
    "complete_runs",
    "encoder_hash",
    "plan_runs",
    "read_predictions",
]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the runs of a comparison are trained.

    Attributes:
        overrides: `section.key=value`, applied to every recipe.
        first_seed: of the seeds; the others follow it.
        longer: factor for every recipe's number of epochs.
        fresh: train again what is finished or was killed.
        other_training_data: let the configurations be trained on different data.
        run: does one run; in several threads if there are several workers.
        workers: runs that are trained at the same time, and share the cores.
        engine: computes them.
    """

    overrides: Sequence[str] = ()
    first_seed: int = 1
    longer: float = 1.0
    fresh: bool = False
    other_training_data: bool = False
    run: Runner = run_in_subprocess
    workers: int = 1
    engine: RunEngine = LOCAL


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run as its recipe asks for it now: what a finished run must match to be reused.

    Attributes:
        name: of its configuration.
        recipe: its file.
        seed: of the run.
        folder: the run's folder.
        settings: of the recipe, with overrides.
        corpora: by split.
        overrides: `section.key=value`, without seed and folder.
    """

    name: str
    recipe: Path
    seed: int
    folder: Path
    settings: Settings
    corpora: Mapping[str, Corpus]
    overrides: tuple[str, ...]

    @property
    def split(self) -> Split:
        """Of what it is scored on."""
        return "test" if "test" in self.corpora else "dev"

    @property
    def scored(self) -> Corpus:
        """What it is scored on."""
        return self.corpora[self.split]

    @property
    def stamp(self) -> dict[str, Any]:
        """Settings without name and place, and content hashes of the data and the encoder."""
        return {
            "settings": _comparable(self.settings.to_dict()),
            "data": {split: corpus.sha256 for split, corpus in self.corpora.items()},
            "encoder": encoder_hash(self.settings),
        }

    @property
    def stamp_path(self) -> Path:
        """Where the stamp is kept while the run is not finished."""
        return self.folder.with_name(f"{self.folder.name}.request.json")

    @property
    def dev_hash(self) -> str | None:
        """Of the data that choose its best epoch."""
        return self.corpora["dev"].sha256 if "dev" in self.corpora else None

    @property
    def essence(self) -> str:
        """What decides the run's numbers, whatever its files are called."""
        stamp = self.stamp
        files = {f"data.{split}" for split in stamp["data"]}
        if stamp["encoder"] is not None:
            files.add("model.encoder")
        used = {k: v for k, v in used_settings(stamp["settings"]).items() if k not in files}
        return json.dumps([used, stamp["data"], stamp["encoder"]], sort_keys=True)

    @property
    def predictions(self) -> Path:
        """What the run found on the scored split."""
        return self.folder / f"{self.split}.predictions.jsonl"


def plan_runs(
    recipes: Mapping[str, Path], seeds: Sequence[int], output: Path, options: RunOptions
) -> list[PlannedRun]:
    """The runs of all recipes, seed by seed.

    Args:
        recipes: by the configuration's name.
        seeds: of the runs.
        output: gets the runs in `runs/NAME/seed-N`.
        options: how they are trained.

    Raises:
        ConfigError: a recipe or an override cannot be used, or the recipes are not scored or, if
            that is not asked for, not trained on the same data.
        ModelError: there is no such encoder.
        DataError: a data file cannot be read.
    """
    for override in options.overrides:
        key = override.partition("=")[0].strip()
        if key in ("run.seed", "run.dir", "run.name"):
            raise ConfigError(f"compare sets {key} of each run itself: leave out --set {override}")
    read: CorpusCache = {}
    runs = []
    for seed in seeds:
        for name, recipe in recipes.items():
            folder = output / "runs" / name / f"seed-{seed}"
            place = f"run.dir={json.dumps(str(folder), ensure_ascii=False)}"
            own = tuple(options.overrides)
            settings = load_settings(recipe, [*own, f"run.seed={seed}", place])
            if options.longer != 1:
                own += (f"train.epochs={max(1, round(options.longer * settings.train.epochs))}",)
                settings = load_settings(recipe, [*own, f"run.seed={seed}", place])
            corpora = load_splits(settings.data, cache=read)
            corpora["train"] = corpora["train"].take_share(settings.data.train_share, seed)
            if open_start(settings) is None and settings.model.emitter == "encoder":
                resolve_encoder(settings.model.encoder)
            if "test" not in corpora and "dev" not in corpora:
                raise ConfigError(
                    f"{recipe}: names neither data.test nor data.dev, so nothing can be scored"
                )
            runs.append(PlannedRun(name, recipe, seed, folder, settings, corpora, own))
    _refuse_other_scoring(runs)
    if not options.other_training_data:
        _refuse_other_training(runs)
    return runs


def _refuse_other_scoring(runs: Sequence[PlannedRun]) -> None:
    """All have to be scored on the same documents.

    Raises:
        ConfigError: they are not.
    """
    first = runs[0]
    for run in runs:
        if (run.split, run.scored.sha256) != (first.split, first.scored.sha256):
            raise ConfigError(
                "the configurations are scored on different data, so they cannot be compared: "
                f"{_described(first)}, but {_described(run)}"
            )


def _refuse_other_training(runs: Sequence[PlannedRun]) -> None:
    """What differs should be the configurations and nothing else.

    Raises:
        ConfigError: runs of the same seed are trained on different documents.
    """
    first = {run.seed: run for run in reversed(runs)}  # of each seed the first configuration's
    for run in runs:
        one, other = (r.corpora["train"] for r in (first[run.seed], run))
        if one.sha256 != other.sha256:
            raise ConfigError(
                "the configurations are trained on different data, so it is not the configurations "
                f"alone that differ: {first[run.seed].name} on {one.path} (sha256 "
                f"{one.sha256[:12]}…), but {run.name} on {other.path} (sha256 "
                f"{other.sha256[:12]}…); if the data are what you want to compare, say "
                "--other-training-data"
            )


def _described(run: PlannedRun) -> str:
    hint = ", as it names no data.test" if run.split == "dev" else ""
    return f"{run.name} on {run.split} {run.scored.path} (sha256 {run.scored.sha256[:12]}…){hint}"


def complete_runs(runs: Sequence[PlannedRun], options: RunOptions) -> list[Record]:
    """The records of all runs; what is not finished is trained.

    Raises:
        ConfigError: another process trains one of the configurations.
        TrainingError: a run failed; the message is the run's own.
    """
    folders = dict.fromkeys(run.folder.parent for run in runs)
    with ExitStack() as locks:  # other configurations may be trained beside these
        for folder in folders:
            locks.enter_context(RunFolder(folder, "output").locked())
        positions = [
            f"[{number}/{len(runs)}] {run.name}, seed {run.seed}"
            for number, run in enumerate(runs, start=1)
        ]
        if options.workers > 1:
            return _complete_side_by_side(runs, options, positions)
        return [
            _complete_run(run, options, position)
            for run, position in zip(runs, positions, strict=True)
        ]


def _complete_side_by_side(
    runs: Sequence[PlannedRun], options: RunOptions, positions: Sequence[str]
) -> list[Record]:
    """Several at a time. Where one fails, the others are stopped, and resumed by the next start."""
    with ThreadPoolExecutor(options.workers, "nertune-run") as pool:
        futures = [
            pool.submit(_complete_run, run, options, position)
            for run, position in zip(runs, positions, strict=True)
        ]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:  # raises the first failure
                future.result()
            return [future.result() for future in futures]
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            at_once = not isinstance(error, KeyboardInterrupt)
            while wait(futures, timeout=0.1).not_done:  # some may have been about to start
                stop_runs(at_once=at_once)
                at_once = True
            raise


def _complete_run(run: PlannedRun, options: RunOptions, position: str) -> Record:
    """The record of a finished run: one that is there already, or a new one."""
    found = _read_json(run.folder / "record.json")
    stamp = run.stamp
    is_resumed, what = False, "training"
    if found is not None and found.get("status") == "finished":
        reason = "as asked" if options.fresh else _why_not(found, run, stamp)
        if not reason:
            version = found.get("nertune")
            by = "" if version == nertune.__version__ else f" (trained by nertune {version})"
            _LOG.info(
                "%s",
                f"{position}: reused, {run.folder} is finished with the same settings and data{by}",
            )
            return found
        is_resumed = not options.fresh and _lacks_only_test(found, run, stamp)
        what = "trained before, scoring on test" if is_resumed else f"training again, {reason}"
    elif run.folder.exists() and any(run.folder.iterdir()):
        is_resumed = not options.fresh and _is_same_request(_read_json(run.stamp_path), stamp)
        reason = "as asked" if options.fresh else "what was begun there has other settings or data"
        what = "resuming" if is_resumed else f"training again, {reason}"
    _LOG.info("%s", f"{position}: {what}")
    if not is_resumed:
        folder = RunFolder(run.folder)
        with folder.locked():
            folder.remove_run()  # before the new stamp is there, which would have it resumed
        write_json(run.stamp_path, stamp)
    request = RunRequest(
        name=run.name,
        recipe=run.recipe,
        seed=run.seed,
        folder=run.folder,
        overrides=run.overrides,
        start="resume" if is_resumed else "new",
        score_test=run.split == "test",
        side_by_side=options.workers,
        engine=options.engine,
    )
    options.run(request)
    return _read_finished(run, stamp)


def _read_finished(run: PlannedRun, stamp: Mapping[str, Any]) -> Record:
    """The record that a run has just left.

    Raises:
        TrainingError: there is none, or it is not of the run that was asked for.
    """
    record = _read_json(run.folder / "record.json")
    if record is None or record.get("status") != "finished":
        raise TrainingError(
            f"{run.name}, seed {run.seed}: the run left no finished record.json in {run.folder}"
        )
    if reason := _why_not(record, run, stamp):
        raise TrainingError(
            f"{run.name}, seed {run.seed}: {reason}: the recipe, its data or its encoder were "
            "changed while the comparison ran; the same command again compares what they are now"
        )
    return record


def encoder_hash(settings: Settings) -> str | None:
    """Of the weights that a run begins with, which may be replaced; nothing if not there yet."""
    if (start := open_start(settings)) is not None:
        return start.sha256
    if settings.model.emitter != "encoder":
        return None
    try:
        return hash_encoder(settings.model.encoder)
    except ModelError:  # of the hub, and not fetched yet
        return None


def _is_same_request(earlier: Mapping[str, Any] | None, stamp: Mapping[str, Any]) -> bool:
    """Whether a killed run can go on; an encoder may have no hash yet, before it is fetched.

    The checkpoint itself knows it, and refuses another.
    """
    if earlier is None or len({earlier.get("encoder"), stamp["encoder"]} - {None}) > 1:
        return False
    kept = _comparable(settings_of_record(earlier.get("settings", {})))
    return not first_difference(
        {**earlier, "settings": kept, "encoder": None}, {**stamp, "encoder": None}
    )


def _lacks_only_test(record: Record, run: PlannedRun, stamp: Mapping[str, Any]) -> bool:
    """Whether a finished run was trained as the run asks, but not scored on test."""
    if run.split != "test" or not RunFolder(run.folder).model.is_dir():
        return False
    if record.get("test") is None:  # then the test file had no part in the run
        data = {k: v for k, v in stamp["data"].items() if k != "test"}
        settings = record.get("settings", {})
        name = stamp["settings"]["data"]["test"]
        data_settings = {**settings.get("data", {}), "test": name}
        record = {**record, "settings": {**settings, "data": data_settings}}
        return not _why_trained_otherwise(record, run, {**stamp, "data": data})
    return not _why_trained_otherwise(record, run, stamp) and not run.predictions.is_file()


def _why_not(record: Record, run: PlannedRun, stamp: Mapping[str, Any]) -> str:
    """Why a finished run is not what the run asks for; empty if it is."""
    if reason := _why_trained_otherwise(record, run, stamp):
        return reason
    return "" if run.predictions.is_file() else "its predictions are missing"


def _why_trained_otherwise(record: Record, run: PlannedRun, stamp: Mapping[str, Any]) -> str:
    """Its settings, data or encoder, where they are not those of the run."""
    settings = _comparable(settings_of_record(record.get("settings", {})))
    if told := first_difference(settings, stamp["settings"]):
        return told
    for split, wanted in stamp["data"].items():
        if ((record.get("data") or {}).get(split) or {}).get("sha256") != wanted:
            return f"data.{split} holds other data now"
    model = run.settings.model
    begun = (record.get("start_from") or {}).get("sha256") or record.get("encoder_sha256")
    if stamp["encoder"] not in (None, begun):
        return f"the weights of {model.start_from or model.encoder} have changed"
    return ""


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what names or places a run, as plain JSON."""
    run = {k: v for k, v in settings.get("run", {}).items() if k not in ("name", "dir")}
    plain: dict[str, Any] = json.loads(json.dumps({**settings, "run": run}))
    return plain


def read_predictions(run: PlannedRun, record: Record) -> Sequence[Document]:
    """What a run found on the scored split.

    Raises:
        DataError: the file cannot be read, or is not what the record counts.
    """
    path = run.predictions
    predicted = load_corpus(path, format="jsonl").documents
    try:
        counts = document_counts(run.scored.documents, predicted)
    except DataError as error:
        raise DataError(str(error), path=path) from error
    micro = record[run.split]["micro"]
    expected = [micro["support"], micro["predicted"], micro["correct"]]
    if counts.sum(axis=0).tolist() != expected:
        raise DataError(
            f"gives {counts.sum(axis=0).tolist()} gold, predicted and correct entities, but "
            f"record.json beside it says {expected}: train this run again with --fresh",
            path=path,
        )
    return predicted


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or `None` where there is none to be had."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
