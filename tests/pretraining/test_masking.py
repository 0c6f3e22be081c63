"""What is masked: whole words, as many as asked for, the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.pretraining.masking import (
    Bools,
    choose_masked,
    corrupt,
    join_entities,
    split_at_random,
)

MASK, NUM_IDS = 4, 1000


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def words_of(starts_BL: Bools) -> list[list[tuple[int, int]]]:
    """The tokens of each word, said in the plainest way: row by row."""
    words: list[list[tuple[int, int]]] = []
    for row, starts in enumerate(starts_BL):
        for column, begins in enumerate(starts):
            if begins or not column:
                words.append([])
            words[-1].append((row, column))
    return words


@settings(deadline=None, max_examples=150)
@given(
    rows=st.integers(1, 5),
    length=st.integers(1, 12),
    density=st.floats(0, 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_words_are_masked_whole(
    rows: int, length: int, density: float, share: float, seed: int
) -> None:
    """A word that a row begins in the middle of ends with the row before."""
    starts = generator(seed + 1).random((rows, length)) < density
    before = starts.copy()
    masked = choose_masked(starts, share=share, rng=generator(seed))
    assert np.array_equal(starts, before)
    assert masked.shape == starts.shape
    assert masked.dtype == np.bool_
    assert masked.any()
    for word in words_of(starts):
        assert len({bool(masked[place]) for place in word}) == 1


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_the_share_of_words(share: float) -> None:
    starts = generator(1).random((400, 100)) < 0.6
    masked = choose_masked(starts, share=share, rng=generator(2))
    words = words_of(starts)
    found = sum(bool(masked[word[0]]) for word in words) / len(words)
    deviation = (share * (1 - share) / len(words)) ** 0.5
    assert abs(found - share) < 4 * deviation
    assert abs(masked.mean() - share) < 0.02  # long words are as likely as short ones


def test_neighbours_are_masked_independently() -> None:
    """Not the same columns in each row, nor the same rows of each batch."""
    starts = np.ones((500, 20), dtype=bool)
    masked = choose_masked(starts, share=0.3, rng=generator())
    both = masked[:, :-1] & masked[:, 1:]
    assert abs(both.mean() - 0.09) < 0.02
    assert abs(masked.mean(axis=0) - 0.3).max() < 0.1
    assert masked.mean(axis=1).std() > 0.05


def test_one_word_at_least() -> None:
    for seed in range(20):
        masked = choose_masked(np.ones((1, 3), dtype=bool), share=1e-9, rng=generator(seed))
        assert masked.sum() == 1
        starts = np.zeros((1, 4), dtype=bool)
        assert choose_masked(starts, share=1e-9, rng=generator(seed)).all()  # one word


@pytest.mark.parametrize("rare", [0.05, 0.5, 0.8])
def test_words_with_chances_of_their_own(rare: float) -> None:
    """What a word's first token says counts, whatever stands at its others."""
    rng = generator(1)
    starts = rng.random((400, 100)) < 0.6
    starts[:, 0] = True
    special = rng.random(starts.shape) < 0.3  # at a start: another chance; elsewhere: no matter
    masked = choose_masked(starts, share=np.where(special, rare, 0.2), rng=generator(2))
    for chosen, share in ((starts & special, rare), (starts & ~special, 0.2)):
        deviation = (share * (1 - share) / chosen.sum()) ** 0.5
        assert abs(masked[chosen].mean() - share) < 4 * deviation
    for word in words_of(starts):
        assert len({bool(masked[place]) for place in word}) == 1


def test_one_chance_for_all_is_the_same_either_way() -> None:
    starts = generator(5).random((20, 30)) < 0.5
    one, other = (
        choose_masked(starts, share=share, rng=generator(6))
        for share in (0.2, np.full((20, 30), 0.2))
    )
    assert np.array_equal(one, other)
    tiny = np.full((1, 3), 1e-9)
    assert choose_masked(np.ones((1, 3), dtype=bool), share=tiny, rng=generator()).sum() == 1


def test_neighbouring_words_of_an_entity_are_one() -> None:
    """Tags 1 and 2 name entities. The rows do not run into each other."""
    starts = [[1, 1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1, 1]]
    kinds = [[0, 1, 1, 1, 2, 2, 2, 0], [2, 2, 0, 0, 0, 1, 2, 1]]
    joined = [[1, 1, 0, 0, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1, 1, 1]]
    starts_BL, kinds_BL = np.array(starts, dtype=bool), np.array(kinds, dtype=np.uint8)
    before = starts_BL.copy()
    found = join_entities(starts_BL, kinds_BL, np.isin(kinds_BL, (1, 2)))
    assert np.array_equal(found, np.array(joined, dtype=bool))
    assert np.array_equal(starts_BL, before)
    none = join_entities(starts_BL, kinds_BL, np.zeros_like(starts_BL))
    assert np.array_equal(none, starts_BL)


def test_the_same_generator_the_same_tokens() -> None:
    starts = generator(5).random((20, 30)) < 0.5
    ids = generator(6).integers(5, NUM_IDS, (20, 30))

    def draw(seed: int) -> tuple[Bools, np.ndarray]:
        rng = generator(seed)
        masked = choose_masked(starts, share=0.2, rng=rng)
        return masked, corrupt(ids, masked, mask_id=MASK, num_ids=NUM_IDS, rng=rng)

    one, same, other = draw(1), draw(1), draw(2)
    for a, b, c in zip(one, same, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_80_10_10() -> None:
    ids = generator(7).integers(5, NUM_IDS, (500, 100))
    before = ids.copy()
    masked = generator(8).random(ids.shape) < 0.3
    found = corrupt(ids, masked, mask_id=MASK, num_ids=NUM_IDS, rng=generator(9))
    assert np.array_equal(ids, before)
    assert np.array_equal(found[~masked], ids[~masked])
    replaced = (found == MASK) & masked
    same = (found == ids) & masked
    swapped = masked & ~replaced & ~same
    total = masked.sum()
    assert abs(replaced.sum() / total - 0.8) < 0.01
    assert abs(same.sum() / total - 0.1) < 0.01
    assert abs(swapped.sum() / total - 0.1) < 0.01
    assert 0 <= found[swapped].min() < 50
    assert 950 < found[swapped].max() < NUM_IDS


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_only_masked_tokens_change(share: float, seed: int) -> None:
    ids = generator(seed).integers(5, 50, (3, 9))
    masked = generator(seed + 1).random((3, 9)) < share
    found = corrupt(ids, masked, mask_id=MASK, num_ids=50, rng=generator(seed))
    assert np.array_equal(found[~masked], ids[~masked])
    assert found.shape == ids.shape
    assert found.min() >= 0
    assert found.max() < 50


def test_span_lengths() -> None:
    """Geometric with a mean of 2.5 tokens, but for those that a row cuts."""
    starts = split_at_random((200, 500), generator())
    assert starts.shape == (200, 500)
    assert abs(starts.mean() - 0.4) < 0.01
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in starts])
    assert abs(gaps.mean() - 2.5) < 0.05
    for length, share in ((1, 0.4), (2, 0.24), (3, 0.144)):
        assert abs((gaps == length).mean() - share) < 0.01
