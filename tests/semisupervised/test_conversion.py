"""Teachers of other units, labels and schemes, held against all of their tag sequences."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.conversions import count_conversion
from nertune.labels.schemes import Scheme
from nertune.labels.tagset import TagSet
from nertune.models.heads.decoding import Chain
from nertune.semisupervised.distillation.conversion import Conversion

TEACHERS = {
    "BIO": TagSet(("B-A", "I-A", "O", "B-B", "I-B"), "BIO"),
    "BIOES": TagSet(("O", "B-A", "I-A", "E-A", "S-A", "S-B"), "BIOES"),
    "BIOS": TagSet(("O", "B-A", "I-A", "S-A", "B-B", "I-B"), "BIOS"),
    "IOB1": TagSet(("O", "I-A", "B-A", "I-B"), "IOB1"),
    "IO": TagSet(("O", "A", "B"), "IO"),
    "special": TagSet(("[PAD]", "O", "B-A", "I-A"), "BIO", special=[0]),
}
RENAMED = {
    "same": {},
    "one": {"A": "X", "B": "X"},
    "dropped": {"B": ""},
    "swapped": {"A": "B", "B": "A"},
}


@st.composite
def units(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Up to four units in a text of ten characters, with or without room between them."""
    borders = sorted(draw(st.sets(st.integers(0, 10), max_size=8)))
    spans = []
    while len(borders) > 1 and len(spans) < 4:
        spans.append((borders[0], borders[1]))
        borders = borders[1:] if draw(st.booleans()) else borders[2:]
    return spans


def legal_sequences(chain: Chain, emission_TJ: np.ndarray) -> tuple[list[list[int]], list[float]]:
    """All that the chain allows, with their probabilities."""
    sequences, scores = [], []
    for ids in product(range(len(chain.tagset)), repeat=len(emission_TJ)):
        score = chain.start_K[ids[0]] + chain.end_K[ids[-1]]
        score += sum(emission_TJ[t, tag] for t, tag in enumerate(ids))
        score += sum(chain.transition_KK[a, b] for a, b in pairwise(ids))
        if np.isfinite(score):
            sequences.append(list(ids))
            scores.append(float(score))
    return sequences, torch.tensor(scores, dtype=torch.float64).softmax(0).tolist()


@pytest.mark.parametrize("rename", RENAMED)
@pytest.mark.parametrize("name", TEACHERS)
@given(
    theirs=units(), own=units(), seed=st.integers(0, 999), is_same=st.booleans(),
    temperature=st.sampled_from([1.0, 2.0]),
)  # fmt: skip
def test_conversion_equals_all_sequences(
    name: str,
    rename: str,
    theirs: list[tuple[int, int]],
    own: list[tuple[int, int]],
    seed: int,
    is_same: bool,
    temperature: float,
) -> None:
    teacher, renamed = TEACHERS[name], RENAMED[rename]
    own = theirs if is_same else own
    student = TagSet.from_labels({"A", "B", *filter(None, renamed.values())})
    generator = np.random.default_rng(seed)
    size = len(teacher)
    chain = Chain.of(
        teacher, generator.normal(size=size), generator.normal(size=(size, size)),
        generator.normal(size=size),
    )  # fmt: skip
    emission_TJ = generator.normal(scale=2, size=(len(theirs), size))
    [found] = Conversion(chain, student, renamed, temperature).convert(
        [emission_TJ], [theirs], [own]
    )
    if theirs:
        soft = Chain(
            teacher, chain.start_K / temperature, chain.transition_KK / temperature,
            chain.end_K / temperature,
        )  # fmt: skip
        sequences = legal_sequences(soft, emission_TJ / temperature)
    else:
        sequences = [[]], [1.0]
    expected = count_conversion(*sequences, teacher, student, (theirs, own), renamed)
    np.testing.assert_allclose(found.tags_UK, expected.tags_UK, atol=1e-9)
    np.testing.assert_allclose(found.pairs_UKK, expected.pairs_UKK, atol=1e-9)
    assert not found.pairs_UKK[:, ~student.legal_KK].any()


def test_a_label_that_the_student_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no label 'B'"):
        Conversion(Chain.of(TEACHERS["BIO"]), TagSet.from_labels(["A"]), {})


def test_an_entity_within_a_unit_begins_with_the_next() -> None:
    """Characters to words: what begins inside of a word has nothing to stand on there."""
    teacher: Scheme = "BIO"
    tagset = TagSet(("O", "B-A", "I-A"), teacher)
    sure = 50 * np.eye(3)[[0, 1, 2, 2]]
    theirs, own = [(0, 1), (1, 2), (2, 3), (3, 4)], [(0, 2), (2, 4)]
    [found] = Conversion(Chain.of(tagset), tagset, {}).convert([sure], [theirs], [own])
    np.testing.assert_allclose(found.tags_UK, np.eye(3)[[0, 1]], atol=1e-9)
