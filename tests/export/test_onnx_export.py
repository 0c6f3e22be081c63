"""`nertune export`: what it writes is the tagger, and what is not is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nertune.artifacts.load
import nertune.export.onnx as module
from helpers.commands import run
from helpers.shown import logged
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, write_jsonl
from nertune.artifacts.manifest import read_manifest
from nertune.data.corpus import load_corpus
from nertune.errors import ArtifactError, ConfigError
from nertune.experiments.train import train
from nertune.export.onnx import export
from nertune.inference.predictor import Predictor, load_model
from nertune.types import Document

VARIANTS = ["lstm-crf", "full", "lora-crf"]


def saved(folder: Path, variant: str, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    """A shaken tagger, where it was saved, and dev data in which what it finds is right."""
    settings = make_settings(folder, variant, sections)
    predictor = make_predictor(settings)
    if settings.data.dev == str(folder / "data.jsonl"):
        write_jsonl(folder / "data.jsonl", predictor.tag_documents(SENTENCES))
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


def always_faster(backends: dict[str, Predictor], *_: object) -> dict[str, float]:
    """Tiny graphs are not faster in int8; whether real ones are is no matter for a unit test."""
    return {name: number for number, name in enumerate(backends, start=1)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_exported_tagger_is_the_tagger(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_speeds", always_faster)
    predictor, folder = saved(tmp_path, variant, model={"max_pieces": 24, "stride": 5})
    report = export(folder, int8=True, tolerance=100.0)
    assert {p.name for p in (folder / "onnx").iterdir()} == {
        "model.onnx", "model-int8.onnx", "parity.json",
    }  # fmt: skip
    assert json.loads((folder / "onnx" / "parity.json").read_text()) == json.loads(
        json.dumps(report)
    )
    assert report["onnx"]["agreement"]["differing"] == 0
    assert report["onnx"]["agreement"]["entities"] > 20
    assert report["onnx"]["f1"] == report["torch"]["f1"]
    assert report["onnx-int8"]["status"] == "exported"

    loaded = Predictor.load(folder, backend="onnx")
    texts = [d.text for d in SENTENCES] + ["", " ", "🙂 1998年 Tom", "字" * 150]
    for before, after in zip(predictor.tag_texts(texts), loaded.tag_texts(texts), strict=True):
        assert [e.key for e in before.entities] == [e.key for e in after.entities]
        assert [e.score for e in before.entities] == pytest.approx(
            [e.score for e in after.entities], abs=1e-4
        )
    assert loaded.manifest is not None
    small = Predictor.load(folder, backend="onnx-int8", device="cpu")
    assert sum(len(d.entities) for d in small.tag_texts(texts)) > 10
    assert load_model(folder, device="cpu").tag(texts[0]) == predictor.tag(texts[0])


def test_another_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose entities differ is not kept, and the report says by how much."""
    _, folder = saved(tmp_path, "full")
    other = make_predictor(make_settings(tmp_path, "full", {"run": {"seed": 5}}))
    traced = module.write_onnx
    monkeypatch.setattr(module, "write_onnx", lambda _, path: traced(other.tagger.emitter, path))
    with pytest.raises(ArtifactError, match=r"the exported graph is not the model: \d+ of \d+"):
        export(folder)
    assert [p.name for p in (folder / "onnx").iterdir()] == ["parity.json"]
    found = json.loads((folder / "onnx" / "parity.json").read_text())
    assert found["onnx"]["agreement"]["differing"] > 0
    with pytest.raises(ArtifactError, match=r"holds no model\.onnx.*was refused"):
        Predictor.load(folder, backend="onnx")


@pytest.mark.parametrize("broken", ["nan", "length"])
def test_a_graph_that_cannot_compute_is_refused(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved(tmp_path, "full")
    traced = module.write_onnx

    class Broken(torch.nn.Module):
        """Gives NaN, or was traced with a length baked in."""

        def forward(self, ids_BL: torch.Tensor, attention_BL: torch.Tensor) -> torch.Tensor:
            added_BL = torch.zeros(1, 7) if broken == "length" else torch.log(-ids_BL.float())
            return (attention_BL + added_BL)[..., None].expand(-1, -1, 9)

    monkeypatch.setattr(module, "write_onnx", lambda _, path: traced(Broken(), path))
    with pytest.raises(ArtifactError, match=r"the exported graph is not the model: .*") as caught:
        export(folder)
    assert ("cannot compute" if broken == "length" else "not finite") in str(caught.value)
    assert [p.name for p in (folder / "onnx").iterdir()] == ["parity.json"]


def test_int8_that_fails_leaves_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = saved(tmp_path, "lstm")

    def failing(*_: object, **__: object) -> None:
        raise ArtifactError("no int8 today")

    monkeypatch.setattr(module, "quantize", failing)
    report = export(folder, int8=True)
    assert report["onnx-int8"] == {"status": "refused", "reason": "no int8 today"}
    Predictor.load(folder, backend="onnx")


def test_int8_of_another_kind_of_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_speeds", always_faster)
    monkeypatch.setattr(module, "has_int8_instructions", lambda: True)
    _, folder = saved(tmp_path, "lstm")
    export(folder, int8=True, tolerance=100.0)
    monkeypatch.setattr(nertune.artifacts.graphs, "has_int8_instructions", lambda: False)
    with pytest.raises(ArtifactError, match=r"checked on a processor with int8 instructions"):
        Predictor.load(folder, backend="onnx-int8")
    Predictor.load(folder, backend="onnx")
    monkeypatch.setattr(nertune.artifacts.graphs, "has_int8_instructions", lambda: None)
    Predictor.load(folder, backend="onnx-int8")


def test_int8_that_loses_too_much_keeps_layers_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_speeds", always_faster)
    _, folder = saved(tmp_path, "full")
    # torch, float32 twice; int8, side by side and one by one; the same with a layer in float32
    scores = iter([0.9, 0.9, 0.9, 0.9, 0.5, 0.898, 0.898])
    monkeypatch.setattr(module, "micro_f1", lambda *_, **__: next(scores))
    with logged() as said:
        report = export(folder, int8=True)
    small = report["onnx-int8"]
    assert small["status"] == "exported"
    assert [len(attempt["left_out"]) for attempt in small["attempts"]] == [0, 1]
    assert small["attempts"][0]["points_lost"] == pytest.approx(40)
    assert any("looking for the layers" in line for line in said)


def test_int8_that_cannot_be_saved_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_speeds", always_faster)
    _, folder = saved(tmp_path, "full")
    calls = iter([0.9, 0.9, 0.9])  # torch, float32 twice
    monkeypatch.setattr(module, "micro_f1", lambda *_, **__: next(calls, 0.1))
    report = export(folder, int8=True)
    assert report["onnx-int8"]["status"] == "refused"
    assert "loses more than 0.3 points" in report["onnx-int8"]["reason"]
    assert not (folder / "onnx" / "model-int8.onnx").exists()
    Predictor.load(folder, backend="onnx")
    with pytest.raises(ArtifactError, match=r"holds no model-int8\.onnx"):
        Predictor.load(folder, backend="onnx-int8")


def test_int8_that_is_slower_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "measure_speeds", lambda *_: {"torch": 1.0, "onnx": 3.0, "onnx-int8": 2.0}
    )
    _, folder = saved(tmp_path, "lstm")
    report = export(folder, int8=True, tolerance=100.0)
    assert report["onnx-int8"]["reason"].startswith("it is not faster than float32")
    assert len(report["onnx-int8"]["attempts"]) == 1


def test_other_weights_are_not_exported_ones(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "full")
    export(folder)
    exported = (folder / "onnx").rename(tmp_path / "kept")
    with torch.no_grad():
        next(predictor.tagger.parameters()).add_(1.0)
    save_predictor(folder, predictor, make_settings(tmp_path, "full"))
    assert not (folder / "onnx").exists()
    exported.rename(folder / "onnx")
    with pytest.raises(ArtifactError, match=r"of other weights.*nertune export .* --to onnx"):
        Predictor.load(folder, backend="onnx")


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    with pytest.raises(ArtifactError, match=r"was not exported; do it once: nertune export"):
        Predictor.load(folder, backend="onnx")
    export(folder)
    graph = folder / "onnx" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    with pytest.raises(ArtifactError, match=r"model\.onnx: missing or damaged"):
        Predictor.load(folder, backend="onnx")
    graph.write_bytes(whole)
    for content in ("{", "[]", '{"files": 3, "weights": {}}'):
        (folder / "onnx" / "parity.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"parity\.json: is damaged"):
            Predictor.load(folder, backend="onnx")


def test_what_it_compares_on(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm", data={"dev": ""})
    with pytest.raises(
        ConfigError, match=r"trained without data\.dev: name labelled text with --dev"
    ):
        export(folder)
    assert not (folder / "onnx").exists()
    other = write_jsonl(tmp_path / "other.jsonl", SENTENCES[:2])
    report = export(folder, dev=str(other))
    assert report["dev"]["documents"] == 2
    _, folder = saved(tmp_path, "lstm", data={"dev": str(other)})
    other.unlink()
    with pytest.raises(ConfigError, match="is not there: name labelled text with --dev"):
        export(folder)
    write_jsonl(other, [Document("今天没有新闻。")])
    with pytest.raises(ConfigError, match="holds no entity to compare on"):
        export(folder, dev=str(other))


def test_a_dev_file_that_changed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "lstm", {"train": {"epochs": 1}})
    train(settings)
    write_jsonl(tmp_path / "data.jsonl", SENTENCES[:5])
    with pytest.raises(ConfigError, match="is not the file any more that chose the model's epoch"):
        export(settings.run.dir)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = saved(tmp_path, "lstm")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(ArtifactError, match="cannot be written to: No space left on device"):
        export(folder)
    assert not [p for p in folder.iterdir() if "onnx" in p.name]


def test_no_draft_is_left_and_an_older_export_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved(tmp_path, "lstm")
    export(folder)
    (folder / "onnx" / "mark").write_text("of the older one")
    (folder / ".onnx-killed").mkdir()

    def broken(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(module, "compare_entities", broken)
    with pytest.raises(RuntimeError, match="in the middle"):
        export(folder)
    assert not [p for p in folder.iterdir() if p.name.startswith(".onnx")]
    assert (folder / "onnx" / "mark").exists()
    monkeypatch.undo()
    (folder / "onnx" / "model-int8.onnx").touch()
    with logged() as said:
        export(folder)
    assert not (folder / "onnx" / "mark").exists()
    assert said[0].startswith("model-int8.onnx of an earlier export goes")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_speeds", always_faster)
    _, folder = saved(tmp_path, "full")
    gold = make_settings(tmp_path, "full").data.dev
    shown = run("export", folder, "--to", "onnx", "--int8", "--tolerance", "100")
    assert shown.code == 0, shown.stderr
    assert "float32: " in shown.stderr
    assert "onnx-int8" in shown.stdout
    assert f"nertune predict {folder} 'some text'" in shown.stdout
    assert "fastest here: onnx-int8" in shown.stdout
    plain = run("evaluate", folder, gold, "--json")
    fast = run("evaluate", folder, gold, "--json", "--backend", "onnx")
    assert json.loads(fast.stdout)["micro"] == json.loads(plain.stdout)["micro"]
    text = SENTENCES[0].text
    assert run("predict", folder, text, "--backend", "onnx").stdout == (
        run("predict", folder, text, "--backend", "torch").stdout
    )
    as_json = run("export", folder, "--to", "onnx", "--json")
    assert json.loads(as_json.stdout)["onnx"]["agreement"]["differing"] == 0


def test_refusals_of_the_command(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    assert "--to 'tflite': expected onnx" in run("export", folder, "--to", "tflite").error
    refused = run("predict", folder, "x", "--backend", "tpu")
    assert refused.code == 2
    assert "backend 'tpu': expected auto, torch, onnx, onnx-int8, openvino" in refused.error
    assert "was not exported" in run("predict", folder, "x", "--backend", "onnx").error
    (tmp_path / "empty").mkdir()
    foreign = run("export", tmp_path / "empty", "--to", "onnx")
    assert (foreign.code, "is not a folder that nertune wrote" in foreign.error) == (2, True)


def test_another_dev_file_is_joined_as_the_training_file_was(tmp_path: Path) -> None:
    """Alone it would be taken for words."""
    _, folder = saved(tmp_path, "full")
    trained = read_manifest(folder).model_copy(update={"data": {"train": {"join": "none"}}})
    dev = tmp_path / "dev.conll"
    dev.write_text("我 O\niPhone B-X\n我 O\nPro B-X\n", encoding="utf-8")
    assert load_corpus(dev).documents[0].text == "我 iPhone 我 Pro"
    assert module._documents(trained, str(dev)).documents[0].text == "我iPhone我Pro"
