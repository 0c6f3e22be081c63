"""What a sweep searches: the default of every way to tune, and what a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nertune.comparison.search.space import Range, default_space, read_space
from nertune.config.run import parse_settings
from nertune.errors import ConfigError


def write_recipe(folder: Path, space: str, dev: str = "sample:dev") -> Path:
    path = folder / "recipe.toml"
    data = f'[data]\ntrain = "sample:train"\ndev = "{dev}"\n'
    path.write_text(data + (f"\n[space]\n{space}\n" if space else ""), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ({"emitter": "lstm"}, "lstm.dropout"),
        ({"tuning": "full"}, "train.head_learning_rate"),
        ({"tuning": "lora"}, "lora.rank"),
        ({"tuning": "lora"}, "train.head_learning_rate"),
        ({"tuning": "peft"}, "train.learning_rate"),
        ({"tuning": "frozen"}, "train.learning_rate"),
    ],
)
def test_every_method_has_a_space(model: dict[str, Any], wanted: str) -> None:
    assert wanted in default_space(parse_settings({"data": {"train": "x"}, "model": model}))


def test_a_recipe_without_a_space_gets_the_default_of_its_method(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "")
    _, settings, space = read_space(recipe, ["model.tuning=lora"])
    assert space == default_space(settings)
    assert "lora.rank" in space


def test_a_recipe_says_what_is_searched(tmp_path: Path) -> None:
    text = '"train.learning_rate" = {low = 1e-3, high = 1e-1, log = true}\n"train.epochs" = [3, 9]'
    values, _, space = read_space(write_recipe(tmp_path, text))
    assert space == {
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True),
        "train.epochs": (3, 9),
    }
    assert "space" not in values  # what remains can be trained


def test_ranges_know_whole_numbers() -> None:
    assert Range.model_validate({"low": 4, "high": 16}).whole
    assert not Range.model_validate({"low": 0.0, "high": 1}).whole
    assert not Range.model_validate({"low": 1, "high": 3, "step": 0.5}).whole
    assert Range.model_validate({"low": 4, "high": 16}).ends == (4, 16)
    assert all(type(end) is int for end in Range.model_validate({"low": 4, "high": 16}).ends)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('"rate" = [1, 2]', 'expected "section.key"'),
        ('"train.rat" = [0.1, 0.2]', "unknown key train.rat"),
        ('"train.learning_rate" = [0.1]', "expected a list of two values or more"),
        ('"train.learning_rate" = 0.1', "expected a list of two values or more"),
        ('"train.learning_rate" = {low = 0.1, high = 0.01}', "expected low < high"),
        ('"train.learning_rate" = {low = 0.0, high = 0.01, log = true}', "low must be above 0"),
        ('"train.learning_rate" = {low = 0.1, high = 0.2, lgo = true}', "lgo"),
        ('"train.learning_rate" = [-1.0, 0.2]', "train.learning_rate"),
        ('"data.train" = ["a", "b"]', "not a setting of the model"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_space(write_recipe(tmp_path, space))


def test_without_dev_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.dev is missing"):
        read_space(write_recipe(tmp_path, "", dev=""))
