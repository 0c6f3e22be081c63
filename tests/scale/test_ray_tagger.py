"""The callable class for Ray Data, called as Ray calls it."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.annotation import tiny_model
from helpers.tiny import SENTENCES
from nertune.errors import ConfigError
from nertune.inference.predictor import Predictor
from nertune.scale import RayTagger

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
TEXTS = [document.text for document in SENTENCES]


@pytest.fixture(scope="module")
def tagger() -> RayTagger:
    return RayTagger(str(tiny_model()), device="cpu")


def test_batches_of_both_kinds(tagger: RayTagger) -> None:
    predictor = Predictor.load(tiny_model(), device="cpu")
    expected = [
        [(e.start, e.end, e.label, d.surface(e), e.score) for e in d.entities]
        for d in predictor.tag_texts(TEXTS)
    ]
    table = tagger(pa.table({"text": TEXTS, "n": range(len(TEXTS)), "entities": TEXTS}))
    assert table.column_names == ["text", "n", "entities"]
    arrays = tagger({"text": np.array(TEXTS, dtype=object), "n": np.arange(len(TEXTS))})
    for found in (table["entities"].to_pylist(), arrays["entities"].tolist()):
        assert [[tuple(e.values()) for e in row] for row in found] == expected
    alike = tagger({"text": np.array([TEXTS[0], TEXTS[0]], dtype=object)})["entities"]
    assert alike.shape == (2,)
    assert alike[0] == alike[1]


def test_batches_that_cannot_be_tagged(tagger: RayTagger) -> None:
    with pytest.raises(ConfigError, match="no such column; it has body"):
        tagger(pa.table({"body": TEXTS}))
    with pytest.raises(ConfigError, match="no text"):
        tagger(pa.table({"text": ["a", None]}))
    empty = tagger(pa.table({"text": pa.array([], pa.string())}))
    assert empty["entities"].to_pylist() == []
