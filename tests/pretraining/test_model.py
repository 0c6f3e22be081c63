"""The model that is pre-trained: how a new one begins, and its losses against transformers' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    RobertaConfig,
    RoFormerConfig,
)

from helpers.tiny import tiny_bert
from nertune.config.run import LoraSettings
from nertune.errors import ConfigError, ModelError
from nertune.models.peft.tuning import add_merging_lora
from nertune.pretraining.model import (
    SHAPES,
    PretrainingModel,
    Shape,
    build_encoder,
    load_for_pretraining,
)

_SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
# Dropout is left as it comes: pre-training must go without it by itself.
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**_SIZE, max_position_embeddings=24),
    "roberta": lambda: RobertaConfig(**{**_SIZE, "pad_token_id": 1}, max_position_embeddings=26),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=24
    ),
    "modernbert": lambda: ModernBertConfig(
        **_SIZE,
        max_position_embeddings=24,
        local_attention=8,
        **dict.fromkeys(("cls_token_id", "bos_token_id"), 2),
        **dict.fromkeys(("sep_token_id", "eos_token_id"), 3),
    ),
    "roformer": lambda: RoFormerConfig(
        **_SIZE, embedding_size=16, max_position_embeddings=24, rotary_value=False
    ),
}


UNTRAINED = {"roformer.encoder.embed_positions.weight"}  # sines, in transformers' own loop too


def make(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_config(CONFIGS[name]())
    with torch.no_grad():  # biases that begin as zeros would hide a head that forgets them
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def batch(num_rows: int = 3, length: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Input, flat positions of masked tokens, and what they were."""
    torch.manual_seed(1)
    ids_BL = torch.randint(5, 50, (num_rows, length))
    positions_N = torch.randperm(num_rows * length)[: num_rows * length // 4].sort().values
    return ids_BL, positions_N, torch.randint(5, 50, (len(positions_N),))


def full_loss(model: Any, ids_BL: Tensor, positions_N: Tensor, targets_N: Tensor) -> Tensor:
    """As transformers computes it: all logits, labels of -100 but where a token is masked."""
    labels_BL = torch.full_like(ids_BL, -100)
    labels_BL.view(-1)[positions_N] = targets_N
    mask_BL = torch.ones_like(ids_BL)
    loss: Tensor = model(input_ids=ids_BL, attention_mask=mask_BL, labels=labels_BL).loss
    return loss


# Losses


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_that_of_transformers(name: str) -> None:
    model = make(name)
    ids_BL, positions_N, targets_N = batch()
    losses = PretrainingModel(model)(ids_BL, positions_N, targets_N)
    assert losses.masked.dtype == torch.float32
    assert losses.tags.item() == 0
    expected = full_loss(model, ids_BL, positions_N, targets_N)
    assert losses.masked.item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() > 2  # about log(50): these are not two zeros


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_transformers_and_reach_everything(name: str) -> None:
    model, twin = make(name), make(name)
    ids_BL, positions_N, targets_N = batch()
    whole = PretrainingModel(model, num_tags=6).eval()
    tags_BL = torch.randint(0, 6, ids_BL.shape)
    whole(ids_BL, positions_N, targets_N).masked.backward()
    full_loss(twin, ids_BL, positions_N, targets_N).backward()
    for (key, one), (_, other) in zip(
        model.named_parameters(), twin.named_parameters(), strict=True
    ):
        assert (one.grad is None) == (other.grad is None) == (key in UNTRAINED), key
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    whole.zero_grad()
    losses = whole(ids_BL, positions_N, targets_N, tags_BL)
    (losses.masked + 0.5 * losses.tags).backward()
    for key, parameter in whole.named_parameters():
        if key.removeprefix("encoder.") not in UNTRAINED:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


def test_a_batch_without_padding_sees_all_of_its_rows_and_no_others() -> None:
    model = PretrainingModel(make("bert")).eval()
    ids_BL, _, _ = batch()
    at, target = torch.tensor([18]), torch.tensor([7])
    before = model(ids_BL, at, target).masked.item()
    for place, matters in (((0, 3), False), ((2, 9), False), ((1, 15), True), ((1, 0), True)):
        changed = ids_BL.clone()
        changed[place] = 49 if ids_BL[place] != 49 else 48
        assert (model(changed, at, target).masked.item() != before) == matters


def test_word_tags() -> None:
    model = make("bert")
    whole = PretrainingModel(model, num_tags=6).eval()
    assert whole.tagger is not None
    ids_BL, positions_N, targets_N = batch()
    tags_BL = torch.randint(0, 6, ids_BL.shape)
    tags_BL[:, 0] = tags_BL[:, -1] = -100
    losses = whole(ids_BL, positions_N, targets_N, tags_BL)
    with torch.no_grad():
        states_BLD = model.bert(input_ids=ids_BL).last_hidden_state
        logits_BLT = states_BLD @ whole.tagger.weight.T + whole.tagger.bias
        shares_BLT = logits_BLT.log_softmax(-1)
        picked = [
            float(shares_BLT[b, i, tags_BL[b, i]])
            for b in range(len(tags_BL))
            for i in range(1, tags_BL.shape[1] - 1)
        ]
    assert losses.tags.item() == pytest.approx(-sum(picked) / len(picked), rel=1e-5)
    assert losses.masked.item() == pytest.approx(
        PretrainingModel(model)(ids_BL, positions_N, targets_N).masked.item()
    )
    assert whole(ids_BL, positions_N, targets_N).tags.item() == 0


def test_weighted_word_tags() -> None:
    """By hand: each token's loss times its tag's weight, over the sum of the weights."""
    model = make("bert")
    torch.manual_seed(1)
    weights = [1.0, 1.0, 4.0, 4.0, 1.0, 0.25]
    whole = PretrainingModel(model, 6, tag_weights=weights).eval()
    assert whole.tagger is not None
    nn.init.normal_(whole.tagger.weight)
    ids_BL, positions_N, targets_N = batch()
    tags_BL = torch.randint(0, 6, ids_BL.shape)
    tags_BL[:, 0] = tags_BL[:, -1] = -100
    losses = whole(ids_BL, positions_N, targets_N, tags_BL)
    with torch.no_grad():
        states_BLD = model.bert(input_ids=ids_BL).last_hidden_state
        shares_BLT = (states_BLD @ whole.tagger.weight.T + whole.tagger.bias).log_softmax(-1)
    total = norm = plain = 0.0
    for b in range(len(tags_BL)):
        for i in range(1, tags_BL.shape[1] - 1):
            loss, weight = -float(shares_BLT[b, i, tags_BL[b, i]]), weights[int(tags_BL[b, i])]
            total, norm, plain = total + weight * loss, norm + weight, plain + loss
    assert losses.tags.item() == pytest.approx(total / norm, rel=1e-5)
    assert losses.tags.item() != pytest.approx(plain / tags_BL[tags_BL >= 0].numel(), rel=1e-3)
    assert not [name for name in whole.state_dict() if "weights_T" in name]


def test_a_lora_adapter_alone_gets_gradients() -> None:
    settings = LoraSettings(dropout=0.0, rank=2, targets=("query", "output"))
    base = make("bert")
    ids_BL, positions_N, targets_N = batch()
    expected = full_loss(base, ids_BL, positions_N, targets_N).item()
    model = PretrainingModel(add_merging_lora(base, settings)).eval()
    losses = model(ids_BL, positions_N, targets_N)
    assert losses.masked.item() == pytest.approx(expected, rel=1e-6)  # it begins with nothing
    losses.masked.backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained)


def test_an_encoder_whose_head_is_not_known() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    plain = nn.Module()
    plain.config, plain.base_model_prefix = model.config, "transformer"
    plain.transformer = model.transformer
    with pytest.raises(ModelError, match="how it predicts masked tokens is not known"):
        PretrainingModel(plain)(*batch())


# From scratch


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_seed_decides_the_weights(architecture: str) -> None:
    shape = Shape(layers=2, hidden=64, heads=2, vocabulary=300)

    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(99 + seed)  # what was drawn before does not matter
        torch.rand(seed)
        model = build_encoder(shape, 300, architecture=architecture, max_tokens=32, seed=seed)
        return dict(model.state_dict())

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_new_model_is_as_asked_for(architecture: str, tmp_path: Path) -> None:
    shape = Shape(layers=3, hidden=64, heads=4, vocabulary=300)
    model = build_encoder(shape, 123, architecture=architecture, max_tokens=40, seed=0)
    config = model.config
    assert config.model_type == architecture
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 64, 4)
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (123, 40, 0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids_BL = torch.randint(5, 123, (2, 40))
    with torch.no_grad():
        assert model.eval()(input_ids=ids_BL).logits.isfinite().all()
    model.save_pretrained(tmp_path)
    loaded, is_new_head = load_for_pretraining(str(tmp_path))
    assert not is_new_head
    assert all(torch.equal(t, loaded.state_dict()[k]) for k, t in model.state_dict().items())


def test_the_shapes_grow() -> None:
    sizes = [(s.layers, s.hidden, s.heads, s.vocabulary) for s in SHAPES.values()]
    assert sizes == sorted(sizes)
    assert list(SHAPES) == ["tiny", "small", "medium", "base"]
    assert all(shape.hidden % shape.heads == 0 for shape in SHAPES.values())


def test_another_architecture() -> None:
    with pytest.raises(ConfigError, match="architecture 'gpt': expected bert or modernbert"):
        build_encoder(SHAPES["tiny"], 300, architecture="gpt", max_tokens=32, seed=0)


def test_a_width_that_the_heads_do_not_divide() -> None:
    shape = Shape(layers=1, hidden=33, heads=2, vocabulary=300)
    with pytest.raises(ConfigError, match=r"hidden.*33.*heads.*2"):
        build_encoder(shape, 300, architecture="bert", max_tokens=32, seed=0)


# Loading


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_with_its_head(name: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    loaded, is_new_head = load_for_pretraining(str(tmp_path))
    assert not is_new_head
    expected = full_loss(model, *batch())
    found = PretrainingModel(loaded).eval()(*batch()).masked
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_without_its_head(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(CONFIGS[name]()).save_pretrained(tmp_path)
    loaded, is_new_head = load_for_pretraining(str(tmp_path))
    assert is_new_head
    assert PretrainingModel(loaded).eval()(*batch()).masked.isfinite()


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    make("bert").half().save_pretrained(tmp_path)
    loaded, _ = load_for_pretraining(str(tmp_path))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_the_bundled_encoder() -> None:
    loaded, _ = load_for_pretraining("mini-zh")
    assert PretrainingModel(loaded).eval()(*batch()).masked.isfinite()


def refusal(name: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_for_pretraining(str(name))
    message = str(caught.value)
    assert str(name) in message
    assert "\n" not in message
    return message


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing")
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "holds no safetensors weights" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "cannot be loaded" in refusal(tmp_path)


def test_a_model_that_predicts_no_masked_tokens(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    assert "masked-language model" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 100, -10])
def test_damaged_weights(kept: int, tmp_path: Path) -> None:
    BertForMaskedLM(CONFIGS["bert"]()).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refusal(tmp_path)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    model = make("bert")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    refusal(tmp_path)


def test_tiny_bert_comes_without_its_head() -> None:
    _, is_new_head = load_for_pretraining(str(tiny_bert()))
    assert is_new_head
