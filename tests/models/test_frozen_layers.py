"""The frozen lower part computed once gives what the whole encoder gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import nertune.models.frozen_layers as prefix_module
from nertune.config.run import LoraSettings
from nertune.models.frozen_layers import FrozenPrefix
from nertune.models.peft.tuning import add_lora, freeze_encoder

NUM_LAYERS = 4
COMMON: dict[str, Any] = {"vocab_size": 50, "num_labels": 5, "pad_token_id": 0}
BERT_LIKE: dict[str, Any] = {
    **COMMON, "hidden_size": 32, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


def make(family: str) -> Any:
    """A small random token-classification model."""
    import transformers as t

    torch.manual_seed(3)
    if family == "distilbert":
        return t.DistilBertForTokenClassification(
            t.DistilBertConfig(**COMMON, dim=32, n_layers=NUM_LAYERS, n_heads=2, hidden_dim=48,
                               max_position_embeddings=64)
        )  # fmt: skip
    if family == "modernbert":
        special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        return t.ModernBertForTokenClassification(
            t.ModernBertConfig(**BERT_LIKE, **special, local_attention=8)
        )
    if family == "electra":
        return t.ElectraForTokenClassification(t.ElectraConfig(**BERT_LIKE, embedding_size=16))
    if family == "roberta":
        return t.RobertaForTokenClassification(t.RobertaConfig(**BERT_LIKE))
    if family == "xlm-roberta":
        return t.XLMRobertaForTokenClassification(t.XLMRobertaConfig(**BERT_LIKE))
    if family == "camembert":
        return t.CamembertForTokenClassification(t.CamembertConfig(**BERT_LIKE))
    if family == "deberta-v2":
        return t.DebertaV2ForTokenClassification(t.DebertaV2Config(**BERT_LIKE))
    assert family == "bert", f"no model of {family} to test with"
    return t.BertForTokenClassification(t.BertConfig(**BERT_LIKE))


FAMILIES = tuple(sorted(prefix_module._FAMILIES))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids_BL = torch.randint(5, 50, (3, 20), generator=generator)
    attention_BL = (torch.arange(20) < torch.tensor([[20], [13], [1]])).long()
    return ids_BL.where(attention_BL.bool(), 0), attention_BL


def adapted(family: str, layers: str) -> Any:
    targets = ("attention_output",) if family != "modernbert" else ("query", "attention_output")
    model = add_lora(make(family), LoraSettings(layers=layers, targets=targets, dropout=0.0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("layers", ["top-1", "top-3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_going_on_from_the_frozen_layers(family: str, layers: str) -> None:
    """Emissions and gradients, padding among the pieces."""
    model = adapted(family, layers).eval()
    prefix = FrozenPrefix.of(model)
    assert prefix is not None
    assert prefix.num_layers == NUM_LAYERS - int(layers[-1])
    ids_BL, attention_BL = batch()
    whole_BLK = model(input_ids=ids_BL, attention_mask=attention_BL).logits
    trainable = [p for p in model.parameters() if p.requires_grad]
    real_BL = attention_BL.bool()
    expected = torch.autograd.grad(whole_BLK[real_BL].square().sum(), trainable, allow_unused=True)
    names = [name for name, _ in model.named_parameters()]

    states_BLD = prefix.states(ids_BL, attention_BL)
    assert states_BLD.shape == (3, 20, prefix.width)
    assert not states_BLD.requires_grad
    states_BLD = states_BLD.where(real_BL[..., None], 0.0)  # padding is not kept
    found_BLK = prefix.emissions(states_BLD, ids_BL, attention_BL)
    torch.testing.assert_close(found_BLK[real_BL], whole_BLK[real_BL], rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(found_BLK[real_BL].square().sum(), trainable, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    # The model is as it was.
    assert [name for name, _ in model.named_parameters()] == names
    again_BLK = model(input_ids=ids_BL, attention_mask=attention_BL).logits
    assert torch.equal(again_BLK, whole_BLK)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_encoder_is_all_prefix(family: str) -> None:
    model = make(family).eval()
    freeze_encoder(model)
    prefix = FrozenPrefix.of(model)
    assert prefix is not None
    assert prefix.num_layers == NUM_LAYERS
    ids_BL, attention_BL = batch()
    whole_BLK = model(input_ids=ids_BL, attention_mask=attention_BL).logits
    found_BLK = prefix.emissions(prefix.states(ids_BL, attention_BL), ids_BL, attention_BL)
    torch.testing.assert_close(found_BLK, whole_BLK, rtol=1e-5, atol=1e-6)


def test_no_dropout_below() -> None:
    """What is stored is the same whether the model trains or not, and it goes on as it was."""
    model = adapted("bert", "top-2").train()
    prefix = FrozenPrefix.of(model)
    assert prefix is not None
    ids_BL, attention_BL = batch()
    first_BLD = prefix.states(ids_BL, attention_BL)
    assert torch.equal(first_BLD, prefix.states(ids_BL, attention_BL))
    assert model.training
    assert all(module.training for module in model.modules())
    one = prefix.emissions(first_BLD, ids_BL, attention_BL)
    assert not torch.equal(one, prefix.emissions(first_BLD, ids_BL, attention_BL))  # above it is on


def test_an_error_in_between_leaves_the_model_whole() -> None:
    model = adapted("bert", "top-1").eval()
    prefix = FrozenPrefix.of(model)
    assert prefix is not None
    ids_BL, attention_BL = batch()
    before_BLK = model(input_ids=ids_BL, attention_mask=attention_BL).logits
    with pytest.raises(RuntimeError):
        prefix.emissions(torch.zeros(3, 20, 7), ids_BL, attention_BL)
    after_BLK = model(input_ids=ids_BL, attention_mask=attention_BL).logits
    assert torch.equal(after_BLK, before_BLK)


def test_where_nothing_can_be_stored() -> None:
    assert FrozenPrefix.of(make("bert")) is None  # everything trains
    assert FrozenPrefix.of(adapted("bert", "all")) is None
    frozen = make("deberta-v2")  # its first layer is followed by a convolution in some versions
    freeze_encoder(frozen)
    assert FrozenPrefix.of(frozen) is None
    embeddings_train = make("bert")
    freeze_encoder(embeddings_train)
    embeddings_train.bert.embeddings.word_embeddings.weight.requires_grad_(True)
    assert FrozenPrefix.of(embeddings_train) is None
