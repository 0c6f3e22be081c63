"""Which device computes."""

from __future__ import annotations

import pytest
import torch

from nertune.errors import ModelError
from nertune.models.device import choose_device


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("tpu", "cuda:99", "", "gpu"):
        with pytest.raises(
            ModelError, match=r"is not available here; use device = .auto"
        ) as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)
