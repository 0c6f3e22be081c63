"""What an advice keeps for its next life."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, write_jsonl
from nertune.comparison.search.advice_data import load_data
from nertune.comparison.search.advice_state import AdviceState, Question, refuse_folder
from nertune.comparison.search.candidates import Candidate, Plan
from nertune.config.run import parse_settings
from nertune.errors import ConfigError


@pytest.fixture
def question(tmp_path: Path) -> Question:
    train = write_jsonl(tmp_path / "train.jsonl", SENTENCES)
    dev = write_jsonl(tmp_path / "dev.jsonl", SENTENCES[:6])
    values = {"data": {"train": str(train), "dev": str(dev)}, "model": {"encoder": "mini-zh"}}
    output = tmp_path / "out"
    output.mkdir()
    data = load_data(parse_settings(values).data, output)
    return Question(data, values, output, minutes=10.0)


def test_the_next_life_knows_what_was_kept(question: Question) -> None:
    said: list[str] = []
    state = AdviceState(question, said.append)
    assert state.get("speeds") is None
    state.note("no dev file")
    state.clock.before = 100.0  # as if it had worked so long
    state.keep(failures={"lora-0.1": "it does not go"})
    later = AdviceState(question, said.append)
    assert later.failures == {"lora-0.1": "it does not go"}
    assert later.notices == ["no dev file"]
    later.note("no dev file")
    assert said == ["no dev file"]  # in the first life
    assert 100 <= later.clock.spent < 110
    assert 490 < later.clock.left <= 500


def test_another_question_is_refused(question: Question, tmp_path: Path) -> None:
    AdviceState(question, print)
    few = load_data(
        parse_settings({"data": {"train": str(tmp_path / "dev.jsonl"),
                                 "dev": str(tmp_path / "train.jsonl")}}).data, tmp_path
    )  # fmt: skip
    for other, part in (
        (replace(question, minutes=11.0), "minutes"),
        (
            replace(question, values={**question.values, "train": {"learning_rate": 0.1}}),
            "settings",
        ),
        (replace(question, data=few), "data"),
    ):
        with pytest.raises(ConfigError, match=f"holds an advice on other {part}"):
            AdviceState(other, print)
    (question.output / "advise.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"advise.json: is damaged"):
        AdviceState(question, print)


def test_a_folder_is_refused_before_anything_is_written(question: Question) -> None:
    with pytest.raises(ConfigError, match="holds no advice to go on with"):
        refuse_folder(question.output, resume=True)
    refuse_folder(question.output, resume=False)
    assert list(question.output.iterdir()) == []
    AdviceState(question, print)
    refuse_folder(question.output, resume=True)
    with pytest.raises(ConfigError, match="holds an advice already; go on with --resume"):
        refuse_folder(question.output, resume=False)


def test_a_recipe_has_the_plans_length(question: Question) -> None:
    candidate = Candidate(
        "lora-1", "lora", "rank 2", 0.1, {"lora.rank": 2, "train.learning_rate": 0.1}
    )
    plan = Plan(share=0.5, epochs=7, first=3, shapes=False, seeds=1, seconds=0.0)
    values = question.recipe(candidate, plan, {"run.seed": 4})
    settings = parse_settings(values)
    assert (settings.train.epochs, settings.data.train_share, settings.lora.rank) == (7, 0.5, 2)
    assert settings.run.seed == 4
    assert "run" not in question.values  # what was asked stays as it was
    assert question.run_folder(candidate) == question.output / "runs" / "lora-1"
