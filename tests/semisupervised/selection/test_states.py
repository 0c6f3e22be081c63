"""Mean hidden states against the encoder itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny import SENTENCES, make_predictor, make_settings, tiny_bert
from nertune.errors import ConfigError
from nertune.semisupervised.selection.states import TextVectors
from nertune.types import Document

LONG = Document("".join(d.text for d in SENTENCES) * 2)  # more than one window


def test_means_are_those_of_the_encoder() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_bert()
    model, tokenizer = (
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    documents = [*SENTENCES[:3], Document(" "), Document("在1998")]
    found = TextVectors.load(str(folder), "char", device="cpu").of(documents)
    assert found.shape == (5, 32)
    assert found.dtype == np.float32
    assert not found[3].any()
    for document, row in zip(documents, found, strict=True):
        if characters := [c for c in document.text if not c.isspace()]:
            ids = tokenizer.convert_tokens_to_ids([c.lower() for c in characters])
            given = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
            with torch.no_grad():
                states = model(given).last_hidden_state[0, 1:-1]
            np.testing.assert_allclose(row, states.mean(dim=0).numpy(), atol=1e-5)


@pytest.mark.parametrize("variant", ["full", "lora", "lstm"])
def test_vectors_depend_on_the_text_alone(variant: str, tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, variant))
    vectors = TextVectors.of_predictor(predictor)
    together = vectors.of([*SENTENCES, LONG])
    alone = np.concatenate([vectors.of([d]) for d in [*SENTENCES, LONG]])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(together)


def test_an_exported_graph_is_refused(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    predictor.tagger.emitter = torch.nn.Identity()
    with pytest.raises(ConfigError, match="use the torch backend"):
        TextVectors.of_predictor(predictor)
