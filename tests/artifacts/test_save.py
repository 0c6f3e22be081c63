"""A saved folder is complete, what others load, and there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nertune.artifacts.save
from helpers.artifacts import names_in, saved
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, tiny_bert
from nertune.artifacts.manifest import hash_encoder, read_manifest
from nertune.inference.predictor import Predictor, load_model
from nertune.tokens.batching import collate
from nertune.types import Document


def test_saving_again_changes_no_byte(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora-crf")
    first = read_manifest(folder)
    loaded = load_model(folder, device="cpu")
    second = save_predictor(tmp_path / "again", loaded, make_settings(tmp_path, "lora-crf"))
    assert {n: h for n, h in second.files.items() if n != "adapter_config.json"} == {
        n: h for n, h in first.files.items() if n != "adapter_config.json"
    }
    assert second.tokenizer_sha256 == first.tokenizer_sha256


def test_what_a_folder_holds(tmp_path: Path) -> None:
    _, full = saved(tmp_path, "full")
    names = {path.name for path in full.iterdir()}
    assert {"nertune.json", "README.md", "config.json", "model.safetensors"} <= names
    (tmp_path / "b").mkdir()
    _, lora = saved(tmp_path / "b", "lora-crf")
    names = {path.name for path in lora.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "crf.safetensors"} <= names
    assert "model.safetensors" not in names  # the base is not copied
    for folder in (full, lora):
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        assert {p.suffix for p in files} <= {".json", ".md", ".safetensors", ".txt"}  # no pickle
        assert all(p.stat().st_mode & 0o777 == 0o644 for p in files if not p.is_symlink())
        manifest = json.loads((folder / "nertune.json").read_text())
        assert set(manifest["files"]) == {p.name for p in folder.iterdir()} - {
            "README.md",
            "nertune.json",
            "base",  # for plain peft; its weights are links
        }
        assert manifest["encoder_sha256"] == hash_encoder(str(tiny_bert()))
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "LOCATION, ORGANIZATION, PERSON, TIME" in card
        assert card.startswith("---\nlibrary_name: nertune")


# Plain peft and transformers


def plain_logits(model: Any, predictor: Predictor, text: str) -> torch.Tensor:
    _, windows = predictor.segmenter.segment(Document(text))
    batch = collate(windows, pad_id=0)
    model.eval()
    with torch.no_grad():
        output = model(input_ids=batch.piece_ids_BL, attention_mask=batch.attention_BL)
    return output.logits


@pytest.mark.parametrize("variant", ["lora", "lora-crf"])
def test_plain_peft_loads_the_adapter(variant: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForTokenClassification, PeftModel
    from transformers import AutoModelForTokenClassification

    predictor, folder = saved(tmp_path, variant)
    expected = plain_logits(predictor.tagger.emitter.model, predictor, SENTENCES[0].text)
    torch.manual_seed(99)  # the head must come from the adapter, not from luck
    base = AutoModelForTokenClassification.from_pretrained(str(tiny_bert()), num_labels=9)
    plain = PeftModel.from_pretrained(base, str(folder))
    assert torch.equal(plain_logits(plain, predictor, SENTENCES[0].text), expected)
    auto = AutoPeftModelForTokenClassification.from_pretrained(str(folder), num_labels=9)
    assert torch.equal(plain_logits(auto, predictor, SENTENCES[0].text), expected)


@pytest.mark.parametrize("variant", ["full", "frozen"])
def test_plain_transformers_loads_the_model(variant: str, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    predictor, folder = saved(tmp_path, variant)
    plain = AutoModelForTokenClassification.from_pretrained(str(folder))
    expected = plain_logits(predictor.tagger.emitter.model, predictor, SENTENCES[0].text)
    assert torch.equal(plain_logits(plain, predictor, SENTENCES[0].text), expected)
    assert plain.config.id2label == dict(enumerate(predictor.tagset.tags))
    tokens = AutoTokenizer.from_pretrained(str(folder))("北京")["input_ids"]
    assert [[token] for token in tokens[1:-1]] == predictor.segmenter.tokenizer.encode_units("北京")


# All or nothing


@pytest.mark.parametrize("step", ["_write_weights", "model_card", "hash_encoder"])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_failed_save_leaves_the_old_model_or_none(
    step: str, has_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, "lora-crf")
    folder = tmp_path / "out" / "model"
    old = make_predictor(settings, noise=0.1)
    if has_old:
        save_predictor(folder, old, settings)

    def fail(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nertune.artifacts.save, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_predictor(folder, make_predictor(settings), settings)
    monkeypatch.undo()
    assert names_in(tmp_path / "out") == ["model"] * has_old
    if has_old:
        assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")


def test_an_older_model_is_replaced_whole(tmp_path: Path) -> None:
    saved(tmp_path, "full-crf")
    (tmp_path / "model" / "leftover.safetensors").write_bytes(b"")
    predictor, folder = saved(tmp_path, "lstm")
    assert not (folder / "crf.safetensors").exists()
    assert not (folder / "leftover.safetensors").exists()
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")
    assert names_in(tmp_path) == ["data.jsonl", "model"]


def test_an_older_model_survives_until_the_new_one_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing must not go through a half-removed folder."""
    old, folder = saved(tmp_path, "lora")
    settings = make_settings(tmp_path, "lora")

    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == folder and not path.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr("nertune.storage.atomic._swap", lambda first, second: False)
    with pytest.raises(OSError, match="Input/output"):
        save_predictor(folder, make_predictor(settings, noise=0.1), settings)
    monkeypatch.undo()
    assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")
    assert names_in(tmp_path) == ["data.jsonl", "model"]


def test_a_kill_while_a_model_is_replaced_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends when the older folder has made room and the newer one is not there yet."""
    old, folder = saved(tmp_path, "lora")
    settings = make_settings(tmp_path, "lora")
    rename = Path.rename

    def kill(path: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr("nertune.storage.atomic._swap", lambda first, second: False)
    newer = make_predictor(settings, noise=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        with pytest.raises(KeyboardInterrupt):
            save_predictor(folder, newer, settings)
    assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")
