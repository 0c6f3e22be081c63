"""Compare recipes: train each with each seed, score all on the same data, say what differs.

Every run is a process of its own (`python -m nertune train …`), so peak memory is the run's own
and one run cannot disturb the next. Runs live in `OUTPUT/runs/NAME/seed-N`; what is finished there
with the same settings and data is reused, what was killed is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nertune.comparison.results import (
    Comparison,
    Configuration,
    Example,
    Record,
    Split,
    say_silent,
    say_unfinished,
)
from nertune.comparison.runs import (
    PlannedRun,
    RunOptions,
    complete_runs,
    plan_runs,
    read_predictions,
)
from nertune.errors import ConfigError
from nertune.evaluation.error_analysis import Novelty, analyse, known_names
from nertune.evaluation.metrics import bootstrap_interval, document_counts
from nertune.evaluation.resampling import caveats, source_documents
from nertune.evaluation.significance import compare_counts, correct_for_many
from nertune.types import Document

__all__ = ["RunOptions", "compare", "configuration_names"]

_MOST_EXAMPLES = 10  # of each kind

_Predicted = Mapping[str, Sequence[Sequence[Document]]]
"""By configuration, what each of its seeds found."""


def compare(
    recipes: Sequence[Path],
    *,
    seeds: int = 3,
    baseline: str | None = None,
    output: Path | None = None,
    options: RunOptions | None = None,
) -> Comparison:
    """Trains every recipe with every seed and compares the results.

    Runs go seed by seed over all configurations, so a comparison that is stopped early has done
    the same for each. Everything that can be refused is refused before the first run starts.

    Args:
        recipes: TOML files; a configuration is named by its file.
        seeds: trainings of each configuration, with seeds `first_seed`, `first_seed + 1`, …
        baseline: the configuration that the others are held against; the first by default.
        output: the folder for the runs; `runs/compare-NAME-NAME` by default.
        options: overrides, first seed and the like.

    Raises:
        ConfigError: a recipe, an override, the baseline, the number of seeds or the folder cannot
            be used; or the configurations are not trained or not scored on the same data.
        ModelError: there is no such encoder.
        DataError: a data file cannot be read, or predictions do not fit their record.
        TrainingError: a run failed; the message is the run's own.
    """
    options = options or RunOptions()
    recipes = [Path(recipe) for recipe in recipes]
    names = configuration_names(recipes)
    baseline = _baseline(names, baseline)
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds}: expected at least 1")
    numbers = tuple(range(options.first_seed, options.first_seed + seeds))
    folder = output or Path("runs") / f"compare-{'-'.join(names)}"
    runs = plan_runs(dict(zip(names, recipes, strict=True)), numbers, Path(folder), options)
    records = complete_runs(runs, options)
    return _summarise(runs, records, baseline, Path(folder))


def _summarise(
    runs: Sequence[PlannedRun], records: Sequence[Record], baseline: str, output: Path
) -> Comparison:
    """What finished runs say."""
    scored, split = runs[0].scored, runs[0].split
    grouped: dict[str, list[tuple[PlannedRun, Record]]] = {}
    for run, record in zip(runs, records, strict=True):
        grouped.setdefault(run.name, []).append((run, record))
    predicted = {
        name: [read_predictions(run, record) for run, record in group]
        for name, group in grouped.items()
    }
    counts = {
        name: np.stack([document_counts(scored.documents, run) for run in found])
        for name, found in predicted.items()
    }
    configurations = _with_differences(
        [_configuration(group, predicted[name], counts[name]) for name, group in grouped.items()],
        baseline,
        counts,
    )
    sources = source_documents(scored.documents)
    return Comparison(
        configurations=configurations,
        baseline=baseline,
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        split=split,
        data={
            "path": str(scored.path),
            "sha256": scored.sha256,
            "documents": len(scored.documents),
            "source_documents": None if sources is None else int(sources.max()) + 1,
            "entities": scored.num_entities,
        },
        notices=_notices(runs, configurations, split),
        output=output,
        novelty=_common_novelty(configurations),
        examples=_examples(scored.documents, predicted, baseline),
    )


def _configuration(
    group: Sequence[tuple[PlannedRun, Record]],
    predicted: Sequence[Sequence[Document]],
    counts: NDArray[np.int64],
) -> Configuration:
    """One recipe's runs, analysed; `counts` are `[num_runs, num_documents, 3]`."""
    first = group[0][0]
    return Configuration(
        name=first.name,
        recipe=first.recipe,
        folders=tuple(run.folder for run, _ in group),
        records=tuple(record for _, record in group),
        split=first.split,
        analyses=tuple(
            analyse(run.scored.documents, found, known_names(run.corpora["train"].documents))
            for (run, _), found in zip(group, predicted, strict=True)
        ),
        # Not that of the record: source documents may have been marked since then.
        interval=bootstrap_interval(counts[0]) if len(counts) == 1 else None,
    )


def configuration_names(recipes: Sequence[Path]) -> tuple[str, ...]:
    """The recipes' file stems; stems that occur twice get their folders' names in front.

    Raises:
        ConfigError: there is no recipe, or one is given twice.
    """
    if not recipes:
        raise ConfigError("compare needs at least one recipe, e.g. nertune compare bert.toml")
    resolved = [path.resolve() for path in recipes]
    for path in recipes:
        if resolved.count(path.resolve()) > 1:
            raise ConfigError(f"{path} is given twice: each configuration is a recipe of its own")
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
        told = ", ".join(names)
        raise ConfigError(f"baseline {baseline!r} is no configuration; expected one of {told}")
    return baseline


def _with_differences(
    configurations: Sequence[Configuration],
    baseline: str,
    counts: Mapping[str, NDArray[np.int64]],
) -> tuple[Configuration, ...]:
    others = [one.name for one in configurations if one.name != baseline]
    found = [compare_counts(counts[name], counts[baseline]) for name in others]
    differences = dict(zip(others, correct_for_many(found), strict=True))
    return tuple(replace(one, difference=differences.get(one.name)) for one in configurations)


def _examples(
    gold: Sequence[Document], predicted: _Predicted, baseline: str
) -> tuple[Example, ...]:
    """Documents that most seeds of one get right and most of the baseline's wrong, or reversed.

    Those come first where most seeds agree, and among them the shorter ones.
    """
    right = {
        name: np.array([[_same(g, p) for g, p in zip(gold, run, strict=True)] for run in runs])
        for name, runs in predicted.items()
    }
    found: list[Example] = []
    for name in predicted:
        if name == baseline:
            continue
        for better, worse in ((name, baseline), (baseline, name)):
            gain = right[better].mean(axis=0) - right[worse].mean(axis=0)
            order = sorted(range(len(gold)), key=lambda i: (-gain[i], len(gold[i].text), i))
            found += [
                Example(
                    gold=gold[i],
                    right=better,
                    wrong=worse,
                    found=_typical(predicted[worse], i, gold[i]),
                    seeds_right=int(right[better][:, i].sum()),
                    seeds_wrong=int((~right[worse][:, i]).sum()),
                )
                for i in order[:_MOST_EXAMPLES]
                if gain[i] > 0.5
            ]
    return tuple(found)


def _same(gold: Document, predicted: Document) -> bool:
    return {e.key for e in gold.entities} == {e.key for e in predicted.entities}


def _typical(runs: Sequence[Sequence[Document]], index: int, gold: Document) -> Document:
    """What the first of the seeds that are wrong found."""
    return next(run[index] for run in runs if not _same(gold, run[index]))


def _common_novelty(configurations: Sequence[Configuration]) -> Mapping[Novelty, int] | None:
    """Gold entities by whether training showed them; nothing where runs saw different documents."""
    first, *others = (analysis.gold for one in configurations for analysis in one.analyses)
    return first if all(other == first for other in others) else None


def _notices(
    runs: Sequence[PlannedRun], configurations: Sequence[Configuration], split: Split
) -> tuple[str, ...]:
    """What a reader has to know."""
    return (
        *_say_optimistic(runs, split),
        *_say_identical(runs),
        *_say_other_dev(runs),
        *_say_one_seed(runs),
        *_say_little_data(runs[0]),
        *_say_many(configurations),
        *_say_machines(configurations),
        *say_silent(configurations, split),
        *say_unfinished(configurations),
    )


def _say_optimistic(runs: Sequence[PlannedRun], split: Split) -> list[str]:
    """Whether the data that are scored chose the epochs too."""
    if split == "dev":
        return [
            "No recipe names test data: scores are taken on the development data, which also "
            "chose each run's best epoch, so they are optimistic."
        ]
    if any(run.dev_hash == run.scored.sha256 for run in runs):
        return [
            "Development and test data are the same: the test data chose each run's best epoch, "
            "so the scores are optimistic."
        ]
    return []


def _say_identical(runs: Sequence[PlannedRun]) -> list[str]:
    """Configurations that differ in their names alone."""
    alike: dict[str, list[str]] = {}
    for run in runs:
        if run.seed == runs[0].seed:
            alike.setdefault(run.essence, []).append(run.name)
    return [
        f"{' and '.join(names)} are the same configuration: they have the same settings, data and "
        "encoder, and differ in their names alone."
        for names in alike.values()
        if len(names) > 1
    ]


def _say_other_dev(runs: Sequence[PlannedRun]) -> list[str]:
    if len({run.dev_hash for run in runs}) < 2:
        return []
    told = {r.name: r.corpora["dev"].path if "dev" in r.corpora else "none" for r in runs}
    return [
        "The configurations chose their best epoch on different development data, so it is not the "
        "configurations alone that differ: "
        f"{', '.join(f'{name} on {path}' for name, path in told.items())}."
    ]


def _say_one_seed(runs: Sequence[PlannedRun]) -> list[str]:
    if len({run.seed for run in runs}) > 1 or len(runs) < 2:
        return []
    return [
        f"One training each (seed {runs[0].seed}). Tested: whether these trained models would "
        "differ on other documents of this kind. Not tested: the methods, since another seed "
        "may give another order; use --seeds 3 or more to compare methods."
    ]


def _say_little_data(run: PlannedRun) -> list[str]:
    sources = source_documents(run.scored.documents)
    number = len(run.scored.documents) if sources is None else int(sources.max()) + 1
    return [
        f"{run.split.capitalize()} data of {caveat}."
        for caveat in caveats(number, run.scored.num_entities)
    ]


def _say_many(configurations: Sequence[Configuration]) -> list[str]:
    if len(configurations) < 3:
        return []
    return [
        f"{len(configurations) - 1} configurations are held against the baseline; p-values are "
        "corrected for their number (Holm, 1979)."
    ]


def _say_machines(configurations: Sequence[Configuration]) -> list[str]:
    records = [record for one in configurations for record in one.records]
    if any(record.get("side_by_side", 1) > 1 for record in records):
        return [
            "Runs were trained side by side, each with a part of the cores: times and memory "
            "cannot be compared."
        ]
    machines = {(record.get("device"), record.get("threads")) for record in records}
    if len(machines) < 2:
        return []
    return [
        "The runs used different devices or numbers of threads: times and memory cannot be "
        "compared."
    ]
