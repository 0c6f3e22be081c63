"""What `sweep` and `advise` share: runs in this process, and what they refuse to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nertune.config.run import Settings, settings_of_record
from nertune.errors import ConfigError
from nertune.experiments.notices import keep_quiet
from nertune.experiments.record import first_difference
from nertune.training.observer import Observer

__all__ = ["refuse_other", "train_quietly"]


def train_quietly(
    settings: Settings, watch: Observer | None = None, *, resume: bool = False
) -> dict[str, Any]:
    """Train here, without the run's own messages.

    Args:
        settings: the run.
        watch: is told about its progress.
        resume: go on with a killed run.

    Returns:
        The run's record.

    Raises:
        NertuneError: the run cannot be trained.
    """
    from nertune.experiments.train import train

    with keep_quiet():
        return train(settings, resume=resume, observers=() if watch is None else (watch,))


def refuse_other(
    folder: Path, earlier: Mapping[str, Any], asked: Mapping[str, Any], what: str
) -> None:
    """Compare what a search was asked before a kill and now, as JSON values.

    Args:
        folder: of the search.
        earlier, asked: `settings`, `data`, `encoder` (the hash of the weights that runs begin with)
            and whatever else it was asked.
        what: it is, e.g. `a sweep of`.

    Raises:
        ConfigError: they differ; the message says where.
    """
    for part, wanted in asked.items():
        was = earlier.get(part)
        if part == "settings":
            was = settings_of_record(was or {})
        if part == "encoder" and None in (was, wanted):  # not fetched yet at one of the times
            continue
        if told := first_difference(was, wanted, "" if isinstance(wanted, dict) else part):
            raise ConfigError(
                f"{folder}: holds {what} other {part}: {told}; name another folder with --output"
            )
