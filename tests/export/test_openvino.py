"""OpenVINO on the exported graph, and the backend that `auto` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nertune.artifacts.graphs as graphs
from helpers.commands import run
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, write_jsonl
from nertune.artifacts.graphs import choose_backend
from nertune.errors import ArtifactError, ConfigError, MissingDependencyError
from nertune.export import onnx as module
from nertune.export.onnx import export
from nertune.inference.predictor import Predictor
from nertune.models.graphs.onnx import OnnxEmitter
from nertune.models.graphs.tracing import write_onnx
from nertune.types import Entity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shaken tagger that was saved, and dev data in which what it finds is right."""
    settings = make_settings(tmp_path, "full")
    predictor = make_predictor(settings)
    write_jsonl(tmp_path / "data.jsonl", predictor.tag_documents(SENTENCES))
    save_predictor(tmp_path / "model", predictor, settings)
    return tmp_path / "model"


def order(*names: str) -> Any:
    """Speeds that make the first the fastest."""
    return lambda backends, *_: {
        name: 1000.0 - 100 * names.index(name) if name in names else 1.0 for name in backends
    }


class TestOpenVino:
    @pytest.fixture(autouse=True)
    def _needs_openvino(self) -> None:
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

    @pytest.mark.parametrize("variant", ["full", "lstm"])
    def test_in_float32_it_is_the_emitter(
        self, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nertune.models.graphs import openvino

        emitter = make_predictor(make_settings(tmp_path, variant)).tagger.emitter.eval()
        path = tmp_path / "model.onnx"
        write_onnx(emitter, path)
        monkeypatch.setattr(openvino, "_LARGE_BYTES", 0)  # all threads for one batch
        graph = openvino.OpenVinoEmitter(path, precision="f32")
        exact = OnnxEmitter(path)
        for rows, length in ((1, 1), (3, 2), (4, 17), (1, 40)):
            ids_BL = np.random.default_rng(0).integers(5, 40, (rows, length))
            mask_BL = np.ones_like(ids_BL)
            expected = exact(ids_BL, mask_BL)
            np.testing.assert_allclose(graph(ids_BL, mask_BL), expected, atol=1e-4, rtol=1e-4)
            several = graph.map_batches(lambda _, a=ids_BL, b=mask_BL: graph(a, b), [0, 1, 2, 3])
            for found in several:
                np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        ids_BL = np.ones((2, 7), dtype=np.int64)
        with pytest.raises(ArtifactError, match=r"cannot compute 2 windows of 7 tokens"):
            graph(ids_BL[..., None], ids_BL)  # one axis too many

    def test_an_export_is_loaded_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "measure_speeds", order("openvino"))
        report = export(folder, openvino=True, tolerance=100.0)
        assert report["openvino"]["status"] == "exported"
        assert report["fastest"] == "openvino"
        assert list(report["files"]) == ["model.onnx"]
        assert choose_backend(folder).backend == "openvino"
        exact = Predictor.load(folder, device="cpu")
        rounded = Predictor.load(folder, backend="openvino")
        _, expected = exact.emissions(SENTENCES)
        _, found = rounded.emissions(SENTENCES)
        for a, b in zip(expected, found, strict=True):
            assert abs(a - b).max() < 0.5  # logits of up to 12, in bfloat16
        with pytest.raises(ConfigError, match="computes on the CPU"):
            graphs.open_graph(folder, exact.manifest, "openvino", "cuda")  # type: ignore[arg-type]
        told = run("predict", folder, SENTENCES[0].text)
        assert told.code == 0
        assert "backend: openvino" in told.stderr

    @pytest.mark.parametrize("reason", ["slow", "bad"])
    def test_what_is_not_good_enough_is_refused(
        self, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fast = order("openvino") if reason == "bad" else order("onnx", "torch")
        monkeypatch.setattr(module, "measure_speeds", fast)
        report = export(folder, openvino=True, tolerance=-1.0 if reason == "bad" else 100.0)
        assert report["openvino"]["status"] == "refused"
        assert ("loses" if reason == "bad" else "not faster") in report["openvino"]["reason"]
        with pytest.raises(ArtifactError, match=r"nothing for OpenVINO.*--to openvino"):
            Predictor.load(folder, backend="openvino")
        assert choose_backend(folder).backend != "openvino"
        Predictor.load(folder, backend="onnx")

    def test_a_model_that_finds_nothing_is_not_admitted(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "measure_speeds", order("openvino"))
        other = [d.with_entities([Entity(0, 1, "NONE")]) for d in SENTENCES]
        dev = write_jsonl(tmp_path / "other.jsonl", other)
        report = export(folder, dev=str(dev), openvino=True, int8=True, tolerance=100.0)
        for backend in ("openvino", "onnx-int8"):
            assert report[backend]["status"] == "refused"
            assert "finds none of the entities" in report[backend]["reason"]

    def test_a_damaged_graph(self, tmp_path: Path) -> None:
        from nertune.models.graphs.openvino import OpenVinoEmitter

        (tmp_path / "model.onnx").write_bytes(b"no graph")
        with pytest.raises(ArtifactError, match="cannot be read by OpenVINO"):
            OpenVinoEmitter(tmp_path / "model.onnx")


def test_without_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"nertune\[openvino\]"):
        export(folder, openvino=True)


def test_what_auto_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(folder) == choose_backend("hub/name") == graphs.Choice("torch")
    monkeypatch.setattr(module, "measure_speeds", order("onnx-int8", "onnx", "torch"))
    export(folder, int8=True, tolerance=100.0)
    assert choose_backend(folder) == graphs.Choice("onnx-int8", "onnx-int8")
    assert choose_backend(folder, "cuda").backend == "torch"
    assert choose_backend(folder, "cpu").backend == "onnx-int8"
    with monkeypatch.context() as patched:
        patched.setattr(graphs, "find_spec", lambda name: None)
        choice = choose_backend(folder)
        assert choice.backend == "torch"
        assert "onnx-int8 was faster: pip install 'nertune[onnx]'" in choice.reason
    with monkeypatch.context() as patched:
        patched.setattr(graphs, "has_bf16_instructions", lambda: "other")
        assert choose_backend(folder) == graphs.Choice("torch", graphs._ELSEWHERE)
    assert isinstance(Predictor.load(folder, backend="auto").computer.emitter, OnnxEmitter)
    with pytest.raises(ConfigError, match="'tpu': expected auto, torch"):
        Predictor.load(folder, backend="tpu")  # type: ignore[arg-type]
    graph = folder / "onnx" / "model-int8.onnx"
    graph.write_bytes(b"damaged")
    choice = choose_backend(folder)
    assert choice.backend == "torch"
    assert "missing or damaged" in choice.reason
    (folder / "onnx" / "parity.json").write_text("{", encoding="utf-8")
    assert "is damaged" in choose_backend(folder).reason


def test_where_pytorch_is_the_fastest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_speeds", order("torch", "onnx"))
    export(folder)
    assert json.loads((folder / "onnx" / "parity.json").read_text())["fastest"] == "torch"
    assert choose_backend(folder) == graphs.Choice("torch", "torch")


def test_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "measure_speeds", order("onnx", "torch"))
    text = SENTENCES[0].text
    plain = run("predict", folder, text)
    assert "backend" not in plain.stderr
    export(folder)
    quick = run("predict", folder, text)
    assert quick.stdout == plain.stdout
    assert quick.stderr.endswith("backend: onnx\n")
    assert "backend" not in run("predict", folder, text, "--backend", "torch").stderr
    wrong = run("predict", folder, text, "--backend", "tflite")
    assert wrong.error == (
        "error: backend 'tflite': expected auto, torch, onnx, onnx-int8, openvino"
    )
    (tmp_path / "texts.txt").write_text(text, encoding="utf-8")
    done = run("annotate", tmp_path / "texts.txt", "-o", tmp_path / "out", "--model", folder)
    assert done.code == 0
    assert "backend: onnx\n" in done.stderr
    written = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert written["options"]["backend"] == "onnx"
