"""The exported graph gives the emitter's emissions, whatever the lengths."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.tiny import make_predictor, make_settings
from nertune.errors import ArtifactError, ConfigError, MissingDependencyError
from nertune.models.encoder import EncoderEmitter
from nertune.models.graphs.onnx import OnnxEmitter
from nertune.models.graphs.processor import has_int8_instructions
from nertune.models.graphs.quantization import list_layers, quantize
from nertune.models.graphs.tracing import write_onnx

SHAPES = [(1, 1), (1, 40), (3, 2), (4, 17)]


def emitter_of(tmp_path: Path, variant: str) -> nn.Module:
    emitter = make_predictor(make_settings(tmp_path, variant)).tagger.emitter
    if isinstance(emitter, EncoderEmitter):
        emitter.merge_adapter()
    return emitter.eval()


def modernbert() -> nn.Module:
    """Its attention differs from layer to layer, and reads a mask of its own making."""
    from transformers import ModernBertConfig, ModernBertForTokenClassification

    torch.manual_seed(1)
    config = ModernBertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64, local_attention=8, num_labels=5,
        pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    return EncoderEmitter(ModernBertForTokenClassification(config)).eval()


def compute(graph: OnnxEmitter, ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
    return torch.from_numpy(graph(ids_BL.numpy(), attention_BL.numpy()))


def padded(rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Ids and a mask in which every row but the first ends earlier."""
    generator = torch.Generator().manual_seed(rows * 100 + length)
    ids_BL = torch.randint(5, 40, (rows, length), generator=generator)
    lengths_B1 = torch.tensor([[max(1, length - 3 * row)] for row in range(rows)])
    attention_BL = (torch.arange(length) < lengths_B1).long()
    return ids_BL * attention_BL, attention_BL


@pytest.mark.parametrize("variant", ["full", "lora", "lstm", "modernbert"])
def test_the_graph_is_the_emitter(variant: str, tmp_path: Path) -> None:
    emitter = modernbert() if variant == "modernbert" else emitter_of(tmp_path, variant)
    write_onnx(emitter, tmp_path / "model.onnx")
    graph = OnnxEmitter(tmp_path / "model.onnx")
    for rows, length in SHAPES:
        ids_BL, attention_BL = padded(rows, length)
        with torch.inference_mode():
            expected_BLK = emitter(ids_BL, attention_BL)
        found_BLK = compute(graph, ids_BL, attention_BL)
        real_BL = attention_BL.bool()
        torch.testing.assert_close(found_BLK[real_BL], expected_BLK[real_BL], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "layers"), [("full", {"0", "1", ""}), ("lstm", {"0", ""})])
def test_int8_by_layer(variant: str, layers: set[str], tmp_path: Path) -> None:
    emitter = emitter_of(tmp_path, variant)
    exact, small = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    write_onnx(emitter, exact)
    nodes = list_layers(exact)
    assert set(nodes) == layers
    quantize(exact, small, leave_out=[node for found in nodes.values() for node in found])
    ids_BL, attention_BL = padded(3, 12)
    expected = compute(OnnxEmitter(exact), ids_BL, attention_BL)
    found = compute(OnnxEmitter(small), ids_BL, attention_BL)
    torch.testing.assert_close(found, expected)
    quantize(exact, small)
    rounded = compute(OnnxEmitter(small), ids_BL, attention_BL)
    assert (rounded - expected).abs().max() > 1e-3
    real_BL = attention_BL.bool()
    scale = expected[real_BL].std()
    # Without VNNI instructions, sums of two products are cut off at 16 bits: 0.48 of these random
    # weights' spread was measured there. `export` refuses such a graph by its scores.
    limit = 0.6 if has_int8_instructions() is False else 0.2
    assert ((rounded - expected)[real_BL].std() / scale) < limit
    assert small.stat().st_size < exact.stat().st_size


def test_quantizing_leaves_the_root_logger_alone(tmp_path: Path) -> None:
    """A handler there would print each line of nertune's log once more."""
    write_onnx(emitter_of(tmp_path, "lstm"), tmp_path / "model.onnx")
    root = logging.getLogger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx")
        assert (root.handlers, root.filters) == ([], [])


def test_what_cannot_be_traced(tmp_path: Path) -> None:
    class Sorter(nn.Module):
        def forward(self, ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
            return torch.linalg.eig(ids_BL[:1].float().T @ ids_BL[:1].float())[0].real

    with pytest.raises(ArtifactError, match="cannot be exported to ONNX") as caught:
        write_onnx(Sorter(), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_damaged_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be read by ONNX Runtime"):
        OnnxEmitter(tmp_path / "model.onnx")


def test_a_device_that_this_build_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"device mps: this build of ONNX Runtime computes on"):
        OnnxEmitter(tmp_path / "model.onnx", device="mps")


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_extra(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    calls: list[Any] = [lambda: list_layers(tmp_path / "model.onnx")]
    if library == "onnxruntime":
        calls.append(lambda: OnnxEmitter(tmp_path / "model.onnx"))
    for call in calls:
        with pytest.raises(MissingDependencyError, match=r'pip install "nertune\[onnx\]"'):
            call()
