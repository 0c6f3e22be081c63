"""What tests of an advice share; the fixture `ask`: tests/comparison/search/conftest.py."""

from __future__ import annotations

from collections.abc import Callable

from nertune.comparison.search.advice import Advice
from nertune.config.run import load_settings
from nertune.experiments.notices import keep_quiet
from nertune.experiments.processes.subprocess import RunRequest
from nertune.experiments.train import train

Ask = Callable[..., Advice]


def run_here(request: RunRequest) -> None:
    """A run of the last comparison without a process of its own, which would take seconds."""
    settings = load_settings(
        request.recipe,
        [*request.overrides, f"run.seed={request.seed}", f'run.dir="{request.folder}"'],
    )
    with keep_quiet():
        train(
            settings,
            score_test=request.score_test,
            resume=request.start == "resume",
        )
