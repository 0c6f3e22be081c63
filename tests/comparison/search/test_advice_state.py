"""What an advice keeps for when it is killed, its clock, and when its runs end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.shown import logged
from nertune.comparison.search.advise import _State, _Until
from nertune.config.run import parse_settings
from nertune.errors import ConfigError
from nertune.training.observer import Pause
from nertune.training.progress import EpochReport


def asked(**changes: Any) -> dict[str, Any]:
    settings = parse_settings({"data": {"train": "sample:train"}}).to_dict()
    return {
        "settings": settings,
        "data": {"train": "1", "dev": "2"},
        "minutes": 10.0,
        "encoder": "a",
        **changes,
    }


def test_what_was_kept_is_known_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "advise.json"
    state = _State(path, asked())
    assert "speeds" not in state.kept
    with logged() as said:
        state.note("no dev file")
    assert said == ["no dev file"]
    state.keep(failures={"lora-0.1": "it does not go"})
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"spent": 100.0}), encoding="utf-8")  # as if it took so long
    later = _State(path, asked())
    assert later.kept["failures"] == {"lora-0.1": "it does not go"}
    assert later.notices == ["no dev file"]
    with logged() as said:
        later.note("no dev file")
    assert said == []  # it was said before the kill
    assert 100 <= later.spent < 110
    assert 490 < later.left <= 500


def test_another_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "advise.json"
    _State(path, asked())
    settings = asked()["settings"]
    other = {**settings, "train": {**settings["train"], "learning_rate": 0.1}}
    for changes in (
        {"minutes": 11.0}, {"settings": other}, {"data": {"train": "1", "dev": "3"}},
        {"encoder": "b"},
    ):  # fmt: skip
        (part,) = changes
        with pytest.raises(ConfigError, match=f"holds an advice on other {part}: .* was .*, is "):
            _State(path, asked(**changes))
    for damaged in ("{", "[]", '{"request": 1}', '{"request": {}}'):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"advise.json: is damaged"):
            _State(path, asked())


@pytest.mark.parametrize(("minutes", "last"), [(10.0, 3), (-1.0, 1)])
def test_a_run_ends_with_its_epochs_or_with_the_time(
    minutes: float, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(epoch: int) -> EpochReport:
        return EpochReport(epoch, loss=1.0, seconds=2.0, tokens_per_second=1.0, dev=None)

    state = _State(tmp_path / "advise.json", asked(minutes=minutes))
    until = _Until(3, state)
    kept: list[int] = []
    monkeypatch.setattr(_State, "keep", lambda _: kept.append(len(until.seconds)))
    for epoch in range(1, last):
        until.on_epoch(report(epoch), is_best=True)
    with pytest.raises(Pause):
        until.on_epoch(report(last), is_best=True)
    assert kept == list(range(1, last + 1))  # what was spent is on disk after each epoch
    assert until.seconds == [2.0] * last
