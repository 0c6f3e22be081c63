"""Workers of one machine share the weights of a fully fine-tuned model: they are mapped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor
from nertune.inference.predictor import Predictor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


def mapped(path: Path) -> list[tuple[int, int]]:
    """Where in this process's memory a file is."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(str(path)):
            first, _, last = line.split()[0].partition("-")
            found.append((int(first, 16), int(last, 16)))
    return found


@pytest.mark.parametrize("variant", ["full", "full-crf"])
def test_the_encoders_weights_are_those_of_the_file(variant: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, variant)
    save_predictor(tmp_path / "model", make_predictor(settings), settings)
    predictor = Predictor.load(tmp_path / "model", device="cpu")
    list(predictor.tag_documents(SENTENCES))
    places = mapped(tmp_path / "model" / "model.safetensors")
    parameters = dict(predictor.tagger.emitter.named_parameters())
    copied = [
        name
        for name, parameter in parameters.items()
        if not any(first <= parameter.data_ptr() < last for first, last in places)
    ]
    assert parameters
    assert copied == []
