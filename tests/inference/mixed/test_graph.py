"""Mixed batches through ONNX Runtime: the encoder's graph with all adapters as its inputs."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.mixed import MIXED, PEOPLE, make_model
from helpers.tiny import SENTENCES
from nertune.errors import ArtifactError, ConfigError
from nertune.inference.mixed import MultiPredictor
from nertune.inference.mixed.graph import EncoderGraph, TracedRows
from nertune.inference.predictor import Predictor
from nertune.types import Document

LONG = Document("".join(d.text for d in SENTENCES) * 2)
TEXTS = (*SENTENCES, LONG, Document("北"))


def test_the_graph_finds_what_pytorch_finds(base: Path, mixed: Mapping[str, Path]) -> None:
    served = MultiPredictor.load(base, mixed, device="cpu", backend="onnx", slots=3)
    assert all(served.describe(name).mixes for name in MIXED)
    jobs = [(name, i) for name in MIXED for i in range(len(TEXTS))]
    random.Random(0).shuffle(jobs)
    found = served.tag([TEXTS[i] for _, i in jobs], [name for name, _ in jobs])
    alone = {n: list(Predictor.load(f).tag_documents(TEXTS)) for n, f in mixed.items()}
    for one, (name, i) in zip(found, jobs, strict=True):
        wanted = alone[name][i]
        assert isinstance(one, Document), one
        assert [e.key for e in one.entities] == [e.key for e in wanted.entities]
        for a, b in zip(one.entities, wanted.entities, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)


def test_the_head_of_modernbert_is_each_models_own(tmp_path: Path) -> None:
    sections = {"model": {"encoder": "mini-zh", "tuning": "lora"}, "lora": {"targets": ["ffn"]}}
    folders = {
        name: make_model(tmp_path / name, PEOPLE, sections, seed=seed)
        for seed, name in enumerate(("one", "other"))
    }
    served = MultiPredictor.load(None, folders, device="cpu", backend="onnx")
    found = served.tag(SENTENCES, ["one", "other"] * 4)
    alone = {name: Predictor.load(folder) for name, folder in folders.items()}
    for i, (one, document) in enumerate(zip(found, SENTENCES, strict=True)):
        wanted = alone[["one", "other"][i % 2]].tag(document.text)
        assert isinstance(one, Document)
        assert [e.key for e in one.entities] == [e.key for e in wanted.entities]


def test_int8_is_near_and_what_it_costs_is_said(
    base: Path, mixed: Mapping[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="nertune")
    served = MultiPredictor.load(base, mixed, device="cpu", backend="onnx-int8")
    assert "as an int8 graph: hidden states within" in caplog.text
    encoder = served._reader.base
    assert encoder is not None
    assert encoder.parity is not None
    assert 1e-4 < encoder.parity.typical < 0.1
    assert encoder.parity.alone == 0


def test_int8_answers_do_not_depend_on_what_is_beside_them(
    base: Path, mixed: Mapping[str, Path]
) -> None:
    """Padded and not, beside others and alone: the same, but for rounding in the heads."""
    served = MultiPredictor.load(base, mixed, device="cpu", backend="onnx-int8")
    jobs = [(name, i) for name in MIXED for i in range(len(TEXTS))]
    random.Random(1).shuffle(jobs)
    together = served.tag([TEXTS[i] for _, i in jobs], [name for name, _ in jobs])
    for found, (name, i) in zip(together, jobs, strict=True):
        (alone,) = served.tag([TEXTS[i]], name)
        assert isinstance(found, Document)
        assert isinstance(alone, Document)
        assert [e.key for e in found.entities] == [e.key for e in alone.entities]
        for a, b in zip(found.entities, alone.entities, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-6)


def test_a_graph_that_is_not_the_encoder_is_refused(
    base: Path, mixed: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(self: TracedRows, name: str, input: Any, output: torch.Tensor) -> torch.Tensor:
        return output

    def states(self: EncoderGraph, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        return whole(self, ids, *rest) * 1.01

    whole = EncoderGraph.states
    with monkeypatch.context() as patched:
        patched.setattr(TracedRows, "add", forget)  # the stacks are no inputs then
        with pytest.raises(ArtifactError, match="Invalid input name"):
            MultiPredictor.load(base, mixed, device="cpu", backend="onnx")
    monkeypatch.setattr(EncoderGraph, "states", states)
    with pytest.raises(ArtifactError, match="its float32 graph is not the encoder"):
        MultiPredictor.load(base, mixed, device="cpu", backend="onnx")


def test_what_does_not_mix_needs_its_own_graph(
    base: Path, mixed: Mapping[str, Path], own: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="was not exported"):
        MultiPredictor.load(
            base, {"plain": mixed["plain"], "dora": own["dora"]}, device="cpu", backend="onnx"
        )
    from nertune.export.onnx import export

    folder = tmp_path / "dora"
    shutil.copytree(own["dora"], folder)
    export(folder, dev=str(own["dora"].parent / "data.jsonl"))
    served = MultiPredictor.load(
        base, {"plain": mixed["plain"], "dora": folder}, device="cpu", backend="onnx"
    )
    assert not served.describe("dora").mixes
    found = served.tag(SENTENCES, "dora")
    predictor = Predictor.load(own["dora"])
    for one, document in zip(found, SENTENCES, strict=True):
        assert isinstance(one, Document)
        wanted = predictor.tag(document.text)
        assert [e.key for e in one.entities] == [e.key for e in wanted.entities]


def test_a_graph_stays_on_the_cpu(base: Path, mixed: Mapping[str, Path]) -> None:
    with pytest.raises(ConfigError, match="mixed batches of an ONNX graph are computed on the CPU"):
        MultiPredictor.load(base, mixed, device="meta", backend="onnx")
