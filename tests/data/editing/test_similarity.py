"""Nearly equal texts: found as comparing every pair finds them."""

from __future__ import annotations

import random
import string
import time

import pytest

from nertune.data.editing.similarity import SimilarTexts, normalize
from nertune.errors import ConfigError


def shingles(text: str) -> set[str]:
    padded = text.ljust(3, "\0")
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def jaccard(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def variants(number: int, seed: int) -> list[str]:
    """Texts of which many are changed copies of others."""
    chance = random.Random(seed)
    letters = string.ascii_lowercase + "王明北京大学来到上海"
    texts: list[str] = []
    for i in range(number):
        if i % 3 and texts:
            characters = list(chance.choice(texts))
            for _ in range(chance.randint(1, 3)):
                characters[chance.randrange(len(characters))] = chance.choice(letters)
            texts.append("".join(characters))
        else:
            texts.append("".join(chance.choices(letters, k=chance.randint(1, 120))))
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_pairs_are_those_of_every_comparison(threshold: float) -> None:
    texts = variants(300, seed=int(100 * threshold))
    index = SimilarTexts(texts, threshold)
    found = set()
    for j in range(len(texts)):
        found |= {(i, j) for i in index.find(j)}
        index.add(j)
    expected = {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if jaccard(texts[i], texts[j]) >= threshold
    }
    assert len(expected) > 15
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)


def test_only_what_was_added_is_found_and_what_is_skipped_is_not() -> None:
    texts = ["今天北京的天气非常好，我们去公园吧", "今天北京的天气非常好，我们去公园啊", "另一句"]
    index = SimilarTexts(texts, 0.7)
    assert list(index.find(1)) == []
    index.add(0)
    assert list(index.find(1)) == [0]
    assert list(index.find(2)) == []
    assert list(index.find(1, lambda other: other == 0)) == []


def test_texts_without_three_characters_and_without_any() -> None:
    index = SimilarTexts(["a", "ab", "", "\ud83d"], 0.8)
    for number in range(4):
        assert list(index.find(number)) == []
        index.add(number)
    assert index.similarity(0, 0) == 1
    assert SimilarTexts([], 0.8) is not None


def test_many_copies_cost_no_more_than_their_number() -> None:
    texts = [f"二〇二〇年第{i:05d}号公告：董事会决议如下，请投资者注意风险。" for i in range(4000)]
    started = time.process_time()
    index = SimilarTexts(texts, 0.7)
    for number in range(len(texts)):
        assert number == 0 or next(index.find(number), None) is not None
        index.add(number)
    assert time.process_time() - started < 30  # every pair would take many minutes


def test_what_is_not_seen_is_not_compared() -> None:
    assert normalize(" ＡＢ\tc\u200b\u00ad\ufeff1\n") == "abc1"
    assert normalize("王 明") == normalize("王明")
    assert normalize("王明。") != normalize("王明")


@pytest.mark.parametrize("threshold", [0.0, 0.49, 1.01, -1, float("nan")])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a similarity from 0\.5 to 1"):
        SimilarTexts(["a"], threshold)
