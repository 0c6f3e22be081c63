"""A search for good settings: many runs, chosen by Optuna, scored on dev.

The study lies in a SQLite file, so a killed sweep goes on where it was; what was lost is the run
that it was in. Test data are never touched. The first trial is the recipe as it stands: what is
found is held against it.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.console import Console

from nertune.config import Settings, apply_override, parse_settings, read_toml
from nertune.data.corpus import load_corpus
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError, MissingDependencyError, NertuneError
from nertune.runs.record import (
    first_difference,
    forget_peak_memory,
    write_json,
    write_text,
)
from nertune.training.loop import EpochReport

__all__ = ["Range", "SweepResult", "Trial", "default_space", "read_space", "sweep"]

_STUDY, _DESCRIPTION, _WINNER = "study.db", "sweep.json", "best.toml"
_STARTUP = 5  # trials at random before the sampler and the pruner trust what they know


class Range(BaseModel):
    """Numbers from `low` to `high`, both ends counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)
    whole: bool = False

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            numbers = [values.get(key) for key in ("low", "high", "step")]
            return {**values, "whole": all(type(n) is int for n in numbers if n is not None)}
        return values

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.low >= self.high:
            raise ValueError("expected low < high")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("with log, low must be above 0 and there is no step")
        return self


Space = dict[str, Range | tuple[Any, ...]]
"""`section.key` -> its range, or the values to choose from."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep.

    Attributes:
        number: counted from 0; 0 is the recipe as it stands.
        state: `complete`, `pruned`, `failed`.
        f1: best dev micro-F1; of a pruned one as far as it got.
        values: what was chosen, by `section.key`; what the recipe says, for number 0.
        trainable: parameters.
        seconds: of training.
        peak_bytes: the most memory that the process held in the run, libraries included.
    """

    number: int
    state: str
    f1: float | None
    values: dict[str, Any]
    trainable: int | None
    seconds: float | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        trials: all that ended.
        base: the recipe as it stands.
        best: the best complete one.
        confirmed: dev micro-F1 of base and best with further seeds, if asked for.
        winner: the recipe that it wrote.
        importance: each setting's share in what sets good trials apart (PED-ANOVA; Watanabe et
            al., 2023).
    """

    trials: tuple[Trial, ...]
    base: Trial
    best: Trial
    confirmed: dict[str, list[float]]
    winner: Path
    importance: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "base": _plain(self.base),
            "best": _plain(self.best),
            "winner": str(self.winner),
            "confirmed": self.confirmed,
            "importance": self.importance,
            "trials": [_plain(trial) for trial in self.trials],
        }

    @property
    def verdict(self) -> str:
        """In one sentence."""
        assert self.base.f1 is not None
        assert self.best.f1 is not None
        gain = 100 * (self.best.f1 - self.base.f1)
        done = sum(trial.state != "failed" for trial in self.trials)
        if self.best.number == self.base.number:
            return (
                f"none of {done} trials beats the recipe as it stands (dev F1 {self.base.f1:.4f})"
            )
        sentence = (
            f"trial {self.best.number} reaches dev F1 {self.best.f1:.4f}, {gain:+.1f} points "
            "against the recipe as it stands"
        )
        if not self.confirmed:
            return f"{sentence}; the best of {done} flatters itself: --confirm trains both again"
        means = {name: sum(found) / len(found) for name, found in self.confirmed.items()}
        gain = 100 * (means["best"] - means["base"])
        return f"{sentence}; with {len(self.confirmed['best'])} further seeds {gain:+.1f} points"


def read_space(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Settings, Space]:
    """A recipe with a section `[space]`, or without: then the method's default.

    Returns:
        The recipe's values, its settings, and the space.

    Raises:
        ConfigError: the file, a setting or a range cannot be used.
    """
    values = read_toml(path)
    wanted = values.pop("space", {})
    for override in overrides:
        apply_override(values, override)
    settings = parse_settings(values, source=str(path))
    if not settings.data.dev:
        raise ConfigError(f"{path}: data.dev is missing: a sweep chooses by dev micro-F1")
    if not isinstance(wanted, Mapping):
        raise ConfigError(f"{path}: space must be a section: write [space]")
    space = {key: _read_range(path, key, given) for key, given in wanted.items()}
    space = space or default_space(settings)
    firsts = {k: c[0] if isinstance(c, tuple) else _ends(c)[0] for k, c in space.items()}
    parse_settings(_with(values, firsts), source=f"{path}: space")
    return values, settings, space


def _read_range(path: Path, key: str, given: Any) -> Range | tuple[Any, ...]:
    if "." not in key:
        raise ConfigError(f'{path}: space: {key!r}: expected "section.key", in quotation marks')
    if key.startswith(("data.", "run.")):
        raise ConfigError(f"{path}: space: {key}: is not a setting of the model or its training")
    if isinstance(given, list) and len(given) > 1:
        return tuple(given)
    try:
        return Range.model_validate(given)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{path}: space: {key}: {message}, got {given!r}; expected a list of two values or "
            "more, or {low = …, high = …, log = true}"
        ) from error


def default_space(settings: Settings) -> Space:
    """What is worth a search, by the way of tuning."""
    space: Space = {"train.rate": Range(low=3e-4, high=1e-2, log=True)}
    if settings.model.emitter == "lstm":
        return space | {
            "lstm.dropout": Range(low=0.2, high=0.7),
            "lstm.hidden_size": (128, 256, 384),
            "train.batch_tokens": (256, 512, 1024),
        }
    tuning = settings.model.tuning
    if tuning in ("full", "top", "bitfit"):
        space["train.encoder_factor"] = Range(low=0.02, high=0.5, log=True)
        space["train.batch_tokens"] = (256, 512, 1024)
    elif tuning == "lora":
        space |= {
            # The head apart, so that it still learns at the low rates that some encoders need.
            "train.rate": Range(low=1e-4, high=1e-2, log=True),
            "train.head_rate": Range(low=5e-4, high=5e-3, log=True),
            "lora.rank": (4, 8, 16, 32),
            "lora.alpha": (8, 16, 32, 64),
            "lora.dropout": Range(low=0.0, high=0.3),
            "lora.targets": (["qkv"], ["attention"], ["all-linear"]),
            "train.batch_tokens": (256, 512, 1024),
        }
    elif tuning == "peft":
        space["train.adapter_rate"] = Range(low=1e-3, high=1e-1, log=True)
    space["train.warmup"] = Range(low=0.0, high=0.3)
    return space


def sweep(
    recipe: Path,
    *,
    output: Path,
    trials: int = 20,
    minutes: float = 0,
    confirm: int = 0,
    resume: bool = False,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> SweepResult:
    """Search, and write `best.toml`, `sweep.json`, and with matplotlib `sweep.png`.

    Args:
        recipe: with a section `[space]`, or the method's default space is searched.
        output: the sweep's folder.
        trials: how many runs end, in all; lost ones do not count.
        minutes: no run but the first begins or goes on after so long; 0: no limit.
        confirm: seeds with which recipe and winner are trained again.
        resume: go on with a killed sweep.
        overrides: `section.key=value` for the recipe.
        say: is told what happens, in one line each.

    Raises:
        ConfigError: the space, the folder or the data cannot be used.
        MissingDependencyError: the extra `sweep` is not installed.
    """
    optuna = _optuna()
    values, settings, space = read_space(recipe, overrides)
    deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
    _prepare(output, settings, space, resume)
    study = optuna.create_study(
        storage=f"sqlite:///{output / _STUDY}",
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_STARTUP, n_warmup_steps=max(1, settings.train.epochs // 4)
        ),
    )
    for lost in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        say(f"trial {lost.number} was lost when the sweep was killed")
        study.tell(lost.number, state=optuna.trial.TrialState.FAIL)
    while (done := _count_done(study, optuna)) < trials:
        if done and time.monotonic() > deadline:
            break
        # A seed of its own at each step, so that a resumed sweep goes on as an uninterrupted one.
        study.sampler = optuna.samplers.TPESampler(
            seed=settings.run.seed + len(study.trials), n_startup_trials=_STARTUP
        )
        _run_trial(study, values, space, output, deadline, optuna, say, f"{done + 1}/{trials}")
    result = _result(study, values, settings, space, output, confirm, optuna, say)
    _draw(result, output, say)
    return result


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "optuna", extra="sweep", purpose="a sweep"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _prepare(output: Path, settings: Settings, space: Space, resume: bool) -> None:
    """The folder, and that it is of this sweep and no other."""
    path = output / _DESCRIPTION
    described = {
        "settings": settings.to_dict(),
        "space": {k: list(v) if isinstance(v, tuple) else v.model_dump() for k, v in space.items()},
        "data": {
            split: load_corpus(
                resolve_data(getattr(settings.data, split)),
                format=settings.data.format,
                scheme=settings.data.scheme,
                join=settings.data.join,
            ).sha256
            for split in ("train", "dev")
        },
    }
    described = json.loads(json.dumps(described))
    if path.exists():
        if not resume:
            raise ConfigError(
                f"{output}: holds a sweep already; go on with --resume, or name another folder"
            )
        old = json.loads(path.read_text(encoding="utf-8"))
        for part, found in described.items():
            if old.get(part) != found:
                raise ConfigError(
                    f"{output}: holds a sweep of other {part}: "
                    f"{first_difference(old.get(part), found)}; name another folder"
                )
        return
    if resume:
        raise ConfigError(f"{output}: holds no sweep to go on with")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, described)


def _count_done(study: Any, optuna: Any) -> int:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    broken = [
        t
        for t in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
        if "error" in t.user_attrs
    ]
    return len(study.get_trials(deepcopy=False, states=states)) + len(broken)


def _run_trial(
    study: Any,
    values: Mapping[str, Any],
    space: Space,
    output: Path,
    deadline: float,
    optuna: Any,
    say: Callable[[str], None],
    numbers: str,
) -> None:
    has_base = any(
        t.user_attrs.get("base") and t.state == optuna.trial.TrialState.COMPLETE
        for t in study.get_trials(deepcopy=False)
    )
    trial = study.ask()
    chosen: dict[str, Any] = {}
    if has_base:
        chosen = {key: _suggest(trial, key, choice) for key, choice in space.items()}
    trial.set_user_attr("base", not has_base)
    trial.set_user_attr("values", json.dumps(chosen))
    folder = output / "trials" / f"{trial.number:04d}"
    shutil.rmtree(folder, ignore_errors=True)
    told = ", ".join(f"{k} {_brief(v)}" for k, v in chosen.items()) or "the recipe as it stands"
    say(f"[{numbers}] trial {trial.number}: {told}")
    watch = _Watch(trial, optuna, deadline, may_prune=has_base)
    state = optuna.trial.TrialState
    try:
        record = _train(values, chosen, folder, watch)
    except optuna.TrialPruned:
        study.tell(trial, state=state.PRUNED)
        say(f"    stopped in epoch {watch.epoch}: dev F1 {watch.best:.4f}")
        shutil.rmtree(folder, ignore_errors=True)
        return
    except NertuneError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=state.FAIL)
        shutil.rmtree(folder, ignore_errors=True)
        if not has_base:
            raise
        say(f"    failed: {error}")
        return
    trial.set_user_attr("trainable", record["parameters"]["trainable"])
    trial.set_user_attr("seconds", round(sum(epoch["seconds"] for epoch in record["epochs"]), 2))
    trial.set_user_attr("peak_bytes", record["peak_memory_bytes"])
    study.tell(trial, watch.best)
    say(f"    dev F1 {watch.best:.4f}")
    shutil.rmtree(folder / "model", ignore_errors=True)  # trained again from best.toml when wanted
    for predictions in folder.glob("*.predictions.jsonl"):
        predictions.unlink()


class _Watch:
    """Reports each epoch, and ends a run that is behind or out of time."""

    def __init__(self, trial: Any, optuna: Any, deadline: float, *, may_prune: bool):
        self._trial, self._optuna, self._deadline = trial, optuna, deadline
        self._may_prune = may_prune
        self.best = 0.0
        self.epoch = 0

    def on_resume(self, epoch: int, batch: int) -> None:
        """Trials are never resumed."""

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        """Nothing to do between epochs."""

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        assert report.dev is not None
        self.epoch = report.epoch
        self.best = max(self.best, report.dev["f1"])
        self._trial.report(self.best, report.epoch)
        is_late = time.monotonic() > self._deadline
        if self._may_prune and (is_late or self._trial.should_prune()):
            raise self._optuna.TrialPruned


def _train(
    values: Mapping[str, Any],
    chosen: Mapping[str, Any],
    folder: Path,
    watch: _Watch | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    from nertune.runs.experiment import train

    run: dict[str, Any] = {"run.dir": str(folder), "run.name": folder.name, "data.test": ""}
    if seed is not None:
        run["run.seed"] = seed
    settings = parse_settings(_with(values, {**chosen, **run}), source=f"trial {folder.name}")
    quiet = Console(file=io.StringIO())
    forget_peak_memory()
    return train(settings, console=quiet, observers=() if watch is None else (watch,))


def _with(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with some of them replaced, by `section.key`."""
    copied: dict[str, Any] = copy.deepcopy(dict(values))
    for name, value in changes.items():
        *sections, key = name.split(".")
        inner = copied
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = value
    return copied


def _suggest(trial: Any, key: str, choice: Range | tuple[Any, ...]) -> Any:
    if isinstance(choice, tuple):  # a list is no value for Optuna, its spelling is
        return json.loads(trial.suggest_categorical(key, [json.dumps(v) for v in choice]))
    low, high = _ends(choice)
    if choice.whole:
        step = int(choice.step or 1)
        return trial.suggest_int(key, low, high, step=step, log=choice.log)
    return trial.suggest_float(key, low, high, step=choice.step, log=choice.log)


def _ends(choice: Range) -> tuple[float, float]:
    return (int(choice.low), int(choice.high)) if choice.whole else (choice.low, choice.high)


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _result(
    study: Any,
    values: dict[str, Any],
    settings: Settings,
    space: Space,
    output: Path,
    confirm: int,
    optuna: Any,
    say: Callable[[str], None],
) -> SweepResult:
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
            f"{output}: the recipe as it stands was not finished: go on with --resume"
        )
    best = max(complete, key=lambda t: (t.f1 or 0.0, -t.number))
    confirmed: dict[str, list[float]] = {}
    for name, trial in (("base", base), ("best", best)) if confirm else ():
        confirmed[name] = []
        for seed in range(settings.run.seed + 1, settings.run.seed + 1 + confirm):
            folder = output / "confirm" / f"{trial.number:04d}-{seed}"
            if not (folder / "record.json").exists():
                say(f"{name} again, seed {seed}")
                shutil.rmtree(folder, ignore_errors=True)
                _train(values, trial.values, folder, seed=seed)
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            confirmed[name].append(record["dev"]["micro"]["f1"])
    winner = _write_winner(values, best, output)
    result = SweepResult(trials, base, best, confirmed, winner, _importance(study, space, optuna))
    path = output / _DESCRIPTION
    described = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**described, "trials": [_plain(t) for t in trials], "best": best.number,
                      "confirmed": confirmed, "importance": result.importance,
                      "verdict": result.verdict})  # fmt: skip
    return result


def _plain(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in Trial.__slots__}


def _importance(study: Any, space: Space, optuna: Any) -> dict[str, float]:
    searched = [t for t in study.get_trials(deepcopy=False) if t.params and t.value is not None]
    if len(searched) < 2 * _STARTUP:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=list(space)
        )
    except (ValueError, RuntimeError):  # all trials alike
        return {}
    return {name: round(float(share), 4) for name, share in found.items()}


def _write_winner(values: Mapping[str, Any], best: Trial, output: Path) -> Path:
    recipe = _with(values, best.values)
    for key in ("dir", "name"):
        recipe.get("run", {}).pop(key, None)
    path = output / _WINNER
    f1 = 0.0 if best.f1 is None else best.f1
    head = f"# Trial {best.number} of {output}: dev micro-F1 {f1:.4f}, the best of its sweep.\n\n"
    write_text(path, head + tomli_w.dumps(recipe))
    return path


def _draw(result: SweepResult, output: Path, say: Callable[[str], None]) -> None:
    """History, importance, and F1 against what it costs."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        say('no figure: matplotlib is missing: pip install "nertune[report]"')
        return
    matplotlib.rcParams["svg.hashsalt"] = "nertune"
    figure = Figure(figsize=(15, 7), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    history, importance = (figure.add_subplot(grid[0, part]) for part in (slice(3), slice(3, 6)))
    costs = {
        "trainable": ("trained parameters", 1.0),
        "seconds": ("seconds of training", 1.0),
        "peak_bytes": ("peak memory, MiB", 2.0**-20),
    }
    colours = {"complete": "#2a6fb0", "pruned": "#b9b9b9"}
    for state, colour in colours.items():
        some = [t for t in result.trials if t.state == state and t.f1 is not None]
        history.scatter(
            [t.number for t in some], [t.f1 or 0.0 for t in some], s=18, c=colour, label=state
        )
    complete = [t for t in result.trials if t.state == "complete" and t.f1 is not None]
    so_far = [max(t.f1 or 0 for t in complete[: i + 1]) for i in range(len(complete))]
    history.step([t.number for t in complete], so_far, where="post", color="#c0392b", label="best")
    assert result.base.f1 is not None
    history.axhline(result.base.f1, color="black", lw=0.8, ls=":", label="recipe")
    history.set(title="History", xlabel="trial", ylabel="dev micro-F1")
    history.xaxis.set_major_locator(MaxNLocator(integer=True))
    history.legend(fontsize=8)
    shares = sorted(result.importance.items(), key=lambda item: item[1])
    importance.barh([name for name, _ in shares], [share for _, share in shares], color="#2a6fb0")
    importance.set(title="What sets good trials apart (PED-ANOVA)", xlabel="share")
    if not shares:
        importance.set(xticks=[], yticks=[])
        importance.text(0.5, 0.5, "too few trials", ha="center", transform=importance.transAxes)
    for number, (name, (what, factor)) in enumerate(costs.items()):
        axes = figure.add_subplot(grid[1, 2 * number : 2 * number + 2])
        points = sorted((factor * (getattr(t, name) or 0), t.f1 or 0.0) for t in complete)
        axes.scatter([x for x, _ in points], [y for _, y in points], s=18, c="#2a6fb0")
        front = [p for i, p in enumerate(points) if all(p[1] > q[1] for q in points[:i])]
        axes.step([x for x, _ in front], [y for _, y in front], where="post", c="#c0392b")
        axes.set(title=f"F1 against {what}", xlabel=what, ylabel="dev micro-F1")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if points and points[0][0] > 0 and points[-1][0] > 20 * points[0][0]:
            axes.set_xscale("log")
    figure.savefig(output / "sweep.png", dpi=110)
