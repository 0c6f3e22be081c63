"""Full fine-tuning or LoRA, and with which rank, rate and layers: asked of the user's own data.

Short runs within a budget of minutes, on train, scored on dev; test data are not read.

1. Pilot: what an epoch of either method costs here; from it the plan that fits into the minutes.
2. Rates: three for either method, stopped after a third of the epochs, and further ones where the
   best is the lowest or the highest; then, at LoRA's best rate, other ranks, layers and targets.
   (Successive halving, Jamieson & Talwalkar, 2016, with the learning-rate schedule of the whole
   run.)
3. The best of either method, and LoRA's second, go on to the end from where they stood.
   With less time there are neither other shapes nor this: whole runs in step 4 matter more.
4. `compare` trains the best of both again, with as many seeds as time allows.

The advice rests on step 4 alone: the scores of a search's winner are optimistic. Killed at any
moment it resumes; the minutes count the time before and after.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import tomli_w

from nertune.artifacts.manifest import MANIFEST, adapter_base, adapter_folder
from nertune.comparison.compare import RunOptions, compare
from nertune.comparison.results import Comparison, Configuration, Estimate, count_dev, say_silent
from nertune.comparison.runs import encoder_hash
from nertune.comparison.search.advice import Advice, Outcome
from nertune.comparison.search.advice_data import AdviceData, find_data, load_data
from nertune.comparison.search.candidates import (
    METHODS,
    NAMES,
    Candidate,
    Method,
    Plan,
    Speed,
    further_rate,
    ideal_epochs,
    possible_plans,
    try_rates,
    try_shapes,
)  # fmt: skip
from nertune.comparison.search.runs import refuse_other, train_quietly
from nertune.comparison.search.trial_process import TrialProcesses
from nertune.config.run import apply_override, parse_settings, upgrade_values, with_changes
from nertune.errors import ConfigError, ModelError, NertuneError
from nertune.evaluation.significance import chance_of_keeping_up, compare_counts
from nertune.experiments.folder import RunFolder
from nertune.experiments.processes.engines import LOCAL, RunEngine
from nertune.experiments.processes.subprocess import RunRequest, run_in_subprocess
from nertune.experiments.progress import read_log
from nertune.models.encoder import read_config
from nertune.storage.atomic import write_json, write_text
from nertune.training.checkpoint import CheckpointStore
from nertune.training.observer import Observer, Pause
from nertune.training.progress import EpochReport

__all__ = ["Question", "advise"]

_LOG = logging.getLogger("nertune")
_Item = TypeVar("_Item")

_SEARCH_SEED = 1  # of the runs that choose; the last comparison takes the ones after it
_MOST_SEEDS = 5
_PILOT_DOCUMENTS = 500
_SLACK = 0.9  # of the time left is planned with
_MARGIN = 0.01  # of micro-F1: what counts as keeping up
_LORA_WITHIN = 0.005  # LoRA is taken if it lies so little below: it is what costs less to keep
_STATE, _RECIPE = "advise.json", "advice.toml"
_CHOSEN_HERE = (
    "model.tuning", "model.emitter", "lora.rank", "lora.alpha", "lora.targets", "lora.layers",
    "lora.ranks", "lora.alphas", "lora.rslora", "train.learning_rate",
    "train.head_learning_rate", "train.lora_plus",
    "train.rate", "train.head_rate", "train.adapter_rate", "train.encoder_factor",  # of 0.1.0
    "train.epochs", "train.patience",
    "data.train_share", "data.train", "data.dev", "data.test", "run.dir", "run.name", "run.seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """What an advice is asked.

    Attributes:
        data: a training file, a folder that holds `train` and `dev` (with any suffix), or `sample`.
        minutes: the budget. A run of the search that is under way when it ends finishes its
            epoch; a seed of the last comparison begins only if its time is there, and then runs
            to its end.
        dev: a file to score on; without one, and if the folder holds none, a fifth of the training
            documents is set aside.
        encoder: bundled name, folder (also of an adapter that nertune saved) or hub name.
        overrides: `section.key=value`, for every run.
        workers: runs that are trained at the same time, in processes that share the cores.
        engine: computes them, if there are several workers or it is Ray.
    """

    data: str
    minutes: float
    dev: str = ""
    encoder: str = "mini-zh"
    overrides: Sequence[str] = ()
    workers: int = 1
    engine: RunEngine = LOCAL

    def read(self) -> tuple[dict[str, Any], list[str]]:
        """The settings of every run, by section, and what has to be said of them.

        Raises:
            ConfigError: an argument cannot be used.
            DataError: there is no training file.
        """
        if self.minutes <= 0:
            raise ConfigError(f"minutes = {self.minutes}: expected more than 0")
        for override in self.overrides:
            key = override.partition("=")[0].strip()
            if key == "model.encoder":
                raise ConfigError(f"name the encoder with --encoder, not with --set {override}")
            if key in _CHOSEN_HERE or key.startswith(("lora.ranks.", "lora.alphas.")):
                raise ConfigError(f"advise chooses {key} itself: leave out --set {override}")
        train, dev = find_data(self.data, self.dev)
        values: dict[str, Any] = {
            "data": {"train": train, "dev": dev},
            "model": {"encoder": self.encoder},
            "train": {"batch_tokens": 512},
        }
        for override in self.overrides:
            apply_override(values, override)
        return upgrade_values(values, source="advise")


def advise(
    question: Question,
    *,
    output: Path,
    resume: bool = False,
) -> Advice:
    """Find out which tuning method suits the data and the machine.

    Args:
        question: data, minutes and encoder.
        output: the folder of the runs, of `advice.toml` and `advise.json`.
        resume: go on with an advice that was killed.

    Raises:
        ConfigError: an argument or the folder cannot be used.
        DataError: the data cannot be used.
        NertuneError: neither method can be trained; the message says why.
    """
    values, notices = question.read()
    with RunFolder(output, "output").locked():
        config = _encoder_config(question.encoder)
        if resume != (output / _STATE).exists():
            told = "no advice to resume" if resume else (
                "an advice already; resume it with --resume, or name another folder with --output"
            )  # fmt: skip
            raise ConfigError(f"{output}: holds {told}")
        data = load_data(parse_settings(values, source="advise").data, output / "data")
        values["data"] |= data.changes
        settings = parse_settings(values, source="advise")
        asked = {
            "settings": settings.to_dict(),
            "encoder": encoder_hash(settings),
            "data": {"train": data.train.sha256, "dev": data.dev.sha256},
            "minutes": question.minutes,
        }
        state = _State(output / _STATE, asked)
        data.save()
        for notice in (*notices, data.notice):
            state.note(notice)
        if question.workers > 1:
            state.note(
                f"{question.workers} runs were trained at the same time: their seconds and memory "
                "are not those of a run alone"
            )
        search = _Search(values, data, output, state, question)
        search.run(config)
        return _conclude(search)


def _encoder_config(encoder: str) -> Any:
    """Of the encoder; of an adapter's folder, that of its base encoder.

    Raises:
        ModelError: there is no such encoder, or the adapter does not say its base encoder.
    """
    folder = adapter_folder(encoder)
    if folder is not None and not (folder / MANIFEST).is_file():
        raise ModelError(
            f"{encoder}: holds a plain peft adapter; merge it into its base "
            "(`merge_and_unload`), save that, and name it"
        )
    return read_config(adapter_base(encoder) or encoder)


class _State:
    """`advise.json`: what was asked, what is known so far, and the clock.

    Attributes:
        kept: what was kept under a name.
        notices: what a reader has to know.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]):
        """Goes on with what an earlier process left, if it was asked the same.

        Raises:
            ConfigError: it was asked something else, or its file is damaged.
        """
        self._path = path
        self.kept: dict[str, Any] = {"request": json.loads(json.dumps(asked)), "spent": 0.0}
        if path.exists():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                earlier, spent = dict(kept["request"]), float(kept["spent"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path}: is damaged; name another folder") from error
            refuse_other(path.parent, earlier, self.kept["request"], "an advice on")
            self.kept |= {**kept, "spent": spent}
        self.notices: list[str] = list(self.kept.get("notices", []))
        self.minutes: float = asked["minutes"]
        self._lock = threading.RLock()
        self._started: float = time.monotonic() - self.kept["spent"]
        self.keep()

    @property
    def spent(self) -> float:
        """Seconds, of all processes that worked at it."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return 60 * self.minutes - self.spent

    @property
    def failures(self) -> dict[str, str]:
        """Why candidates could not be trained, by name."""
        found: dict[str, str] = self.kept.get("failures", {})
        return found

    def keep(self, **values: Any) -> None:
        """Write these, the seconds and the notices to the disk."""
        with self._lock:
            self.kept |= {"spent": self.spent, "notices": self.notices, **values}
            write_json(self._path, self.kept)

    def keep_failure(self, name: str, reason: str) -> None:
        """Why a candidate could not be trained."""
        with self._lock:
            self.keep(failures={**self.failures, name: reason})

    def note(self, notice: str) -> None:
        """Tell the user and, in the end, the reader; once, also after a kill."""
        with self._lock:
            if notice and notice not in self.notices:
                self.notices.append(notice)
                _LOG.info("%s", notice)


class _Until(Observer):
    """Ends a run after so many epochs, or when time is up.

    Attributes:
        ends: when each epoch was done and scored, on the monotonic clock.
        seconds: of training in it.
    """

    def __init__(self, epochs: int, state: _State | None = None):
        self._epochs, self._state = epochs, state
        self.ends: list[float] = []
        self.seconds: list[float] = []

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        """Raises `Pause` where that is the end."""
        self.ends.append(time.monotonic())
        self.seconds.append(report.seconds)
        if self._state is not None:
            self._state.keep()
        if report.epoch >= self._epochs or (self._state is not None and self._state.left < 0):
            raise Pause


class _Search:
    """All that comes before the last comparison; `run` is its course.

    Attributes:
        outcomes: of every candidate, in the order in which they were tried.
        plan: of the runs; there once `run` is done, as is the next.
        seed_seconds: what another seed of either method takes.
    """

    plan: Plan
    seed_seconds: float

    def __init__(
        self,
        values: Mapping[str, Any],
        data: AdviceData,
        output: Path,
        state: _State,
        question: Question,
    ):
        self.values, self.data, self.output, self.state = values, data, output, state
        self.workers, self.engine = question.workers, question.engine
        self._processes: TrialProcesses | None = None
        if self.workers > 1 or self.engine.cluster:
            self._processes = TrialProcesses(self.workers, self.engine)
        self._lock = threading.Lock()
        self.num_documents = len(data.train.documents)
        self.outcomes: dict[Candidate, Outcome] = {}
        self._skipped: dict[str, None] = {}  # a rate may be skipped twice, and is told once

    def run(self, config: Any) -> None:
        """All steps."""
        num_dev = len(self.data.dev.documents)
        _LOG.info("%s", f"{self.num_documents:,} training documents, {num_dev:,} of dev")
        rates = try_rates(config)
        self._speeds = speeds = self._pilot(rates[: len(METHODS)])
        self.plan = plan = self._plan()
        documents = plan.documents(self.num_documents)
        together = min(self.workers, len(speeds))
        self.seed_seconds = sum(s.seed(plan.epochs, documents) for s in speeds.values()) / together
        reserve = self.seed_seconds if plan.seeds else 0.0
        rest = {m: s.epochs(plan.epochs - plan.first, documents) for m, s in speeds.items()}
        # What goes beyond the three rates must leave the finalists their time.
        reserve_all = reserve + sum(plan.finalists(method) * rest[method] for method in speeds)

        def weigh(candidate: Candidate) -> bool:
            return self._weigh(candidate, reserve_all)

        def weigh_further_rates(method: Method) -> None:
            while (further := self._further_rate(method)) and weigh(further):
                pass

        def train_to_the_end(candidate: Candidate) -> None:
            is_begun = len(self._logged(candidate)) > plan.first
            if is_begun or self.state.left - reserve >= rest[candidate.method]:
                self._train(candidate, plan.epochs)
            else:
                self._skipped[f"{candidate.title} to the end"] = None

        at_first = [candidate for candidate in rates if candidate.method in speeds]
        self._for_each(lambda candidate: self._weigh(candidate, reserve), at_first)
        self._for_each(weigh_further_rates, list(speeds))
        if plan.shapes and (best := self.ranked("lora")):
            self._for_each(weigh, list(try_shapes(best[0].candidate, config)))
        finalists = [o for m in speeds for o in self.ranked(m)[: plan.finalists(m)]]
        self._for_each(train_to_the_end, [outcome.candidate for outcome in finalists])
        if self._skipped:
            self.state.note(f"no time was left to train {'; '.join(self._skipped)}")

    def _for_each(self, function: Callable[[_Item], Any], items: Sequence[_Item]) -> None:
        """Call a function that trains with each item; several at a time if there are workers."""
        if self._processes is not None:
            self._processes.map(function, items)
            return
        for item in items:
            function(item)

    def folder(self, candidate: Candidate) -> RunFolder:
        """Of the search's run."""
        return RunFolder(self.output / "runs" / candidate.name)

    def recipe(self, candidate: Candidate, plan: Plan, **place: str) -> dict[str, Any]:
        """A candidate's settings, by section; `place` has those of `[run]`."""
        changes = {
            "run.seed": _SEARCH_SEED,
            **candidate.changes,
            "train.epochs": plan.epochs,
            "train.patience": 0,
            "data.train_share": plan.share,
            **{f"run.{key}": value for key, value in place.items()},
        }
        return with_changes(self.values, changes)

    def ranked(self, method: Method) -> list[Outcome]:
        """Those of a method that did not fail, the best when weighed first."""
        found = [o for o in self.outcomes.values() if o.candidate.method == method and o.dev_f1]
        return sorted(found, key=lambda o: o.merit(self.plan.first), reverse=True)

    def _pilot(self, candidates: Sequence[Candidate]) -> dict[Method, Speed]:
        """Two epochs of either method on a few documents."""
        kept: dict[Method, dict[str, float]] = self.state.kept.get("speeds", {})
        failures: list[NertuneError] = []
        if not kept:
            count = min(self.num_documents, _PILOT_DOCUMENTS)
            _LOG.info("%s", f"two epochs of either method on {count:,} documents, to see the cost")

            def measure(pilot: tuple[int, Candidate]) -> None:
                number, candidate = pilot
                try:
                    found = self._measure(candidate, count, number)
                except NertuneError as error:
                    failures.append(error.with_traceback(None))  # which holds the model
                    name = NAMES[candidate.method]
                    self.state.note(f"{name} could not be trained: {error}")
                    return
                with self._lock:
                    other = kept.get(candidate.method, found)
                    kept[candidate.method] = {k: max(found[k], other[k]) for k in found}

            # As many at a time as later, so that they take as long as later.
            copies = -(-self.workers // len(candidates))
            self._for_each(measure, list(enumerate([*candidates] * copies)))
            kept = {c.method: kept[c.method] for c in candidates if c.method in kept}
            if not kept:
                raise failures[0]
            self.state.keep(speeds=kept)
        return {name: Speed(**values) for name, values in kept.items()}

    def _measure(self, candidate: Candidate, count: int, number: int) -> dict[str, float]:
        """The fields of a method's `Speed`."""
        folder = RunFolder(self.output / "runs" / f"pilot-{candidate.method}-{number}")
        shutil.rmtree(folder.path, ignore_errors=True)
        plan, watch = Plan(count / self.num_documents, 2, 2, False, 0, 0.0), _Until(2)
        started = time.monotonic()
        try:
            self._call_train(candidate, plan, folder, watch)
            wall = time.monotonic() - started
        finally:
            shutil.rmtree(folder.path, ignore_errors=True)
        epoch, trained = watch.ends[1] - watch.ends[0], watch.seconds[1]
        return {"document": trained / count, "epoch": max(0.0, epoch - trained),
                "run": max(0.0, wall - 2 * epoch)}  # fmt: skip

    def _plan(self) -> Plan:
        """The most thorough plan that fits into the time left; what it leaves out is noted."""
        if (kept := self.state.kept.get("plan")) is not None:
            return Plan(**kept)
        plans = list(possible_plans(self.num_documents, self._speeds))
        # Of either method one runs at any time, if there are workers; what is beyond that is slack.
        room = _SLACK * self.state.left * min(self.workers, len(self._speeds))
        plan = next((p for p in plans if p.seconds <= room), plans[-1])
        ideal = ideal_epochs(self.num_documents)
        minutes = plan.seconds / 60 / min(self.workers, len(self._speeds))
        if plan.seconds > room:
            self.state.note(
                f"{self.state.minutes:g} minutes are too few for a sound answer here: the "
                f"shortest plan takes {minutes:.0f}"
            )
        _LOG.info(
            "%s",
            f"plan: {plan.documents(self.num_documents):,} of {self.num_documents:,} training "
            f"documents, {plan.epochs} epochs, weighed after {plan.first}, {plan.seeds} seeds or "
            f"more as time allows; about {minutes:.0f} minutes",
        )
        if plan.share < 1:
            self.state.note(
                f"trained on {plan.share:.0%} of the documents to stay within the minutes: what "
                "holds for them need not hold for all"
            )
        elif plan.epochs < ideal:
            self.state.note(
                f"trained for {plan.epochs} epochs to stay within the minutes; the recipe says "
                f"{ideal}"
            )
        self.state.keep(plan=asdict(plan))
        return plan

    def _further_rate(self, method: Method) -> Candidate | None:
        """The next rate, where the best one stands at the edge."""
        if not self.ranked(method):
            return None
        first = self.plan.first
        tried = sorted((o for o in self.outcomes.values() if o.candidate.method == method),
                       key=lambda o: o.merit(first), reverse=True)  # fmt: skip
        return further_rate([(o.candidate, o.best(first), o.loss(first)) for o in tried])

    def _weigh(self, candidate: Candidate, reserve: float) -> bool:
        """Train a candidate for a third of the epochs, if there is time for it."""
        first, speed = self.plan.first, self._speeds[candidate.method]
        seconds = speed.run + speed.epochs(first, self.plan.documents(self.num_documents))
        # One candidate of either method runs in any case; so does what was begun before a kill.
        is_begun = bool(self._logged(candidate)) or candidate.name in self.state.failures
        with self._lock:
            is_first = all(tried.method != candidate.method for tried in self.outcomes)
            if not (is_first or is_begun) and self.state.left - reserve < seconds:
                self._skipped[candidate.title] = None
                return False
            self.outcomes.setdefault(candidate, Outcome(candidate))  # its place in the order
        outcome = self._train(candidate, first)
        epochs = min(first, len(outcome.dev_f1))
        reached = f"dev F1 {outcome.best(epochs):.4f} after {epochs} epoch{'s' * (epochs != 1)}"
        told = reached if outcome.dev_f1 else f"failed: {outcome.reason}"
        _LOG.info("%s", f"{candidate.title}: {told}")
        return True

    def _train(self, candidate: Candidate, until: int) -> Outcome:
        """Train a candidate up to an epoch, going on from where it stands."""
        folder = self.folder(candidate)
        done = len(self._logged(candidate))
        is_over = done > 0 and self.state.left < 0  # it was paused when time was up
        # A run whose last epoch is on disk still has to be scored and saved.
        is_short = (done < until or until == self.plan.epochs) and not folder.record.exists()
        if is_short and not is_over and candidate.name not in self.state.failures:
            resume = folder.checkpoints.exists()
            try:
                watch = _Until(until, self.state)
                self._call_train(candidate, self.plan, folder, watch, resume=resume)
            except NertuneError as error:
                if self._processes is not None and self._processes.is_stopped:
                    raise  # it did not fail
                self.state.keep_failure(candidate.name, str(error))
            shutil.rmtree(folder.model, ignore_errors=True)
        self.outcomes[candidate] = self._read(candidate)
        self.state.keep()
        return self.outcomes[candidate]

    def _call_train(
        self, candidate: Candidate, plan: Plan, folder: RunFolder, watch: _Until, *,
        resume: bool = False,
    ) -> None:  # fmt: skip
        values = self.recipe(candidate, plan, dir=str(folder.path), name=candidate.name)
        settings = parse_settings(values, source=f"advise: {candidate.name}")
        with contextlib.suppress(Pause):
            if self._processes is not None:
                self._processes.train(values, watch, resume=resume)
            else:
                train_quietly(settings, watch, resume=resume)

    def _logged(self, candidate: Candidate) -> list[dict[str, Any]]:
        """The epochs that a run has finished, with a checkpoint or a record behind them."""
        folder = self.folder(candidate)
        if not (folder.checkpoints.exists() or folder.record.exists()):
            return []
        return [line for line in read_log(folder.log) if line["event"] == "epoch"]

    def _read(self, candidate: Candidate) -> Outcome:
        """What the disk says of a candidate."""
        if reason := self.state.failures.get(candidate.name):
            return Outcome(candidate, reason=reason)
        folder, done = self.folder(candidate), self._logged(candidate)
        trainable = 0
        if folder.record.exists():
            trainable = _read_record(folder)["parameters"]["trainable"]
        elif (saved := CheckpointStore(folder.checkpoints).latest()) is not None:
            trainable = sum(tensor.numel() for tensor in saved.weights.values())
        return Outcome(
            candidate,
            dev_f1=tuple((line.get("dev") or {})["f1"] for line in done),
            losses=tuple(line["loss"] for line in done),
            trainable=trainable,
            seconds_per_epoch=fmean(line["seconds"] for line in done) if done else None,
        )


def _read_record(folder: RunFolder) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(folder.record.read_text(encoding="utf-8"))
    return record


def _conclude(search: _Search) -> Advice:
    """The last comparison, what follows from it, and its files.

    Raises:
        NertuneError: nothing could be trained; the message says why.
    """
    state, data = search.state, search.data
    chosen = _choose(search)
    comparison, broken = _confirm(search, chosen)
    remarks = _remarks(comparison, broken)
    for remark in remarks:
        _LOG.info("%s", remark)
    if comparison is not None:
        runs = dict(zip(chosen, comparison.configurations, strict=True))
    else:
        runs = _finished(search, chosen)
    scores = {method: run.score("micro").f1 for method, run in runs.items()}
    difference, certainty = None, None
    if set(runs) == set(METHODS):
        counts = {m: count_dev(data.dev, run.folders) for m, run in runs.items()}
        difference = compare_counts(counts["lora"], counts["full"])
        choice: Method = "lora" if difference.difference > -_LORA_WITHIN else "full"
        other: Method = "full" if choice == "lora" else "lora"
        certainty = chance_of_keeping_up(counts[choice], counts[other], margin=_MARGIN)
    else:
        if comparison is None:  # after as many epochs as all have
            found = {method: search.outcomes[candidate] for method, candidate in chosen.items()}
            epochs = min(len(outcome.dev_f1) for outcome in found.values())
            scores = {m: Estimate.of([outcome.best(epochs)]) for m, outcome in found.items()}
        choice = max(chosen, key=lambda method: scores[method].mean or 0.0)
    advice = Advice(
        choice=choice,
        chosen=chosen,
        outcomes=tuple(search.outcomes.values()),
        plan=search.plan,
        runs=runs,
        confirmed=comparison is not None,
        scores=scores,
        difference=difference,
        certainty=certainty,
        seconds=state.spent,
        notices=(*state.notices, *remarks),
        recipe=search.output / _RECIPE,
        data={
            split: {"path": str(c.path), "sha256": c.sha256, "documents": len(c.documents)}
            for split, c in (("train", data.train), ("dev", data.dev))
        },
    )
    _write_recipe(advice, search)
    state.keep(advice=advice.to_dict())
    return advice


def _choose(search: _Search) -> dict[Method, Candidate]:
    """The best of either method, among those that were trained longest."""
    chosen: dict[Method, Candidate] = {}
    for method in METHODS:
        tried = [o for o in search.outcomes.values() if o.candidate.method == method]
        if found := [o for o in tried if o.dev_f1]:
            chosen[method] = max(found, key=lambda o: (len(o.dev_f1), o.merit())).candidate
        elif tried:
            search.state.note(f"{NAMES[method]} could not be trained: {tried[0].reason}")
    if not chosen:
        raise NertuneError(next(iter(search.outcomes.values())).reason)
    return chosen


def _confirm(search: _Search, chosen: Mapping[Method, Candidate]) -> tuple[Comparison | None, str]:
    """Train the best of either method with other seeds, as many as time allows.

    Returns:
        The comparison of all seeds that were done, if any, and why there is no further one, if a
        run failed.
    """
    state, seed_seconds = search.state, search.seed_seconds
    recipes = [search.output / "recipes" / f"{method}.toml" for method in chosen]
    for path, candidate in zip(recipes, chosen.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, tomli_w.dumps(search.recipe(candidate, search.plan)))

    def run(request: RunRequest) -> None:
        state.keep()
        run_in_subprocess(replace(request, quiet=True))
        state.keep()

    comparison = None
    output = search.output / "confirm"
    options = RunOptions(
        first_seed=_SEARCH_SEED + 1, run=run, workers=search.workers, engine=search.engine
    )
    for seeds in range(1, _MOST_SEEDS + 1):
        is_done = state.kept.get("seeds", 0) >= seeds
        if not is_done and state.left < seed_seconds:
            break
        started = time.monotonic()
        is_begun = any((output / "runs").glob(f"*/seed-{_SEARCH_SEED + seeds}"))
        try:
            comparison = compare(recipes, seeds=seeds, output=output, options=options)
        except NertuneError as error:
            return comparison, str(error)
        if not is_done:
            if not is_begun:
                seed_seconds = time.monotonic() - started  # what the next one will take, too
            state.keep(seeds=seeds)
    return comparison, ""


def _remarks(comparison: Comparison | None, broken: str) -> list[str]:
    """What has to be known of the last comparison."""
    silent = say_silent(comparison.configurations, comparison.split) if comparison else []
    if broken:
        told = "" if comparison else "; the scores are the search's own, which are optimistic"
        return [*silent, f"no further seed: {broken}{told}"]
    if comparison is None:
        return ["no time was left for other seeds than the search's: the scores are optimistic"]
    return silent


def _finished(search: _Search, chosen: Mapping[Method, Candidate]) -> dict[Method, Configuration]:
    """The search's runs that went to their end."""
    found: dict[Method, Configuration] = {}
    for method, candidate in chosen.items():
        folder = search.folder(candidate)
        if folder.record.exists():
            record = _read_record(folder)
            found[method] = Configuration(method, folder.path, (folder.path,), (record,), "dev")
    return found


def _write_recipe(advice: Advice, search: _Search) -> None:
    """The recipe."""
    plan = Plan(1.0, ideal_epochs(search.num_documents), 1, False, 0, 0.0)
    values = search.recipe(advice.chosen[advice.choice], plan)
    del values["train"]["patience"], values["data"]["train_share"]
    head = f"# {advice.verdict}\n# From {search.output}; test data were not read.\n\n"
    write_text(advice.recipe, head + tomli_w.dumps(values))
