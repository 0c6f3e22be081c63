"""A search for good settings: many runs, chosen by Optuna, scored on dev.

The study lies in a SQLite file, so a killed sweep goes on where it was; what was lost is the run
that it was in. Test data are never touched. The first trial is the recipe as it stands: what is
found is held against it.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from nertune.comparison.results import count_dev
from nertune.comparison.runs import encoder_hash
from nertune.comparison.search.runs import refuse_other, train_quietly
from nertune.comparison.search.space import Range, Space, read_space
from nertune.comparison.search.trial_process import TrialProcesses
from nertune.comparison.search.trials import SweepResult, Trial
from nertune.config.run import (
    Settings,
    parse_settings,
    upgrade_values,
    with_changes,
)
from nertune.data.splits import load_splits
from nertune.errors import ConfigError, MissingDependencyError, NertuneError
from nertune.evaluation.significance import compare_counts
from nertune.experiments.folder import RunFolder
from nertune.experiments.processes.engines import LOCAL, RunEngine
from nertune.experiments.record import forget_peak_memory
from nertune.storage.atomic import write_json, write_text
from nertune.training.observer import Observer
from nertune.training.progress import EpochReport

__all__ = ["SweepBudget", "sweep"]

_LOG = logging.getLogger("nertune")

_STUDY, _DESCRIPTION, _WINNER = "study.db", "sweep.json", "best.toml"
_STARTUP = 5  # trials at random before the sampler and the pruner trust what they know


@dataclass(frozen=True, slots=True)
class SweepBudget:
    """How much a sweep may train.

    Attributes:
        trials: how many runs end, in all; lost ones do not count.
        minutes: no trial but the first begins or goes on after so long; 0: no limit.
        confirm: seeds with which recipe and winner are trained again.
        workers: trials that are trained at the same time, in processes that share the cores. Their
            times and memory are not kept, and which values are tried depends on which trial ends
            first.
        engine: computes them, if there are several workers or it is Ray.
    """

    trials: int = 20
    minutes: float = 0
    confirm: int = 0
    workers: int = 1
    engine: RunEngine = LOCAL

    def processes(self) -> TrialProcesses | None:
        """What trains the trials; nothing if they are trained in this process."""
        if self.workers == 1 and not self.engine.cluster:
            return None
        return TrialProcesses(self.workers, self.engine)


def sweep(
    recipe: Path,
    *,
    output: Path,
    budget: SweepBudget | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
) -> SweepResult:
    """Search, and write `best.toml` and `sweep.json`.

    Args:
        recipe: with a section `[space]`, or the method's default space is searched.
        output: the sweep's folder.
        budget: 20 trials by default.
        resume: go on with a killed sweep.
        overrides: `section.key=value` for the recipe.

    Raises:
        ConfigError: the space, the folder or the data cannot be used.
        MissingDependencyError: the extra `sweep` is not installed.
        NertuneError: the recipe as it stands cannot be trained; the message says why.
    """
    budget = budget or SweepBudget()
    optuna = _optuna()
    question = _Question(*read_space(recipe, overrides), output)
    deadline = time.monotonic() + 60 * budget.minutes if budget.minutes else float("inf")
    if resume and not (output / _DESCRIPTION).exists():
        raise ConfigError(f"{output}: holds no sweep to resume")
    with RunFolder(output, "output").locked():
        _prepare(question, resume)
        search = _Search(question, _open_study(question, optuna), optuna, budget.processes())
        search.run(budget.trials, deadline)
        result = _result(search.study, question, optuna)
        _save(result, output)  # before anything else can fail
        if budget.confirm:
            first = question.settings.run.seed + 1
            seeds = range(first, first + budget.confirm)
            result = _confirm(result, question, seeds, budget.processes())
            _save(result, output)
        return result


@dataclass(frozen=True, slots=True)
class _Begun:
    """A trial that is to be trained: Optuna's, its values, and whether it may be stopped early."""

    trial: Any
    chosen: dict[str, Any]
    may_prune: bool


@dataclass(frozen=True, slots=True)
class _Question:
    """What is searched: a recipe's values, the same as settings, its space; and where."""

    values: Mapping[str, Any]
    settings: Settings
    space: Space
    output: Path

    def trial_folder(self, number: int) -> Path:
        """Of a trial's run."""
        return self.output / "trials" / f"{number:04d}"


def _open_study(question: _Question, optuna: Any) -> Any:
    """The study, without what a kill left of a trial."""
    epochs = question.settings.train.epochs
    study = optuna.create_study(
        storage=f"sqlite:///{question.output / _STUDY}",
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_STARTUP, n_warmup_steps=max(1, epochs // 4)
        ),
    )
    for lost in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        _LOG.info("%s", f"trial {lost.number} was lost when the sweep was killed")
        study.tell(lost.number, state=optuna.trial.TrialState.FAIL)
        shutil.rmtree(question.trial_folder(lost.number), ignore_errors=True)
    return study


class _Search:
    """Trials of one study; `run` is their course."""

    def __init__(
        self, question: _Question, study: Any, optuna: Any, processes: TrialProcesses | None
    ):
        self.study = study
        self._question, self._optuna = question, optuna
        self._states = optuna.trial.TrialState
        self._processes = processes
        self._lock = threading.RLock()  # around all that the study is asked and told
        self._num_running = 0
        self._runs_base = False

    def run(self, trials: int, deadline: float) -> None:
        """Train until so many trials have ended, or the monotonic clock is past the deadline."""
        if self._processes is None:
            self._work(trials, deadline)
            return
        self._processes.map(lambda _: self._work(trials, deadline), range(self._processes.workers))

    def _work(self, trials: int, deadline: float) -> None:
        """One trial after the other, as long as there are any to do."""
        while (begun := self._begin(trials, deadline)) is not None:
            try:
                self._run_trial(begun, deadline)
            finally:
                with self._lock:
                    self._num_running -= 1
                    self._runs_base = self._runs_base and begun.may_prune

    def _begin(self, trials: int, deadline: float) -> _Begun | None:
        """The next trial, the first of the recipe as it stands; `None` if there is none to do."""
        if self._processes is not None and self._processes.is_stopped:
            return None
        with self._lock:
            done = self._count_done()
            has_base = self._has_base() or self._runs_base
            num_begun = done + self._num_running
            if (num_begun >= trials and has_base) or (num_begun and time.monotonic() > deadline):
                return None
            # A seed of its own at each step: a resumed sweep goes on as an uninterrupted one.
            self.study.sampler = self._optuna.samplers.TPESampler(
                seed=self._question.settings.run.seed + num_begun, n_startup_trials=_STARTUP,
                constant_liar=self._processes is not None,
            )  # fmt: skip
            self._num_running += 1
            self._runs_base = self._runs_base or not has_base
            trial = self.study.ask()
            chosen: dict[str, Any] = {}
            if has_base:
                space = self._question.space
                chosen = {key: _suggest(trial, key, choice) for key, choice in space.items()}
            trial.set_user_attr("base", not has_base)
            trial.set_user_attr("values", json.dumps(chosen))
            told = ", ".join(f"{k} {_brief(v)}" for k, v in chosen.items())
            told = told or "the recipe as it stands"
            _LOG.info("%s", f"[{num_begun + 1}/{trials}] trial {trial.number}: {told}")
            return _Begun(trial, chosen, has_base)

    def _trials(self, *states: Any) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False, states=states))

    def _has_base(self) -> bool:
        """Whether the recipe as it stands was trained."""
        return any(trial.user_attrs.get("base") for trial in self._trials(self._states.COMPLETE))

    def _count_done(self) -> int:
        broken = [t for t in self._trials(self._states.FAIL) if "error" in t.user_attrs]
        return len(self._trials(self._states.COMPLETE, self._states.PRUNED)) + len(broken)

    def _run_trial(self, begun: _Begun, deadline: float) -> None:
        trial = begun.trial
        watch = _Watch(begun, self._optuna, deadline, self._lock)
        folder = self._question.trial_folder(trial.number)
        shutil.rmtree(folder, ignore_errors=True)
        name = f"trial {trial.number}: " if self._processes is not None else ""
        try:
            record = _train(
                self._question.values, begun.chosen, folder, watch, processes=self._processes
            )
        except self._optuna.TrialPruned:
            with self._lock:
                self.study.tell(trial, state=self._states.PRUNED)
            _LOG.info("%s", f"    {name}stopped in epoch {watch.epoch}: dev F1 {watch.best:.4f}")
            shutil.rmtree(folder, ignore_errors=True)
        except NertuneError as error:
            if self._processes is not None and self._processes.is_stopped:
                return  # it did not fail; the next start finds it lost
            with self._lock:
                trial.set_user_attr("error", str(error))
                self.study.tell(trial, state=self._states.FAIL)
            shutil.rmtree(folder, ignore_errors=True)
            if not begun.may_prune:
                raise
            _LOG.info("%s", f"    {name}failed: {error}")
        else:
            with self._lock:
                self._finish(trial, record, watch.best, folder)
            _LOG.info("%s", f"    {name}dev F1 {watch.best:.4f}")

    def _finish(self, trial: Any, record: Mapping[str, Any], f1: float, folder: Path) -> None:
        """Keep the figures of a complete trial, and of its files only those that cost nothing."""
        seconds = sum(epoch["seconds"] for epoch in record["epochs"])
        trial.set_user_attr("trainable", record["parameters"]["trainable"])
        if self._processes is None:  # else they are of a shared machine
            trial.set_user_attr("seconds", round(seconds, 2))
            trial.set_user_attr("peak_bytes", record["peak_memory_bytes"])
        self.study.tell(trial, f1)
        shutil.rmtree(folder / "model", ignore_errors=True)  # best.toml trains it again
        for predictions in folder.glob("*.predictions.jsonl"):
            predictions.unlink()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "optuna", extra="sweep", purpose="a sweep"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _prepare(question: _Question, resume: bool) -> None:
    """The folder, and that it is of this sweep and no other."""
    settings, space, output = question.settings, question.space, question.output
    path = output / _DESCRIPTION
    described = {
        "settings": settings.to_dict(),
        "space": {k: list(v) if isinstance(v, tuple) else v.model_dump() for k, v in space.items()},
        "data": {
            split: corpus.sha256
            for split, corpus in load_splits(settings.data, ("train", "dev")).items()
        },
        "encoder": encoder_hash(settings),
    }
    described = json.loads(json.dumps(described))
    if path.exists():
        if not resume:
            raise ConfigError(
                f"{output}: holds a sweep already; resume it with --resume, or name another folder"
            )
        old = json.loads(path.read_text(encoding="utf-8"))
        refuse_other(output, old, described, "a sweep of")
        return
    write_json(path, described)


class _Watch(Observer):
    """Reports each epoch, and ends a run that is behind or out of time."""

    def __init__(self, begun: _Begun, optuna: Any, deadline: float, lock: threading.RLock):
        self._trial, self._optuna, self._deadline = begun.trial, optuna, deadline
        self._may_prune, self._lock = begun.may_prune, lock
        self.last = 0  # the run's last epoch
        self.best = 0.0
        self.epoch = 0

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        assert report.dev is not None
        self.epoch = report.epoch
        self.best = max(self.best, report.dev["f1"])
        is_late = time.monotonic() > self._deadline and report.epoch < self.last
        with self._lock:
            self._trial.report(self.best, report.epoch)
            if self._may_prune and (is_late or self._trial.should_prune()):
                raise self._optuna.TrialPruned


def _train(
    values: Mapping[str, Any],
    chosen: Mapping[str, Any],
    folder: Path,
    watch: _Watch | None = None,
    *,
    seed: int | None = None,
    processes: TrialProcesses | None = None,
) -> dict[str, Any]:
    run: dict[str, Any] = {"run.dir": str(folder), "run.name": folder.name, "data.test": ""}
    if seed is not None:
        run["run.seed"] = seed
    # Upgraded here, where nobody is told again: `read_space` did.
    changed, _ = upgrade_values(with_changes(values, {**chosen, **run}))
    settings = parse_settings(changed, source=f"trial {folder.name}")
    if watch is not None:
        watch.last = settings.train.epochs
    if processes is not None:
        return processes.train(changed, watch)
    forget_peak_memory()
    return train_quietly(settings, watch)


def _suggest(trial: Any, key: str, choice: Range | tuple[Any, ...]) -> Any:
    if isinstance(choice, tuple):  # a list is no value for Optuna, its spelling is
        return json.loads(trial.suggest_categorical(key, [json.dumps(v) for v in choice]))
    low, high = choice.ends
    if choice.whole:
        step = int(choice.step or 1)
        return trial.suggest_int(key, low, high, step=step, log=choice.log)
    return trial.suggest_float(key, low, high, step=choice.step, log=choice.log)


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _result(study: Any, question: _Question, optuna: Any) -> SweepResult:
    """What the trials say, before it is confirmed; writes the winner's recipe.

    Raises:
        ConfigError: the recipe as it stands was not trained.
    """
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    trials = tuple(
        Trial(
            number=t.number,
            state=names[t.state.name],
            f1=max(t.intermediate_values.values(), default=None),
            values=json.loads(t.user_attrs.get("values", "{}")),
            trainable=t.user_attrs.get("trainable"),
            seconds=t.user_attrs.get("seconds"),
            peak_bytes=t.user_attrs.get("peak_bytes"),
        )
        for t in study.get_trials(deepcopy=False)
        if t.state.name in names
    )
    complete = [t for t in trials if t.state == "complete"]
    base = next((t for t in complete if not t.values), None)
    if base is None:
        raise ConfigError(
            f"{question.output}: the recipe as it stands was not finished: resume it with --resume"
        )
    best = max(complete, key=lambda t: (t.f1 or 0.0, -t.number))
    return SweepResult(
        trials=trials,
        base=base,
        best=best,
        confirmed={},
        winner=_write_winner(question.values, best, question.output),
        importance=_importance(study, optuna),
    )


def _save(result: SweepResult, output: Path) -> None:
    """Beside what the sweep was asked for."""
    path = output / _DESCRIPTION
    described = json.loads(path.read_text(encoding="utf-8"))
    found = result.to_dict() | {"base": result.base.number, "best": result.best.number}
    write_json(path, {**described, **found})


def _confirm(
    result: SweepResult,
    question: _Question,
    seeds: Sequence[int],
    processes: TrialProcesses | None,
) -> SweepResult:
    """Recipe and winner again with further seeds; a seed that fails is left out."""
    confirmed: dict[str, list[float]] = {"base": [], "best": []}
    folders: dict[str, list[Path]] = {"base": [], "best": []}

    def train_again(job: tuple[int, str, Trial]) -> Path | None:
        seed, name, trial = job
        folder = question.output / "confirm" / f"{trial.number:04d}-{seed}"
        try:
            if not (folder / "record.json").exists():
                _LOG.info("%s", f"{name} again, seed {seed}")
                shutil.rmtree(folder, ignore_errors=True)
                _train(question.values, trial.values, folder, seed=seed, processes=processes)
        except NertuneError as error:
            if processes is None or not processes.is_stopped:
                _LOG.info("%s", f"{name}, seed {seed}, is left out: {error}")
            return None
        return folder

    pair = {"base": result.base, "best": result.best}
    alone = {trial.number: name for name, trial in pair.items()}  # which may be one
    jobs = [(seed, name, pair[name]) for seed in seeds for name in alone.values()]
    made = list(map(train_again, jobs) if processes is None else processes.map(train_again, jobs))
    places = {(seed, t.number): path for (seed, _, t), path in zip(jobs, made, strict=True)}
    for seed in seeds:
        found = {name: places[seed, trial.number] for name, trial in pair.items()}
        if None in found.values():
            continue
        for name, folder in found.items():
            assert folder is not None
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            confirmed[name].append(record["dev"]["micro"]["f1"] or 0.0)
            folders[name].append(folder)
    if not folders["best"]:
        return result
    dev = load_splits(question.settings.data, ("train", "dev"))["dev"]
    of_best, of_base = (count_dev(dev, folders[name]) for name in ("best", "base"))
    return replace(result, confirmed=confirmed, difference=compare_counts(of_best, of_base))


def _importance(study: Any, optuna: Any) -> dict[str, float]:
    """Of each setting in what sets good trials apart; nothing where too few trials say so.

    The recipe as it stands has no part in it (it was not drawn), nor have runs that were stopped.
    """
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    drawn = [trial for trial in complete if trial.params]
    if len(drawn) < 2 * _STARTUP or len({trial.value for trial in drawn}) == 1:
        return {}
    apart = optuna.create_study(direction="maximize")
    apart.add_trials(drawn)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(apart, evaluator=evaluator)
    except (ValueError, RuntimeError):  # no setting varies
        return {}
    return {name: round(float(share), 4) for name, share in found.items()}


def _write_winner(values: Mapping[str, Any], best: Trial, output: Path) -> Path:
    recipe, _ = upgrade_values(with_changes(values, best.values))
    for key in ("dir", "name"):
        recipe.get("run", {}).pop(key, None)
    path = output / _WINNER
    f1 = 0.0 if best.f1 is None else best.f1
    head = f"# Trial {best.number} of {output}: dev micro-F1 {f1:.4f}, the best of its sweep.\n\n"
    write_text(path, head + tomli_w.dumps(recipe))
    return path
