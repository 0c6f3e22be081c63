"""Groups, their rates, what decays, and the rate's course."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, BertConfig, ModernBertConfig

from nertune.config.run import LoraSettings, TrainSettings
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter
from nertune.models.heads.crf import Crf
from nertune.models.heads.softmax import SoftmaxHead
from nertune.models.lstm import BiLstmEmitter
from nertune.models.peft.tuning import add_lora, freeze_encoder
from nertune.models.tagger import Tagger
from nertune.training.optimizer import build_optimizer, group_parameters, group_rates, rate_factor

TAGS = TagSet.from_labels(["LOC", "PER"])
SHAPE = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "num_labels": len(TAGS),
}


def encoder(tuning: str, *, decoder: Any = Crf, modern: bool = False) -> Tagger:
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = ModernBertConfig(**SHAPE, **marks) if modern else BertConfig(**SHAPE)
    model = AutoModelForTokenClassification.from_config(config)
    if tuning == "frozen":
        freeze_encoder(model)
    if tuning == "lora":
        model = add_lora(model, LoraSettings(rank=2))
    return Tagger(EncoderEmitter(model), decoder(TAGS))


def lstm() -> Tagger:
    emitter = BiLstmEmitter(vocabulary_size=20, num_tags=len(TAGS), embedding_size=4, hidden_size=3)
    return Tagger(emitter, Crf(TAGS))


CRF = {"head.start_K", "head.transition_KK", "head.end_K"}
HEAD = {"emitter.model.classifier.weight", "emitter.model.classifier.bias"}
BUILDS: dict[str, Callable[[], Tagger]] = {
    "full": lambda: encoder("full"),
    "frozen": lambda: encoder("frozen"),
    "lora": lambda: encoder("lora"),
    "modern-full": lambda: encoder("full", modern=True),
    "modern-lora": lambda: encoder("lora", modern=True),
    "lstm": lstm,
}


@pytest.mark.parametrize("build", BUILDS)
def test_every_trained_parameter_is_in_one_group(build: str) -> None:
    tagger = BUILDS[build]()
    groups = group_parameters(tagger)
    grouped = [name for names in groups.values() for name in names]
    trained = {name: p for name, p in tagger.named_parameters() if p.requires_grad}
    assert sorted(grouped) == sorted(trained)
    for parameters in groups.values():
        assert parameters
        assert all(parameter is trained[name] for name, parameter in parameters.items())


def test_groups_of_full_tuning() -> None:
    groups = group_parameters(encoder("full"))
    assert set(groups) == {"encoder", "head", "crf"}
    assert set(groups["head"]) == HEAD
    assert set(groups["crf"]) == CRF
    assert all(name.startswith("emitter.model.bert.") for name in groups["encoder"])


def test_groups_of_a_frozen_encoder() -> None:
    groups = group_parameters(encoder("frozen", decoder=SoftmaxHead))
    assert {group: set(names) for group, names in groups.items()} == {"head": HEAD}


def test_groups_of_lora() -> None:
    groups = group_parameters(encoder("lora"))
    assert set(groups) == {"adapter", "adapter_b", "head", "crf"}
    assert len(groups["adapter"]) == len(groups["adapter_b"]) == 3  # of query, key, value
    assert all(".lora_A." in name for name in groups["adapter"])
    assert all(".lora_B." in name for name in groups["adapter_b"])
    # The trained copy of the head, not the one that peft keeps beside it.
    assert {name.split("model.")[-1] for name in groups["head"]} == {
        "classifier.modules_to_save.default.weight",
        "classifier.modules_to_save.default.bias",
    }


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_all_of_a_deeper_head_is_head(tuning: str) -> None:
    """ModernBERT has a dense layer and a norm before the classifier."""
    groups = group_parameters(encoder(tuning, modern=True))
    parts = {name.split("model.")[-1].split(".")[0] for name in groups["head"]}
    assert parts == {"head", "classifier"}
    assert len(groups["head"]) == 4


def test_groups_of_the_lstm() -> None:
    groups = group_parameters(lstm())
    assert set(groups) == {"lstm", "crf"}
    assert all(name.startswith("emitter.") for name in groups["lstm"])


def test_rates_that_are_not_given_follow_from_the_encoder() -> None:
    """Rates at which the bundled encoder learns best make a BERT predict nothing at all."""

    def rates(tagger: Tagger, **settings: Any) -> dict[str, float]:
        found = group_rates(TrainSettings(**settings), tagger)
        return {str(group): found[group] for group in group_parameters(tagger) if group != "crf"}

    assert rates(encoder("full")) == {"encoder": 1e-4, "head": 1e-3}
    assert rates(encoder("full", modern=True)) == {"encoder": 2e-4, "head": 1e-3}
    assert rates(encoder("frozen")) == {"head": 1e-3}
    assert rates(encoder("lora")) == {"adapter": 5e-4, "adapter_b": 5e-4, "head": 2e-3}
    modern = rates(encoder("lora", modern=True))
    assert modern == {"adapter": 1e-3, "adapter_b": 1e-3, "head": 2e-3}
    assert rates(encoder("lora"), lora_plus=4) == {
        "adapter": 1.25e-4, "adapter_b": 5e-4, "head": 2e-3
    }  # fmt: skip
    assert rates(encoder("lora"), learning_rate=3e-3, head_learning_rate=4e-3) == {
        "adapter": 3e-3, "adapter_b": 3e-3, "head": 4e-3
    }  # fmt: skip
    assert rates(lstm()) == {"lstm": 2e-3}


@pytest.mark.parametrize("build", BUILDS)
def test_the_optimizer_has_the_groups_rates(build: str) -> None:
    tagger = BUILDS[build]()
    settings = TrainSettings(learning_rate=1e-3, head_learning_rate=7e-4, crf_learning_rate=3e-3)
    optimizer, names = build_optimizer(tagger, settings)
    by_id = {id(parameter): name for name, parameter in tagger.named_parameters()}
    in_order = [by_id[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert names == in_order
    assert len(names) == len(set(names))
    groups, rates = group_parameters(tagger), group_rates(settings, tagger)
    for group in optimizer.param_groups:
        assert group["lr"] == group["peak"] == rates[group["name"]]
        assert {by_id[id(p)] for p in group["params"]} <= set(groups[group["name"]])


@pytest.mark.parametrize("build", BUILDS)
def test_biases_norms_and_the_crf_do_not_decay(build: str) -> None:
    tagger = BUILDS[build]()
    optimizer, _ = build_optimizer(tagger, TrainSettings(weight_decay=0.05))
    by_id = {id(parameter): name for name, parameter in tagger.named_parameters()}
    decay = {
        by_id[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert set(decay.values()) == {0.0, 0.05}
    for name, value in decay.items():
        spared = "bias" in name or "norm" in name.lower() or name in CRF
        assert value == (0.0 if spared else 0.05), name


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_kinds(name: Any, kind: type) -> None:
    optimizer, _ = build_optimizer(lstm(), TrainSettings(optimizer=name, momentum=0.7))
    assert type(optimizer) is kind
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == ({0.0} if name == "adam" else {0.0, 0.01})
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.7}


def test_a_step_moves_each_group_by_its_rate() -> None:
    """Adam's first step is the rate itself, whatever the gradient."""
    tagger = encoder("full")
    settings = TrainSettings(optimizer="adam", learning_rate=1e-3, crf_learning_rate=5e-2)
    optimizer, _ = build_optimizer(tagger, settings)
    before = {name: p.detach().clone() for name, p in tagger.named_parameters()}
    for parameter in tagger.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    rates = group_rates(settings, tagger)
    for group, parameters in group_parameters(tagger).items():
        for name, parameter in parameters.items():
            moved = (before[name] - parameter.detach()).abs()
            torch.testing.assert_close(
                moved, torch.full_like(moved, rates[group]), rtol=1e-2, atol=1e-6
            )


# -- the rate's course -------------------------------------------------------------------------

SCHEDULES = ("linear", "cosine", "constant")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_rises_to_the_peak(schedule: Any) -> None:
    factors = [rate_factor(p, warmup=0.2, schedule=schedule) for p in (0, 0.05, 0.1, 0.2)]
    assert factors == pytest.approx([0, 0.25, 0.5, 1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warmup_it_starts_at_the_peak(schedule: Any) -> None:
    assert rate_factor(0, warmup=0, schedule=schedule) == 1


@pytest.mark.parametrize(
    ("schedule", "half", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)]
)
def test_how_it_falls(schedule: Any, half: float, end: float) -> None:
    assert rate_factor(0.6, warmup=0.2, schedule=schedule) == pytest.approx(half)
    assert rate_factor(1, warmup=0.2, schedule=schedule) == pytest.approx(end)
    assert rate_factor(1.01, warmup=0.2, schedule=schedule) == pytest.approx(end)


def test_cosine_is_flat_at_both_ends() -> None:
    early = rate_factor(0.1, warmup=0, schedule="cosine")
    late = rate_factor(0.9, warmup=0, schedule="cosine")
    assert early > rate_factor(0.1, warmup=0, schedule="linear")
    assert late < rate_factor(0.9, warmup=0, schedule="linear")
    assert early == pytest.approx(1 - late)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 0.1, 0.9])
def test_it_never_leaves_the_range_nor_jumps(schedule: Any, warmup: float) -> None:
    factors = [rate_factor(i / 1000, warmup=warmup, schedule=schedule) for i in range(1001)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.02
    peak = factors.index(max(factors))
    assert all(a <= b for a, b in pairwise(factors[: peak + 1]))
    assert all(a >= b for a, b in pairwise(factors[peak:]))
