"""Merged is what was trained: plain transformers, its pipeline and nertune find the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.artifacts import saved
from helpers.commands import run
from helpers.raw_text import make_pretrain_settings
from helpers.shown import logged
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, tiny_bert
from nertune.artifacts.load import load_base
from nertune.artifacts.manifest import hash_encoder, read_manifest
from nertune.data.corpus import load_corpus
from nertune.errors import ArtifactError, ConfigError, ModelError
from nertune.experiments.pretraining.pretrain import pretrain
from nertune.experiments.train import train
from nertune.export.merged import export_merged
from nertune.inference.predictor import Predictor, load_model
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter

LABELS = ("LOCATION", "ORGANIZATION", "PERSON", "TIME")
IDS_BL = torch.arange(24).reshape(2, 12) + 5


def logits(predictor: Predictor) -> Tensor:
    emitter = predictor.tagger.emitter
    assert isinstance(emitter, EncoderEmitter)
    with torch.inference_mode():
        return emitter.eval()(IDS_BL, torch.ones_like(IDS_BL))  # type: ignore[no-any-return]


def plain_logits(folder: Path) -> Tensor:
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=IDS_BL).logits  # type: ignore[no-any-return]


def found(predictor: Predictor) -> list[list[Any]]:
    return [
        [(e.key, round(e.score or 0, 3)) for e in d.entities]
        for d in predictor.tag_texts(s.text for s in SENTENCES)
    ]


@pytest.mark.parametrize(
    ("variant", "sections"),
    [
        ("full", {}),
        ("full-crf", {}),
        ("frozen", {}),
        ("lora", {}),
        ("lora-crf", {}),
        ("lora", {"lora": {"dora": True}}),
        ("lora", {"lora": {"init": "pissa", "rslora": True}}),
        *[("full", {"model": {"tuning": "peft"}, "peft": {"method": method}})
          for method in ("ia3", "vera", "adalora", "loha", "lokr", "oft", "hra", "ln_tuning")],
    ],
)  # fmt: skip
def test_the_folder_is_the_model(variant: str, sections: dict[str, Any], tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, variant, **sections)
    with logged() as said:
        made = export_merged(folder, tmp_path / "out")
    out = tmp_path / "out"
    expected_BLK = logits(predictor)
    assert expected_BLK.std() > 0.1
    rounding = 1e-5 * float(expected_BLK.abs().max())
    torch.testing.assert_close(plain_logits(out), expected_BLK, rtol=1e-5, atol=rounding)
    assert made["largest_difference"] < 1e-3
    # nertune loads it too, without the base encoder, and decodes as before.
    manifest = read_manifest(out)
    assert (manifest.tuning, manifest.decoder) == ("full", read_manifest(folder).decoder)
    assert found(load_model(out, device="cpu")) == found(predictor)
    assert ("the head 'crf'" in " ".join(said)) == variant.endswith("crf")
    names = {p.name for p in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "nertune.json"} <= names
    assert not any("adapter" in name for name in names)
    labels = json.loads((out / "config.json").read_text(encoding="utf-8"))["id2label"]
    assert [labels[str(i)] for i in range(9)] == list(predictor.tagset.tags)


def test_the_pipeline_loads_it(tmp_path: Path) -> None:
    from transformers import pipeline

    predictor, folder = saved(tmp_path, "lora")
    export_merged(folder, tmp_path / "out")
    tagger = pipeline("token-classification", model=str(tmp_path / "out"), device="cpu")
    text = SENTENCES[1].text
    rows = tagger(text, ignore_labels=[])
    _, (logits_UK,) = predictor.emissions([SENTENCES[1]])
    assert [r["entity"] for r in rows] == [predictor.tagset.tags[i] for i in logits_UK.argmax(1)]
    scores = [r["score"] for r in rows]
    assert scores == pytest.approx(np.exp(logits_UK).max(1).tolist(), abs=1e-4)


@pytest.mark.parametrize("method", ["prefix_tuning", "prompt_tuning", "p_tuning"])
def test_a_method_that_cannot_be_merged_is_refused_by_name(method: str, tmp_path: Path) -> None:
    options = {"num_virtual_tokens": 4}
    changes = {"model": {"tuning": "peft"}, "peft": {"method": method, "options": options}}
    _, folder = saved(tmp_path, "full", **changes)
    with pytest.raises(ModelError, match=f"'{method}' cannot be merged"):
        export_merged(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match=f"'{method}' cannot be merged"):
        load_base(str(folder), TagSet.from_labels(LABELS))


def test_what_is_there_stays(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="--output"):
            export_merged(folder, other, overwrite=overwrite)
    assert (other / "notes.txt").read_text(encoding="utf-8") == "mine"
    for own in (folder, folder / "merged", tmp_path):
        with pytest.raises(ConfigError, match="--output"):
            export_merged(folder, own, overwrite=True)
    export_merged(folder)
    assert (tmp_path / "model-transformers" / "config.json").is_file()
    with pytest.raises(ConfigError, match="exists; use --overwrite"):
        export_merged(folder)
    export_merged(folder, overwrite=True)


def test_what_is_no_encoder_of_nertune_is_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    with pytest.raises(ArtifactError, match="is an LSTM"):
        export_merged(folder, tmp_path / "out")
    with pytest.raises(ArtifactError, match="not a folder that nertune wrote"):
        export_merged(tiny_bert(), tmp_path / "out")


def test_the_command(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora-crf")
    out = tmp_path / "out"
    shown = run("export", folder, "--to", "transformers", "-o", out)
    assert shown.code == 0, shown.stderr
    assert "decodes the folder as softmax" in shown.stderr
    assert str(out) in shown.stdout
    text = SENTENCES[0].text
    assert run("predict", out, text).stdout == run("predict", folder, text).stdout
    again = run("export", folder, "--to", "transformers", "-o", out)
    assert (again.code, "use --overwrite" in again.error) == (2, True)
    as_json = run("export", folder, "--to", "transformers", "-o", out, "--overwrite", "--json")
    assert json.loads(as_json.stdout)["decoder"] == "crf"
    for wrong in (["--int8"], ["--dev", "x"]):
        assert "belongs to --to onnx" in run("export", folder, "--to", "transformers", *wrong).error
    assert "belongs to --to transformers" in run("export", folder, "--to", "onnx", "-o", out).error


# An adapter as an encoder


@pytest.mark.parametrize("variant", ["lora", "lora-crf"])
def test_an_adapter_is_the_encoder_of_another_run(variant: str, tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, variant)
    base = load_base(str(folder), predictor.tagset)
    expected_BLK = logits(predictor)
    with torch.inference_mode():
        torch.testing.assert_close(
            base.model.eval()(input_ids=IDS_BL).logits, expected_BLK, rtol=1e-5, atol=1e-5
        )
    assert ("crf" in base.heads) == (variant == "lora-crf")
    other = load_base(str(folder), TagSet.from_labels(["PERSON", "PLANT"]))
    assert other.kept is not None
    assert [other.kept.tags[i] for i in other.kept.ids] == ["O", "B-PERSON", "I-PERSON"]


def test_an_adapter_upon_an_adapter_is_loaded_as_it_was_trained(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    _, folder = saved(tmp_path / "first", "lora")
    changes = {"model": {"encoder": str(folder), "unit": "char"}, "train": {"epochs": 9}}
    settings = make_settings(tmp_path, "lora", changes)
    record = train(settings)
    assert record["encoder_sha256"] == hash_encoder(str(folder))
    predictor = load_model(tmp_path / "run" / "model", device="cpu")
    expected = load_corpus(tmp_path / "run" / "dev.predictions.jsonl").documents
    now = list(predictor.tag_texts(s.text for s in SENTENCES))
    assert [[e.key for e in d.entities] for d in now] == [
        [e.key for e in d.entities] for d in expected
    ]
    assert any(d.entities for d in now)
    # Another adapter in its place, and even another base of that one, is noticed.
    (tmp_path / "other").mkdir()
    shutil.rmtree(folder)
    encoder = {"encoder": str(tiny_bert()), "tuning": "lora"}
    settings = make_settings(tmp_path / "other", "lora", {"model": encoder, "run": {"seed": 5}})
    save_predictor(folder, make_predictor(settings), settings)
    with pytest.raises(ArtifactError, match="is not the one that this adapter was trained on"):
        load_model(tmp_path / "run" / "model", device="cpu")


def test_an_adapter_is_pre_trained_further(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "lora")
    settings = make_pretrain_settings(tmp_path, encoder=str(folder), from_scratch="")
    record = pretrain(settings)
    assert record["status"] == "finished"
    from nertune.experiments.pretraining.pretrain import _load

    model, _ = _load(str(folder))
    merged = load_model(folder, device="cpu", merge=True).tagger.emitter
    assert isinstance(merged, EncoderEmitter)
    expected = dict(merged.model.bert.named_parameters())
    for name, parameter in model.bert.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert predictor is not None


def test_a_plain_adapter_is_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora")
    (folder / "nertune.json").unlink()
    with pytest.raises(ModelError, match=r"plain peft adapter.*merge it into its base"):
        load_base(str(folder), TagSet.from_labels(LABELS))


def test_an_export_that_fails_its_check_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved(tmp_path, "lora")
    target = tmp_path / "plain"
    export_merged(folder, target)
    before = {p.name: p.read_bytes() for p in target.iterdir() if p.is_file()}
    monkeypatch.setattr("nertune.export.merged._ROUNDING", -1.0)
    with pytest.raises(ArtifactError, match="nothing was written"):
        export_merged(folder, target, overwrite=True)
    assert {p.name: p.read_bytes() for p in target.iterdir() if p.is_file()} == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".plain")]
