"""Muon in float32 against PyTorch's own, which rounds to bfloat16; which parameters train how."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.pretraining import make_model, run, weights
from helpers.raw_text import make_pretrain_settings
from nertune.config.run import LoraSettings
from nertune.pretraining.optimizers import Muon, build_optimizers, orthogonalize

COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """By hand: the polynomial on each singular value, with the same singular vectors."""
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    before = matrix.clone()
    found = orthogonalize(matrix, coefficients=COEFFICIENTS, steps=5, eps=1e-7)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    x = values / values.norm()
    for _ in range(5):
        x = COEFFICIENTS[0] * x + COEFFICIENTS[1] * x**3 + COEFFICIENTS[2] * x**5
    assert torch.allclose(found, left @ x.diag() @ right, atol=1e-9)
    assert torch.equal(matrix, before)
    assert found.dtype == torch.float64
    assert not orthogonalize(torch.zeros(shape), coefficients=COEFFICIENTS, steps=5, eps=1e-7).any()


def train(kind: Any, weights: list[Tensor], steps: int = 6) -> list[Tensor]:
    """A few steps on a fixed sequence of gradients; one matrix gets none at first."""
    parameters = [torch.nn.Parameter(w.clone()) for w in weights]
    optimizer = kind(parameters, lr=0.02, weight_decay=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.param_groups[0]["lr"] = 0.02 * (step + 1)
        for i, parameter in enumerate(parameters):
            parameter.grad = None if i == 0 and step == 0 else torch.randn_like(parameter)
        optimizer.step()
    return [p.detach() for p in parameters]


def test_as_pytorchs_but_for_rounding() -> None:
    torch.manual_seed(9)
    weights = [torch.randn(8, 8), torch.randn(4, 16), torch.randn(24, 8)]
    found, expected = train(Muon, weights), train(torch.optim.Muon, weights)
    for one, other, start in zip(found, expected, weights, strict=True):
        moved = (other - start).norm()
        assert moved > 0.3
        assert (one - other).norm() < 0.02 * moved
        assert not torch.equal(one, other)  # no bfloat16 here


def test_its_state_goes_on_where_it_was() -> None:
    torch.manual_seed(9)
    parameter = torch.nn.Parameter(torch.randn(4, 6))
    optimizer = Muon([parameter], lr=0.02)
    gradients = torch.randn(4, 4, 6)
    for gradient in gradients[:2]:
        parameter.grad = gradient.clone()
        optimizer.step()
    other = torch.nn.Parameter(parameter.detach().clone())
    resumed = Muon([other], lr=0.02)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gradient in gradients[2:]:
        for p, o in ((parameter, optimizer), (other, resumed)):
            p.grad = gradient.clone()
            o.step()
    assert torch.equal(parameter, other)


def test_a_closure_gives_its_loss() -> None:
    parameter = torch.nn.Parameter(torch.eye(3))
    optimizer = Muon([parameter], lr=0.02)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert not torch.equal(parameter.detach(), torch.eye(3))


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_is_trained_once(optimizer: str, architecture: str, tmp_path: Path) -> None:
    settings = make_pretrain_settings(
        tmp_path, optimizer=optimizer, architecture=architecture, words="jieba",
        rate=2e-3, muon_rate=0.03, embedding_factor=0.5, weight_decay=0.1,
    )  # fmt: skip
    model = make_model(settings)
    groups = {}
    for built, names in build_optimizers(model, settings):
        members = [p for group in built.param_groups for p in group["params"]]
        assert len(members) == len(names)
        by_id = {id(p): name for name, p in model.named_parameters()}
        assert [by_id[id(p)] for p in members] == names
        for group in built.param_groups:
            for parameter in group["params"]:
                name = by_id[id(parameter)]
                assert name not in groups
                groups[name] = (type(built).__name__, group["peak"], group["weight_decay"])
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        if "word_embeddings" in name or "tok_embeddings" in name:
            expected = ("AdamW", 1e-3, 0.1)
        elif parameter.ndim == 1:
            expected = ("AdamW", 2e-3, 0.0)
        elif optimizer == "muon" and (".layer." in name or ".layers." in name):
            expected = ("Muon", 0.03, 0.1)
        else:
            expected = ("AdamW", 2e-3, 0.1)
        assert groups[name] == expected, name
    assert ("Muon" in {kind for kind, _, _ in groups.values()}) == (optimizer == "muon")


def test_frozen_parameters_are_not_trained(tmp_path: Path) -> None:
    adapter = LoraSettings(dropout=0.0, rank=2, targets=("query",))
    it = run(tmp_path / "run", lora=True, adapter=adapter)
    model = make_model(it.settings, lora=True)
    names = [name for _, names in build_optimizers(model, it.settings) for name in names]
    assert names
    assert all("lora_" in name for name in names)
    before = weights(model)
    trained, _ = it.go()
    for name, tensor in weights(trained).items():
        assert torch.equal(tensor, before[name]) == ("lora_" not in name), name
