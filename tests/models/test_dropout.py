"""Dropout: what it must do, whatever numbers it draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nertune.models.dropout import QuickDropout, quicken_dropout


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
