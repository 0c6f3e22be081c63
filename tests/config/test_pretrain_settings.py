"""The settings of pre-training: what is refused, and how a value is set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nertune.config.pretrain import PretrainSettings, parse_pretrain_settings
from nertune.errors import ConfigError

GOOD: dict[str, Any] = {
    "files": [Path("a.txt")],
    "output": Path("run"),
    "encoder": "mini-zh",
    "tokens": 1000,
}


def parse(*overrides: str, **changes: Any) -> PretrainSettings:
    return parse_pretrain_settings(GOOD | changes, overrides)


def refusal(*overrides: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*overrides, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_smallest() -> None:
    settings = parse()
    assert settings.files == (Path("a.txt"),)
    assert settings.tokens == 1000
    assert settings.exclude == ()
    assert parse(encoder="", from_scratch="tiny").from_scratch == "tiny"
    assert parse(tokens=0, minutes=0.5).minutes == 0.5


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "encoder and from_scratch": ({"from_scratch": "tiny"}, "give one of encoder .* from_scratch"),
    "neither": ({"encoder": ""}, "give one of encoder .* from_scratch"),
    "two budgets": ({"minutes": 1.0}, "give one budget: tokens or minutes"),
    "no budget": ({"tokens": 0}, "give one budget: tokens or minutes"),
    "lora from scratch": (
        {"encoder": "", "from_scratch": "tiny", "lora": True},
        "lora adapts an encoder",
    ),
    "short rows as long": ({"short_length": 128}, r"short_length must be below length \(128\)"),
    "short rows too short": ({"short_length": 7}, "short_length must be 0 or at least 8"),
    "long rows as short": ({"long_length": 128}, r"long_length must be 0 or above length \(128\)"),
    "long rows longer than a block": (
        {"long_length": 1001, "block_pieces": 1000},
        r"block_pieces must be at least as long as a row \(1001\)",
    ),
    "short and long rows overlap": (
        {"short_length": 64, "short_share": 0.7, "long_length": 256, "long_share": 0.4},
        "short_share and long_share must not be above 1 together",
    ),
    "two word taggers": (
        {"words": "jieba", "teacher": "runs/a"},
        r"give one of words \(a segmenter\), word_tags \(files\) and teacher",
    ),
    "two others": ({"word_tags": ["a.tags"], "teacher": "runs/a"}, "give one of words"),
    "a tag file for two": (
        {"files": [Path("a"), Path("b")], "word_tags": [Path("a.tags")]},
        "word_tags names 1 files, but there are 2 of text: give one for each",
    ),
    "entity tags of nobody": ({"entity_tags": ["PER"]}, "entity_tags needs a word tagger"),
    "an entity weight of nothing": ({"entity_weight": 2}, "entity_weight needs a word tagger"),
    "entities to mask of nobody": (
        {"entity_mask_share": 0.2},
        "entity_mask_share needs a word tagger",
    ),
    "entities masked in spans": (
        {"entity_mask_share": 0.2, "words": "jieba", "masking": "span"},
        "entity_mask_share masks whole words: masking must be \"word\", not 'span'",
    ),
    "every entity masked": ({"entity_mask_share": 1.0, "words": "jieba"}, "entity_mask_share.*got"),
    "an entity weight of 0": ({"entity_weight": 0, "words": "jieba"}, "entity_weight.*got 0"),
    "no file": ({"files": []}, "files"),
    "a shape": ({"encoder": "", "from_scratch": "huge"}, "from_scratch.*'tiny'.*got 'huge'"),
    "an architecture": ({"architecture": "gpt"}, "architecture.*got 'gpt'"),
    "a unit": ({"unit": "byte"}, "unit.*got 'byte'"),
    "a segmenter": ({"words": "pkuseg"}, "words.*got 'pkuseg'"),
    "a masking": ({"masking": "row"}, "masking.*got 'row'"),
    "nothing hidden": ({"mask_share": 0}, "mask_share.*got 0"),
    "all hidden": ({"mask_share": 1}, "mask_share.*got 1"),
    "tokens": ({"tokens": -1}, "tokens.*got -1"),
    "text for a number": ({"tokens": "many"}, "tokens.*got 'many'"),
    "length": ({"length": 7}, "length.*got 7"),
    "batch": ({"batch_tokens": 0}, "batch_tokens.*got 0"),
    "rate": ({"rate": 0}, "rate.*got 0"),
    "optimizer": ({"optimizer": "sgd"}, "optimizer.*got 'sgd'"),
    "held out": ({"held_out": 0.6}, "held_out.*got 0.6"),
    "an empty sample": ({"sample": 0}, "sample.*got 0"),
    "more than all": ({"sample": 1.1}, "sample.*got 1.1"),
    "block": ({"block_pieces": 10}, "block_pieces.*got 10"),
    "seed": ({"seed": -1}, "seed.*got -1"),
    "precision": ({"precision": "fp16"}, "precision.*got 'fp16'"),
    "storage": ({"storage": "int8"}, "storage.*got 'int8'"),
    "adapter's rank": ({"adapter": {"rank": 0}}, r"adapter\.rank.*got 0"),
    "adapter's layers": ({"adapter": {"layers": "upper"}}, r"adapter\.layers.*top-K"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    changes, expected = REFUSED[case]
    assert_matches(refusal(**changes), f"pretrain: .*{expected}")


def assert_matches(message: str, pattern: str) -> None:
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    "values", [{"words": "jieba"}, {"word_tags": [Path("a.tags")]}, {"teacher": "runs/a/model"}]
)
def test_ways_to_tag_words(values: dict[str, Any]) -> None:
    assert not parse().tags_words
    settings = parse("entity_mask_share=0.3", "entity_weight=2", 'entity_tags=["PER"]', **values)
    assert settings.tags_words
    assert (settings.entity_mask_share, settings.entity_tags) == (0.3, ("PER",))


def test_the_longest_row() -> None:
    assert parse().longest == 128
    assert parse("short_length=64", "long_length=256").longest == 256


def test_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="files"):
        parse_pretrain_settings({"output": "run", "encoder": "mini-zh", "tokens": 1})
    with pytest.raises(ConfigError, match="output"):
        parse_pretrain_settings({"files": ["a"], "encoder": "mini-zh", "tokens": 1})


def test_an_unknown_key_names_the_nearest() -> None:
    assert_matches(refusal(lenght=64), "unknown setting lenght; did you mean length")
    assert_matches(refusal(zzzzz=1), "unknown setting zzzzz$")


def test_an_unknown_key_on_the_command_line_names_the_nearest() -> None:
    assert_matches(refusal("lenght=64"), "lenght.*did you mean length")


def test_an_unknown_key_of_the_adapter() -> None:
    assert_matches(refusal("adapter.rnk=4"), r"adapter\.rnk")
    assert_matches(refusal("adaptor.rank=4"), "adaptor.*did you mean adapter")


def test_overrides() -> None:
    settings = parse(
        "tokens=2000",
        "rate=5e-4",
        "optimizer=muon",  # a bare word is a string
        'masking="span"',
        "seed = 7",
        "lora=true",
        "adapter.rank=4",
        'adapter.targets=["query"]',
    )
    assert (settings.tokens, settings.rate, settings.seed) == (2000, 5e-4, 7)
    assert (settings.optimizer, settings.masking, settings.lora) == ("muon", "span", True)
    assert (settings.adapter.rank, settings.adapter.targets) == (4, ("query",))


def test_the_last_override_counts() -> None:
    assert parse("rate=0.1", "rate=0.2").rate == 0.2


def test_overrides_leave_the_values_alone() -> None:
    values: dict[str, Any] = {**GOOD, "adapter": {"rank": 2}}
    parse_pretrain_settings(values, ["adapter.rank=4", "seed=3"])
    assert "seed" not in values
    assert values["adapter"] == {"rank": 2}


def test_an_override_of_the_adapter_keeps_its_other_defaults() -> None:
    """Those of pre-training: all matrices and no dropout, not those of a tagger's adapter."""
    default = parse().adapter
    assert default.dropout == 0
    assert set(default.targets) > {"query", "attention_output", "intermediate", "output"}
    changed = parse("adapter.rank=4").adapter
    assert changed == default.model_copy(update={"rank": 4})


@pytest.mark.parametrize("override", ["tokens", "", "=3", "adapter.=3", "tokens.x=3"])
def test_overrides_that_are_none(override: str) -> None:
    assert override in refusal(override)


def test_plain_values_in_a_section() -> None:
    settings = parse("adapter.rank=4", "minutes=0")
    values = settings.to_dict()
    assert values["pretrain"]["files"] == ["a.txt"]
    assert json.loads(json.dumps(values)) == values
    assert parse_pretrain_settings(values["pretrain"]) == settings


def test_defaults_follow_from_what_is_trained() -> None:
    """A rate that begins an encoder would undo what another one knows."""
    common = {"files": [Path("a.txt")], "output": Path("run"), "tokens": 100}
    scratch = parse_pretrain_settings({**common, "from_scratch": "tiny"})
    assert (scratch.optimizer, scratch.rate, scratch.short_length) == ("muon", 3e-3, 0)
    bert = parse_pretrain_settings({**common, "from_scratch": "tiny", "architecture": "bert"})
    assert bert.short_length == 64
    assert scratch.weight_decay == 0.1
    going_on = parse_pretrain_settings({**common, "encoder": "mini-zh"})
    assert (going_on.optimizer, going_on.rate, going_on.short_length) == ("adamw", 1e-4, 0)
    lora = parse_pretrain_settings({**common, "encoder": "mini-zh", "lora": True})
    assert lora.rate == 1e-3
    said = parse_pretrain_settings({**common, "from_scratch": "tiny", "rate": 0.5})
    assert said.rate == 0.5
