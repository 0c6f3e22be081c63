"""Test data in a comparison: read by its runs where it reports on test, and never trained for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from helpers.advice import run_here
from helpers.shown import logged
from helpers.tiny import SENTENCES, make_settings, write_jsonl
from nertune.comparison.compare import RunOptions, compare
from nertune.comparison.results import Comparison
from nertune.comparison.sizes import compare_sizes
from nertune.experiments.folder import RunFolder
from nertune.experiments.processes.subprocess import RunRequest


class Shop:
    """A recipe with tiny data, compared with itself under other seeds."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.requests: list[RunRequest] = []
        self.said: list[str] = []
        self.test = write_jsonl(folder / "test.jsonl", SENTENCES[:5])

    def recipe(self, test: Path | None, **train: Any) -> Path:
        changes = {"data": {"test": "" if test is None else str(test)},
                   "train": {"epochs": 2, "learning_rate": 0.05, **train}}  # fmt: skip
        values = make_settings(self.folder, "lstm", changes).model_dump(
            mode="json", exclude_none=True
        )
        values["run"] = {"device": "cpu", "threads": 1}
        path = self.folder / "tiny.toml"
        path.write_text(tomli_w.dumps(values), encoding="utf-8")
        return path

    def compare(self, recipe: Path, **options: Any) -> Comparison:
        self.requests.clear()
        self.said.clear()

        def run(request: RunRequest) -> None:
            self.requests.append(request)
            run_here(request)

        output = self.folder / "out"
        with logged() as said:
            comparison = compare([recipe], seeds=1, output=output,
                                 options=RunOptions(run=run, **options))  # fmt: skip
        self.said += said
        return comparison

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "out/runs/tiny/seed-1")

    @property
    def trained(self) -> list[Any]:
        """Seconds tell one training from another."""
        return list(json.loads(self.run.record.read_text())["epochs"])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_runs_are_asked_for_test_only_where_the_comparison_is_scored_on_it(shop: Shop) -> None:
    assert shop.compare(shop.recipe(None)).split == "dev"
    assert [request.score_test for request in shop.requests] == [False]
    assert not shop.run.predictions("test").exists()


def test_a_finished_run_is_scored_on_test_and_not_trained_again(shop: Shop) -> None:
    shop.compare(shop.recipe(None))
    before = shop.trained
    shown = shop.compare(shop.recipe(shop.test))
    assert [(r.start, r.score_test) for r in shop.requests] == [("resume", True)]
    assert shop.said == ["[1/1] tiny, seed 1: trained before, scoring on test"]
    assert shop.trained == before
    assert shown.split == "test"
    assert shown.data["documents"] == 5
    assert shown.configurations[0].records[0]["test"]["documents"] == 5
    shop.compare(shop.recipe(shop.test))
    assert shop.requests == []


def test_lost_predictions_are_made_again_without_training(shop: Shop) -> None:
    shop.compare(shop.recipe(shop.test))
    before, told = shop.trained, shop.run.predictions("test").read_bytes()
    shop.run.predictions("test").unlink()
    shop.compare(shop.recipe(shop.test))
    assert shop.trained == before
    assert shop.run.predictions("test").read_bytes() == told


@pytest.mark.parametrize("change", ["settings", "model", "fresh", "test"])
def test_what_cannot_be_completed_is_trained_again(shop: Shop, change: str) -> None:
    shop.compare(shop.recipe(shop.test if change == "test" else None))
    before, options = shop.trained, {}
    recipe = shop.recipe(shop.test)
    if change == "settings":
        recipe = shop.recipe(shop.test, epochs=1)
    elif change == "model":
        shutil.rmtree(shop.run.model)
    elif change == "test":
        write_jsonl(shop.test, SENTENCES[:3])
    else:
        options["fresh"] = True
    assert shop.compare(recipe, **options).split == "test"
    assert [request.start for request in shop.requests] == ["new"]
    assert shop.trained != before


def test_learning_curves_ask_for_test_too(shop: Shop) -> None:
    asked = []

    def run(request: RunRequest) -> None:
        asked.append((request.start, request.score_test))
        run_here(request)

    for test in (None, shop.test):
        compare_sizes(
            [shop.recipe(test)],
            [0.5],
            output=shop.folder / "sizes",
            seeds=1,
            options=RunOptions(run=run),
        )
    assert asked == [("new", False)] * 2 + [("resume", True)] * 2
