"""Two taggers are the same, or it is said where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.export.parity import compare_entities, cut_all_lengths, measure_speeds
from nertune.inference.predictor import Predictor
from nertune.models.tagger import Tagger
from nertune.types import Document


class Shifted(torch.nn.Module):
    """An emitter whose logits are changed a little."""

    def __init__(self, inner: torch.nn.Module, size: float):
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, ids_BL: torch.Tensor, attention_BL: torch.Tensor) -> torch.Tensor:
        logits_BLK: torch.Tensor = self.inner(ids_BL, attention_BL)
        generator = torch.Generator().manual_seed(0)
        return logits_BLK + self.size * torch.randn(logits_BLK.shape, generator=generator)


def with_emitter(predictor: Predictor, emitter: torch.nn.Module) -> Predictor:
    tagger = Tagger(emitter, predictor.tagger.head).eval()
    return Predictor(tagger, predictor.segmenter, predictor.tagset)


@pytest.mark.parametrize(
    ("size", "holds"), [(0.0, True), (1e-6, True), (0.01, False), (2.0, False)]
)
def test_agreement(size: float, holds: bool, tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "full"))
    other = with_emitter(predictor, Shifted(predictor.tagger.emitter, size))
    found = compare_entities(predictor, other, SENTENCES)
    assert found.holds is holds
    assert found.equal + found.num_ties + found.differing == found.entities
    assert (found.largest_difference == 0.0) == (size == 0.0)
    assert (found.differing > 0) == (size == 2.0)


def test_a_graph_that_differs_only_where_no_entity_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits are compared, not only what wins on these documents."""
    predictor = make_predictor(make_settings(tmp_path, "full"))
    inner = predictor.tagger.emitter

    class Off(torch.nn.Module):
        def forward(self, ids_BL: torch.Tensor, attention_BL: torch.Tensor) -> torch.Tensor:
            logits_BLK: torch.Tensor = inner(ids_BL, attention_BL)
            return logits_BLK - 0.01 * torch.nn.functional.one_hot(
                logits_BLK.argmin(dim=-1), logits_BLK.shape[-1]
            )

    found = compare_entities(predictor, with_emitter(predictor, Off()), SENTENCES)
    assert not found.differing
    assert found.largest_emission_difference == pytest.approx(0.01, rel=0.1)
    assert not found.holds


def test_a_tie_is_listed_and_not_held_against_the_graph(tmp_path: Path) -> None:
    """Two tags that are exactly as likely: rounding decides, and says nothing about the graph."""
    predictor = make_predictor(make_settings(tmp_path, "full"))
    begin = [i for i, tag in enumerate(predictor.tagset.tags) if tag.startswith("B-")]

    class Even(torch.nn.Module):
        def __init__(self, favoured: int):
            super().__init__()
            self.favoured = favoured

        def forward(self, ids_BL: torch.Tensor, attention_BL: torch.Tensor) -> torch.Tensor:
            logits_BLK = torch.full((*ids_BL.shape, len(predictor.tagset)), -9.0)
            logits_BLK[..., begin[0]] = logits_BLK[..., begin[1]] = 5.0
            logits_BLK[..., self.favoured] += 1e-6
            return logits_BLK

    one, other = (with_emitter(predictor, Even(tag)) for tag in begin[:2])
    found = compare_entities(one, other, [Document("北京", id="here")])
    assert found.holds
    assert (found.equal, found.num_ties, found.differing) == (0, 4, 0)
    assert found.ties[0][0] == "here"


def test_what_does_not_hold(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    found = compare_entities(predictor, predictor, SENTENCES)
    assert found.holds
    assert not replace(found, differing=1).holds
    assert not replace(found, largest_difference=2e-4).holds


@pytest.mark.parametrize("unit", ["char", "word"])
def test_cut_all_lengths(unit: str, tmp_path: Path) -> None:
    """Up to several windows, though the eight sentences fill only some."""
    settings = make_settings(tmp_path, "full", {"model": {"max_pieces": 64, "unit": unit}})
    predictor = make_predictor(settings)
    texts = cut_all_lengths(predictor, SENTENCES)
    cut = [predictor.segmenter.segment(document) for document in texts]
    assert [len(encoding.units) for encoding, _ in cut][:6] == [1, 2, 4, 8, 16, 32]
    assert len(cut[-1][1]) >= 3


@pytest.mark.parametrize("variant", ["full", "lstm"])
@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("text", ["", "\u200b", " \n", "\x00\u200b\ufeff", "\u0301"])
def test_texts_that_come_to_nothing_are_not_repeated_for_ever(
    text: str, unit: str, variant: str, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, variant, {"model": {"max_pieces": 64, "unit": unit}})
    predictor = make_predictor(settings)
    for found in cut_all_lengths(predictor, [Document(text)]):  # an LSTM reads every character
        assert predictor.segmenter.segment(found)[0].units


def test_speeds_are_of_all_backends(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    speeds = measure_speeds({"a": predictor, "b": predictor}, SENTENCES, 3)
    assert set(speeds) == {"a", "b"}
    assert all(np.isfinite(speed) and speed > 0 for speed in speeds.values())
