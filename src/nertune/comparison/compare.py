"""Compare recipes: train each with each seed, score all on the same data, say what differs.

Every run is a process of its own (`python -m nertune train …`), so peak memory is the run's own
and one run cannot disturb the next. Runs live in `OUTPUT/runs/ARM/seed-N`; what is finished there
with the same settings and data is reused, what was killed is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import nertune
from nertune.artifacts.manifest import hash_encoder
from nertune.comparison.configurations import used_settings
from nertune.comparison.results import (
    Arm,
    Comparison,
    Example,
    Record,
    Split,
    say_silent,
    say_unfinished,
)
from nertune.config.run import Settings, load_settings, settings_of_record
from nertune.data.corpus import Corpus, load_corpus
from nertune.data.splits import CorpusCache, load_splits
from nertune.errors import ConfigError, DataError, ModelError, TrainingError
from nertune.evaluation.error_analysis import Novelty, analyse, known_names
from nertune.evaluation.metrics import document_counts
from nertune.evaluation.resampling import caveats, source_documents
from nertune.evaluation.significance import compare_arms, correct_for_many
from nertune.experiments.folder import RunFolder
from nertune.experiments.record import first_difference
from nertune.experiments.start import open_start
from nertune.experiments.subprocess import RunArm, RunRequest, run_in_subprocess
from nertune.storage.atomic import write_json
from nertune.storage.encoders import resolve_encoder
from nertune.types import Document

__all__ = ["arm_names", "compare"]

_MOST_EXAMPLES = 10  # of each kind


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run as its recipe asks for it now: what a finished run must match to be reused."""

    arm: str
    recipe: Path
    seed: int
    folder: Path
    settings: Settings
    corpora: Mapping[str, Corpus]
    overrides: tuple[str, ...]

    @property
    def split(self) -> Split:
        return "test" if "test" in self.corpora else "dev"

    @property
    def scored(self) -> Corpus:
        return self.corpora[self.split]

    @property
    def stamp(self) -> dict[str, Any]:
        """Settings without name and place, and content hashes of the data and the encoder."""
        return {
            "settings": _comparable(self.settings.to_dict()),
            "data": {split: corpus.sha256 for split, corpus in self.corpora.items()},
            "encoder": _encoder_hash(self.settings),
        }

    @property
    def stamp_path(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.request.json")


def compare(
    recipes: Sequence[Path],
    *,
    seeds: int = 3,
    baseline: str | None = None,
    output: Path | None = None,
    overrides: Sequence[str] = (),
    first_seed: int = 1,
    fresh: bool = False,
    longer: float = 1.0,
    other_training_data: bool = False,
    on_progress: Callable[[str], None] | None = None,
    run_arm: RunArm | None = None,
) -> Comparison:
    """Trains every recipe with every seed and compares the results.

    Runs go seed by seed over all arms, so a comparison that is stopped early has done the same
    for each. Everything that can be refused is refused before the first run starts.

    Args:
        recipes: TOML files; an arm is named by its file.
        seeds: trainings of each arm, with seeds `first_seed`, `first_seed + 1`, …
        baseline: the arm that the others are held against; the first by default.
        output: the folder for the runs; `runs/compare-ARM-ARM` by default.
        overrides: `section.key=value`, applied to every recipe.
        first_seed: see `seeds`.
        fresh: train again what is finished or was killed.
        longer: factor for every recipe's number of epochs.
        other_training_data: let the arms be trained on different data.
        on_progress: is told, in one line each, what is trained, resumed or reused.
        run_arm: does one run; `run_in_subprocess` by default.

    Raises:
        ConfigError: a recipe, an override, the baseline, the number of seeds or the folder cannot
            be used; or the arms are not trained or not scored on the same data.
        ModelError: there is no such encoder.
        DataError: a data file cannot be read, or predictions do not fit their record.
        TrainingError: a run failed; the message is the run's own.
    """
    say = on_progress or (lambda _: None)
    names = arm_names(recipes)
    chosen = _baseline(names, baseline)
    numbers = _seed_numbers(seeds, first_seed)
    folder = output or Path("runs") / f"compare-{'-'.join(names)}"
    plans = _plans(names, recipes, numbers, folder, overrides, longer)
    split = _common_split(plans)
    if not other_training_data:
        _refuse_other_training(plans)
    records: dict[tuple[str, int], Record] = {}
    with ExitStack() as locks:  # other arms may be trained beside these
        for name in names:
            locks.enter_context(RunFolder(folder / "runs" / name, "output").locked())
        for number, plan in enumerate(plans, start=1):
            position = f"[{number}/{len(plans)}] {plan.arm}, seed {plan.seed}"
            records[plan.arm, plan.seed] = _ensure_run(
                plan, fresh, run_arm or run_in_subprocess, say, position
            )
    scored = plans[0].scored
    sources = source_documents(scored.documents)
    arms, counts, predicted = [], {}, {}
    for name, recipe in zip(names, recipes, strict=True):
        own = [plan for plan in plans if plan.arm == name]
        kept = tuple(records[name, seed] for seed in numbers)
        pairs = list(zip(own, kept, strict=True))
        predicted[name] = [_predictions(plan, record) for plan, record in pairs]
        counts[name] = np.stack(
            [document_counts(scored.documents, found) for found in predicted[name]]
        )
        analyses = tuple(
            analyse(scored.documents, found, known_names(plan.corpora["train"].documents))
            for plan, found in zip(own, predicted[name], strict=True)
        )
        folders = tuple(plan.folder for plan in own)
        arms.append(Arm(name, recipe, folders, kept, split, analyses=analyses))
    return Comparison(
        arms=_with_differences(arms, chosen, counts),
        baseline=chosen,
        seeds=numbers,
        split=split,
        data={
            "path": str(scored.path),
            "sha256": scored.sha256,
            "documents": len(scored.documents),
            "source_documents": None if sources is None else int(sources.max()) + 1,
            "entities": scored.num_entities,
        },
        notices=_notices(plans, arms, split),
        output=folder,
        novelty=_common_novelty(arms),
        examples=_examples(scored.documents, predicted, chosen),
    )


def arm_names(recipes: Sequence[Path]) -> tuple[str, ...]:
    """The recipes' file stems; stems that occur twice get their folders' names in front.

    Raises:
        ConfigError: there is no recipe, or one is given twice.
    """
    if not recipes:
        raise ConfigError("compare needs at least one recipe, e.g. nertune compare bert.toml")
    resolved = [path.resolve() for path in recipes]
    for path in recipes:
        if resolved.count(path.resolve()) > 1:
            raise ConfigError(f"{path} is given twice: an arm is a recipe of its own")
    names = [path.stem for path in recipes]
    depth = 1
    while len(set(names)) < len(names):
        longer = ["-".join((*path.parts[1:-1][-depth:], path.stem)) for path in resolved]
        if depth > max(len(path.parts) for path in resolved):  # a-b.toml against a/b.toml
            names = [f"{number}-{name}" for number, name in enumerate(longer, start=1)]
        names = [
            new if names.count(old) > 1 else old for old, new in zip(names, longer, strict=True)
        ]
        depth += 1
    return tuple(names)


def _baseline(names: Sequence[str], baseline: str | None) -> str:
    if baseline is None:
        return names[0]
    if baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is no arm; expected one of {', '.join(names)}")
    return baseline


def _seed_numbers(seeds: int, first_seed: int) -> tuple[int, ...]:
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds}: expected at least 1")
    return tuple(range(first_seed, first_seed + seeds))


def _plans(
    names: Sequence[str],
    recipes: Sequence[Path],
    seeds: Sequence[int],
    output: Path,
    overrides: Sequence[str],
    longer: float,
) -> list[_Plan]:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in ("run.seed", "run.dir", "run.name"):
            raise ConfigError(f"compare sets {key} of each run itself: leave out --set {override}")
    read: CorpusCache = {}
    plans = []
    for seed in seeds:
        for name, recipe in zip(names, recipes, strict=True):
            folder = output / "runs" / name / f"seed-{seed}"
            place = f"run.dir={json.dumps(str(folder), ensure_ascii=False)}"
            own = tuple(overrides)
            settings = load_settings(recipe, [*own, f"run.seed={seed}", place])
            if longer != 1:
                own += (f"train.epochs={max(1, round(longer * settings.train.epochs))}",)
                settings = load_settings(recipe, [*own, f"run.seed={seed}", place])
            corpora = load_splits(settings.data, cache=read)
            corpora["train"] = corpora["train"].take_share(settings.data.train_share, seed)
            if open_start(settings) is None and settings.model.emitter == "encoder":
                resolve_encoder(settings.model.encoder)
            if "test" not in corpora and "dev" not in corpora:
                raise ConfigError(
                    f"{recipe}: names neither data.test nor data.dev, so nothing can be scored"
                )
            plans.append(_Plan(name, recipe, seed, folder, settings, corpora, own))
    return plans


def _common_split(plans: Sequence[_Plan]) -> Split:
    """What all arms are scored on.

    Raises:
        ConfigError: they are not scored on the same documents.
    """
    first = plans[0]
    for plan in plans:
        if (plan.split, plan.scored.sha256) != (first.split, first.scored.sha256):
            raise ConfigError(
                "the arms are scored on different data, so they cannot be compared: "
                f"{_described(first)}, but {_described(plan)}"
            )
    return first.split


def _refuse_other_training(plans: Sequence[_Plan]) -> None:
    """What differs should be the arms and nothing else.

    Raises:
        ConfigError: arms of the same seed are trained on different documents.
    """
    first = {plan.seed: plan for plan in reversed(plans)}  # of each seed the first arm's
    for plan in plans:
        one, other = (p.corpora["train"] for p in (first[plan.seed], plan))
        if one.sha256 != other.sha256:
            raise ConfigError(
                "the arms are trained on different data, so it is not the arms alone that differ: "
                f"{first[plan.seed].arm} on {one.path} (sha256 {one.sha256[:12]}…), but {plan.arm} "
                f"on {other.path} (sha256 {other.sha256[:12]}…); if the data are what you want to "
                "compare, say --other-training-data"
            )


def _described(plan: _Plan) -> str:
    hint = ", as it names no data.test" if plan.split == "dev" else ""
    return (
        f"{plan.arm} on {plan.split} {plan.scored.path} (sha256 {plan.scored.sha256[:12]}…){hint}"
    )


def _ensure_run(
    plan: _Plan,
    fresh: bool,
    run_arm: RunArm,
    say: Callable[[str], None],
    position: str,
) -> Record:
    """The record of a finished run: one that is there already, or a new one."""
    found = _read_json(plan.folder / "record.json")
    stamp = plan.stamp
    is_resumed, what = False, "training"
    if found is not None and found.get("status") == "finished":
        reason = "as asked" if fresh else _why_not(found, plan, stamp)
        if not reason:
            version = found.get("nertune")
            by = "" if version == nertune.__version__ else f" (trained by nertune {version})"
            say(
                f"{position}: reused, {plan.folder} is finished with the same settings and data{by}"
            )
            return found
        is_resumed = not fresh and _lacks_only_test(found, plan, stamp)
        what = "trained before, scoring on test" if is_resumed else f"training again, {reason}"
    elif plan.folder.exists() and any(plan.folder.iterdir()):
        is_resumed = not fresh and _is_same_request(_read_json(plan.stamp_path), stamp)
        reason = "as asked" if fresh else "what was begun there has other settings or data"
        what = "resuming" if is_resumed else f"training again, {reason}"
    say(f"{position}: {what}")
    if not is_resumed:
        folder = RunFolder(plan.folder)
        with folder.locked():
            folder.remove_run()  # before the new stamp is there, which would have it resumed
        write_json(plan.stamp_path, stamp)
    start: Literal["new", "resume"] = "resume" if is_resumed else "new"
    run_arm(
        RunRequest(
            arm=plan.arm,
            recipe=plan.recipe,
            seed=plan.seed,
            folder=plan.folder,
            overrides=plan.overrides,
            start=start,
            score_test=plan.split == "test",
        )
    )
    record = _read_json(plan.folder / "record.json")
    if record is None or record.get("status") != "finished":
        raise TrainingError(
            f"{plan.arm}, seed {plan.seed}: the run left no finished record.json in {plan.folder}"
        )
    if reason := _why_not(record, plan, stamp):
        raise TrainingError(
            f"{plan.arm}, seed {plan.seed}: {reason}: the recipe, its data or its encoder were "
            "changed while the comparison ran; the same command again compares what they are now"
        )
    return record


def _encoder_hash(settings: Settings) -> str | None:
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


def _lacks_only_test(record: Record, plan: _Plan, stamp: Mapping[str, Any]) -> bool:
    """Whether a finished run was trained as the plan asks, but not scored on test."""
    if plan.split != "test" or not RunFolder(plan.folder).model.is_dir():
        return False
    if record.get("test") is None:  # then the test file had no part in the run
        data = {k: v for k, v in stamp["data"].items() if k != "test"}
        settings = record.get("settings", {})
        name = stamp["settings"]["data"]["test"]
        data_settings = {**settings.get("data", {}), "test": name}
        record = {**record, "settings": {**settings, "data": data_settings}}
        return not _why_trained_otherwise(record, plan, {**stamp, "data": data})
    return not _why_trained_otherwise(record, plan, stamp) and not _predictions_path(plan).is_file()


def _why_not(record: Record, plan: _Plan, stamp: Mapping[str, Any]) -> str:
    """Why a finished run is not what the plan asks for; empty if it is."""
    if reason := _why_trained_otherwise(record, plan, stamp):
        return reason
    return "" if _predictions_path(plan).is_file() else "its predictions are missing"


def _why_trained_otherwise(record: Record, plan: _Plan, stamp: Mapping[str, Any]) -> str:
    """Its settings, data or encoder, where they are not those of the plan."""
    settings = _comparable(settings_of_record(record.get("settings", {})))
    if told := first_difference(settings, stamp["settings"]):
        return told
    for split, wanted in stamp["data"].items():
        if ((record.get("data") or {}).get(split) or {}).get("sha256") != wanted:
            return f"data.{split} holds other data now"
    model = plan.settings.model
    begun = (record.get("start_from") or {}).get("sha256") or record.get("encoder_sha256")
    if stamp["encoder"] not in (None, begun):
        return f"the weights of {model.start_from or model.encoder} have changed"
    return ""


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what names or places a run, as plain JSON."""
    run = {k: v for k, v in settings.get("run", {}).items() if k not in ("name", "dir")}
    plain: dict[str, Any] = json.loads(json.dumps({**settings, "run": run}))
    return plain


def _predictions_path(plan: _Plan) -> Path:
    return plan.folder / f"{plan.split}.predictions.jsonl"


def _predictions(plan: _Plan, record: Record) -> Sequence[Document]:
    """What one run found, held against what its record says."""
    path = _predictions_path(plan)
    predicted = load_corpus(path, format="jsonl").documents
    try:
        counts = document_counts(plan.scored.documents, predicted)
    except DataError as error:
        raise DataError(str(error), path=path) from error
    micro = record[plan.split]["micro"]
    expected = [micro["support"], micro["predicted"], micro["correct"]]
    if counts.sum(axis=0).tolist() != expected:
        raise DataError(
            f"gives {counts.sum(axis=0).tolist()} gold, predicted and correct entities, but "
            f"record.json beside it says {expected}: train this run again with --fresh",
            path=path,
        )
    return predicted


def _with_differences(
    arms: Sequence[Arm], baseline: str, counts: Mapping[str, NDArray[np.int64]]
) -> tuple[Arm, ...]:
    others = [arm.name for arm in arms if arm.name != baseline]
    found = [compare_arms(counts[name], counts[baseline]) for name in others]
    differences = dict(zip(others, correct_for_many(found), strict=True))
    return tuple(replace(arm, difference=differences.get(arm.name)) for arm in arms)


def _examples(
    gold: Sequence[Document], predicted: Mapping[str, Sequence[Sequence[Document]]], baseline: str
) -> tuple[Example, ...]:
    """Documents that most seeds of an arm get right and most of the baseline's wrong, or reversed.

    Those come first where most seeds agree, and among them the shorter ones.
    """
    right = {
        arm: np.array([[_same(g, p) for g, p in zip(gold, run, strict=True)] for run in runs])
        for arm, runs in predicted.items()
    }
    found: list[Example] = []
    for arm in predicted:
        if arm == baseline:
            continue
        gain = right[arm].mean(axis=0) - right[baseline].mean(axis=0)
        for better, sign in ((arm, 1), (baseline, -1)):
            order = sorted(range(len(gold)), key=lambda i: (-sign * gain[i], len(gold[i].text), i))
            found += [
                Example(
                    gold=gold[i],
                    right=better,
                    wrong=baseline if better == arm else arm,
                    found=_typical(predicted[baseline if better == arm else arm], i, gold[i]),
                    seeds_right=int(right[better][:, i].sum()),
                    seeds_wrong=int((~right[baseline if better == arm else arm][:, i]).sum()),
                )
                for i in order[:_MOST_EXAMPLES]
                if sign * gain[i] > 0.5
            ]
    return tuple(found)


def _same(gold: Document, predicted: Document) -> bool:
    return {e.key for e in gold.entities} == {e.key for e in predicted.entities}


def _typical(runs: Sequence[Sequence[Document]], index: int, gold: Document) -> Document:
    """What the first of the seeds that are wrong found."""
    return next(run[index] for run in runs if not _same(gold, run[index]))


def _common_novelty(arms: Sequence[Arm]) -> Mapping[Novelty, int] | None:
    """Gold entities by whether training showed them; nothing where runs saw different documents."""
    first, *others = (analysis.gold for arm in arms for analysis in arm.analyses)
    return first if all(other == first for other in others) else None


def _notices(plans: Sequence[_Plan], arms: Sequence[Arm], split: Split) -> tuple[str, ...]:
    notices = []
    if split == "dev":
        notices.append(
            "No recipe names test data: scores are taken on the development data, which also "
            "chose each run's best epoch, so they are optimistic."
        )
    elif any(
        "dev" in plan.corpora and plan.corpora["dev"].sha256 == plan.scored.sha256 for plan in plans
    ):
        notices.append(
            "Development and test data are the same: the test data chose each run's best epoch, "
            "so the scores are optimistic."
        )
    notices += _say_identical(plans)
    if len({_dev_hash(plan) for plan in plans}) > 1:
        told = {plan.arm: plan.corpora["dev"].path if "dev" in plan.corpora else "none"
                for plan in plans}  # fmt: skip
        notices.append(
            "The arms chose their best epoch on different development data, so it is not the arms "
            f"alone that differ: {', '.join(f'{arm} on {path}' for arm, path in told.items())}."
        )
    if len({plan.seed for plan in plans}) == 1 and len(arms) > 1:
        notices.append(
            f"One training each (seed {plans[0].seed}). Tested: whether these trained models would "
            "differ on other documents of this kind. Not tested: the methods, since another seed "
            "may give another order; use --seeds 3 or more to compare methods."
        )
    scored = plans[0].scored
    sources = source_documents(scored.documents)
    num_documents = len(scored.documents) if sources is None else int(sources.max()) + 1
    notices += [
        f"{split.capitalize()} data of {caveat}."
        for caveat in caveats(num_documents, scored.num_entities)
    ]
    if len(arms) > 2:
        notices.append(
            f"{len(arms) - 1} configurations are held against the baseline; p-values are corrected "
            "for their number (Holm, 1979)."
        )
    machines = {(record.get("device"), record.get("threads")) for a in arms for record in a.records}
    if len(machines) > 1:
        notices.append(
            "The runs used different devices or numbers of threads: times and memory cannot be "
            "compared."
        )
    return (*notices, *say_silent(arms, split), *say_unfinished(arms))


def _say_identical(plans: Sequence[_Plan]) -> list[str]:
    """Of configurations that differ in their names alone."""
    alike: dict[str, list[str]] = {}
    for plan in plans:
        if plan.seed == plans[0].seed:
            alike.setdefault(_essence(plan), []).append(plan.arm)
    return [
        f"{' and '.join(names)} are the same configuration: they have the same settings, data and "
        "encoder, and differ in their names alone."
        for names in alike.values()
        if len(names) > 1
    ]


def _essence(plan: _Plan) -> str:
    """What decides a run's numbers, whatever its files are called."""
    stamp = plan.stamp
    files = {f"data.{split}" for split in stamp["data"]}
    if stamp["encoder"] is not None:
        files.add("model.encoder")
    used = {k: v for k, v in used_settings(stamp["settings"]).items() if k not in files}
    return json.dumps([used, stamp["data"], stamp["encoder"]], sort_keys=True)


def _dev_hash(plan: _Plan) -> str | None:
    return plan.corpora["dev"].sha256 if "dev" in plan.corpora else None


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or `None` where there is none to be had."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
