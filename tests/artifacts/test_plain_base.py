"""An adapter's folder loads in plain transformers and plain peft, with nothing given by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForTokenClassification, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForTokenClassification, pipeline

from helpers.tiny import make_predictor, make_settings, save_predictor, tiny_bert
from nertune.errors import ArtifactError, ModelError
from nertune.inference.predictor import Predictor, load_model
from nertune.models.encoder import load_encoder
from nertune.storage.encoders import BUNDLED_ENCODERS

IDS = torch.tensor([[2, 7, 8, 9, 3]])
TEXT = "王小明在北京"


def saved(folder: Path, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    settings = make_settings(folder, "lora", sections)
    predictor = make_predictor(settings)
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def from_pipeline(folder: Path) -> Any:
    return pipeline("token-classification", model=str(folder), device="cpu").model


def from_auto_peft(folder: Path) -> Any:
    return AutoPeftModelForTokenClassification.from_pretrained(str(folder))


def from_peft(folder: Path) -> Any:
    """The three lines of docs/sharing.md."""
    base = json.loads((folder / "nertune.json").read_text())["encoder"]
    if base in BUNDLED_ENCODERS:
        base = str(folder / "base")
    config = AutoConfig.from_pretrained(folder / "base")
    model = AutoModelForTokenClassification.from_pretrained(base, config=config)
    return PeftModel.from_pretrained(model, str(folder))


WAYS = [from_pipeline, from_auto_peft, from_peft]


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("encoder", ["tiny", "mini-zh"])
def test_lora_loads_without_labels_by_hand(
    encoder: str, load: Callable[[Path], Any], tmp_path: Path
) -> None:
    name = str(tiny_bert()) if encoder == "tiny" else encoder
    predictor, folder = saved(tmp_path, model={"encoder": name})
    model = load(folder)
    expected = logits(predictor.tagger.emitter.model)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)
    config = model.config if hasattr(model, "config") else model.get_base_model().config
    assert tuple(config.id2label.values()) == predictor.tagset.tags


@pytest.mark.parametrize("encoder", ["tiny", "mini-zh"])
def test_a_pipeline_reads_text_as_nertune_does(encoder: str, tmp_path: Path) -> None:
    name = str(tiny_bert()) if encoder == "tiny" else encoder
    predictor, folder = saved(tmp_path, model={"encoder": name})
    tokenizer = predictor.segmenter.tokenizer
    ids = pipeline("token-classification", model=str(folder), device="cpu").tokenizer(TEXT)
    units = [token for unit in tokenizer.encode_units([*TEXT]) for token in unit]
    assert ids["input_ids"] == [*tokenizer.prefix_ids, *units, *tokenizer.suffix_ids]


@pytest.mark.parametrize("method", ["ia3", "loha", "boft", "ln_tuning", "adalora"])
def test_other_methods_load_too(method: str, tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, model={"tuning": "peft"}, peft={"method": method})
    expected = logits(predictor.tagger.emitter.model)
    for load in (from_auto_peft, from_peft):
        torch.testing.assert_close(logits(load(folder)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["prefix_tuning", "p_tuning", "prompt_tuning"])
def test_soft_prompts_load_in_peft(method: str, tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, model={"tuning": "peft"}, peft={"method": method})
    expected = logits(predictor.tagger.emitter.model)
    torch.testing.assert_close(logits(from_auto_peft(folder)), expected, rtol=0, atol=1e-6)


def test_a_relative_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain peft reads adapter_config.json from wherever it is called."""
    shutil.copytree(tiny_bert(), tmp_path / "encoder")
    monkeypatch.chdir(tmp_path)
    predictor, folder = saved(tmp_path, model={"encoder": "encoder"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = logits(predictor.tagger.emitter.model)
    torch.testing.assert_close(logits(from_auto_peft(folder)), expected, rtol=0, atol=1e-6)


def test_the_base_is_linked_not_copied(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    weights = folder / "base" / "model.safetensors"
    assert weights.is_symlink()
    assert weights.resolve() == (tiny_bert() / "model.safetensors").resolve()
    assert not (folder / "config.json").exists()  # else transformers takes it for a whole model


def test_the_folder_is_an_adapter_still(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path)
    shutil.rmtree(folder / "base")  # as in folders of 0.1.0
    assert load_model(folder, device="cpu").tag(TEXT) == predictor.tag(TEXT)
    shutil.copy(tiny_bert() / "config.json", folder)
    assert load_model(folder, device="cpu").tag(TEXT) == predictor.tag(TEXT)
    with pytest.raises(ModelError, match="holds an adapter"):
        load_encoder(str(folder), predictor.tagset)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("classifier.weight", "classifier.weight"),
        ("classifier", "classifier.weight"),
        (
            "layer.1.output.dense.lora_B",
            "lacks 1 parameters of this tagger: bert.encoder.layer.1.output.dense.lora_B",
        ),
    ],
)
def test_an_adapter_without_all_its_parameters_is_refused(
    part: str, named: str, tmp_path: Path
) -> None:
    """peft leaves them random, or zero, and says nothing."""
    _, folder = saved(tmp_path)
    path = folder / "adapter_model.safetensors"
    save_file({k: t for k, t in load_file(path).items() if part not in k}, path)
    manifest = json.loads((folder / "nertune.json").read_text())
    manifest["files"].pop(path.name)
    (folder / "nertune.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="adapter_model") as caught:
        load_model(folder, device="cpu")
    assert named in str(caught.value)
