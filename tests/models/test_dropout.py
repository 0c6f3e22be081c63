"""Dropout: what it must do, whatever numbers it draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.tiny import make_settings, tiny_bert
from nertune.labels.tagset import TagSet
from nertune.models.build import build_tagger, build_tokenizer
from nertune.models.dropout import QuickDropout, attend, quicken_dropout
from nertune.models.encoder import load_encoder


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(1000, 1003), (7, 11, 13001)])
def test_as_many_values_are_dropped_as_said_and_the_rest_grows(
    p: float, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    out = QuickDropout(p)(torch.ones(shape))
    kept = out != 0
    deviation = (p * (1 - p) / out.numel()) ** 0.5
    assert abs(float((~kept).double().mean()) - p) < 4 * deviation + 1e-5
    torch.testing.assert_close(
        out[kept], torch.full_like(out[kept], 1 / (1 - p)), rtol=1e-4, atol=0
    )


def test_neighbours_rows_and_calls_are_independent() -> None:
    torch.manual_seed(2)
    drop = QuickDropout(0.5)
    a, b = (drop(torch.ones(400, 500)).ne(0).double() for _ in range(2))
    for left, right in ((a, b), (a[:, 1:], a[:, :-1]), (a[:, 4:], a[:, :-4]), (a[1:], a[:-1])):
        assert abs(float(((left - 0.5) * (right - 0.5)).mean()) / 0.25) < 0.01


def test_the_gradient_passes_where_the_value_passed() -> None:
    torch.manual_seed(3)
    inputs = torch.randn(50, 40, requires_grad=True)
    out = QuickDropout(0.3)(inputs)
    out.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad * inputs.detach(), out.detach())


def test_the_masks_follow_torchs_seed() -> None:
    drop, ones = QuickDropout(0.5), torch.ones(99)
    torch.manual_seed(4)
    first, second = drop(ones), drop(ones)
    torch.manual_seed(4)
    drop(ones)
    assert torch.equal(drop(ones), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends(p: float) -> None:
    assert torch.equal(QuickDropout(p)(torch.ones(5)), torch.full((5,), 1 - p))


def test_nothing_happens_when_not_training() -> None:
    values = torch.randn(5, 6)
    assert QuickDropout(0.5).eval()(values) is values
    assert QuickDropout(0.5)(torch.zeros(0, 3)).shape == (0, 3)
    assert QuickDropout(0.5)(torch.ones(9, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_all_plain_ones_are_replaced_and_others_left() -> None:
    class Own(nn.Dropout):
        pass

    module = nn.Sequential(
        nn.Dropout(0.2), nn.ModuleDict({"default": nn.Dropout(0.3)}), Own(0.4), nn.Linear(2, 2)
    )
    module[0].eval()
    quicken_dropout(module)
    inner = module[1]["default"]  # type: ignore[index]
    assert [type(m) for m in (module[0], inner, module[2])] == [QuickDropout, QuickDropout, Own]
    assert (module[0].p, inner.p) == (0.2, 0.3)
    assert not module[0].training
    assert inner.training


class Layer(nn.Module):
    is_causal = False


def attention_inputs(seed: int = 0) -> tuple[Tensor, ...]:
    torch.manual_seed(seed)
    return tuple(torch.randn(3, 2, 7, 4, requires_grad=True) for _ in range(3))


MASKS: dict[str, Tensor | None] = {
    "none": None,
    "bool": torch.arange(7).expand(3, 1, 7, 7) < torch.tensor([7, 5, 2]).view(3, 1, 1, 1),
}
MASKS["added"] = torch.where(MASKS["bool"], 0.0, -1e9)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MASKS)
def test_attention_is_the_plain_one_with_some_weights_dropped(name: str) -> None:
    """The mean over many masks is what comes without dropout; what is masked is never seen."""
    query, key, value = attention_inputs()
    plain, _ = attend(Layer(), query, key, value, MASKS[name], dropout=0.0)
    with torch.no_grad():
        draws = torch.stack(
            [attend(Layer(), query, key, value, MASKS[name], dropout=0.3)[0] for _ in range(4000)]
        )
    assert plain.shape == (3, 7, 2, 4)
    assert not torch.equal(draws[0], draws[1])
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - plain).abs() < 5 * error + 1e-6).all()
    if name != "none":
        moved = value.detach().clone()
        moved[2, :, 2:] += 100  # behind the mask
        torch.manual_seed(5)
        one, _ = attend(Layer(), query, key, value, MASKS[name], dropout=0.3)
        torch.manual_seed(5)
        other, _ = attend(Layer(), query, key, moved, MASKS[name], dropout=0.3)
        torch.testing.assert_close(one, other)


def test_attentions_gradient_is_that_of_the_same_mask_by_hand() -> None:
    inputs = attention_inputs(1)
    torch.manual_seed(6)
    out, _ = attend(Layer(), *inputs, MASKS["bool"], dropout=0.4, scaling=0.7)
    torch.manual_seed(6)
    mask = QuickDropout(0.4)(torch.ones(3, 2, 7, 7))
    query, key, value = inputs
    scores = 0.7 * query @ key.transpose(-1, -2)
    weights = torch.where(MASKS["bool"], scores, -1e30).softmax(dim=-1)  # type: ignore[arg-type]
    expected = ((weights * mask) @ value).transpose(1, 2)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_causal_and_grouped_attention_are_left_to_transformers() -> None:
    query, key, value = attention_inputs()
    layer = Layer()
    layer.is_causal = True
    torch.manual_seed(7)
    found, _ = attend(layer, query, key, value, None, dropout=0.5)
    torch.manual_seed(7)
    expected = nn.functional.scaled_dot_product_attention(
        query, key, value, dropout_p=0.5, is_causal=True
    )
    torch.testing.assert_close(found, expected.transpose(1, 2))
    layer.is_causal = False
    layer.num_key_value_groups = 2  # type: ignore[assignment]
    grouped, _ = attend(layer, query, key[:, :1], value[:, :1], None, dropout=0.5)
    assert grouped.shape == (3, 7, 2, 4)


def test_a_tagger_trains_with_it_and_nothing_of_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, "full")
    tagset = TagSet.from_labels(["PERSON"])
    tagger = build_tagger(settings, tagset, build_tokenizer(settings, (), "char"))
    calls: list[float] = []
    real = attend

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["dropout"])
        return real(*arguments, **options)

    monkeypatch.setattr("nertune.models.dropout.attend", counted)
    quicken_dropout(load_encoder(str(tiny_bert()), tagset))  # registers the counted one
    model = tagger.emitter.model
    ids = torch.randint(5, 60, (2, 9))
    attention = torch.ones_like(ids)
    attention[1, 6:] = 0
    model.train()(input_ids=ids, attention_mask=attention)
    assert calls == [0.1, 0.1]  # both layers
    plain = load_encoder(str(tiny_bert()), tagset)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        one = model.eval()(input_ids=ids, attention_mask=attention).logits
        other = plain.eval()(input_ids=ids, attention_mask=attention).logits
    assert calls[2:] == [0.0, 0.0]
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    model.save_pretrained(tmp_path / "saved")
    assert "nertune" not in json.dumps(json.loads((tmp_path / "saved/config.json").read_text()))
