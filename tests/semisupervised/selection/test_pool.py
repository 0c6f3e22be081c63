"""The texts that stay in memory, and those that repeat others."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.semisupervised.selection.pool import (
    Budget,
    Candidate,
    RankedTexts,
    draw,
    drop_similar,
    text_key,
)
from nertune.types import Document


def candidate(number: int, score: float, units: int = 1) -> Candidate:
    return Candidate(Document(f"text {number}"), text_key(f"text {number}"), units, score, 0.5)


def prefix(candidates: list[Candidate], reserve: Budget) -> list[Candidate]:
    """The highest ranked until the reserve is full, by sorting all."""
    order = sorted(candidates, key=lambda c: c.rank, reverse=True)
    totals = accumulate(c.num_units for c in order)
    full = [reserve.is_spent(total, n) for n, total in enumerate(totals, 1)]
    return order[: full.index(True) + 1] if True in full else order


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=40),
    st.sampled_from([Budget(7), Budget(20), Budget(0, 5), Budget(12, 4), Budget(500)]),
    st.randoms(use_true_random=False),
)
def test_what_stays_is_the_top_in_any_order(items, reserve: Budget, shuffler) -> None:
    candidates = [candidate(n, score, units) for n, (score, units) in enumerate(items)]
    texts = RankedTexts(reserve)
    shuffled = [*candidates]
    shuffler.shuffle(shuffled)
    for item in shuffled:
        texts.add(item)
    assert texts.ranked() == prefix(candidates, reserve)
    assert texts.num_evicted == len(candidates) - len(texts.ranked())


def test_memory_does_not_grow_with_the_pool() -> None:
    texts, most = RankedTexts(Budget(100)), 0
    shuffler = random.Random(1)
    for number in range(5_000):
        texts.add(candidate(number, shuffler.random(), units=10))
        most = max(most, len(texts.ranked()))
    assert most == 10
    assert len(texts._heap) == len(texts._held) == 10
    assert texts.num_evicted == 4_990


def test_a_budget_of_units_and_documents() -> None:
    both = Budget(units=10, documents=2)
    assert both.allows(10, 2)
    assert not both.allows(11, 1)
    assert not both.allows(1, 3)
    assert both.is_spent(3, 2)
    assert both.is_spent(10, 1)
    assert not both.is_spent(9, 1)
    assert both.times(3) == Budget(30, 6)
    assert Budget(documents=3).allows(10**9, 3)


def test_keys_and_lots() -> None:
    assert text_key("Ａ 北京\n") == text_key("a北京")
    assert text_key("北京") != text_key("北京。")
    lots = [draw(text_key(str(i)), 1) for i in range(2_000)]
    assert 0.45 < sum(lots) / len(lots) < 0.55
    assert min(lots) >= 0
    assert max(lots) < 1
    assert draw(text_key("a"), 1) == draw(text_key("a"), 1) != draw(text_key("a"), 2)
    assert draw(text_key("a"), -1) != draw(text_key("a"), 1)


def test_similar_texts_are_taken_once() -> None:
    long = "二零二六年十一月二十七日，北京市天气晴朗，气温零下二度"
    texts = [long, "别的内容没有一点相似", long + "。", "已经标注过的一个相当长的句子！"]
    ranked = [
        Candidate(Document(text), text_key(text), len(text), -float(i), 0.0)
        for i, text in enumerate(texts)
    ]
    kept, dropped = drop_similar(ranked, ["已经标注过的一个相当长的句子", "  "], 0.8)
    assert [c.document.text for c in kept] == texts[:2]
    assert dropped == 2
    assert drop_similar(ranked, [], 1.0) == (ranked, 0)
    with pytest.raises(Exception, match="expected a similarity"):
        drop_similar(ranked, [], 0.2)
