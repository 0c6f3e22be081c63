"""Names of encoders: bundled, a folder, or on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.encoders import BUNDLED_ENCODERS, resolve_encoder
from nertune.errors import ModelError


def test_the_bundled_encoders_are_whole() -> None:
    assert "mini-zh" in BUNDLED_ENCODERS
    assert list(BUNDLED_ENCODERS) == sorted(BUNDLED_ENCODERS)
    for name in BUNDLED_ENCODERS:
        folder = Path(resolve_encoder(name))
        files = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
        assert not [f for f in files if f.endswith((".bin", ".pt", ".pkl"))]  # nothing pickled


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
