"""Names that other tools have are answered with ours, and no other word is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nertune.config.pretrain import PretrainSettings, parse_pretrain_settings
from nertune.config.run import Settings, load_settings, parse_settings
from nertune.errors import ConfigError

SECTIONS = tuple(Settings.model_fields)

ANSWERS: dict[str, str] = {
    "lr": "train.learning_rate",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_tokens, which counts padded tokens",
    "batch_size": "1280 for 32 sentences of 40 tokens",
    "fp16": 'train.precision = "fp16"',
    "bf16": 'train.precision = "bf16"',
    "output_dir": "run.dir",
    "max_length": "model.max_pieces",
    "max_seq_length": "model.max_pieces",
    "max_len": "model.max_pieces",
    "lora_r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "target_modules": "lora.targets",
    "model_name_or_path": "model.encoder",
    "pretrained_model_name_or_path": "model.encoder",
    "gradient_accumulation_steps": "train.accumulate",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup, a share of all steps",
    "lr_scheduler_type": "train.schedule",
    "max_grad_norm": "train.clip_norm",
    "early_stopping_patience": "train.patience",
    "train_file": "data.train",
    "validation_file": "data.dev",
    "test_file": "data.test",
    "use_crf": 'model.decoder = "crf"',
    "hidden_dropout_prob": "an encoder keeps the dropout of its config.json",
    "freeze_encoder": 'model.tuning = "frozen"',
    "num_labels": "the labels are those of the training data",
    "head_lr": "train.head_learning_rate",
    "resume_from_checkpoint": "--resume",
    "rate": "train.learning_rate",
}
# Keys of ours, where another section was meant or none was named.
OURS = {
    "learning_rate": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "seed": "run.seed",
    "epochs": "train.epochs",
    "decoder": "model.decoder",
}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings({"data": {"train": "x"}, **values})
    return str(caught.value)


def elsewhere(name: str) -> list[str]:
    """Sections in which it is neither known nor, in [train], a name of 0.1.0."""
    known = {s: f.annotation.model_fields for s, f in Settings.model_fields.items()}  # type: ignore[union-attr]
    old = {"rate": "train"}.get(name)
    return [s for s in SECTIONS if name not in known[s] and s != old and s != "peft"]


@pytest.mark.parametrize("name", ANSWERS | OURS)
def test_a_common_name_is_answered_wherever_it_stands(name: str, tmp_path: Path) -> None:
    answer = (ANSWERS | OURS)[name]
    for section in elsewhere(name):
        data = {"train": "x"} if section == "data" else {}
        said = refusal({section: {**data, name: 32}})
        assert f"unknown key {section}.{name}; " in said
        assert answer in said, section
    assert answer in refusal({name: 32})
    recipe = tmp_path / "a.toml"
    recipe.write_text('[data]\ntrain = "x"\n')
    for override in (f"model.{name}=32", f"{name}=32"):
        if override != "model.decoder=32":
            with pytest.raises(ConfigError) as caught:
                load_settings(recipe, [override])
            assert answer in str(caught.value)


def test_spellings_of_a_name_are_one() -> None:
    for name in ("batch-size", "Batch_Size", "BATCH_SIZE"):
        assert "train.batch_tokens" in refusal({"train": {name: 16}})


def test_a_batch_of_sentences_is_told_in_tokens() -> None:
    said = refusal({"train": {"batch_size": 16}})
    assert "train.batch_tokens" in said
    assert "640 for 16 sentences of 40 tokens" in said
    assert "1280 for 32" in refusal({"train": {"batch_size": "many"}})


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"lora": {"r": 8}}, "lora.rank"),
        ({"model": {"name": "bert"}}, "model.encoder"),
        ({"peft": {"r": 8}}, "peft.options.r where the method has it"),
        ({"peft": {"target_modules": ["q"]}}, "it is peft.targets"),
        ({"peft": {"glow": 1}}, "a method's own options stand in [peft.options]"),
        ({"train": {"dropout": 0.1}}, "an encoder keeps"),
        ({"trainer": {"epochs": 3}}, "did you mean [train]?"),
        ({"optimizer": {"lr": 1e-3}}, "did you mean [train]?"),
        ({"hyper": {"lr": 1e-3}}, "it is train.learning_rate"),
        ({"crf": {"x": 1}}, 'model.decoder = "crf"'),
    ],
)
def test_a_section_can_give_a_name_its_meaning(values: dict[str, Any], answer: str) -> None:
    assert answer in refusal(values)


@pytest.mark.parametrize(
    ("section", "word", "meant"),
    [
        ("train", "epoch", "epochs"), ("train", "optimzer", "optimizer"),
        ("train", "learning_rat", "learning_rate"), ("train", "patiance", "patience"),
        ("train", "warm_up", "warmup"), ("train", "head_learning_rates", "head_learning_rate"),
        ("model", "encodr", "encoder"), ("model", "decodor", "decoder"),
        ("model", "tunning", "tuning"), ("lora", "target", "targets"), ("lora", "layer", "layers"),
        ("data", "formt", "format"), ("run", "divice", "device"), ("model", "learnig_rate",
         "train.learning_rate"), ("data", "encodr", "model.encoder"),
    ],
)  # fmt: skip
def test_misspellings_are_recognised(section: str, word: str, meant: str) -> None:
    data = {"train": "x"} if section == "data" else {}
    assert f"did you mean {meant}?" in refusal({section: {**data, word: 1}})


@pytest.mark.parametrize(
    "word",
    ["max_size", "min_delta", "beam_size", "label_smoothing", "focal_loss", "ema", "swa",
     "min_epochs", "eval_delay", "test_share", "dev_share", "pooling", "rnn", "attention_heads",
     "vocab", "mode", "layer_decay", "layerwise_decay", "loss", "verbose", "debug", "callbacks",
     "nesterov", "amsgrad", "top_k", "clip_value", "adapter_size", "prefix_length", "strategy",
     "lowercase", "do_lower_case", "encoding", "delimiter", "columns", "sep", "shuffle", "split",
     "max_entities", "crop", "rank_dropout", "nodes", "world_size", "hub_token", "push_to_hub",
     "steps", "decay", "jitter", "temperature", "threshold", "window", "context", "cache_dir"],
)  # fmt: skip
def test_another_word_gets_no_wrong_name(word: str) -> None:
    """What looks alike is not what is meant: `max_steps` is no `checkpoint_steps`."""
    for section in SECTIONS:
        data = {"train": "x"} if section == "data" else {}
        said = refusal({section: {**data, word: 1}})
        assert "did you mean" not in said, said
        assert "; it is" not in said, said
    assert "did you mean" not in refusal({word: 1})


# Pre-training


def pretrain_refusal(*overrides: str) -> str:
    values = {"files": ["a"], "output": "o", "encoder": "mini-zh", "tokens": 1}
    with pytest.raises(ConfigError) as caught:
        parse_pretrain_settings(values, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("lr", "rate"), ("learning_rate", "rate"), ("num_train_epochs", "tokens, the budget"),
        ("max_steps", "tokens, the budget"), ("batch_size", "batch_tokens, which counts"),
        ("fp16", 'precision = "bf16"'), ("output_dir", "output"), ("max_seq_length", "length"),
        ("mlm_probability", "mask_share"), ("lora_r", "adapter.rank"),
        ("model_name_or_path", "encoder"), ("gradient_accumulation_steps", "micro_tokens"),
        ("warmup_ratio", "warmup"), ("max_grad_norm", "clip_norm"), ("vocab_size", "vocabulary"),
        ("hidden_size", "hidden"), ("num_attention_heads", "heads"), ("train_file", "files"),
    ],
)  # fmt: skip
def test_pretraining_answers_with_its_own_names(name: str, answer: str) -> None:
    assert f"unknown setting {name}; it is {answer}" in pretrain_refusal(f"{name}=3")
    assert answer.partition(" ")[0].partition(".")[0].rstrip(",") in PretrainSettings.model_fields
    assert f"train.{name}; " in pretrain_refusal(f"train.{name}=3")


def test_pretraining_answers_for_its_adapter() -> None:
    assert "adapter.r; it is adapter.rank" in pretrain_refusal("adapter.r=3")
    assert "adapter.rnk; did you mean rank?" in pretrain_refusal("adapter.rnk=3")
    assert "train.seed; did you mean seed?" in pretrain_refusal("train.seed=3")
