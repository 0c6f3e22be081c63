"""What must hold on a GPU: `pytest -m gpu` there; the same tests run on the CPU in every run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.mixed import MIXED, make_model
from helpers.raw_text import make_pretrain_settings
from helpers.tiny import (
    SENTENCES,
    VARIANTS,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
    tiny_rates,
)
from nertune.experiments.pretraining.pretrain import pretrain
from nertune.experiments.train import train
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.training.observer import Observer
from nertune.types import Document

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu", CUDA]
GPU_ONLY = [CUDA]


@pytest.fixture(autouse=True)
def _needs_its_device(request: pytest.FixtureRequest) -> None:
    device = request.node.callspec.params["device"]
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def run_settings(folder: Path, variant: str, device: str, **changes: Any) -> Any:
    values = {"epochs": 8, **tiny_rates(0.02, VARIANTS[variant]), **changes}
    return make_settings(folder, variant, {"run": {"device": device}, "train": values})


def assert_learned(record: Mapping[str, Any]) -> None:
    losses = [epoch["loss"] for epoch in record["epochs"]]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", ["full-crf", "lora", "lstm-crf"])
def test_a_run_in_bf16(device: str, variant: str, tmp_path: Path) -> None:
    record = train(run_settings(tmp_path, variant, device, precision="bf16"))
    assert (record["device"].partition(":")[0], record["precision"]) == (device, "bf16")
    assert_learned(record)


@pytest.mark.parametrize("device", GPU_ONLY)
@pytest.mark.parametrize("variant", ["full", "lora-crf"])
def test_a_run_in_fp16(device: str, variant: str, tmp_path: Path) -> None:
    record = train(run_settings(tmp_path, variant, device, precision="fp16"))
    assert record["precision"] == "fp16"
    assert_learned(record)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("device", GPU_ONLY)
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_a_compiled_run(device: str, variant: str, tmp_path: Path) -> None:
    assert_learned(train(run_settings(tmp_path, variant, device, precision="bf16", compile=True)))


class Stopped(Exception):
    pass


class StopIn(Observer):
    """Ends the run while an epoch goes on."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_batch(self, epoch: int, *_: Any, **__: Any) -> None:
        if epoch == self.epoch:
            raise Stopped


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", ["full-crf", "lora"])
def test_a_resumed_run_is_the_uninterrupted_one(device: str, variant: str, tmp_path: Path) -> None:
    weights = []
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
        settings = run_settings(tmp_path / name, variant, device, epochs=4)
        if name == "resumed":
            with pytest.raises(Stopped):
                train(settings, observers=[StopIn(3)])
        train(settings, resume=name == "resumed")
        files = sorted((settings.run.dir / "model").glob("*.safetensors"))
        weights.append({f.name: load_file(f) for f in files})
    assert weights[0].keys() == weights[1].keys() != set()
    for file, tensors in weights[0].items():
        for key, tensor in tensors.items():
            # A GPU adds in no fixed order, so that two runs differ by rounding.
            torch.testing.assert_close(weights[1][file][key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_finds_what_it_finds_on_the_cpu(device: str, variant: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, variant)
    save_predictor(tmp_path / "model", make_predictor(settings), settings)
    documents = [*SENTENCES, Document("".join(d.text for d in SENTENCES) * 8)]
    on_cpu = Predictor.load(tmp_path / "model", device="cpu")
    expected = list(on_cpu.tag_documents(documents))
    found = list(Predictor.load(tmp_path / "model", device=device).tag_documents(documents))
    assert sum(len(d.entities) for d in expected) > 10
    assert [[e.key for e in d.entities] for d in found] == [
        [e.key for e in d.entities] for d in expected
    ]
    scores = [
        torch.tensor([e.score for d in tagged for e in d.entities]) for tagged in (found, expected)
    ]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_mixed_adapters_find_what_each_finds_alone(device: str, tmp_path: Path) -> None:
    folders = {
        name: make_model(tmp_path / name, labels, sections, seed=i)
        for i, (name, (labels, sections)) in enumerate(MIXED.items())
        if name != "io"
    }
    served = MultiPredictor.load(tiny_bert(), folders, device=device)
    rows = [(document, name) for name in folders for document in SENTENCES]
    found = served.tag([document for document, _ in rows], [name for _, name in rows])
    alone = {name: Predictor.load(folder, device="cpu") for name, folder in folders.items()}
    for answer, (document, name) in zip(found, rows, strict=True):
        assert isinstance(answer, Document)
        expected = alone[name].tag(document.text)
        assert [e.key for e in answer.entities] == [e.key for e in expected.entities]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("device", "compiled"), [("cpu", "no"), pytest.param("cuda", "yes", marks=pytest.mark.gpu)]
)
def test_pre_training_learns(device: str, compiled: str, tmp_path: Path) -> None:
    settings = make_pretrain_settings(
        tmp_path, device=device, compile=compiled, precision="bf16", tokens=20_000
    )
    record = pretrain(settings)
    held_out = record["held_out"]
    assert held_out["after"]["loss"] < held_out["before"]["loss"] - 0.2
