"""The last comparison of an advice, and what follows from it."""

from __future__ import annotations

import pytest

from helpers.advice import Ask, run_here
from nertune.comparison.results import Configuration, ScoreEstimate
from nertune.comparison.search import advise as module
from nertune.comparison.search.candidates import Plan
from nertune.errors import NertuneError
from nertune.experiments.processes.subprocess import RunRequest


@pytest.mark.slow
def test_without_seeds_the_searchs_own_runs_are_compared(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SEEDS", 0)
    advice = ask()
    assert not advice.confirmed
    assert advice.difference is not None
    assert advice.difference.num_seeds == 1
    assert "the scores are optimistic" in " ".join(advice.notices)
    assert advice.costs["lora"]["peak_bytes"] is None  # many runs shared one process


@pytest.mark.slow
def test_a_seed_that_fails_leaves_an_answer(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_from(first: int) -> None:
        def run(request: RunRequest) -> None:
            if request.seed >= first:
                raise NertuneError("its loss is not finite")
            run_here(request)

        monkeypatch.setattr(module, "run_in_subprocess", run)

    fails_from(2)
    advice = ask()
    assert not advice.confirmed
    assert advice.notices[-1] == (
        "no further seed: its loss is not finite; the scores are the search's own, which are "
        "optimistic"
    )
    fails_from(3)
    advice = ask(resume=True)
    assert advice.confirmed
    assert advice.difference is not None
    assert advice.difference.num_seeds == 1
    assert advice.notices[-1] == "no further seed: its loss is not finite"
    fails_from(99)
    advice = ask(resume=True)
    assert len(advice.scores["lora"].values) == 2
    assert not any("further seed" in notice or "1 of 1" in notice for notice in advice.notices)


def test_ways_that_ran_for_different_times_are_held_against_each_other_at_equal_ones(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SEEDS", 0)
    monkeypatch.setattr(Plan, "finalists", lambda plan, method: int(method == "full"))
    advice = ask()
    epochs = {o.candidate.method: len(o.dev_f1) for o in advice.outcomes
              if o.candidate in advice.chosen.values()}  # fmt: skip
    assert epochs == {"full": 6, "lora": 2}
    for family, candidate in advice.chosen.items():
        (outcome,) = (o for o in advice.outcomes if o.candidate == candidate)
        assert advice.scores[family].values == (outcome.best(2),)


@pytest.mark.slow
def test_if_nothing_is_found_no_way_is_recommended(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ScoreEstimate.of([{"f1": 0.0}])
    monkeypatch.setattr(Configuration, "score", lambda *_: nothing)
    monkeypatch.setattr(module, "say_silent", lambda *_: ["lora predicted no entity"])
    advice = ask()
    assert advice.verdict.startswith("no advice: nothing that was tried found an entity")
    assert "lora predicted no entity" in advice.notices
