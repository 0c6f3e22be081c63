"""LoRA or full tuning, and with which rank, rate and layers: asked of the user's own data.

Short runs within a budget of minutes, on train, scored on dev; test data are not read.

1. Pilot: what an epoch of either costs here; from it the plan that fits into the minutes.
2. Rates: three for either way, stopped after a third of the epochs, and further ones where the
   best is the lowest or the highest; then, at LoRA's best rate, other ranks, layers and targets.
   (Successive halving, Jamieson & Talwalkar, 2016, with the learning-rate schedule of the whole
   run.)
3. The best of either way, and LoRA's second, go on to the end from where they stood.
   With less time there are neither other shapes nor this: whole runs in step 4 matter more.
4. The best of both train again, each in a process of its own, with as many seeds as time allows.

The advice rests on step 4 alone: the winner of a search flatters itself. Killed at any moment it
goes on with `resume`; the minutes are those of all its lives together.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from rich.console import Console

from nertune.config import apply_override, parse_settings, with_changes
from nertune.data.corpus import load_corpus
from nertune.errors import ConfigError, NertuneError
from nertune.evaluation.metrics import document_counts
from nertune.evaluation.significance import chance_of_keeping_up, compare_arms
from nertune.runs.advice import Advice, Cost, Outcome, to_markdown
from nertune.runs.advice_data import find_data, load_data
from nertune.runs.budget import Clock, Until
from nertune.runs.candidates import (
    FAMILIES,
    NAMES,
    PROCESS_SECONDS,
    Candidate,
    Family,
    Plan,
    Speed,
    finalists,
    further_rate,
    ideal_epochs,
    possible_plans,
    read_measures,
    try_rates,
    try_shapes,
)
from nertune.runs.child import RunRequest, run_in_subprocess
from nertune.runs.compare import compare
from nertune.runs.comparison import Estimate, say_silent
from nertune.runs.folder import RunFolder
from nertune.runs.record import write_json, write_text
from nertune.training.checkpoint import CheckpointStore
from nertune.training.loop import Pause

__all__ = ["advise"]

_MARGIN = 0.01  # of micro-F1: what counts as keeping up
_LORA_WITHIN = 0.005  # LoRA is taken if it lies so little below: it is what costs less to keep
_SEARCH_SEED = 1
_MOST_SEEDS = 5
_PILOT_DOCUMENTS = 500
_SLACK = 0.9  # of the time left is planned with
_STATE, _RECIPE, _REPORT = "advise.json", "advice.toml", "advice.md"
_CHOSEN_HERE = (
    "model.tuning", "model.emitter", "lora.rank", "lora.alpha", "lora.targets", "lora.layers",
    "lora.ranks", "lora.alphas", "lora.rslora", "train.rate",
    "train.head_rate", "train.adapter_rate", "train.lora_plus", "train.encoder_factor",
    "train.epochs", "train.patience",
    "data.train_share", "data.train", "data.dev", "data.test", "run.dir", "run.name", "run.seed",
)  # fmt: skip


def advise(
    data: str,
    *,
    minutes: float,
    output: Path,
    dev: str = "",
    encoder: str = "mini-zh",
    overrides: Sequence[str] = (),
    resume: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Advice:
    """Find out which way to tune suits the data and the machine.

    Args:
        data: a training file, a folder that holds `train` and `dev` (with any suffix), or `sample`.
        minutes: the budget; what is running when it ends finishes its epoch.
        output: the folder of the runs, of `advice.toml`, `advice.md` and `advise.json`.
        dev: a file to score on; without one, and if the folder holds none, a fifth of the training
            documents is set aside.
        encoder: bundled name, folder or hub name.
        overrides: `section.key=value`, for every run.
        resume: go on with an advice that was killed.
        say: is told what happens, in one line each.

    Raises:
        ConfigError: an argument or the folder cannot be used.
        DataError: the data cannot be used.
        NertuneError: neither way can be trained; the message says why.
    """
    if minutes <= 0:
        raise ConfigError(f"minutes = {minutes}: expected more than 0")
    _refuse_chosen(overrides)
    train_path, dev_path = find_data(data, dev)
    with RunFolder(output, "output").locked():
        return _Advisor(
            train_path, dev_path, minutes, output, encoder, overrides, resume=resume, say=say
        ).run()


def _refuse_chosen(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "model.encoder":
            raise ConfigError(f"name the encoder with --encoder, not with --set {override}")
        if key in _CHOSEN_HERE or key.startswith(("lora.ranks.", "lora.alphas.")):
            raise ConfigError(f"advise chooses {key} itself: leave out --set {override}")


class _Advisor:
    """One advice; `run` is its course."""

    def __init__(
        self,
        train: str,
        dev: str,
        minutes: float,
        output: Path,
        encoder: str,
        overrides: Sequence[str],
        *,
        resume: bool,
        say: Callable[[str], None],
    ):
        self._output, self._say = output, say
        self._notices: list[str] = []  # on the way; kept for a later life
        self._remarks: list[str] = []  # on the last comparison
        self._broken = ""
        self._values: dict[str, Any] = {
            "data": {"train": train, "dev": dev},
            "model": {"encoder": encoder},
            "train": {"batch_tokens": 512},
        }
        for override in overrides:
            apply_override(self._values, override)
        self._outcomes: dict[str, Outcome] = {}
        self._encoder_config = read_measures(encoder)
        self._refuse_folder(resume)
        data = parse_settings(self._values, source="advise").data
        self._data = load_data(data, output / "data")
        self._values["data"] |= self._data.changes
        if self._data.notice:
            self._note(self._data.notice)
        self._state = self._open(minutes)
        self._data.save()
        self._notices = list(self._state.get("notices", self._notices))
        self._clock = Clock(60 * minutes, before=self._state["spent"])

    def run(self) -> Advice:
        """All steps."""
        rates = try_rates(self._encoder_config)
        self._say(f"{self._num_documents:,} training documents, "
                  f"{len(self._data.dev.documents):,} of dev")  # fmt: skip
        speeds = self._pilot(rates)
        rates = [candidate for candidate in rates if candidate.family in speeds]
        plan = self._plan(speeds)
        documents = max(1, round(plan.share * self._num_documents))
        last = sum(s.run + PROCESS_SECONDS + s.epochs(plan.epochs, documents)
                   for s in speeds.values())  # fmt: skip
        reserve = last if plan.seeds else 0.0
        rest = {f: s.epochs(plan.epochs - plan.first, documents) for f, s in speeds.items()}
        # What goes beyond the three rates must leave the finalists their time.
        reserve_all = reserve + sum(finalists(plan, family) * rest[family] for family in speeds)

        skipped = [c.title for c in rates if not self._weigh(c, plan, speeds, reserve)]
        for family in speeds:
            skipped += self._go_on_with_rates(family, plan, speeds, reserve_all)
        best_lora = self._best("lora", plan.first)
        if plan.shapes and best_lora is not None:
            shapes = try_shapes(best_lora, self._encoder_config)
            skipped += [c.title for c in shapes if not self._weigh(c, plan, speeds, reserve_all)]
        for candidate in self._finalists(plan):
            is_begun = self._epochs_done(candidate) > plan.first
            if not is_begun and self._clock.left - reserve < rest[candidate.family]:
                skipped.append(f"{candidate.title} to the end")
            else:
                self._train(candidate, plan, plan.epochs)
        if skipped:
            # A rate may have been skipped twice: as one of the three, and as a further one.
            self._note(f"no time was left to train {'; '.join(dict.fromkeys(skipped))}")
        return self._conclude(plan, last)

    # Data and state

    @property
    def _num_documents(self) -> int:
        return len(self._data.train.documents)

    def _refuse_folder(self, resume: bool) -> None:
        """Before anything is written there."""
        exists = (self._output / _STATE).exists()
        if resume and not exists:
            raise ConfigError(f"{self._output}: holds no advice to go on with")
        if exists and not resume:
            raise ConfigError(
                f"{self._output}: holds an advice already; go on with --resume, or name another "
                "folder with --output"
            )

    def _open(self, minutes: float) -> dict[str, Any]:
        """What an earlier life left, if it was asked the same."""
        request = json.loads(json.dumps({
            "settings": parse_settings(self._values, source="advise").to_dict(),
            "data": {"train": self._data.train.sha256, "dev": self._data.dev.sha256},
            "minutes": minutes,
        }))  # fmt: skip
        path = self._output / _STATE
        if not path.exists():
            state = {"request": request, "spent": 0.0}
            write_json(path, state)
            return state
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            earlier = state["request"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: is damaged; name another folder") from error
        for part, wanted in request.items():
            if earlier.get(part) != wanted:
                raise ConfigError(f"{self._output}: holds an advice on other {part}; name another "
                                  "folder with --output")  # fmt: skip
        return dict(state)

    @property
    def _failures(self) -> dict[str, str]:
        """Why candidates could not be trained, by name, in this and earlier lives."""
        found: dict[str, str] = self._state.get("failures", {})
        return found

    def _epochs_done(self, candidate: Candidate) -> int:
        """How many epochs of a candidate's run are on disk."""
        return len(_logged(RunFolder(self._output / "runs" / candidate.name)))

    def _keep(self, **values: Any) -> None:
        self._state |= {"spent": self._clock.spent, "notices": self._notices, **values}
        write_json(self._output / _STATE, self._state)

    def _say_and_keep(self, text: str) -> None:
        self._say(text)
        self._keep()

    def _note(self, notice: str) -> None:
        if notice not in self._notices:  # an earlier life may have said it
            self._notices.append(notice)
            self._say(notice)

    def _remark(self, remark: str) -> None:
        self._remarks.append(remark)
        self._say(remark)

    # Steps

    def _pilot(self, rates: Sequence[Candidate]) -> dict[Family, Speed]:
        """Two epochs of either way on a few documents."""
        kept: dict[Family, dict[str, float]] = self._state.get("speeds", {})
        failures: list[NertuneError] = []
        if not kept:
            count = min(self._num_documents, _PILOT_DOCUMENTS)
            self._say(f"two epochs of either way on {count:,} documents, to see what they take")
            for candidate in rates[: len(FAMILIES)]:
                watch = Until(2, Clock(float("inf")), lambda: None)
                folder = self._output / "runs" / f"pilot-{candidate.family}"
                shutil.rmtree(folder, ignore_errors=True)
                plan = Plan(count / self._num_documents, 2, 2, False, 0, 0.0)
                started = time.monotonic()
                try:
                    self._call_train(candidate, plan, folder, watch, resume=False)
                except NertuneError as error:
                    shutil.rmtree(folder, ignore_errors=True)
                    failures.append(error.with_traceback(None))  # which holds the model
                    self._note(f"{NAMES[candidate.family]} could not be trained: {error}")
                    continue
                wall = time.monotonic() - started
                epoch, trained = watch.ends[1] - watch.ends[0], watch.seconds[1]
                shutil.rmtree(folder, ignore_errors=True)
                kept[candidate.family] = {
                    "document": trained / count,
                    "epoch": max(0.0, epoch - trained),
                    "run": max(0.0, wall - 2 * epoch),
                }
            if len(failures) == len(FAMILIES):
                raise failures[0]
            self._keep(speeds=kept)
        return {name: Speed(**values) for name, values in kept.items()}

    def _plan(self, speeds: Mapping[Family, Speed]) -> Plan:
        if "plan" in self._state:
            return Plan(**self._state["plan"])
        plans = list(possible_plans(self._num_documents, speeds))
        room = _SLACK * self._clock.left
        plan = next((p for p in plans if p.seconds <= room), plans[-1])
        documents = max(1, round(plan.share * self._num_documents))
        ideal = ideal_epochs(self._num_documents)
        if plan.seconds > room:
            self._note(f"{self._clock.budget / 60:g} minutes are too few for a sound answer here: "
                       f"the shortest plan takes {plan.seconds / 60:.0f}")  # fmt: skip
        self._say(f"plan: {documents:,} of {self._num_documents:,} training documents, "
                  f"{plan.epochs} epochs, weighed after {plan.first}, {plan.seeds} seeds or more "
                  f"as time allows; about {plan.seconds / 60:.0f} minutes")  # fmt: skip
        if plan.share < 1:
            self._note(f"trained on {plan.share:.0%} of the documents to stay within the minutes: "
                       "what holds for them need not hold for all")  # fmt: skip
        elif plan.epochs < ideal:
            self._note(f"trained for {plan.epochs} epochs to stay within the minutes; the recipe "
                       f"says {ideal}")  # fmt: skip
        self._keep(plan=asdict(plan))
        return plan

    def _weigh(
        self, candidate: Candidate, plan: Plan, speeds: Mapping[Family, Speed], reserve: float
    ) -> bool:
        """Train a candidate for a third of the epochs, if there is time for it."""
        speed = speeds[candidate.family]
        documents = max(1, round(plan.share * self._num_documents))
        seconds = speed.run + speed.epochs(plan.first, documents)
        # One candidate of either way runs in any case; so does what an earlier life began.
        is_first = all(o.candidate.family != candidate.family for o in self._outcomes.values())
        is_begun = self._epochs_done(candidate) > 0 or candidate.name in self._failures
        if not (is_first or is_begun) and self._clock.left - reserve < seconds:
            return False
        outcome = self._train(candidate, plan, plan.first)
        epochs = min(plan.first, len(outcome.dev_f1))
        reached = f"dev F1 {outcome.best(epochs):.4f} after {epochs} epoch{'s' * (epochs != 1)}"
        told = reached if outcome.dev_f1 else f"failed: {outcome.reason}"
        self._say(f"{candidate.title}: {told}")
        return True

    def _go_on_with_rates(
        self, family: Family, plan: Plan, speeds: Mapping[Family, Speed], reserve: float
    ) -> list[str]:
        """Weigh further rates while the best one stands at the edge; returns what had no time."""
        while self._trained(family):
            found = sorted((o for o in self._outcomes.values() if o.candidate.family == family),
                           key=lambda o: o.merit(plan.first), reverse=True)  # fmt: skip
            candidate = further_rate(
                [(o.candidate, o.best(plan.first), o.loss(plan.first)) for o in found]
            )
            if candidate is None:
                break
            if not self._weigh(candidate, plan, speeds, reserve):
                return [candidate.title]
        return []

    def _train(self, candidate: Candidate, plan: Plan, until: int) -> Outcome:
        """Train a candidate up to an epoch, going on from where it stands."""
        folder = RunFolder(self._output / "runs" / candidate.name)
        done = _logged(folder)
        is_over = bool(done) and self._clock.left < 0  # it was paused when time was up
        if reason := self._failures.get(candidate.name):
            self._outcomes[candidate.name] = Outcome(candidate, reason=reason)
            return self._outcomes[candidate.name]
        # A run whose last epoch is on disk still has to be scored and saved.
        is_short = len(done) < until or until == plan.epochs
        if is_short and not folder.record.exists() and not is_over:
            watch = Until(until, self._clock, self._keep)
            resume = folder.checkpoints.exists()
            try:
                self._call_train(candidate, plan, folder.path, watch, resume=resume)
            except NertuneError as error:
                self._outcomes[candidate.name] = Outcome(candidate, reason=str(error))
                self._keep(failures={**self._failures, candidate.name: str(error)})
                return self._outcomes[candidate.name]
            done = _logged(folder)
            shutil.rmtree(folder.model, ignore_errors=True)
        scoring = [line.get("dev") or {} for line in done]
        outcome = Outcome(
            candidate,
            dev_f1=tuple(found["f1"] for found in scoring),
            losses=tuple(line["loss"] for line in done),
            trainable=_count_trainable(folder),
            seconds_per_epoch=float(np.mean([line["seconds"] for line in done])) if done else None,
        )
        self._outcomes[candidate.name] = outcome
        self._keep()
        return outcome

    def _call_train(
        self, candidate: Candidate, plan: Plan, folder: Path, watch: Until, *, resume: bool
    ) -> None:
        from nertune.runs.experiment import train

        settings = parse_settings(
            self._recipe(candidate, plan, {"run.dir": str(folder), "run.name": candidate.name}),
            source=f"advise: {candidate.name}",
        )
        try:
            train(settings, console=Console(file=io.StringIO()), resume=resume, observers=(watch,))
        except Pause:
            return

    def _recipe(self, candidate: Candidate, plan: Plan, more: Mapping[str, Any]) -> dict[str, Any]:
        changes = {
            "run.seed": _SEARCH_SEED,
            **candidate.changes,
            "train.epochs": plan.epochs,
            "train.patience": 0,
            "data.train_share": plan.share,
            **more,
        }
        return with_changes(self._values, changes)

    def _best(self, family: Family, epochs: int | None = None) -> Candidate | None:
        found = self._trained(family)
        return max(found, key=lambda o: o.merit(epochs)).candidate if found else None

    def _trained(self, family: Family) -> list[Outcome]:
        """Those of a way that did not fail."""
        return [o for o in self._outcomes.values() if o.candidate.family == family and o.dev_f1]

    def _finalists(self, plan: Plan) -> list[Candidate]:
        """Those that go on to the end."""
        chosen = []
        for family in FAMILIES:
            count = finalists(plan, family)
            found = sorted(self._trained(family), key=lambda o: o.merit(plan.first), reverse=True)
            chosen += [outcome.candidate for outcome in found[:count]]
        return chosen

    def _conclude(self, plan: Plan, last: float) -> Advice:
        """The last comparison, and what follows from it."""
        chosen = self._choose()
        folders, costs = self._confirm(chosen, last)
        confirmed = bool(folders)
        if not confirmed:
            folders = {
                family: [self._output / "runs" / candidate.name]
                for family, candidate in chosen.items()
                if (self._output / "runs" / candidate.name / "record.json").exists()
            }
            costs = {family: self._cost(candidate) for family, candidate in chosen.items()}
            if not self._broken:
                self._remark(
                    "no time was left for other seeds than the search's: the scores flatter"
                )
        if self._broken:
            flatter = "" if confirmed else "; the scores are the search's own, which flatter"
            self._remark(f"no further seed: {self._broken}{flatter}")
        scores = {family: Estimate.of(map(_read_f1, paths)) for family, paths in folders.items()}
        choice: Family
        difference, certainty = None, None
        if set(folders) == set(FAMILIES):
            counts = {family: self._counts(folders[family]) for family in FAMILIES}
            difference = compare_arms(counts["lora"], counts["full"])
            choice = "lora" if difference.difference > -_LORA_WITHIN else "full"
            other: Family = "full" if choice == "lora" else "lora"
            certainty = chance_of_keeping_up(counts[choice], counts[other], margin=_MARGIN)
        else:
            if not confirmed:
                found = [self._outcomes[candidate.name] for candidate in chosen.values()]
                epochs = min(len(outcome.dev_f1) for outcome in found)
                scores = {o.candidate.family: Estimate.of([o.best(epochs)]) for o in found}
            choice = max(chosen, key=lambda family: scores[family].mean or 0.0)
        advice = Advice(
            choice=choice,
            chosen=chosen,
            outcomes=tuple(self._outcomes.values()),
            plan=plan,
            scores=scores,
            difference=difference,
            certainty=certainty,
            confirmed=confirmed,
            costs=costs,
            seconds=self._clock.spent,
            notices=(*self._notices, *self._remarks),
            recipe=self._output / _RECIPE,
            data={
                split: {
                    "path": str(corpus.path),
                    "sha256": corpus.sha256,
                    "documents": len(corpus.documents),
                }
                for split, corpus in (("train", self._data.train), ("dev", self._data.dev))
            },
        )
        self._write(advice)
        return advice

    def _choose(self) -> dict[Family, Candidate]:
        """The best of either way, among those that were trained longest."""
        chosen: dict[Family, Candidate] = {}
        for family in FAMILIES:
            found = self._trained(family)
            if found:
                chosen[family] = max(found, key=lambda o: (len(o.dev_f1), o.merit())).candidate
            elif reasons := [o.reason for o in self._outcomes.values()
                             if o.candidate.family == family]:  # fmt: skip
                self._note(f"{NAMES[family]} could not be trained: {reasons[0]}")
        if not chosen:
            raise NertuneError(next(iter(self._outcomes.values())).reason)
        return chosen

    def _confirm(
        self, chosen: Mapping[Family, Candidate], last: float
    ) -> tuple[dict[Family, list[Path]], dict[Family, Cost]]:
        """Train the best of either way with other seeds, as many as time allows.

        Returns:
            The run folders and the costs; nothing if there was no time for a seed.
        """
        plan = Plan(**self._state["plan"])
        recipes = []
        for family, candidate in chosen.items():
            path = self._output / "recipes" / f"{family}.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(tomli_w.dumps(self._recipe(candidate, plan, {})), encoding="utf-8")
            recipes.append(path)
        comparison = None
        for seeds in range(1, _MOST_SEEDS + 1):
            is_done = self._state.get("seeds", 0) >= seeds
            if not is_done and self._clock.left < last:
                break
            started = time.monotonic()
            output, number = self._output / "confirm", _SEARCH_SEED + seeds
            is_begun = any((output / "runs").glob(f"*/seed-{number}"))
            try:
                comparison = compare(
                    recipes, seeds=seeds, first_seed=_SEARCH_SEED + 1, output=output,
                    on_progress=self._say_and_keep, run_arm=_run_quietly,
                )  # fmt: skip
            except NertuneError as error:
                self._broken = str(error)
                break
            if not is_done and not is_begun:
                last = time.monotonic() - started  # what the next one will take, too
            if not is_done:
                self._keep(seeds=seeds)
        if comparison is None:
            return {}, {}
        for notice in say_silent(comparison.arms, comparison.split):
            self._remark(notice)
        arms = dict(zip(chosen, comparison.arms, strict=True))
        costs = {
            family: Cost(
                trainable=arm.trainable_parameters,
                share=arm.trainable_share,
                seconds_per_epoch=arm.seconds_per_epoch.mean,
                peak_bytes=arm.peak_memory_bytes.mean,
                stored_bytes=4 * arm.trainable_parameters,
            )
            for family, arm in arms.items()
        }
        return {family: list(arm.folders) for family, arm in arms.items()}, costs

    def _cost(self, candidate: Candidate) -> Cost:
        """From the search's run alone."""
        outcome = self._outcomes[candidate.name]
        # Full tuning trains them all, if it could be trained.
        whole = max((o.trainable for o in self._trained("full")), default=0)
        return Cost(
            trainable=outcome.trainable,
            share=outcome.trainable / whole if whole else None,
            seconds_per_epoch=outcome.seconds_per_epoch,
            peak_bytes=None,
            stored_bytes=4 * outcome.trainable,
        )

    def _counts(self, folders: Sequence[Path]) -> NDArray[np.int64]:
        gold = self._data.dev.documents
        return np.stack([
            document_counts(
                gold, load_corpus(RunFolder(f).predictions("dev"), format="jsonl").documents
            )
            for f in folders
        ])  # fmt: skip

    def _write(self, advice: Advice) -> None:
        """Recipe, report and figures."""
        plan = Plan(1.0, ideal_epochs(self._num_documents), 1, False, 0, 0.0)
        values = self._recipe(advice.chosen[advice.choice], plan, {})
        del values["train"]["patience"], values["data"]["train_share"]
        head = f"# {advice.verdict}\n# From {self._output}; test data were not read.\n\n"
        for path, text in (
            (advice.recipe, head + tomli_w.dumps(values)),
            (self._output / _REPORT, to_markdown(advice)),
        ):
            write_text(path, text)
        self._keep(advice=advice.to_dict())


def _run_quietly(request: RunRequest) -> None:
    """As `compare` does it, without the run's own messages."""
    with contextlib.redirect_stderr(io.StringIO()):
        run_in_subprocess(request)


def _logged(folder: RunFolder) -> list[dict[str, Any]]:
    """The epochs that a run has finished, with a checkpoint or a record behind them."""
    if not folder.log.exists() or not (folder.checkpoints.exists() or folder.record.exists()):
        return []
    lines = folder.log.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [line for line in found if line["event"] == "epoch"]


def _count_trainable(folder: RunFolder) -> int:
    if folder.record.exists():
        record = json.loads(folder.record.read_text(encoding="utf-8"))
        return int(record["parameters"]["trainable"])
    saved = CheckpointStore(folder.checkpoints).latest()
    return 0 if saved is None else sum(tensor.numel() for tensor in saved.weights.values())


def _read_f1(folder: Path) -> float:
    record = json.loads(RunFolder(folder).record.read_text(encoding="utf-8"))
    return float(record["dev"]["micro"]["f1"])
