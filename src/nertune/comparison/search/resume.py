"""What a search refuses to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nertune.config.run import settings_of_record
from nertune.errors import ConfigError
from nertune.experiments.record import first_difference

__all__ = ["refuse_other"]


def refuse_other(
    folder: Path, earlier: Mapping[str, Any], asked: Mapping[str, Any], what: str
) -> None:
    """Compare what a search was asked before a kill and now, as JSON values.

    Args:
        folder: of the search.
        earlier, asked: `settings`, `data` and whatever else it was asked.
        what: it is, e.g. `a sweep of`.

    Raises:
        ConfigError: they differ; the message says where.
    """
    for part, wanted in asked.items():
        was = earlier.get(part)
        if part == "settings":
            was = settings_of_record(was or {})
        if told := first_difference(was, wanted, "" if isinstance(wanted, dict) else part):
            raise ConfigError(
                f"{folder}: holds {what} other {part}: {told}; name another folder with --output"
            )
