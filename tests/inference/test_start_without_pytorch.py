"""An exported tagger starts without PyTorch, and gives what is given with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, write_jsonl
from nertune.artifacts.graphs import is_read_plain
from nertune.export.onnx import export
from nertune.inference.predictor import Predictor
from nertune.models.graphs.threads import num_threads

SLOW = ("torch", "transformers", "peft")
_PROGRAM = f"""
import json, sys
from nertune.inference.predictor import Predictor
predictor = Predictor.load(sys.argv[1], backend="onnx")
found = [[[e.start, e.end, e.label, e.score] for e in predictor.tag(t).entities]
         for t in json.loads(sys.argv[2])]
print(json.dumps([found, [m for m in {SLOW} if m in sys.modules]]))
"""


def in_new_process(*command: str | Path) -> str:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    return done.stdout


def exported(folder: Path, variant: str, decoder: str) -> Path:
    settings = make_settings(folder, variant, {"model": {"decoder": decoder}})
    predictor = make_predictor(settings)
    write_jsonl(folder / "data.jsonl", predictor.tag_documents(SENTENCES))
    save_predictor(folder / "model", predictor, settings)
    export(folder / "model", dev=str(folder / "data.jsonl"), rounds=1)
    return folder / "model"


@pytest.mark.parametrize(
    ("variant", "decoder"),
    [("full", "softmax"), ("full", "crf"), ("lora", "crf"), ("lstm", "crf"), ("lstm", "softmax")],
)
def test_it_starts_without_pytorch(variant: str, decoder: str, tmp_path: Path) -> None:
    folder = exported(tmp_path, variant, decoder)
    assert is_read_plain(folder) is (variant != "lstm")
    texts = [document.text for document in SENTENCES]
    told = in_new_process("-c", _PROGRAM, folder, json.dumps(texts))
    found, loaded = json.loads(told)
    assert loaded == []
    predictor = Predictor.load(folder, device="cpu")
    expected = [predictor.tag(text).entities for text in texts]
    assert sum(map(len, expected)) > 5
    assert [[tuple(e[:3]) for e in row] for row in found] == [
        [e.key for e in row] for row in expected
    ]
    scores = [e[3] for row in found for e in row]
    np.testing.assert_allclose(scores, [e.score for row in expected for e in row], atol=1e-4)


def test_predict_starts_without_pytorch(tmp_path: Path) -> None:
    folder = exported(tmp_path, "full", "softmax")
    for backend in ("onnx", "auto"):
        if backend == "auto":  # whatever was faster for a model of this size
            path = folder / "onnx" / "parity.json"
            parity = json.loads(path.read_text())
            parity["onnx"]["units_per_second"] = 2 * parity["torch"]["units_per_second"]
            path.write_text(json.dumps(parity))
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "nertune", "predict", str(folder),
             SENTENCES[0].text, "--backend", backend, "--device", "cpu"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert "onnxruntime" in modules
        assert not modules.intersection(SLOW)


@pytest.mark.parametrize("told", [None, "0"])
def test_nothing_is_reported_to_anybody(told: str | None, tmp_path: Path) -> None:
    """ONNX Runtime sends names and hashes of models to its maker, unless it is told not to."""
    folder = exported(tmp_path, "lstm", "softmax")
    hidden = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}  # it is silent there
    kept = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("XDG_")}
    home = tmp_path / "home"
    home.mkdir()
    chosen = {} if told is None else {"ORT_DISABLE_TELEMETRY": told}
    program = f"{_PROGRAM}\nimport os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), "[]"],
        capture_output=True, text=True, check=True, env=kept | chosen | {"HOME": str(home)},
    )  # fmt: skip
    assert done.stdout.split()[-1] == (told or "1")
    assert told or not [*home.rglob("*onnxruntime*")]


def test_an_export_of_an_earlier_version_takes_the_slow_start(tmp_path: Path) -> None:
    """It does not say that the tokenizer's files are all that decides its tokens."""
    folder = exported(tmp_path, "full", "softmax")
    path = folder / "onnx" / "parity.json"
    parity = json.loads(path.read_text())
    del parity["plain_tokenizer"]
    path.write_text(json.dumps(parity))
    texts = [document.text for document in SENTENCES]
    found, loaded = json.loads(in_new_process("-c", _PROGRAM, folder, json.dumps(texts)))
    assert "transformers" in loaded
    predictor = Predictor.load(folder, device="cpu")
    assert [[tuple(e[:3]) for e in row] for row in found] == [
        [e.key for e in predictor.tag(text).entities] for text in texts
    ]


@pytest.mark.parametrize("told", ["", "1", "30"])
def test_threads_are_those_of_pytorch(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    if not told:
        monkeypatch.delenv("OMP_NUM_THREADS")
    program = "from nertune.models.graphs.threads import num_threads; print(num_threads())"
    alone = int(in_new_process("-c", program))
    assert alone == int(in_new_process("-c", f"import torch; {program}"))
    assert alone == 1 or told != "1"
    assert num_threads() >= 1


def test_threads_are_set_for_pytorch_too() -> None:
    program = (
        "from nertune.models.graphs.threads import num_threads, set_num_threads\n"
        "set_num_threads(1); print(num_threads()); import torch; print(torch.get_num_threads())\n"
        "set_num_threads(2); print(torch.get_num_threads(), num_threads())"
    )
    assert in_new_process("-c", program).split() == ["1", "1", "2", "2"]
