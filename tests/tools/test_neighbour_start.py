"""`tools/neighbour_start.py`: a new BERT whose first layers look at neighbours."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.raw_text import made_up_lines, make_pretrain_settings, write_text
from nertune.experiments.pretraining.pretrain import pretrain
from nertune.pretraining.model import Shape, build_encoder, load_for_pretraining

SCRIPT = Path(__file__).parents[2] / "tools" / "neighbour_start.py"


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("neighbour_start", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def new_bert(shape: Shape, vocabulary: int, *, length: int) -> Any:
    model = build_encoder(shape, vocabulary, architecture="bert", max_tokens=length, seed=0)
    load_script().start_bert(model)
    return model


def attention_of(model: Any, num_tokens: int, seed: int = 0) -> list[Tensor]:
    """Attention `[H, L, L]` of each layer on any tokens, the mean of several texts."""
    torch.manual_seed(seed)
    ids_BL = torch.randint(5, model.config.vocab_size, (8, num_tokens))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model.eval()(input_ids=ids_BL, output_attentions=True).attentions
    return [layer.mean(0) for layer in found]


def share_by_offset(attention_LL: Tensor, margin: int = 4) -> dict[int, float]:
    """How much of the attention falls on i + offset, the mean over positions i."""
    num = len(attention_LL)
    return {
        offset: float(
            torch.stack([attention_LL[i, i + offset] for i in range(margin, num - margin)]).mean()
        )
        for offset in range(-margin, margin + 1)
    }


NEIGHBOURS = (-1, 1, -2, 2, 0, -3, 3, 0)


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        (Shape(layers=2, hidden=128, heads=2, vocabulary=300), 64),
        (Shape(layers=2, hidden=256, heads=8, vocabulary=300), 128),
        (Shape(layers=2, hidden=320, heads=5, vocabulary=300), 128),
    ],
    ids=["tiny", "many heads", "small"],
)
def test_the_first_layers_look_at_neighbours(shape: Shape, length: int) -> None:
    model = new_bert(shape, 300, length=length)
    layers = attention_of(model, length)
    for head, offset in zip(range(shape.heads), NEIGHBOURS, strict=False):
        shares = share_by_offset(layers[0][head])
        assert shares[offset] > 0.15, (head, shares)  # 1 / length without a start like that
        assert all(5 * share < shares[offset] for o, share in shares.items() if o != offset)


def test_the_second_layer_looks_at_neighbours_too() -> None:
    shape = Shape(layers=3, hidden=128, heads=4, vocabulary=300)
    model = new_bert(shape, 300, length=64)
    layers = attention_of(model, 64)
    for head, offset in zip(range(4), NEIGHBOURS, strict=False):
        shares = share_by_offset(layers[1][head])
        assert all(3 * share < shares[offset] for o, share in shares.items() if o != offset)
    for head in range(4):  # the third is as random as ever
        assert max(share_by_offset(layers[2][head]).values()) < 0.1


def test_positions_have_dimensions_of_their_own() -> None:
    shape = Shape(layers=1, hidden=64, heads=2, vocabulary=300)
    model = new_bert(shape, 300, length=32)
    embeddings = model.bert.embeddings
    of_words = embeddings.word_embeddings.weight.abs().max(0).values > 0
    of_positions = embeddings.position_embeddings.weight.abs().max(0).values > 0
    assert not (of_words & of_positions).any()
    assert (of_words | of_positions).all()
    assert of_words.sum() > of_positions.sum() > 10
    distances = torch.cdist(*[embeddings.position_embeddings.weight] * 2)
    assert distances[~torch.eye(32, dtype=torch.bool)].min() > 0.05


@pytest.mark.parametrize("heads", [1, 2, 8, 16])
def test_any_number_of_heads(heads: int) -> None:
    shape = Shape(layers=1, hidden=32, heads=heads, vocabulary=60)
    model = new_bert(shape, 60, length=16)
    ids_BL = torch.randint(5, 60, (8, 16))
    with torch.no_grad():
        loss = float(model.eval()(input_ids=ids_BL, labels=ids_BL.flip(0)).loss)
    assert loss == pytest.approx(float(torch.tensor(60.0).log()), abs=0.3)  # knows nothing yet


def test_the_script_begins_an_encoder_that_pretraining_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, folder = write_text(tmp_path / "text.txt", made_up_lines()), tmp_path / "begun"
    options = ["--shape", "tiny", "--vocabulary", "300", "--length", "32"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder), str(text), *options])
    load_script().main()
    assert re.search(r"begun: \d+ tokens, [\d,]+ parameters", capsys.readouterr().out)
    model, has_new_head = load_for_pretraining(str(folder))
    assert not has_new_head
    shares = share_by_offset(attention_of(model, 32)[0][0])
    assert max(shares, key=shares.__getitem__) == NEIGHBOURS[0]
    with pytest.raises(SystemExit):
        load_script().main()
    assert "name another folder" in capsys.readouterr().err
    record = pretrain(make_pretrain_settings(tmp_path, encoder=str(folder), optimizer="muon"))
    assert record["held_out"]["after"]["loss"] < record["held_out"]["before"]["loss"]
