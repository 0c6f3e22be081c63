"""Batches: each window once an epoch, within the budget, with little padding."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.labels.align import IGNORED, continuation_ids
from nertune.tokens.batching import collate
from nertune.tokens.grouping import epoch_batches, sorted_batches
from nertune.tokens.windows import Window

LENGTHS = st.lists(st.integers(1, 60), max_size=200)
BUDGET = st.integers(1, 300)


def check(batches: list[list[int]], lengths: list[int], budget: int) -> None:
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(lengths)))
    for batch in batches:
        assert batch
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= budget or len(batch) == 1


@settings(deadline=None, max_examples=200)
@given(LENGTHS, BUDGET, st.integers(0, 2**32 - 1), st.integers(0, 500))
def test_each_window_once_within_the_budget(
    lengths: list[int], budget: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, budget_tokens=budget, seed=seed, epoch=epoch)
    check(batches, lengths, budget)
    assert batches == epoch_batches(lengths, budget_tokens=budget, seed=seed, epoch=epoch)


@settings(deadline=None, max_examples=100)
@given(LENGTHS, BUDGET)
def test_prediction_batches_are_sorted(lengths: list[int], budget: int) -> None:
    batches = sorted_batches(lengths, budget_tokens=budget)
    check(batches, lengths, budget)
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(order)
    # None could have taken the first window of the next one.
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > budget


def realistic(num: int, seed: int = 0) -> list[int]:
    """Sentence lengths as news have them: a long tail, cut at the window."""
    drawn = np.random.default_rng(seed).lognormal(mean=3.6, sigma=0.6, size=num)
    return np.clip(drawn, 3, 128).astype(int).tolist()


def test_epochs_and_seeds_differ() -> None:
    lengths = realistic(400)

    def batches(seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(lengths, budget_tokens=512, seed=seed, epoch=epoch)

    first, second, other = batches(1, 0), batches(1, 1), batches(2, 0)
    for one in (second, other):
        assert one != first
        # Not only the order: other windows meet in a batch.
        together = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in one}
        assert len(together) < 0.2 * len(first)


@pytest.mark.parametrize("budget", [1024, 4096])
def test_padding_stays_small(budget: int) -> None:
    lengths = realistic(10_000)
    batches = epoch_batches(lengths, budget_tokens=budget, seed=3, epoch=0)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert 1 - sum(lengths) / padded < 0.10
    # And a batch is worth its step: on average at least 80 % of the budget is used.
    assert padded / len(batches) > 0.8 * budget


def test_short_and_long_batches_are_mixed() -> None:
    """Sorted lengths would train on short sentences first."""
    lengths = realistic(10_000)
    batches = epoch_batches(lengths, budget_tokens=1024, seed=3, epoch=0)
    longest = np.array([max(lengths[i] for i in batch) for batch in batches])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.15
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.15


def test_no_windows_no_batches() -> None:
    assert epoch_batches([], budget_tokens=10, seed=0, epoch=0) == []
    assert sorted_batches([], budget_tokens=10) == []


def window(pieces: list[int], positions: list[int], owned_end: int, **flags: bool) -> Window:
    return Window(
        document=0,
        piece_ids=pieces,
        positions=positions,
        owned_end=owned_end,
        first_unit=0,
        is_first=flags.get("first", True),
        is_last=flags.get("last", True),
    )


# [CLS] a a b c c [SEP], of which the units b and c are owned; and [CLS] d [SEP]
WINDOWS = [
    window([2, 10, 11, 12, 13, 14, 3], [3, 4], 6, first=False),
    window([2, 15, 3], [1], 2, last=False),
]


def test_collate_pads() -> None:
    batch = collate(WINDOWS, pad_id=9, tags=[[1, 2], [0]])
    assert batch.piece_ids_BL.tolist() == [[2, 10, 11, 12, 13, 14, 3], [2, 15, 3, 9, 9, 9, 9]]
    assert batch.attention_BL.tolist() == [[1] * 7, [1, 1, 1, 0, 0, 0, 0]]
    assert batch.positions_BU.tolist() == [[3, 4], [1, 0]]
    assert batch.mask_BU.tolist() == [[True, True], [True, False]]
    assert batch.first_B.tolist() == [False, True]
    assert batch.last_B.tolist() == [True, False]
    assert batch.tags_BU is not None
    assert batch.tags_BU.tolist() == [[1, 2], [0, IGNORED]]
    assert batch.piece_tags_BL is None
    assert batch.num_units == 3
    integers = (batch.piece_ids_BL, batch.attention_BL, batch.positions_BU, batch.tags_BU)
    assert {tensor.dtype for tensor in integers} == {torch.int64}
    assert {t.dtype for t in (batch.mask_BU, batch.first_B, batch.last_B)} == {torch.bool}


def test_collate_spreads_tags_over_all_owned_pieces() -> None:
    """Pieces of units that another window owns, special pieces and padding carry none."""
    tags = ["O", "B-X", "I-X"]
    batch = collate(WINDOWS, pad_id=9, tags=[[2, 1], [1]], continuation=continuation_ids(tags))
    assert batch.piece_tags_BL is not None
    assert batch.piece_tags_BL.tolist() == [
        [IGNORED, IGNORED, IGNORED, 2, 1, 2, IGNORED],
        [IGNORED, 1, *[IGNORED] * 5],
    ]


def test_collate_without_gold() -> None:
    batch = collate(WINDOWS, pad_id=0)
    assert batch.tags_BU is None
    assert batch.piece_tags_BL is None
    moved = batch.to(torch.device("cpu"))
    assert moved.tags_BU is None
    assert torch.equal(moved.piece_ids_BL, batch.piece_ids_BL)


def test_collate_refuses_tags_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="zip"):
        collate(WINDOWS, pad_id=0, tags=[[1, 2]], continuation=[0, 2, 2])
