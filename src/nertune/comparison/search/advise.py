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

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nertune.comparison.search.advice import Advice, Outcome
from nertune.comparison.search.advice_data import find_data, load_data
from nertune.comparison.search.advice_state import AdviceState, Question, refuse_folder
from nertune.comparison.search.budget import Clock, Until
from nertune.comparison.search.candidates import (
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
from nertune.comparison.search.conclusion import conclude
from nertune.config.run import apply_override, parse_settings, upgrade_values
from nertune.errors import ConfigError, NertuneError
from nertune.experiments.folder import RunFolder
from nertune.experiments.progress import read_log
from nertune.training.checkpoint import CheckpointStore
from nertune.training.trainer import Pause

__all__ = ["advise"]

_PILOT_DOCUMENTS = 500
_SLACK = 0.9  # of the time left is planned with
_CHOSEN_HERE = (
    "model.tuning", "model.emitter", "lora.rank", "lora.alpha", "lora.targets", "lora.layers",
    "lora.ranks", "lora.alphas", "lora.rslora", "train.learning_rate",
    "train.head_learning_rate", "train.lora_plus",
    "train.rate", "train.head_rate", "train.adapter_rate", "train.encoder_factor",  # of 0.1.0
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
        minutes: the budget. A run of the search that is under way when it ends finishes its
            epoch; a seed of the last comparison begins only if its time is there, and then runs
            to its end.
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
        values: dict[str, Any] = {
            "data": {"train": train_path, "dev": dev_path},
            "model": {"encoder": encoder},
            "train": {"batch_tokens": 512},
        }
        for override in overrides:
            apply_override(values, override)
        values, notices = upgrade_values(values, source="advise")
        encoder_config = read_measures(encoder)
        refuse_folder(output, resume=resume)
        found = load_data(parse_settings(values, source="advise").data, output / "data")
        values["data"] |= found.changes
        question = Question(found, values, output, minutes)
        state = AdviceState(question, say)
        found.save()
        for notice in (*notices, found.notice):
            if notice:
                state.note(notice)
        search = _Search(question, state, encoder_config)
        search.run()
        return conclude(question, state, search.outcomes, search.plan, search.seed_seconds)


def _refuse_chosen(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "model.encoder":
            raise ConfigError(f"name the encoder with --encoder, not with --set {override}")
        if key in _CHOSEN_HERE or key.startswith(("lora.ranks.", "lora.alphas.")):
            raise ConfigError(f"advise chooses {key} itself: leave out --set {override}")


class _Search:
    """All that comes before the last comparison; `run` is its course.

    Attributes:
        plan: of the runs; there once `run` is done, as is the next.
        seed_seconds: what another seed of either way takes.
    """

    plan: Plan
    seed_seconds: float

    def __init__(self, question: Question, state: AdviceState, encoder_config: Any):
        self._question, self._state, self._clock = question, state, state.clock
        self._encoder_config = encoder_config
        self._outcomes: dict[str, Outcome] = {}

    @property
    def outcomes(self) -> list[Outcome]:
        """Of every candidate, in the order in which they were tried."""
        return list(self._outcomes.values())

    def run(self) -> None:
        """All steps."""
        rates = try_rates(self._encoder_config)
        num_dev = len(self._question.data.dev.documents)
        self._state.say(f"{self._num_documents:,} training documents, {num_dev:,} of dev")
        speeds = self._pilot(rates)
        rates = [candidate for candidate in rates if candidate.family in speeds]
        self.plan = plan = self._plan(speeds)
        documents = max(1, round(plan.share * self._num_documents))
        self.seed_seconds = sum(s.run + PROCESS_SECONDS + s.epochs(plan.epochs, documents)
                                for s in speeds.values())  # fmt: skip
        reserve = self.seed_seconds if plan.seeds else 0.0
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
            self._state.note(f"no time was left to train {'; '.join(dict.fromkeys(skipped))}")

    @property
    def _num_documents(self) -> int:
        return self._question.num_documents

    def _epochs_done(self, candidate: Candidate) -> int:
        """How many epochs of a candidate's run are on disk."""
        return len(_logged(RunFolder(self._question.run_folder(candidate))))

    def _pilot(self, rates: Sequence[Candidate]) -> dict[Family, Speed]:
        """Two epochs of either way on a few documents."""
        kept: dict[Family, dict[str, float]] = self._state.get("speeds", {})
        failures: list[NertuneError] = []
        if not kept:
            count = min(self._num_documents, _PILOT_DOCUMENTS)
            self._state.say(
                f"two epochs of either way on {count:,} documents, to see what they take"
            )
            for candidate in rates[: len(FAMILIES)]:
                watch = Until(2, Clock(float("inf")), lambda: None)
                folder = self._question.output / "runs" / f"pilot-{candidate.family}"
                shutil.rmtree(folder, ignore_errors=True)
                plan = Plan(count / self._num_documents, 2, 2, False, 0, 0.0)
                started = time.monotonic()
                try:
                    self._call_train(candidate, plan, folder, watch, resume=False)
                except NertuneError as error:
                    shutil.rmtree(folder, ignore_errors=True)
                    failures.append(error.with_traceback(None))  # which holds the model
                    self._state.note(f"{NAMES[candidate.family]} could not be trained: {error}")
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
            self._state.keep(speeds=kept)
        return {name: Speed(**values) for name, values in kept.items()}

    def _plan(self, speeds: Mapping[Family, Speed]) -> Plan:
        if (kept := self._state.get("plan")) is not None:
            return Plan(**kept)
        plans = list(possible_plans(self._num_documents, speeds))
        room = _SLACK * self._clock.left
        plan = next((p for p in plans if p.seconds <= room), plans[-1])
        documents = max(1, round(plan.share * self._num_documents))
        ideal = ideal_epochs(self._num_documents)
        if plan.seconds > room:
            self._state.note(
                f"{self._clock.budget / 60:g} minutes are too few for a sound answer here: the "
                f"shortest plan takes {plan.seconds / 60:.0f}"
            )
        self._state.say(
            f"plan: {documents:,} of {self._num_documents:,} training documents, {plan.epochs} "
            f"epochs, weighed after {plan.first}, {plan.seeds} seeds or more as time allows; "
            f"about {plan.seconds / 60:.0f} minutes"
        )
        if plan.share < 1:
            self._state.note(
                f"trained on {plan.share:.0%} of the documents to stay within the minutes: what "
                "holds for them need not hold for all"
            )
        elif plan.epochs < ideal:
            self._state.note(
                f"trained for {plan.epochs} epochs to stay within the minutes; the recipe says "
                f"{ideal}"
            )
        self._state.keep(plan=asdict(plan))
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
        is_begun = self._epochs_done(candidate) > 0 or candidate.name in self._state.failures
        if not (is_first or is_begun) and self._clock.left - reserve < seconds:
            return False
        outcome = self._train(candidate, plan, plan.first)
        epochs = min(plan.first, len(outcome.dev_f1))
        reached = f"dev F1 {outcome.best(epochs):.4f} after {epochs} epoch{'s' * (epochs != 1)}"
        told = reached if outcome.dev_f1 else f"failed: {outcome.reason}"
        self._state.say(f"{candidate.title}: {told}")
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
        folder = RunFolder(self._question.run_folder(candidate))
        done = _logged(folder)
        is_over = bool(done) and self._clock.left < 0  # it was paused when time was up
        if reason := self._state.failures.get(candidate.name):
            self._outcomes[candidate.name] = Outcome(candidate, reason=reason)
            return self._outcomes[candidate.name]
        # A run whose last epoch is on disk still has to be scored and saved.
        is_short = len(done) < until or until == plan.epochs
        if is_short and not folder.record.exists() and not is_over:
            watch = Until(until, self._clock, self._state.keep)
            resume = folder.checkpoints.exists()
            try:
                self._call_train(candidate, plan, folder.path, watch, resume=resume)
            except NertuneError as error:
                self._outcomes[candidate.name] = Outcome(candidate, reason=str(error))
                self._state.keep(failures={**self._state.failures, candidate.name: str(error)})
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
        self._state.keep()
        return outcome

    def _call_train(
        self, candidate: Candidate, plan: Plan, folder: Path, watch: Until, *, resume: bool
    ) -> None:
        from nertune.experiments.train import train

        place = {"run.dir": str(folder), "run.name": candidate.name}
        settings = parse_settings(
            self._question.recipe(candidate, plan, place), source=f"advise: {candidate.name}"
        )
        try:
            train(settings, console=Console(file=io.StringIO()), resume=resume, observers=(watch,))
        except Pause:
            return

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


def _logged(folder: RunFolder) -> list[dict[str, Any]]:
    """The epochs that a run has finished, with a checkpoint or a record behind them."""
    if not folder.log.exists() or not (folder.checkpoints.exists() or folder.record.exists()):
        return []
    return [line for line in read_log(folder.log) if line["event"] == "epoch"]


def _count_trainable(folder: RunFolder) -> int:
    if folder.record.exists():
        record = json.loads(folder.record.read_text(encoding="utf-8"))
        return int(record["parameters"]["trainable"])
    saved = CheckpointStore(folder.checkpoints).latest()
    return 0 if saved is None else sum(tensor.numel() for tensor in saved.weights.values())
