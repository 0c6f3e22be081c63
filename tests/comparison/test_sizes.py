"""Learning curves over the amount of training data, with a double in the place of training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.bench import Bench
from nertune.comparison.results import Comparison
from nertune.comparison.runs import RunOptions
from nertune.comparison.sizes import compare_sizes
from nertune.errors import ConfigError
from nertune.reports.comparison import comparison_page, print_comparison
from nertune.reports.markdown import to_markdown


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_sizes_train_each_configuration_on_nested_parts_of_the_data(bench: Bench) -> None:
    recipes = [bench.recipe("a"), bench.recipe("b", 0.002)]
    shown = compare_sizes(
        recipes,
        [0.5, 0.25, 1.0],
        output=bench.folder / "out",
        seeds=2,
        options=RunOptions(run=bench.trainer),
    )
    assert [point.share for point in shown.sizes] == [0.25, 0.5, 1.0]
    assert [point.documents for point in shown.sizes] == [20, 40, 80]
    assert shown.sizes[-1].f1["b"] == shown.configurations[1].score("micro").f1
    assert all(point.differences.keys() == {"b"} for point in shown.sizes)
    asked = {
        tuple(o for o in request.overrides if o.startswith(("train.epochs", "data.train_share")))
        for request in bench.trainer.requests
    }
    # 20 epochs by default; a quarter of the data 2.52 times as many, half 1.59 times.
    quarter = ("data.train_share=0.25", "train.epochs=50")
    assert asked == {(), ("data.train_share=0.5", "train.epochs=32"), quarter}
    taken = {
        (request.folder.parts[-4], request.name, request.seed): json.loads(
            (request.folder / "record.json").read_text()
        )["data"]["train"]["sha256"]
        for request in bench.trainer.requests
    }
    assert taken["share-0.25", "a", 1] == taken["share-0.25", "b", 1]  # the same for all
    assert taken["share-0.25", "a", 1] != taken["share-0.25", "a", 2]  # others for another seed
    assert len(set(taken.values())) == 5
    bench.trainer.requests.clear()
    again = compare_sizes(
        recipes,
        [0.25, 0.5],
        output=bench.folder / "out",
        seeds=2,
        options=RunOptions(run=bench.trainer),
    )
    assert bench.starts == []  # all is reused
    assert again.sizes == shown.sizes


def test_a_single_amount_is_no_curve(bench: Bench) -> None:
    for shares in ([], [1.0]):
        shown = compare_sizes(
            [bench.recipe("a")],
            shares,
            output=bench.folder / "out",
            options=RunOptions(run=bench.trainer),
        )
        assert shown.sizes == ()
        assert "By amount" not in to_markdown(comparison_page(shown))


def test_a_configuration_that_finds_nothing_with_few_documents_is_named(bench: Bench) -> None:
    recipes = [bench.recipe("a", 0.002), bench.recipe("silent", 0.5)]
    shown = compare_sizes(
        recipes, [0.5], output=bench.folder / "out", seeds=2, options=RunOptions(run=bench.trainer)
    )
    whole, half = shown.notices
    assert whole.startswith("silent predicted no entity with 2 of 2 seeds")
    assert half.startswith("With 50 % of the training documents: silent predicted no entity")


def test_sizes_are_shown(bench: Bench) -> None:
    recipes = [bench.recipe("a"), bench.recipe("b", 0.002)]
    shown = compare_sizes(
        recipes, [0.5], output=bench.folder / "out", seeds=2, options=RunOptions(run=bench.trainer)
    )
    console = Console(width=100, record=True, file=io.StringIO())
    print_comparison(shown, console)
    text, markdown = console.export_text(), to_markdown(comparison_page(shown))
    assert "40 (50 %)" in text
    assert "80 (100 %)" in text
    rows = [line for line in markdown.splitlines() if line.startswith("| 40 (50 %)")]
    assert [row.split(" | ")[1] for row in rows] == ["a", "b"]
    for row, name in zip(rows, ("a", "b"), strict=True):
        assert f"{shown.sizes[0].f1[name].mean:.3f}" in row
    assert "points against a" in markdown
    assert rows[1].endswith("| better |")
    assert shown.to_dict()["sizes"][0]["documents"] == 40
    assert "By amount" not in to_markdown(comparison_page(bench.compare(*recipes)))


@pytest.mark.parametrize(
    ("shares", "overrides", "message"),
    [
        ([0.0], [], "above 0"),
        ([1.5], [], "up to 1"),
        ([0.5], ["data.train_share=0.2"], "leave out --set data.train_share=0.2"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    bench: Bench, shares: list[float], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_sizes(
            [bench.recipe("a")],
            shares,
            output=bench.folder / "out",
            options=RunOptions(overrides=overrides, run=bench.trainer),
        )
    assert bench.starts == []


def test_other_amounts_are_refused_only_beside_sizes(bench: Bench) -> None:
    own = bench.recipe("own")
    own.write_text(own.read_text().replace("[train]", "train_share = 0.5\n[train]"))

    def call(recipe: Path, shares: list[float], **options: Any) -> Comparison:
        return compare_sizes(
            [recipe],
            shares,
            output=bench.folder / "out",
            options=RunOptions(run=bench.trainer, **options),
            seeds=1,
        )

    with pytest.raises(ConfigError, match=r"own\.toml: data\.train_share = 0\.5"):
        call(own, [0.5])
    with pytest.raises(ConfigError, match="exclude each other"):
        call(bench.recipe("a"), [0.5], other_training_data=True)
    assert bench.starts == []
    assert call(own, []).configurations[0].records[0]["data"]["train"]["documents"] == 40
    call(bench.recipe("a"), [1.0], overrides=["data.train_share=0.25"])
    assert bench.trainer.requests[-1].overrides == ("data.train_share=0.25",)
