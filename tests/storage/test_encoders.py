"""Names of encoders: bundled, a folder, or on the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from nertune.artifacts.manifest import hash_encoder
from nertune.errors import ModelError
from nertune.labels.tagset import TagSet
from nertune.models.encoder import load_encoder
from nertune.storage.encoders import BUNDLED_ENCODERS, resolve_encoder
from nertune.tokens.tokenizer import load_tokenizer


def test_the_bundled_encoders_are_whole() -> None:
    assert "mini-zh" in BUNDLED_ENCODERS
    assert list(BUNDLED_ENCODERS) == sorted(BUNDLED_ENCODERS)
    for name in BUNDLED_ENCODERS:
        folder = Path(resolve_encoder(name))
        files = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
        assert not [f for f in files if f.endswith((".bin", ".pt", ".pkl"))]  # nothing pickled


@pytest.mark.parametrize("name", BUNDLED_ENCODERS)
def test_a_bundled_encoder_is_small_and_loads_as_it_is(name: str) -> None:
    folder = Path(resolve_encoder(name))
    assert (folder / "model.safetensors").stat().st_size <= 16e6
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# Model card")
    plain, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not [key for key in report["missing_keys"] if "pooler" not in key]
    model = load_encoder(name, TagSet.from_labels(["PERSON"]))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    tokenizer = load_tokenizer(name)
    assert tokenizer.vocabulary_size == plain.config.vocab_size
    assert tokenizer.max_pieces == 256  # what it was trained on
    unknown = tokenizer.backend.unk_token_id
    pieces = tokenizer.encode_units([*"王小明1998年在北京大学（Linux）工作。"])
    assert all(len(ids) == 1 and ids[0] != unknown for ids in pieces)


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_a_folder_is_itself(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("{}")
    assert resolve_encoder(str(tmp_path)) == str(tmp_path)


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    assert resolve_encoder("~/m") == str(tmp_path / "m")


def test_a_folder_in_the_working_folder_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_encoder("owner/model") == "owner/model"
    folder = tmp_path / "owner" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert Path(resolve_encoder("owner/model")) == Path("owner/model")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"owner/model: the folder holds no config\.json"):
        resolve_encoder("owner/model")


@pytest.mark.parametrize("name", ["bert-base-chinese", "google-bert/bert-base-chinese", "a_b/c.d"])
def test_hub_names_are_handed_on(name: str) -> None:
    assert resolve_encoder(name) == name


@pytest.mark.parametrize(
    "name",
    ["./nowhere", "/no/such/folder", "~/nowhere-x", "a/b/c", "a\\b", "a b", "中文", "a/", "/"],
)
def test_what_looks_like_a_path_must_exist(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_encoder(name)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="is a file; expected a model's folder or a hub name"):
        resolve_encoder(str(path))


def test_an_adapter_is_no_encoder(tmp_path: Path) -> None:
    """transformers would put it on its base by itself, read from a pickle if need be."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds an adapter \(adapter_config\.json\); merge it"):
        load_encoder(str(tmp_path))


def test_only_the_weights_that_are_loaded_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no safetensors weights of its own; convert it"):
        hash_encoder(str(tmp_path))
    for part in ("a", "b"):
        (tmp_path / f"model-{part}.safetensors").write_bytes(part.encode())
    index = {"weight_map": {f"w.{n}": f"model-{p}.safetensors" for n, p in enumerate("aba")}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shards = hash_encoder(str(tmp_path))
    (tmp_path / "other.safetensors").write_bytes(b"of another tool")
    assert hash_encoder(str(tmp_path)) == shards
    (tmp_path / "model.safetensors").write_bytes(b"whole")
    whole = hash_encoder(str(tmp_path))
    assert whole != shards
    (tmp_path / "model-a.safetensors").unlink()
    assert hash_encoder(str(tmp_path)) == whole
