"""What is said of a span that may be an entity, from scores of one model or of several."""

from __future__ import annotations

import numpy as np
import pytest

from nertune.labels.tagset import TagSet
from nertune.models.heads.base import build_head
from nertune.semisupervised.audit.candidates import collect_candidates
from nertune.semisupervised.audit.out_of_fold import FoldScores
from nertune.types import Document

UNITS = [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_how_likely_the_units_of_a_span_are_in_no_entity(decoder: str) -> None:
    head = build_head(decoder, TagSet.from_labels(["PER"]))
    outside = head.tagset.find("O", "")
    begins, inside = head.tagset.find("B", "PER"), head.tagset.find("I", "PER")
    assert outside is not None
    if decoder == "crf":  # a chain that takes no side
        for parameter in head.parameters():
            parameter.data.zero_()
    models = []
    for seed, odds in enumerate((0.0, 2.0)):
        scores_UK = np.full((3, 3), -30.0, dtype=np.float32)
        scores_UK[:, outside] = 0.0
        scores_UK[0, begins] = odds
        scores_UK[1, inside] = odds
        models.append(FoldScores(0, seed, (0,), [UNITS], [scores_UK], head))
    (found,) = collect_candidates([Document("王明说")], models)
    at = {(e.start, e.end): p for e, p in zip(found.others, found.outside, strict=True)}
    # Softmax decodes under the rules of BIO2, too: `I` needs `B` before it, so `O I` has no weight.
    pairs = []
    for odds in (0.0, 2.0):
        e = np.exp(odds)
        weights = {"OO": 1.0, "BO": e, "BI": e * e}
        total = sum(weights.values())
        pairs.append((weights["OO"] / total, (weights["OO"] + weights["BO"]) / total))
    first, second = np.mean(pairs, axis=0)
    assert at[0, 2] == pytest.approx(np.sqrt(first * second), rel=1e-3)
