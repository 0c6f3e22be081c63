"""Measures of uncertainty against counting all tag sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.tiny import SENTENCES, make_predictor, make_settings
from models.brute import TAGSETS, legal_mask, path_scores, random_parameters, sequences
from nertune.errors import ConfigError, NotFiniteError
from nertune.labels.schemes import TokenSpan
from nertune.models.heads.calibration import Calibration
from nertune.models.heads.decoding import Chain
from nertune.models.heads.marginals import find_marginals, tag_marginals
from nertune.semisupervised.selection.uncertainty import (
    LEAST_PROBABILITY,
    MEASURES,
    least_token,
    likely_spans,
    measure,
    span_entropy,
)
from nertune.types import Document


def spans_of(emission_UK: np.ndarray, chain: Chain) -> list[tuple[TokenSpan, float]]:
    return likely_spans(find_marginals([emission_UK], chain)[0], chain.tagset)


@pytest.fixture(params=[(name, n) for name in TAGSETS for n in (1, 2, 5)], ids=str)
def counted(request: pytest.FixtureRequest):
    """A random chain with its distribution: tag set, emissions, chain, sequences, shares."""
    name, length = request.param
    tagset, generator = TAGSETS[name], np.random.default_rng(length)
    emission_UK = generator.normal(scale=1.5, size=(length, len(tagset)))
    parameters = random_parameters(tagset, generator)
    ids_SU = sequences(len(tagset), length)
    scores_S = path_scores(ids_SU, torch.tensor(emission_UK), *map(torch.tensor, parameters))
    scores_S[~legal_mask(tagset, ids_SU)] = -torch.inf
    return (tagset, emission_UK, Chain.of(tagset, *parameters), ids_SU.numpy(),
            scores_S.softmax(dim=0).numpy())  # fmt: skip


def test_least_token_against_counting(counted) -> None:
    tagset, emission_UK, chain, ids_SU, share_S = counted
    most = [max(share_S[row == k].sum() for k in range(len(tagset))) for row in ids_SU.T]
    found = least_token(tag_marginals([emission_UK], chain)[0])
    assert found == pytest.approx(1 - min(most))


def test_likely_spans_against_counting(counted) -> None:
    tagset, emission_UK, chain, ids_SU, share_S = counted
    shares: dict[TokenSpan, float] = {}
    for ids_U, share in zip(ids_SU, share_S, strict=True):
        for span in tagset.decode(ids_U) if share else ():
            shares[span] = shares.get(span, 0.0) + share
    expected = {span: p for span, p in shares.items() if p >= LEAST_PROBABILITY}
    found = spans_of(emission_UK, chain)
    assert dict(found) == pytest.approx(expected)
    assert len(found) == len(expected)


def test_likely_spans_of_a_long_text_are_not_cut_off() -> None:
    """An entity of sixty units is found, with what the sharp scores give it."""
    tagset = TAGSETS["BIO-1"]
    emission_UK = np.tile([0.0, -9.0, 9.0], (60, 1))
    emission_UK[0] = [0.0, 9.0, -9.0]
    found = dict(spans_of(emission_UK, Chain.of(tagset)))
    assert max(found, key=found.__getitem__) == TokenSpan(0, 60, "A")
    assert found[TokenSpan(0, 60, "A")] > 0.9


def test_span_entropy() -> None:
    assert span_entropy([]) == 0.0
    assert span_entropy([0.5, 0.5]) == pytest.approx(2 * np.log(2))
    assert span_entropy([1.0, 0.0]) == pytest.approx(0.0, abs=1e-9)
    assert span_entropy([0.1]) == pytest.approx(span_entropy([0.9]))


@pytest.mark.parametrize("name", MEASURES)
def test_measure_of_documents(name: str, tmp_path) -> None:
    """In any company the same, without units −inf, and never from the gold."""
    predictor = make_predictor(make_settings(tmp_path, "lstm-crf"))
    together = measure(predictor, [*SENTENCES, Document("")], name)
    alone = [measure(predictor, [Document(d.text)], name)[0] for d in SENTENCES]
    assert together[:-1] == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert together[-1] == -np.inf
    assert min(alone) > 0
    assert len({round(value, 4) for value in alone}) > 4


@pytest.mark.parametrize("name", MEASURES)
def test_measure_in_small_portions(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm-crf"))
    expected = measure(predictor, [*SENTENCES, Document("")], name)
    monkeypatch.setattr("nertune.semisupervised.selection.uncertainty._MOST_CELLS", 1500)
    assert measure(predictor, [*SENTENCES, Document("")], name) == pytest.approx(expected)


@pytest.mark.parametrize("decoder", ["lstm", "lstm-crf"])
def test_measures_against_counting(decoder: str, tmp_path) -> None:
    """Of a model, calibrated or not, each measure from all its tag sequences."""
    predictor = make_predictor(make_settings(tmp_path, decoder))
    text = Document("在北京")
    chain = predictor.tagger.head.chain()
    emission_UK = predictor.emissions([text])[1][0].astype(float)
    ids_SU = sequences(len(chain.tagset), 3)
    weights = (torch.tensor(emission_UK), *map(torch.tensor, (chain.start_K, chain.transition_KK,
                                                              chain.end_K)))  # fmt: skip
    for temperature in (1.0, 2.5):
        predictor.calibration = Calibration(temperature=temperature)
        share_S = (path_scores(ids_SU, *weights) / temperature).softmax(dim=0).numpy()
        shares: dict[TokenSpan, float] = {}
        for ids_U, share in zip(ids_SU.numpy(), share_S, strict=True):
            for span in chain.tagset.decode(ids_U) if share else ():
                shares[span] = shares.get(span, 0.0) + share
        likely = [p for p in shares.values() if p >= LEAST_PROBABILITY]
        most = [
            max(share_S[row == k].sum() for k in range(len(chain.tagset)))
            for row in ids_SU.numpy().T
        ]
        expected = {"mnlp": -np.log(share_S.max()) / 3, "least-token": 1 - min(most),
                    "span-entropy": span_entropy(likely) / 3}  # fmt: skip
        found = {name: measure(predictor, [text], name)[0] for name in MEASURES}
        assert found == pytest.approx(expected, rel=1e-5)


def test_heads_without_tag_sequences(tmp_path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    sequence_head = predictor.tagger.head

    class Spans:
        """A head that is no chain: two spans, of which one is open."""

        def spans(self, scores):
            return [[TokenSpan(0, 1, "PERSON"), TokenSpan(0, 2, "TIME")] for _ in scores]

        def probabilities(self, scores, spans):
            return [[1.0, 0.5] for _ in scores]

        scores = sequence_head.scores

    predictor.tagger._modules.pop("head")
    predictor.tagger.head = Spans()  # type: ignore[assignment]
    found = measure(predictor, [Document("四个汉字")], "span-entropy")
    assert found == pytest.approx([np.log(2) / 4])
    with pytest.raises(ConfigError, match="no tag sequence; use span-entropy"):
        measure(predictor, [Document("四个汉字")], "mnlp")


def test_a_model_that_gives_nan(tmp_path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm"))
    with torch.no_grad():
        predictor.tagger.emitter.classifier.weight.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="not finite"):
        measure(predictor, SENTENCES, "mnlp")
