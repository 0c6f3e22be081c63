"""What trains: everything, the head, or an adapter and the head; on several model families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, EuroBertConfig

from nertune.config.run import LoraSettings, Settings
from nertune.errors import ConfigError
from nertune.models.peft.tuning import (
    add_lora,
    chosen_layers,
    encoder_layers,
    find_targets,
    freeze_encoder,
    head_names,
    train_biases,
    train_top_layers,
)

FRIENDLY = ("query", "key", "value", "attention_output", "intermediate", "output")
ENCODER = {
    "bert": "bert.encoder.layer.{}.",
    "roberta": "roberta.encoder.layer.{}.",
    "distilbert": "distilbert.transformer.layer.{}.",
    "electra": "electra.encoder.layer.{}.",
    "deberta": "deberta.encoder.layer.{}.",
    "modernbert": "model.layers.{}.",
}
BERT_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
NAMES = {
    "bert": BERT_NAMES,
    "roberta": BERT_NAMES,
    "electra": BERT_NAMES,
    "deberta": {
        **BERT_NAMES,
        **{name: f"attention.self.{name}_proj" for name in ("query", "key", "value")},
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "intermediate": "ffn.lin1",
        "output": "ffn.lin2",
    },
    "modernbert": {
        "query": "attn.Wqkv",
        "key": "attn.Wqkv",
        "value": "attn.Wqkv",
        "attention_output": "attn.Wo",
        "intermediate": "mlp.Wi",
        "output": "mlp.Wo",
    },
}
IDS = torch.tensor([[1, 5, 6, 7, 2]])
FAMILIES = pytest.mark.parametrize("family", sorted(ENCODER))


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapted(model: Any) -> dict[str, int]:
    """Names of the modules that have an adapter, without peft's prefix, and their ranks."""
    return {
        name.removeprefix("base_model.model."): module.r["default"]
        for name, module in model.named_modules()
        if getattr(module, "lora_A", None)
    }


@FAMILIES
@pytest.mark.parametrize("target", FRIENDLY)
def test_friendly_names_in_every_family(
    family: str, target: str, make_model: Callable[..., Any]
) -> None:
    model = make_model(family)
    prefix, name = ENCODER[family], NAMES[family][target]
    assert encoder_layers(model) == 3
    expected = {prefix.format(layer) + name: layer for layer in (0, 2)}
    assert find_targets(model, [target], [0, 2]) == expected


@FAMILIES
def test_lora_trains_the_adapter_and_the_head_only(
    family: str, make_model: Callable[..., Any]
) -> None:
    plain = make_model(family)
    with torch.inference_mode():
        before_BLK = plain(input_ids=IDS).logits
    heads = head_names(plain)
    assert heads == (["head", "classifier"] if family == "modernbert" else ["classifier"])
    head_weights = {f"{h}.{n}" for h in heads for n, _ in getattr(plain, h).named_parameters()}

    model = add_lora(plain, LoraSettings(rank=4, targets=FRIENDLY)).eval()
    prefix = ENCODER[family]
    modules = {prefix.format(i) + name for i in range(3) for name in NAMES[family].values()}
    expected = {f"base_model.model.{m}.lora_{ab}.default.weight" for m in modules for ab in "AB"}
    for weight in head_weights:
        head, _, rest = weight.partition(".")
        expected.add(f"base_model.model.{head}.modules_to_save.default.{rest}")
    assert trainable(model) == expected
    assert adapted(model) == dict.fromkeys(modules, 4)
    assert set(model.peft_config["default"].modules_to_save) >= set(heads)
    # A new adapter changes nothing yet.
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=IDS).logits, before_BLK)


def test_the_share_of_trained_parameters(make_model: Callable[..., Any]) -> None:
    """Counted by hand: A is rank × in, B is out × rank."""
    model = add_lora(make_model("bert"), LoraSettings(rank=2, targets=("query", "output")))
    adapter = 3 * (2 * (16 + 16) + 2 * (20 + 16))
    head = 16 * 5 + 5
    total = sum(p.numel() for p in make_model("bert").parameters())
    assert model.get_nb_trainable_parameters() == (adapter + head, total + adapter + head)


def test_only_adapter_and_head_move(make_model: Callable[..., Any]) -> None:
    model = add_lora(make_model("bert"), LoraSettings(rank=4, dropout=0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):  # with B = 0 the first step leaves A where it was
        model(input_ids=IDS, labels=torch.tensor([[0, 1, 2, 3, 4]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == trainable(model)


@FAMILIES
def test_frozen_trains_the_whole_head_and_nothing_else(
    family: str, make_model: Callable[..., Any]
) -> None:
    model = make_model(family)
    everything = trainable(model)
    freeze_encoder(model)
    heads = tuple(f"{name}." for name in head_names(model))
    assert trainable(model) == {name for name in everything if name.startswith(heads)}
    assert len(trainable(model)) == (4 if family == "modernbert" else 2)


def test_the_norm_behind_the_last_layer_trains_with_the_top() -> None:
    config = EuroBertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=20, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, mask_token_id=3,
    )  # fmt: skip
    model = AutoModelForTokenClassification.from_config(config)
    train_top_layers(model, 1)
    assert {name for name in trainable(model) if ".layers.2." not in name} == {
        "model.norm.weight", "classifier.weight", "classifier.bias"
    }  # fmt: skip


def test_full_trains_everything(
    save_encoder: Callable[..., Any], settings_of: Callable[..., Settings], tagset: Any
) -> None:
    from nertune.models.build import build_tagger
    from nertune.tokens.tokenizer import CharTokenizer

    settings = settings_of(model={"encoder": str(save_encoder("bert"))})
    tagger = build_tagger(settings, tagset, CharTokenizer("abc"))
    assert all(parameter.requires_grad for parameter in tagger.parameters())


# -- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("all", [0, 1, 2, 3]),
        ("top-1", [3]),
        ("top-3", [1, 2, 3]),
        ("bottom-3", [0, 1, 2]),
        ("top-4", [0, 1, 2, 3]),
        ("bottom-4", [0, 1, 2, 3]),
        ((2, 0), [0, 2]),
        ((-1, 0, 3), [0, 3]),
    ],
)
def test_layers_that_are_chosen(choice: Any, expected: list[int]) -> None:
    assert chosen_layers(choice, 4) == expected


@pytest.mark.parametrize("choice", ["top-5", "bottom-12", (4,), (0, -5)])
def test_layers_that_are_not_there(choice: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"lora\.layers: .*the encoder has (4 layers|layers 0 to 3)"
    ):
        chosen_layers(choice, 4)


@pytest.mark.parametrize(
    ("layers", "expected"), [("top-1", {2}), ("bottom-2", {0, 1}), ((0, 2), {0, 2})]
)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_only_chosen_layers_are_adapted(
    family: str, layers: Any, expected: set[int], make_model: Callable[..., Any]
) -> None:
    model = add_lora(make_model(family), LoraSettings(layers=layers, targets=("query", "output")))
    prefix = ENCODER[family]
    names = [NAMES[family][target] for target in ("query", "output")]
    assert set(adapted(model)) == {prefix.format(i) + name for i in expected for name in names}


def test_layers_may_have_ranks_of_their_own(make_model: Callable[..., Any]) -> None:
    """The scale alpha / rank is the same in all of them."""
    settings = LoraSettings(
        rank=4, alpha=8, targets=("query", "attention_output"), ranks={"0": 2, "02": 16}
    )
    model = add_lora(make_model("bert"), settings)
    ranks = {0: 2, 1: 4, 2: 16}
    assert adapted(model) == {
        f"bert.encoder.layer.{layer}.{BERT_NAMES[target]}": rank
        for layer, rank in ranks.items()
        for target in settings.targets
    }
    scales = {m.scaling["default"] for m in model.modules() if getattr(m, "lora_A", None)}
    assert scales == {2.0}


def test_ranks_of_their_own_keep_rsloras_scale(make_model: Callable[..., Any]) -> None:
    settings = LoraSettings(rank=4, alpha=8, targets=("query",), ranks={"0": 16}, rslora=True)
    model = add_lora(make_model("bert"), settings)
    scales = [m.scaling["default"] for m in model.modules() if getattr(m, "lora_A", None)]
    assert scales == pytest.approx([4.0] * 3)  # 8 / sqrt(4) = 16 / sqrt(16)


def test_what_peft_refuses_is_told(make_model: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"lora: .*even"):
        add_lora(make_model("bert"), LoraSettings(rank=3, init="orthogonal", targets=("query",)))


def test_layers_may_have_alphas_of_their_own(make_model: Callable[..., Any]) -> None:
    settings = LoraSettings(
        rank=4, alpha=8, targets=("query",), ranks={"1": 16}, alphas={"00": 4, "1": 16}
    )
    model = add_lora(make_model("bert"), settings)
    assert adapted(model)["bert.encoder.layer.1.attention.self.query"] == 16
    layers = model.base_model.model.bert.encoder.layer
    scales = [layer.attention.self.query.scaling["default"] for layer in layers]
    assert scales == [1.0, 1.0, 2.0]
    with pytest.raises(ConfigError, match=r"lora\.alphas: layer 0 is not among .*\[2\]"):
        add_lora(make_model("bert"), LoraSettings(layers="top-1", alphas={"0": 2}))


def test_many_layers_are_told_apart(make_model: Callable[..., Any]) -> None:
    """Layer 1 is not layer 11."""
    settings = LoraSettings(rank=4, layers=(1, 10, 11), ranks={"1": 2}, targets=("value",))
    model = add_lora(make_model("bert", num_hidden_layers=12), settings)
    name = "bert.encoder.layer.{}.attention.self.value"
    assert adapted(model) == {name.format(1): 2, name.format(10): 4, name.format(11): 4}


def test_ranks_of_layers_that_are_not_adapted(make_model: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"lora\.ranks: layer 0 is not among .*\[2\]"):
        add_lora(make_model("bert"), LoraSettings(layers="top-1", ranks={"0": 2}))


# -- targets -----------------------------------------------------------------------------------


def test_module_names_are_targets_too(make_model: Callable[..., Any]) -> None:
    model = make_model("bert")
    name = "bert.encoder.layer.1."
    assert find_targets(model, ["self.query"], [1]) == {name + "attention.self.query": 1}
    # A bare name means every module of that name.
    assert find_targets(model, ["dense"], [1]) == {
        name + "attention.output.dense": 1,
        name + "intermediate.dense": 1,
        name + "output.dense": 1,
    }


def test_friendly_output_is_not_the_attentions(make_model: Callable[..., Any]) -> None:
    targets = find_targets(make_model("bert"), ["output"], range(3))
    assert not [name for name in targets if "attention" in name]


@pytest.mark.parametrize("target", ["querry", "LayerNorm", "classifier", "word_embeddings", ""])
def test_unknown_targets_name_the_known(target: str, make_model: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        add_lora(make_model("bert"), LoraSettings(targets=("query", target)))
    message = str(caught.value)
    assert repr(target) in message
    assert "query, key, value, attention_output, intermediate, output" in message
    assert "attention.self.query" in message
    assert "\n" not in message


def test_albert_shares_one_layer(make_model: Callable[..., Any]) -> None:
    """All its passes go through the same weights, so there is one layer to adapt."""
    model = make_model("albert")
    assert encoder_layers(model) == 1
    prefix = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    assert find_targets(model, FRIENDLY, [0]) == {
        prefix + name: 0
        for name in (
            "attention.query",
            "attention.key",
            "attention.value",
            "attention.dense",
            "ffn",
            "ffn_output",
        )
    }


@FAMILIES
def test_groups_are_what_they_are_made_of(family: str, make_model: Callable[..., Any]) -> None:
    model = make_model(family)
    for group, parts in {
        "qkv": ["query", "key", "value"],
        "qv": ["query", "value"],
        "attention": ["query", "key", "value", "attention_output"],
        "ffn": ["intermediate", "output"],
        "all-linear": list(FRIENDLY),
    }.items():
        assert find_targets(model, [group], [1]) == find_targets(model, parts, [1]), group


def test_what_an_encoder_has_not_cannot_be_trained(make_model: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.top_layers: 4, but the encoder has 3 layers"):
        train_top_layers(make_model("bert"), 4)
    model = make_model("bert")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm) and "classifier" not in name:
            module.bias = None
    with pytest.raises(ConfigError, match=r'has no biases; tuning = "peft" with peft\.method'):
        train_biases(model)
