"""What the tests of an advice share; the fixture `ask` is in tests/runs/conftest.py."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from nertune.config import load_settings
from nertune.runs.advice import Advice
from nertune.runs.child import RunRequest
from nertune.runs.experiment import train

Ask = Callable[..., Advice]


def run_here(request: RunRequest) -> None:
    """A run of the last comparison without a process of its own, which would take seconds."""
    settings = load_settings(
        request.recipe,
        [*request.overrides, f"run.seed={request.seed}", f'run.dir="{request.folder}"'],
    )
    train(
        settings,
        console=Console(file=io.StringIO()),
        score_test=request.score_test,
        resume=request.start == "resume",
    )
