"""Products in int8, each token on its own scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nertune.errors import ArtifactError
from nertune.models.graphs.onnx import open_session
from nertune.models.graphs.quantization import quantize
from nertune.models.graphs.tracing import trace_onnx

WIDTH = 24


class Layers(nn.Module):
    """Two products with the same input, one after them, and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(WIDTH, 32), nn.Linear(WIDTH, 32, bias=False)
        self.last = nn.Linear(32, WIDTH)

    def forward(self, values_BLD: Tensor) -> Tensor:
        inner = self.one(values_BLD) * self.other(values_BLD)
        once: Tensor = self.last(inner)
        again: Tensor = self.other(once)
        return again


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("graphs")
    exact, small = folder / "exact.onnx", folder / "small.onnx"
    axes = {name: {0: "windows", 1: "pieces"} for name in ("values", "out")}
    trace_onnx(Layers(), {"values": torch.zeros((2, 3, WIDTH))}, exact, axes)
    quantize(exact, small)
    assert small.stat().st_size < exact.stat().st_size
    exact_session = open_session(exact, device="cpu", threads=1)
    return exact_session, open_session(small, device="cpu", threads=1)


def run(session: Any, values: np.ndarray) -> np.ndarray:
    (found,) = session.run(None, {"values": values.astype(np.float32)})
    return found  # type: ignore[no-any-return]


@given(scales=st.lists(st.sampled_from([0.01, 1.0, 50.0]), min_size=1, max_size=5))
def test_a_row_is_near_the_exact_one_and_alone_the_same(
    sessions: tuple[Any, Any], scales: list[float]
) -> None:
    """Whatever the size of its neighbours' numbers."""
    exact, small = sessions
    generator = np.random.default_rng(len(scales))
    values = generator.normal(size=(len(scales), 4, WIDTH)) * np.array(scales)[:, None, None]
    wanted, found = run(exact, values), run(small, values)
    for i in range(len(scales)):
        np.testing.assert_array_equal(found[i], run(small, values[i : i + 1])[0])
        assert np.abs(found[i] - wanted[i]).max() < 0.06 * np.abs(wanted[i]).max()


def test_zeros_stay_finite_and_what_is_not_finite_is_not_lost(sessions: tuple[Any, Any]) -> None:
    exact, small = sessions
    values = np.zeros((3, 2, WIDTH))
    np.testing.assert_allclose(run(small, values), run(exact, values), atol=1e-2)
    values[1, 0, 3] = np.nan
    values[2, 1, 5] = np.inf
    found = run(small, values)
    assert np.isfinite(found[0]).all()
    assert not np.isfinite(found[1, 0]).any()
    assert not np.isfinite(found[2, 1]).any()


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sum.onnx"
    axes = {"values": {0: "windows"}, "out": {0: "windows"}}
    trace_onnx(nn.ReLU(), {"values": torch.zeros((2, 3))}, path, axes)
    with pytest.raises(ArtifactError, match="no product"):
        quantize(path, tmp_path / "small.onnx")
