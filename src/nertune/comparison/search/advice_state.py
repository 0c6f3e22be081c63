"""What an advice was asked, and what it has done so far: on disk after every step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.comparison.search.advice_data import AdviceData
from nertune.comparison.search.budget import Clock
from nertune.comparison.search.candidates import Candidate, Plan
from nertune.config.run import parse_settings, settings_of_record, with_changes
from nertune.errors import ConfigError
from nertune.experiments.record import first_difference
from nertune.storage.atomic import write_json

__all__ = ["SEARCH_SEED", "AdviceState", "Question", "refuse_folder"]

SEARCH_SEED = 1
"""Of the runs that choose; the last comparison takes the ones after it."""

_STATE = "advise.json"


@dataclass(frozen=True, slots=True)
class Question:
    """What an advice is asked.

    Attributes:
        data: to train on and to score on.
        values: settings of every run, by section.
        output: the advice's folder.
        minutes: the budget.
    """

    data: AdviceData
    values: Mapping[str, Any]
    output: Path
    minutes: float

    @property
    def num_documents(self) -> int:
        """To train on."""
        return len(self.data.train.documents)

    def run_folder(self, candidate: Candidate) -> Path:
        """Of the search's run."""
        return self.output / "runs" / candidate.name

    def recipe(
        self, candidate: Candidate, plan: Plan, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A candidate's settings, by section.

        Args:
            candidate: which.
            plan: says how long it trains, and on how much.
            more: further settings, by `section.key`.
        """
        changes = {
            "run.seed": SEARCH_SEED,
            **candidate.changes,
            "train.epochs": plan.epochs,
            "train.patience": 0,
            "data.train_share": plan.share,
            **(more or {}),
        }
        return with_changes(self.values, changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what a later life must be asked again."""
        request: dict[str, Any] = json.loads(json.dumps({
            "settings": parse_settings(self.values, source="advise").to_dict(),
            "data": {"train": self.data.train.sha256, "dev": self.data.dev.sha256},
            "minutes": self.minutes,
        }))  # fmt: skip
        return request


def refuse_folder(output: Path, *, resume: bool) -> None:
    """Before anything is written there.

    Raises:
        ConfigError: there is no advice to go on with, or one that was not asked for.
    """
    exists = (output / _STATE).exists()
    if resume and not exists:
        raise ConfigError(f"{output}: holds no advice to go on with")
    if exists and not resume:
        raise ConfigError(
            f"{output}: holds an advice already; go on with --resume, or name another "
            "folder with --output"
        )


class AdviceState:
    """Everything that an advice's next life has to know, but the runs themselves.

    Attributes:
        clock: counts the seconds of all lives.
        notices: what a reader has to know, of all lives.
    """

    def __init__(self, question: Question, say: Callable[[str], None]):
        """Goes on with what an earlier life left, if it was asked the same.

        Raises:
            ConfigError: it was asked something else, or its file is damaged.
        """
        self._path, self._say = question.output / _STATE, say
        self._kept = self._read(question)
        self.notices: list[str] = list(self._kept.get("notices", []))
        self.clock = Clock(60 * question.minutes, before=self._kept["spent"])

    def _read(self, question: Question) -> dict[str, Any]:
        request = question.to_dict()
        if not self._path.exists():
            fresh = {"request": request, "spent": 0.0}
            write_json(self._path, fresh)
            return fresh
        try:
            kept = dict(json.loads(self._path.read_text(encoding="utf-8")))
            earlier = dict(kept["request"])
            earlier["settings"] = settings_of_record(earlier.get("settings", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path}: is damaged; name another folder") from error
        for part, wanted in request.items():
            if told := first_difference(earlier.get(part), wanted, part):
                raise ConfigError(
                    f"{question.output}: holds an advice on other {part}: {told}; name another "
                    "folder with --output"
                )
        return kept

    def get(self, key: str, default: Any = None) -> Any:
        """What was kept under a name."""
        return self._kept.get(key, default)

    def keep(self, **values: Any) -> None:
        """Write these too, with the seconds spent and the notices."""
        self._kept |= {"spent": self.clock.spent, "notices": self.notices, **values}
        write_json(self._path, self._kept)

    @property
    def failures(self) -> dict[str, str]:
        """Why candidates could not be trained, by name."""
        found: dict[str, str] = self._kept.get("failures", {})
        return found

    def say(self, text: str) -> None:
        """Tell the user."""
        self._say(text)

    def say_and_keep(self, text: str) -> None:
        """Tell the user; the seconds spent so far are on disk."""
        self._say(text)
        self.keep()

    def note(self, notice: str) -> None:
        """Tell the user and, in the end, the reader; once, in whichever life."""
        if notice not in self.notices:
            self.notices.append(notice)
            self._say(notice)
