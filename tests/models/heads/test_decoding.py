"""The decoder against all tag sequences, one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from brute import TAGSETS, legal_mask, path_scores, random_parameters, sequences
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import SequenceHead
from nertune.models.heads.decoder import decode
from nertune.models.heads.decoding import Chain, log_partitions, span_probabilities, viterbi


class Fixed(SequenceHead):
    """A head with given scores between tags."""

    def __init__(self, chain: Chain):
        self.tagset = chain.tagset
        self._chain = chain

    def chain(self) -> Chain:
        return self._chain

    def loss(self, *_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is trained")

    def scores(self, logits_BUK: torch.Tensor) -> torch.Tensor:
        return logits_BUK


PROPER = ("BIO-1", "BIO-2", "BIOES", "BMES_")  # schemes that forbid something


def case(
    name: str, lengths: list[int], seed: int, *, learned: bool
) -> tuple[TagSet, Chain, list[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    tagset = TAGSETS[name]
    generator = np.random.default_rng(seed)
    emissions = [generator.normal(scale=2, size=(n, len(tagset))) for n in lengths]
    if learned:
        parameters = random_parameters(tagset, generator)
        return tagset, Chain.of(tagset, *parameters), emissions, parameters
    size = len(tagset)
    zeros = (np.zeros(size), np.zeros((size, size)), np.zeros(size))
    return tagset, Chain.of(tagset), emissions, zeros


def brute_force(
    tagset: TagSet,
    emission_UK: np.ndarray,
    parameters: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """All legal sequences and their scores."""
    ids_SU = sequences(len(tagset), len(emission_UK))
    ids_SU = ids_SU[legal_mask(tagset, ids_SU)]
    scores_S = path_scores(
        ids_SU, torch.tensor(emission_UK), *(torch.tensor(p) for p in parameters)
    )
    return ids_SU.numpy(), scores_S.numpy()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", TAGSETS)
def test_against_all_sequences(name: str, learned: bool) -> None:
    """Best path, log Z, and the probability of every possible span; mixed lengths at once."""
    lengths = [3, 1, 5, 0, 2, 4, 1]
    tagset, chain, emissions, parameters = case(name, lengths, seed=5, learned=learned)
    spans = [
        [
            TokenSpan(first, last, label)
            for label in tagset.labels
            for first in range(length)
            for last in range(first + 1, length + 1)
        ]
        for length in lengths
    ]
    best = viterbi(emissions, chain)
    found = span_probabilities(emissions, spans, chain)
    for length, emission_UK, ids, rows, values in zip(
        lengths, emissions, best, spans, found, strict=True
    ):
        if not length:
            assert (ids.tolist(), values) == ([], [])
            continue
        ids_SU, scores_S = brute_force(tagset, emission_UK, parameters)
        assert ids.tolist() == ids_SU[scores_S.argmax()].tolist()
        log_z = np.logaddexp.reduce(scores_S)
        assert log_partitions([emission_UK], chain)[0] == pytest.approx(log_z, abs=1e-9)
        weights_S = np.exp(scores_S - log_z)
        holds = [set(tagset.decode(row)) for row in ids_SU]
        expected = [
            sum(w for w, names in zip(weights_S, holds, strict=True) if span in names)
            for span in rows
        ]
        assert values == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", TAGSETS)
def test_decode_gives_the_spans_of_the_best_path(name: str) -> None:
    tagset, chain, emissions, _ = case(name, [4, 0, 7, 1], seed=2, learned=True)
    paths = viterbi(emissions, chain)
    plain = decode(Fixed(chain), emissions, with_scores=False)
    assert plain == [(tagset.decode(path), []) for path in paths]
    scored = decode(Fixed(chain), emissions)
    assert [spans for spans, _ in scored] == [spans for spans, _ in plain]
    assert [scores for _, scores in scored] == span_probabilities(
        emissions, [spans for spans, _ in plain], chain
    )
    assert sum(len(spans) for spans, _ in plain) > 1


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(PROPER),
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.sampled_from((0.1, 3.0, 200.0)),
    st.booleans(),
)
def test_nothing_illegal_is_decoded(
    name: str, length: int, seed: int, scale: float, learned: bool
) -> None:
    """However strongly the emissions ask for it."""
    tagset, chain, _, _ = case(name, [], seed, learned=learned)
    emission_UK = np.random.default_rng(seed).normal(scale=scale, size=(length, len(tagset)))
    (path,) = viterbi([emission_UK], chain)
    assert tagset.legal_start_K[path[0]]
    assert tagset.legal_end_K[path[-1]]
    assert all(tagset.legal_KK[a, b] for a, b in pairwise(path))


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(TAGSETS)), st.integers(1, 9), st.integers(0, 10_000), st.booleans())
def test_a_unit_is_in_one_span_or_in_none(name: str, length: int, seed: int, learned: bool) -> None:
    """Spans over one unit exclude each other: with P(O) their probabilities sum to 1."""
    tagset, chain, (emission_UK,), _ = case(name, [length], seed, learned=learned)
    rows = [
        TokenSpan(first, last, label)
        for label in tagset.labels
        for first in range(length)
        for last in range(first + 1, length + 1)
    ]
    (values,) = span_probabilities([emission_UK], [rows], chain)
    assert all(0 <= value <= 1 for value in values)
    outside = tagset.encode(["O"])[0]
    for unit in range(length):
        covering = sum(
            value
            for span, value in zip(rows, values, strict=True)
            if span.first <= unit < span.last
        )
        only_o_UK = emission_UK.copy()
        only_o_UK[unit, np.arange(len(tagset)) != outside] = -1e6
        outside_mass = np.exp(np.subtract(*log_partitions([only_o_UK, emission_UK], chain)))
        assert covering + outside_mass == pytest.approx(1, abs=1e-9)


def test_documents_side_by_side_are_decoded_as_alone() -> None:
    lengths = np.random.default_rng(1).integers(0, 30, size=700).tolist()
    _, chain, emissions, _ = case("BIO-2", lengths, seed=8, learned=True)
    together = decode(Fixed(chain), emissions)
    for document in range(0, 700, 7):
        (alone,) = decode(Fixed(chain), [emissions[document]])
        assert together[document][0] == alone[0]
        assert together[document][1] == pytest.approx(alone[1], abs=1e-12)


def test_ties_go_to_the_lower_tag() -> None:
    chain = Chain.of(TAGSETS["BIO-1"])
    assert viterbi([np.zeros((4, 3))], chain)[0].tolist() == [0, 0, 0, 0]


def test_a_sure_tagger_is_sure() -> None:
    tagset, chain, _, _ = case("BIO-1", [], 0, learned=False)
    emission_UK = np.full((4, 3), -50.0)
    emission_UK[range(4), tagset.encode(["O", "B-A", "I-A", "O"])] = 0
    ((spans, scores),) = decode(Fixed(chain), [emission_UK])
    assert spans == [TokenSpan(1, 3, "A")]
    assert scores == pytest.approx([1.0])


@pytest.mark.parametrize("learned", [False, True])
def test_a_book_without_a_break_stays_finite(learned: bool) -> None:
    _, chain, emissions, _ = case("BIO-2", [20_000, 3], seed=4, learned=learned)
    (spans, scores), _ = decode(Fixed(chain), emissions)
    assert len(spans) > 1000
    assert len(scores) == len(spans)
    assert np.isfinite(scores).all()
    assert 0 <= min(scores) <= max(scores) <= 1
    # The middle of a long text is scored as if the rest were not there.
    span, score = next((s, p) for s, p in zip(spans, scores, strict=True) if s.first > 9_999)
    cut = emissions[0][span.first - 60 : span.last + 60]
    moved = [TokenSpan(60, 60 + span.last - span.first, span.label)]
    assert span_probabilities([cut], [moved], chain)[0][0] == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_emissions_are_refused(value: float) -> None:
    _, chain, emissions, _ = case("BIO-1", [2, 3], seed=0, learned=False)
    emissions[1][1, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        decode(Fixed(chain), emissions)
    with pytest.raises(ValueError, match="not finite"):
        decode(Fixed(chain), emissions, with_scores=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_any_float_will_do(dtype: type) -> None:
    _, chain, emissions, _ = case("BIO-2", [6], seed=1, learned=True)
    narrow = [e.astype(dtype) for e in emissions]
    wide = [e.astype(np.float64) for e in narrow]
    assert decode(Fixed(chain), narrow) == decode(Fixed(chain), wide)


def test_empty_input() -> None:
    _, chain, _, _ = case("BIO-1", [], 0, learned=False)
    assert decode(Fixed(chain), []) == []
    assert decode(Fixed(chain), [np.zeros((0, 3)), np.zeros((0, 3))]) == [([], []), ([], [])]


# The short way for chains whose transitions weigh nothing


@given(st.integers(0, 2**32 - 1))
def test_the_short_way_gives_what_the_long_one_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tagset = TagSet.from_labels(["A", "B"])
    chain = Chain.of(tagset)
    assert chain.is_flat
    # Few values, so that ties are frequent; an illegal likeliest path is frequent too.
    emissions = [rng.integers(0, 3, (n, len(tagset))).astype(np.float32) for n in (1, 2, 5, 0, 9)]
    short = viterbi(emissions, chain)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Chain, "is_flat", property(lambda _: False))
        long = viterbi(emissions, chain)
    assert [list(ids) for ids in short] == [list(ids) for ids in long]


def test_a_crf_is_not_flat() -> None:
    tagset = TagSet.from_labels(["A"])
    weights = np.zeros((3, 3))
    weights[0, 0] = 0.5
    assert not Chain.of(tagset, transition_KK=weights).is_flat
    assert Chain.of(tagset, transition_KK=np.zeros((3, 3))).is_flat
