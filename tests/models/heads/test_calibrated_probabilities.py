"""Calibrated probabilities against all tag sequences, and what never changes."""

from __future__ import annotations

import numpy as np
import pytest
from brute import TAGSETS, random_parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_decoding import Fixed, brute_force

from nertune.labels.schemes import TokenSpan
from nertune.models.heads.calibration import Calibration, logit, sequence_log_odds, sigmoid
from nertune.models.heads.decoding import Chain, best_log_probabilities, log_partitions, viterbi


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(TAGSETS)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.floats(0.3, 5),
    st.integers(0, 10**6),
)
def test_a_temperature_divides_every_score(
    name: str, lengths: list[int], temperature: float, seed: int
) -> None:
    """Over all legal sequences: log Z, the best sequence's probability, and each span's."""
    tagset, generator = TAGSETS[name], np.random.default_rng(seed)
    parameters = random_parameters(tagset, generator)
    emissions = [generator.normal(scale=2, size=(n, len(tagset))) for n in lengths]
    head = Fixed(Chain.of(tagset, *parameters))
    best = best_log_probabilities(emissions, head.chain(), temperature)
    log_z = log_partitions(emissions, head.chain(), temperature)
    spans = head.spans(emissions)
    found = Calibration(temperature=temperature).probabilities(head, emissions, spans)
    for i, emission_UK in enumerate(emissions):
        ids_SU, scores_S = brute_force(tagset, emission_UK, parameters)
        scores_S = scores_S / temperature
        top = scores_S.max()
        expected_z = top + np.log(np.exp(scores_S - top).sum())
        assert log_z[i] == pytest.approx(expected_z)
        assert best[i] == pytest.approx(top - expected_z, abs=1e-9)
        share_S = np.exp(scores_S - expected_z)
        for span, probability in zip(spans[i], found[i], strict=True):
            holds = [span in tagset.decode(ids) for ids in ids_SU]
            assert probability == pytest.approx(share_S[holds].sum(), abs=1e-9)


def test_the_default_changes_nothing() -> None:
    head, emissions = _random_head()
    spans = head.spans(emissions)
    assert Calibration().probabilities(head, emissions, spans) == head.probabilities(
        emissions, spans
    )
    assert not Calibration().changes_spans


def test_length_label_bias_and_slope() -> None:
    head, emissions = _random_head()
    spans = [[TokenSpan(0, 1, "A"), TokenSpan(0, 3, "A")]]
    raw = np.array(head.probabilities(emissions, spans)[0])
    calibration = Calibration(slope=0.5, bias=0.25, length=-1.0, labels={"A": 2.0})
    found = calibration.probabilities(head, emissions, spans)[0]
    odds = 0.5 * np.log(raw / (1 - raw)) + 0.25 - np.log([1.0, 3.0]) + 2.0
    assert found == pytest.approx(1 / (1 + np.exp(-odds)))
    assert calibration.changes_spans
    other = Calibration(slope=0.5, bias=0.25, length=-1.0, labels={"B": 2.0})
    assert other.probabilities(head, emissions, spans)[0] == pytest.approx(
        1 / (1 + np.exp(2.0 - odds))
    )


def test_a_whole_document() -> None:
    head, emissions = _random_head()
    best = np.exp(best_log_probabilities(emissions, head.chain(), 2.0))
    odds = np.log(best / (1 - best))
    assert sequence_log_odds(head, emissions, 2.0) == pytest.approx(odds)
    calibration = Calibration(temperature=2.0, sequence_slope=0.5, sequence_bias=1.0)
    assert calibration.confidences(head, emissions) == pytest.approx(
        1 / (1 + np.exp(-(0.5 * odds + 1.0)))
    )
    nothing = np.zeros((0, len(head.tagset)))
    assert calibration.confidences(head, [nothing]) == [1.0]


def test_a_long_document_is_less_sure_than_its_half() -> None:
    """Their probabilities are far below what float64 can tell from 0 beside 1."""
    head, _ = _random_head()
    generator = np.random.default_rng(3)
    scores = generator.normal(scale=0.1, size=(100, len(head.tagset)))
    whole, half = Calibration(sequence_slope=0.05).confidences(head, [scores, scores[:50]])
    assert 0 < whole < half < 1


def test_a_head_without_a_chain_has_no_confidence() -> None:
    class Chainless:
        pass

    with pytest.raises(ValueError, match="Chainless gives no probability of a whole document"):
        sequence_log_odds(Chainless(), [], 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [{"temperature": 0}, {"temperature": float("nan")}, {"slope": -1}, {"bias": float("inf")},
     {"labels": {"X": float("nan")}}, {"scale": 1}],
)  # fmt: skip
def test_what_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Calibration.model_validate(values)


def test_log_odds_have_limits() -> None:
    odds = logit(np.array([0.0, 0.5, 1.0]))
    assert odds.tolist() == [-20.0, 0.0, 20.0]
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_best_sequence_is_the_one_that_is_decoded() -> None:
    head, emissions = _random_head()
    for temperature in (0.3, 1.0, 4.0):
        tempered = head.chain().tempered(temperature)
        ids = viterbi([e / temperature for e in emissions], tempered)
        assert [i.tolist() for i in ids] == [i.tolist() for i in viterbi(emissions, head.chain())]


def _random_head() -> tuple[Fixed, list[np.ndarray]]:
    tagset, generator = TAGSETS["BIO-2"], np.random.default_rng(1)
    head = Fixed(Chain.of(tagset, *random_parameters(tagset, generator)))
    return head, [generator.normal(scale=2, size=(5, len(tagset)))]
