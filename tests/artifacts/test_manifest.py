"""What a folder says about itself is read; what is damaged or edited is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.artifacts import edit_json, one_line, saved
from nertune.errors import ArtifactError, ModelError
from nertune.inference.predictor import load_model


def files_of(variant: str) -> list[str]:
    own = {
        "lstm-crf": ["chars.txt", "model.safetensors", "crf.safetensors"],
        "full": ["config.json", "model.safetensors", "tokenizer.json"],
        "lora": ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"],
    }
    return own[variant]


@pytest.mark.parametrize("variant", ["lstm-crf", "full", "lora"])
def test_damaged_files_are_refused_by_name(variant: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, variant)
    for name in files_of(variant):
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for data in (whole[:-7], whole + b"\n", bytes(flipped), b""):
            path.write_bytes(data)
            with pytest.raises(ArtifactError, match=f"{name}: is not the file that was saved"):
                load_model(folder, device="cpu")
        path.unlink()
        with pytest.raises(ArtifactError, match=f"{name}: missing"):
            load_model(folder, device="cpu")
        path.write_bytes(whole)
    load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "format version None"),
        ("null", "format version None"),
        ('{"format": 3, "nertune": "9.9"}', "format version 3.*use the nertune that wrote it .9.9"),
        ('{"format": 1}', "nertune: Field required"),
        ('{"format": "1"}', "format version '1'"),
    ],
)
def test_a_broken_manifest(text: str, reason: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    (folder / "nertune.json").write_text(text)
    with pytest.raises(ArtifactError, match=reason) as caught:
        load_model(folder, device="cpu")
    one_line(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": ["O", "B-X", "B-X"]},
        {"tags": ["O", "nonsense"]},
        {"tags": []},
        {"tags": ["O", "B-X", "I-X"]},
        {"scheme": "BMES"},
        {"lstm": None},
        {"max_pieces": 0},
        {"stride": 600},
        {"stride": -1},
        {"unit": "sentence"},
        {"emitter": "encoder"},
        {"decoder": "crf"},
        {"tokenizer_sha256": "0"},
        {"files": {"../data.jsonl": "0"}},
        {"files": []},
        {"lstm": {"hidden_size": 8}},
    ],
    ids=str,
)
def test_an_edited_manifest_is_no_traceback(change: dict[str, Any], tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    edit_json(folder / "nertune.json", lambda m: m.update(change))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu").tag("王小明在北京")
    one_line(caught.value)


def test_keys_of_the_future_are_ignored(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "lstm")
    edit_json(folder / "nertune.json", lambda m: m.update(novelty=1))
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")


def test_a_run_folder_is_its_model(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "lstm")
    assert load_model(folder.parent, device="cpu").tag("王小明") == predictor.tag("王小明")
