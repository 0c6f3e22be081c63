"""Documents cut into windows: once, and not for ever."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES
from nertune.inference.mixed import MultiPredictor
from nertune.inference.mixed import cuts as module
from nertune.inference.mixed.cuts import Cuts
from nertune.inference.mixed.models import Mixed


@pytest.fixture(scope="module")
def models(base: Path, mixed: Mapping[str, Path], own: Mapping[str, Path]) -> MultiPredictor:
    folders = {"plain": mixed["plain"], "many": mixed["many"], "dora": own["dora"]}
    return MultiPredictor.load(base, folders, device="cpu")


def test_what_was_counted_is_cut_once(models: MultiPredictor) -> None:
    cuts, plain, many = Cuts(), models._find("plain"), models._find("many")
    assert isinstance(plain, Mixed)
    assert isinstance(many, Mixed)
    counted = cuts.make(plain, SENTENCES[0])
    assert cuts.make(plain, SENTENCES[0]) is counted
    assert cuts.take(many, SENTENCES[0]) is not counted  # reads words
    assert cuts.take(plain, SENTENCES[0]) is counted
    assert cuts.take(plain, SENTENCES[0]) is not counted
    assert cuts._num_characters == 0


def test_only_so_much_is_kept(models: MultiPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts, plain = Cuts(), models._find("plain")
    assert isinstance(plain, Mixed)
    cuts.make(models._find("dora"), SENTENCES[0])  # computes on its own, and cuts again
    assert not cuts._kept
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 40)
    for document in SENTENCES:
        cuts.make(plain, document)
    texts = [text for _, text, _ in cuts._kept]
    assert sum(map(len, texts)) == cuts._num_characters <= 40
    assert texts == [d.text for d in SENTENCES][-len(texts) :]
