"""Device and precision of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nertune.training.accelerator as module
from helpers.tiny import VARIANTS, make_settings, tiny_rates
from nertune.errors import ConfigError
from nertune.experiments.train import train
from nertune.training.accelerator import build_accelerator

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "given", "computed"),
    [
        ("fp32", "no", torch.float32),
        ("bf16", "bf16", torch.bfloat16),
    ],
)
def test_precision_on_a_cpu(asked: str, given: str, computed: torch.dtype, tmp_path: Path) -> None:
    accelerator = build_accelerator(CPU, asked, project_dir=tmp_path)
    assert accelerator.device == CPU
    assert accelerator.mixed_precision == given
    with accelerator.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == computed


@pytest.mark.parametrize(
    ("has_instructions", "computed"), [(True, "bf16"), (False, "fp32"), (None, "fp32")]
)
def test_auto_on_a_cpu(
    has_instructions: bool | None,
    computed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "has_bf16_instructions", lambda: has_instructions)
    settings = make_settings(tmp_path, "full", {"train": {"precision": "auto", "epochs": 1}})
    with caplog.at_level("INFO", logger="nertune"):
        record = train(settings)
    assert record["precision"] == computed
    assert f"unit char, cpu, {computed}" in caplog.text


def test_runs_of_one_process_may_differ_in_precision(tmp_path: Path) -> None:
    """accelerate alone would refuse the second, or keep the first one's."""
    for precision, given in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = build_accelerator(CPU, precision, project_dir=tmp_path)
        assert accelerator.mixed_precision == given


def test_fp16_wants_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"fp16" needs a CUDA device'):
        build_accelerator(CPU, "fp16", project_dir=tmp_path)


@pytest.mark.parametrize(
    ("variant", "changes"),
    [("lora-crf", {}), ("lora", {"lora": {"layers": "top-1"}}), ("lstm", {})],
    ids=["crf", "frozen layers run once", "lstm"],
)
def test_a_run_in_bf16_learns_and_keeps_float32(
    variant: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    train_values = {"epochs": 8, "precision": "bf16", **tiny_rates(0.02, VARIANTS[variant])}
    settings = make_settings(tmp_path, variant, {**changes, "train": train_values})
    record = train(settings)
    losses = [epoch["loss"] for epoch in record["epochs"]]
    assert losses[-1] < 0.8 * losses[0]
    assert record["frozen_layers"]["run_once"] == bool(changes)
    files = list((settings.run.dir / "model").rglob("*.safetensors"))
    assert files
    for file in files:
        assert {t.dtype for t in load_file(file).values()} == {torch.float32}, file
