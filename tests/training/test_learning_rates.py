"""Which rate each group of parameters trains with, whatever the names that say so.

The numbers under `OF_0_1_0` and `RECIPES` were computed with the code of 0.1.0.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from transformers import AutoConfig, BertConfig

from helpers.commands import run
from helpers.tiny import SENTENCES, tiny_bert, write_jsonl
from nertune.comparison.search.space import read_space
from nertune.config.names import OLD_RATES
from nertune.config.run import Settings, load_settings, parse_settings, upgrade_values
from nertune.errors import ConfigError
from nertune.experiments.recipe import Method, make_recipe
from nertune.labels.tagset import TagSet
from nertune.models.build import build_tagger, build_tokenizer
from nertune.storage.encoders import BUNDLED_ENCODERS, bundled_folder
from nertune.training.learning_rates import LSTM_RATE, SuggestedRates, suggest_rates
from nertune.training.optimizer import build_optimizer

ROOT = Path(__file__).parents[2]

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {},
    "full-crf": {"model": {"decoder": "crf"}},
    "frozen": {"model": {"tuning": "frozen"}},
    "top": {"model": {"tuning": "top", "top_layers": 1}},
    "bitfit": {"model": {"tuning": "bitfit"}},
    "lora": {"model": {"tuning": "lora"}},
    "lora_plus": {"model": {"tuning": "lora"}, "train": {"lora_plus": 4}},
    "peft": {"model": {"tuning": "peft"}},
    "lstm-crf": {"model": {"emitter": "lstm", "decoder": "crf"}},
}

OLD: list[dict[str, float]] = [
    {},
    {"rate": 5e-4},
    {
        "rate": 1e-3,
        "encoder_factor": 0.5,
        "head_rate": 3e-3,
        "adapter_rate": 2e-3,
        "crf_rate": 4e-3,
    },
    {"head_rate": 3e-3},
    {"adapter_rate": 2e-3, "crf_rate": 4e-3},
    {"rate": 1e-3, "head_rate": 3e-3},
    {"rate": 1e-3, "adapter_rate": 2e-3},
]
OF_0_1_0: dict[str, list[dict[str, float]]] = {
    "full": [
        {"encoder": 0.0001, "head": 0.001},
        {"encoder": 5e-05, "head": 0.0005},
        {"encoder": 0.0005, "head": 0.003},
        {"encoder": 0.0001, "head": 0.003},
        {"encoder": 0.0001, "head": 0.001},
        {"encoder": 0.0001, "head": 0.003},
        {"encoder": 0.0001, "head": 0.001},
    ],
    "full-crf": [
        {"crf": 0.01, "encoder": 0.0001, "head": 0.001},
        {"crf": 0.01, "encoder": 5e-05, "head": 0.0005},
        {"crf": 0.004, "encoder": 0.0005, "head": 0.003},
        {"crf": 0.01, "encoder": 0.0001, "head": 0.003},
        {"crf": 0.004, "encoder": 0.0001, "head": 0.001},
        {"crf": 0.01, "encoder": 0.0001, "head": 0.003},
        {"crf": 0.01, "encoder": 0.0001, "head": 0.001},
    ],
    "frozen": [
        {"head": 0.001},
        {"head": 0.0005},
        {"head": 0.003},
        {"head": 0.003},
        {"head": 0.001},
        {"head": 0.003},
        {"head": 0.001},
    ],
    "top": [
        {"encoder": 0.0001, "head": 0.001},
        {"encoder": 5e-05, "head": 0.0005},
        {"encoder": 0.0005, "head": 0.003},
        {"encoder": 0.0001, "head": 0.003},
        {"encoder": 0.0001, "head": 0.001},
        {"encoder": 0.0001, "head": 0.003},
        {"encoder": 0.0001, "head": 0.001},
    ],
    "bitfit": [
        {"encoder": 0.0005, "head": 0.001},
        {"encoder": 5e-05, "head": 0.0005},
        {"encoder": 0.0005, "head": 0.003},
        {"encoder": 0.0005, "head": 0.003},
        {"encoder": 0.0005, "head": 0.001},
        {"encoder": 0.0001, "head": 0.003},
        {"encoder": 0.0001, "head": 0.001},
    ],
    "lora": [
        {"adapter": 0.0005, "adapter_b": 0.0005, "head": 0.002},
        {"adapter": 0.0005, "adapter_b": 0.0005, "head": 0.0005},
        {"adapter": 0.002, "adapter_b": 0.002, "head": 0.003},
        {"adapter": 0.0005, "adapter_b": 0.0005, "head": 0.003},
        {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
        {"adapter": 0.001, "adapter_b": 0.001, "head": 0.003},
        {"adapter": 0.002, "adapter_b": 0.002, "head": 0.001},
    ],
    "lora_plus": [
        {"adapter": 0.000125, "adapter_b": 0.0005, "head": 0.002},
        {"adapter": 0.0005, "adapter_b": 0.002, "head": 0.0005},
        {"adapter": 0.002, "adapter_b": 0.008, "head": 0.003},
        {"adapter": 0.000125, "adapter_b": 0.0005, "head": 0.003},
        {"adapter": 0.002, "adapter_b": 0.008, "head": 0.002},
        {"adapter": 0.001, "adapter_b": 0.004, "head": 0.003},
        {"adapter": 0.002, "adapter_b": 0.008, "head": 0.001},
    ],
    "peft": [
        {"adapter": 0.005, "head": 0.002},
        {"adapter": 0.0005, "head": 0.0005},
        {"adapter": 0.002, "head": 0.003},
        {"adapter": 0.005, "head": 0.003},
        {"adapter": 0.002, "head": 0.002},
        {"adapter": 0.001, "head": 0.003},
        {"adapter": 0.002, "head": 0.001},
    ],
    "lstm-crf": [
        {"crf": 0.01, "lstm": 0.002},
        {"crf": 0.01, "lstm": 0.0005},
        {"crf": 0.004, "lstm": 0.001},
        {"crf": 0.01, "lstm": 0.002},
        {"crf": 0.004, "lstm": 0.002},
        {"crf": 0.01, "lstm": 0.001},
        {"crf": 0.01, "lstm": 0.001},
    ],
}

RECIPES: dict[str, dict[str, float]] = {
    "benchmarks/recipes/bert-crf.toml": {"encoder": 0.0004, "head": 0.001, "crf": 0.01},
    "benchmarks/recipes/lora-top2.toml": {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
    "recipes/methods/adalora.toml": {"adapter": 0.008, "adapter_b": 0.008, "head": 0.002},
    "recipes/methods/beft.toml": {"adapter": 0.02, "head": 0.002},
    "recipes/methods/bitfit.toml": {"encoder": 0.001, "head": 0.005},
    "recipes/methods/boft.toml": {"adapter": 0.01, "head": 0.002},
    "recipes/methods/dora.toml": {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
    "recipes/methods/frozen.toml": {"head": 0.002},
    "recipes/methods/full.toml": {"encoder": 0.0004, "head": 0.001},
    "recipes/methods/hra.toml": {"adapter": 0.004, "head": 0.002},
    "recipes/methods/ia3.toml": {"adapter": 0.02, "head": 0.002},
    "recipes/methods/layernorm.toml": {"adapter": 0.01, "head": 0.002},
    "recipes/methods/loha.toml": {"adapter": 0.004, "head": 0.002},
    "recipes/methods/lokr.toml": {"adapter": 0.004, "head": 0.002},
    "recipes/methods/lora-plus.toml": {"adapter": 0.0005, "adapter_b": 0.002, "head": 0.0005},
    "recipes/methods/lora.toml": {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
    "recipes/methods/oft.toml": {"adapter": 0.004, "head": 0.002},
    "recipes/methods/olora.toml": {"adapter": 0.001, "adapter_b": 0.001, "head": 0.001},
    "recipes/methods/p-tuning.toml": {"head": 0.002, "adapter": 0.002},
    "recipes/methods/pissa.toml": {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
    "recipes/methods/prefix.toml": {"head": 0.002, "adapter": 0.01},
    "recipes/methods/prompt.toml": {"head": 0.002, "adapter": 0.05},
    "recipes/methods/rslora.toml": {"adapter": 0.002, "adapter_b": 0.002, "head": 0.002},
    "recipes/methods/top.toml": {"encoder": 0.001, "head": 0.005},
    "recipes/methods/vera.toml": {"adapter": 0.03, "head": 0.002},
    "recipes/peoples/bert.toml": {"encoder": 0.0002, "head": 0.001},
    "recipes/peoples/lora-crf.toml": {
        "adapter": 0.001,
        "adapter_b": 0.001,
        "head": 0.002,
        "crf": 0.01,
    },
    "recipes/peoples/lora.toml": {"adapter": 0.001, "adapter_b": 0.001, "head": 0.002},
    "recipes/peoples/lstm-crf.toml": {"lstm": 0.002, "crf": 0.01},
    "recipes/peoples/lstm.toml": {"lstm": 0.002},
    "recipes/sample/bert.toml": {"encoder": 0.0002, "head": 0.001},
    "recipes/sample/lora-crf.toml": {
        "adapter": 0.001,
        "adapter_b": 0.001,
        "head": 0.002,
        "crf": 0.01,
    },
    "recipes/sample/lora.toml": {"adapter": 0.001, "adapter_b": 0.001, "head": 0.002},
    "recipes/sample/lstm-crf.toml": {"lstm": 0.002, "crf": 0.01},
    "recipes/sample/lstm.toml": {"lstm": 0.002},
}


def values_of(method: str, **train: Any) -> dict[str, dict[str, Any]]:
    sections = METHODS[method]
    return {
        "data": {"train": "unused"},
        "model": {"encoder": str(tiny_bert()), **sections.get("model", {})},
        "train": {**sections.get("train", {}), **train},
    }


def peaks(settings: Settings) -> dict[str, float]:
    """The optimizer's rates, by group."""
    tagset = TagSet.from_labels(e.label for d in SENTENCES for e in d.entities)
    tagger = build_tagger(settings, tagset, build_tokenizer(settings, SENTENCES, "char"))
    optimizer, _ = build_optimizer(tagger, settings.train)
    assert all(group["lr"] == group["peak"] for group in optimizer.param_groups)
    return {group["name"]: group["peak"] for group in optimizer.param_groups}


# Rates that are given


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("full", {"encoder": 5e-5, "head": 1e-3}),
        ("full-crf", {"encoder": 5e-5, "head": 1e-3, "crf": 1e-2}),
        ("frozen", {"head": 5e-5}),
        ("top", {"encoder": 5e-5, "head": 1e-3}),
        ("bitfit", {"encoder": 5e-5, "head": 1e-3}),
        ("lora", {"adapter": 5e-5, "adapter_b": 5e-5, "head": 2e-3}),
        ("lora_plus", {"adapter": 5e-5, "adapter_b": 2e-4, "head": 2e-3}),
        ("peft", {"adapter": 5e-5, "head": 2e-3}),
        ("lstm-crf", {"lstm": 5e-5, "crf": 1e-2}),
    ],
)
def test_learning_rate_is_that_of_what_is_tuned(method: str, expected: dict[str, float]) -> None:
    """5e-5 means what it means in every other tool; the head keeps its own default."""
    assert peaks(parse_settings(values_of(method, learning_rate=5e-5))) == pytest.approx(expected)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("frozen", "lstm-crf")])
def test_the_head_and_the_crf_have_rates_of_their_own(method: str) -> None:
    """Whether or not that of what is tuned is given."""
    own = {"head_learning_rate": 7e-4, "crf_learning_rate": 3e-3}
    defaults = peaks(parse_settings(values_of(method)))
    alone = peaks(parse_settings(values_of(method, **own)))
    changed = {"head": 7e-4} | ({"crf": 3e-3} if "crf" in defaults else {})
    assert alone == pytest.approx(defaults | changed)
    both = peaks(parse_settings(values_of(method, learning_rate=1e-4, **own)))
    assert both["head"] == 7e-4


def test_a_frozen_encoder_has_one_rate() -> None:
    for name in ("learning_rate", "head_learning_rate"):
        assert peaks(parse_settings(values_of("frozen", **{name: 6e-4}))) == {"head": 6e-4}
    same = values_of("frozen", learning_rate=6e-4, head_learning_rate=6e-4)
    assert peaks(parse_settings(same)) == {"head": 6e-4}
    other = values_of("frozen", learning_rate=6e-4, head_learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"learning_rate = 0\.0006 .*0\.001 are both its rate"):
        parse_settings(other)


def test_a_bilstm_has_no_head_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"head_learning_rate = 0\.001.*set train\.learning_rate"):
        parse_settings(values_of("lstm-crf", head_learning_rate=1e-3))


def test_a_run_says_its_rates_at_the_start(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    recipe = tmp_path / "a.toml"
    recipe.write_text(
        f'[data]\ntrain = "{data}"\n[model]\nencoder = "{tiny_bert()}"\n[train]\nepochs = 1\n'
        f'learning_rate = 5e-5\n[run]\ndir = "{tmp_path / "run"}"\n'
    )
    assert "learning rates: encoder 5e-05, head 0.001" in run("train", recipe).stderr


# Names of 0.1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(len(OLD)))
def test_old_names_train_as_they_did(method: str, number: int) -> None:
    settings = parse_settings(values_of(method, **OLD[number]))
    assert peaks(settings) == pytest.approx(OF_0_1_0[method][number])
    assert not set(settings.to_dict()["train"]) & set(OLD_RATES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_shipped_recipes_train_as_they_did(recipe: str) -> None:
    values = tomllib.loads((ROOT / recipe).read_text(encoding="utf-8"))
    assert not set(values["train"]) & set(OLD_RATES)
    if "encoder" in values["model"]:
        values["model"]["encoder"] = str(tiny_bert())
    values["data"] = {"train": "unused"}
    assert peaks(parse_settings(values)) == pytest.approx(RECIPES[recipe])


def test_every_shipped_recipe_is_in_the_table() -> None:
    folders = (ROOT / "recipes", ROOT / "benchmarks" / "recipes")
    found = {str(p.relative_to(ROOT)) for folder in folders for p in folder.rglob("*.toml")}
    assert found == set(RECIPES)


@pytest.mark.parametrize(
    ("method", "old", "lines"),
    [
        ("full", {"rate": 5e-4}, [
            "train.rate is now train.learning_rate: read as learning_rate = 5e-05, "
            "head_learning_rate = 0.0005"]),
        ("full", {"rate": 5e-4, "encoder_factor": 0.2, "head_rate": 1e-3}, [
            "train.rate is now train.learning_rate: read as learning_rate = 0.0001",
            "train.encoder_factor is now train.learning_rate: read as learning_rate = 0.0001",
            "train.head_rate is now train.head_learning_rate: read as head_learning_rate = 0.001"]),
        ("lora", {"rate": 1e-3, "adapter_rate": 2e-3}, [
            "train.rate is now train.head_learning_rate: read as head_learning_rate = 0.001",
            "train.adapter_rate is now train.learning_rate: read as learning_rate = 0.002"]),
        ("lstm-crf", {"rate": 1e-3, "crf_rate": 2e-3, "head_rate": 5e-3}, [
            "train.rate is now train.learning_rate: read as learning_rate = 0.001",
            "train.head_rate is an old name and trains nothing here: left out",
            "train.crf_rate is now train.crf_learning_rate: read as crf_learning_rate = 0.002"]),
        ("frozen", {"rate": 1e-3}, [
            "train.rate is now train.learning_rate: read as learning_rate = 0.001"]),
        ("lora", {"rate": None, "crf_rate": 2e-3}, [
            "train.crf_rate is now train.crf_learning_rate: read as crf_learning_rate = 0.002"]),
        ("full", {"learning_rate": 5e-4}, []),
    ],
)  # fmt: skip
def test_each_old_name_is_answered_with_the_new_one(
    method: str, old: Mapping[str, Any], lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    values = values_of(method, **old)
    before = repr(values)
    assert upgrade_values(values)[1] == lines
    assert repr(values) == before
    with caplog.at_level(logging.WARNING, logger="nertune"):
        parse_settings(values, source="a.toml")
    assert caplog.messages == [f"a.toml: {line}" for line in lines]


def test_what_is_upgraded_needs_no_upgrade() -> None:
    values, _ = upgrade_values(values_of("full", rate=1e-3))
    assert upgrade_values(values) == (values, [])


@pytest.mark.parametrize("source", ["recipe", "--set"])
def test_old_names_are_answered_at_the_command_line(source: str, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    recipe = tmp_path / "a.toml"
    rate = "rate = 0.02\n" if source == "recipe" else ""
    recipe.write_text(
        f'[data]\ntrain = "{data}"\n[model]\nemitter = "lstm"\n[train]\nepochs = 1\n{rate}'
        f'[run]\ndir = "{tmp_path / "run"}"\n'
    )
    done = run("train", recipe, *(() if rate else ("--set", "train.rate=0.02")))
    line = "train.rate is now train.learning_rate: read as learning_rate = 0.02"
    assert done.stderr.count(line) == 1
    assert line not in done.stdout


@pytest.mark.parametrize("old", [name for name in OLD_RATES if name != "encoder_factor"])
@pytest.mark.parametrize("new", ["learning_rate", "head_learning_rate", "crf_learning_rate"])
def test_old_and_new_names_together_are_refused(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{old} is an old name .* train\.{new}"):
        parse_settings(values_of("full", **{old: 1e-3, new: 1e-3}))
    recipe = tmp_path / "a.toml"
    recipe.write_text(f'[data]\ntrain = "x"\n[train]\n{new} = 1e-3\n')
    with pytest.raises(ConfigError, match=rf"a\.toml: train\.{old} is an old name"):
        load_settings(recipe, [f"train.{old}=1e-3"])


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ({"rate": 11}, r"train\.rate: .*less than or equal to 10, got 11"),
        ({"rate": "fast"}, r"train\.rate: .*got 'fast'"),
        ({"head_rate": 0}, r"train\.head_rate: .*greater than 0, got 0"),
        ({"encoder_factor": 0.02}, r"encoder_factor = 0\.02 is a share.*set train\.learning_rate"),
        ({"rate": 1e-3, "encoder_factor": 2}, r"train\.encoder_factor: .*got 2"),
    ],
)
def test_old_values_have_their_limits(old: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(values_of("full", **old))


# Search spaces


def test_a_space_of_old_names_means_what_it_did(tmp_path: Path) -> None:
    """The rate was the head's too, which no single new name can say: each trial is translated."""
    path = tmp_path / "a.toml"
    path.write_text(
        '[data]\ntrain = "sample:train"\ndev = "sample:dev"\n[train]\nrate = 1e-3\n'
        '[space]\n"train.rate" = [5e-4, 2e-3]\n'
    )
    values, settings, space = read_space(path)
    assert space == {"train.rate": (5e-4, 2e-3)}
    assert settings.train.learning_rate == pytest.approx(1e-4)
    assert values["train"]["rate"] == 1e-3


def test_the_default_space_goes_with_an_old_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[data]\ntrain = "sample:train"\ndev = "sample:dev"\n[train]\nrate = 1e-3\n')
    values, _, space = read_space(path)
    assert "train.learning_rate" in space
    assert values["train"] == pytest.approx({"learning_rate": 1e-4, "head_learning_rate": 1e-3})


def default_rates(encoder: str) -> dict[str, float]:
    """Of full fine-tuning and of LoRA; a hub name stands for an encoder of BERT-base's width."""
    bundled = encoder in BUNDLED_ENCODERS
    config = AutoConfig.from_pretrained(bundled_folder(encoder)) if bundled else BertConfig()
    rates = suggest_rates(config)
    return {"full": rates.encoder, "lora": rates.adapter}


@pytest.mark.parametrize("encoder", ["mini-zh", "google-bert/bert-base-chinese"])
def test_a_new_recipe_names_the_rates_that_are_used(encoder: str, tmp_path: Path) -> None:
    train = str(write_jsonl(tmp_path / "train.jsonl"))
    for method, rate in (*default_rates(encoder).items(), ("lstm", LSTM_RATE)):
        text = make_recipe({"train": train}, method=cast("Method", method), encoder=encoder)
        hint = re.search(r"^# learning_rate = (\S+)", text, re.MULTILINE)
        assert hint is not None
        assert float(hint[1]) == rate


def test_the_documents_name_the_rates_that_are_used() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"LoRA trains at (\S+) here, and at (\S+) with\s+`mini-zh`", readme)
    assert told is not None
    expected = [
        default_rates(name)["lora"] for name in ("google-bert/bert-base-chinese", "mini-zh")
    ]
    assert [float(rate) for rate in told.groups()] == expected
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    for row, config in (
        ("hidden size below 512, pre-norm", AutoConfig.from_pretrained(bundled_folder("mini-zh"))),
        ("hidden size below 512, others", BertConfig(hidden_size=384)),
        ("hidden size of 512 or more", BertConfig()),
    ):
        rates = re.search(rf"^\| {row}.*\| (\S+) \| (\S+) \|$", page, re.MULTILINE)
        assert rates is not None
        assert SuggestedRates(*map(float, rates.groups())) == suggest_rates(config)
