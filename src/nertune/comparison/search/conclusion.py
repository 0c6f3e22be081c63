"""The end of an advice: the best of either way, with seeds that did not choose them."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w

from nertune.comparison.compare import RunOptions, compare
from nertune.comparison.results import Comparison, Configuration, Estimate, count_dev, say_silent
from nertune.comparison.search.advice import Advice, Cost, Outcome, to_markdown
from nertune.comparison.search.advice_state import SEARCH_SEED, AdviceState, Question
from nertune.comparison.search.candidates import (
    FAMILIES,
    NAMES,
    Candidate,
    Family,
    Plan,
    ideal_epochs,
)
from nertune.errors import NertuneError
from nertune.evaluation.significance import chance_of_keeping_up, compare_counts
from nertune.experiments.folder import RunFolder
from nertune.experiments.subprocess import RunRequest, run_in_subprocess
from nertune.storage.atomic import write_text

__all__ = ["conclude"]

_MARGIN = 0.01  # of micro-F1: what counts as keeping up
_LORA_WITHIN = 0.005  # LoRA is taken if it lies so little below: it is what costs less to keep
_MOST_SEEDS = 5
_RECIPE, _REPORT = "advice.toml", "advice.md"


def conclude(
    question: Question,
    state: AdviceState,
    outcomes: Sequence[Outcome],
    plan: Plan,
    seed_seconds: float,
) -> Advice:
    """The last comparison, what follows from it, and its files.

    Args:
        question: what was asked.
        state: what was done so far; its clock says how many seeds there is time for.
        outcomes: of the search.
        plan: of the runs.
        seed_seconds: what another seed of either way takes.

    Raises:
        NertuneError: nothing could be trained; the message says why.
    """
    chosen = _choose(outcomes, state)
    comparison, broken = _confirm(question, state, chosen, plan, seed_seconds)
    remarks = _remarks(comparison, broken)
    for remark in remarks:
        state.say(remark)
    if comparison is not None:
        trained = dict(zip(chosen, comparison.configurations, strict=True))
        folders = {family: list(found.folders) for family, found in trained.items()}
        costs = {family: _confirmed_cost(found) for family, found in trained.items()}
    else:
        runs = {family: question.run_folder(candidate) for family, candidate in chosen.items()}
        folders = {
            family: [path] for family, path in runs.items() if RunFolder(path).record.exists()
        }
        costs = {f: _search_cost(candidate, outcomes) for f, candidate in chosen.items()}
    scores = {family: Estimate.of(map(_read_f1, paths)) for family, paths in folders.items()}
    choice: Family
    difference, certainty = None, None
    if set(folders) == set(FAMILIES):
        counts = {f: count_dev(question.data.dev, folders[f]) for f in FAMILIES}
        difference = compare_counts(counts["lora"], counts["full"])
        choice = "lora" if difference.difference > -_LORA_WITHIN else "full"
        other: Family = "full" if choice == "lora" else "lora"
        certainty = chance_of_keeping_up(counts[choice], counts[other], margin=_MARGIN)
    else:
        if comparison is None:
            scores = _search_scores(chosen, outcomes)
        choice = max(chosen, key=lambda family: scores[family].mean or 0.0)
    advice = Advice(
        choice=choice,
        chosen=chosen,
        outcomes=tuple(outcomes),
        plan=plan,
        scores=scores,
        difference=difference,
        certainty=certainty,
        confirmed=comparison is not None,
        costs=costs,
        seconds=state.clock.spent,
        notices=(*state.notices, *remarks),
        recipe=question.output / _RECIPE,
        data={
            split: {
                "path": str(corpus.path),
                "sha256": corpus.sha256,
                "documents": len(corpus.documents),
            }
            for split, corpus in (("train", question.data.train), ("dev", question.data.dev))
        },
    )
    _write(advice, question)
    state.keep(advice=advice.to_dict())
    return advice


def _choose(outcomes: Sequence[Outcome], state: AdviceState) -> dict[Family, Candidate]:
    """The best of either way, among those that were trained longest."""
    chosen: dict[Family, Candidate] = {}
    for family in FAMILIES:
        tried = [o for o in outcomes if o.candidate.family == family]
        found = [o for o in tried if o.dev_f1]
        if found:
            chosen[family] = max(found, key=lambda o: (len(o.dev_f1), o.merit())).candidate
        elif tried:
            state.note(f"{NAMES[family]} could not be trained: {tried[0].reason}")
    if not chosen:
        raise NertuneError(outcomes[0].reason)
    return chosen


def _confirm(
    question: Question,
    state: AdviceState,
    chosen: Mapping[Family, Candidate],
    plan: Plan,
    seed_seconds: float,
) -> tuple[Comparison | None, str]:
    """Train the best of either way with other seeds, as many as time allows.

    Returns:
        The comparison of all seeds that were done, if any, and why there is no further one, if a
        run failed.
    """
    recipes = []
    for family, candidate in chosen.items():
        path = question.output / "recipes" / f"{family}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(question.recipe(candidate, plan)), encoding="utf-8")
        recipes.append(path)
    comparison = None
    output = question.output / "confirm"
    for seeds in range(1, _MOST_SEEDS + 1):
        is_done = state.get("seeds", 0) >= seeds
        if not is_done and state.clock.left < seed_seconds:
            break
        started = time.monotonic()
        is_begun = any((output / "runs").glob(f"*/seed-{SEARCH_SEED + seeds}"))
        try:
            comparison = compare(
                recipes, seeds=seeds, output=output, on_progress=state.say_and_keep,
                options=RunOptions(first_seed=SEARCH_SEED + 1, run=_run_quietly),
            )  # fmt: skip
        except NertuneError as error:
            return comparison, str(error)
        if not is_done and not is_begun:
            seed_seconds = time.monotonic() - started  # what the next one will take, too
        if not is_done:
            state.keep(seeds=seeds)
    return comparison, ""


def _remarks(comparison: Comparison | None, broken: str) -> list[str]:
    """What has to be known of the last comparison."""
    if broken:
        flatter = "" if comparison else "; the scores are the search's own, which flatter"
        said = [f"no further seed: {broken}{flatter}"]
    elif comparison is None:
        said = ["no time was left for other seeds than the search's: the scores flatter"]
    else:
        said = []
    silent = say_silent(comparison.configurations, comparison.split) if comparison else []
    return [*silent, *said]


def _search_scores(
    chosen: Mapping[Family, Candidate], outcomes: Sequence[Outcome]
) -> dict[Family, Estimate]:
    """Of the search's runs, after as many epochs as all of them have."""
    found = [o for o in outcomes if o.candidate in chosen.values()]
    epochs = min(len(outcome.dev_f1) for outcome in found)
    return {o.candidate.family: Estimate.of([o.best(epochs)]) for o in found}


def _confirmed_cost(configuration: Configuration) -> Cost:
    """From the last comparison."""
    return Cost(
        trainable=configuration.trainable_parameters,
        share=configuration.trainable_share,
        seconds_per_epoch=configuration.seconds_per_epoch.mean,
        peak_bytes=configuration.peak_memory_bytes.mean,
        stored_bytes=4 * configuration.trainable_parameters,
    )


def _search_cost(candidate: Candidate, outcomes: Sequence[Outcome]) -> Cost:
    """From the search's run alone."""
    outcome = next(o for o in outcomes if o.candidate == candidate)
    # Full tuning trains them all, if it could be trained.
    whole = max((o.trainable for o in outcomes if o.candidate.family == "full"), default=0)
    return Cost(
        trainable=outcome.trainable,
        share=outcome.trainable / whole if whole else None,
        seconds_per_epoch=outcome.seconds_per_epoch,
        peak_bytes=None,
        stored_bytes=4 * outcome.trainable,
    )


def _write(advice: Advice, question: Question) -> None:
    """Recipe and report."""
    plan = Plan(1.0, ideal_epochs(question.num_documents), 1, False, 0, 0.0)
    values = question.recipe(advice.chosen[advice.choice], plan)
    del values["train"]["patience"], values["data"]["train_share"]
    head = f"# {advice.verdict}\n# From {question.output}; test data were not read.\n\n"
    write_text(advice.recipe, head + tomli_w.dumps(values))
    write_text(question.output / _REPORT, to_markdown(advice))


def _run_quietly(request: RunRequest) -> None:
    """As `compare` does it, without the run's own messages."""
    with contextlib.redirect_stderr(io.StringIO()):
        run_in_subprocess(request)


def _read_f1(folder: Path) -> float:
    record = json.loads(RunFolder(folder).record.read_text(encoding="utf-8"))
    return float(record["dev"]["micro"]["f1"])
