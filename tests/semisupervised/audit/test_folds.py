"""Folds: copies together, every label everywhere, the same for the same seed."""

from __future__ import annotations

import pytest

from nertune.errors import ConfigError, DataError
from nertune.semisupervised.audit.folds import make_folds
from nertune.types import Document, Entity

WORDS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳"


def documents(number: int) -> list[Document]:
    """Texts that are unlike each other, with two labels."""
    texts = [f"{WORDS[n % 30]}{n * 7919}{WORDS[n * 7 % 30]}{n * 104729}" for n in range(number)]
    return [Document(t, (Entity(0, 1, "AB"[n % 2]),), f"a:{n}") for n, t in enumerate(texts)]


def test_every_document_is_in_one_fold_and_labels_in_all() -> None:
    corpus = documents(40)
    folds = make_folds(corpus, 5, seed=3)
    assert sorted(i for fold in folds.members for i in fold) == list(range(40))
    assert {len(fold) for fold in folds.members} == {8}
    for number, fold in enumerate(folds.members):
        assert {corpus[i].entities[0].label for i in fold} == {"A", "B"}
        assert set(folds.others(number)) == set(range(40)) - set(fold)


def test_equal_and_nearly_equal_texts_are_in_one_fold() -> None:
    corpus = documents(30)
    long = "国家主席昨天下午在北京人民大会堂会见了来访的外国客人并同他们进行了亲切友好的谈话"
    copies = [Document(long), Document(long), Document(long + "。"), Document("据报道" + long)]
    for seed in range(5):
        folds = make_folds([*copies, *corpus], 5, seed=seed)
        assert len({n for n, fold in enumerate(folds.members) for i in fold if i < 4}) == 1


def test_the_seed_decides() -> None:
    corpus = documents(40)
    assert make_folds(corpus, 4, seed=1) == make_folds(corpus, 4, seed=1)
    assert make_folds(corpus, 4, seed=1) != make_folds(corpus, 4, seed=2)


def test_what_cannot_be_parted() -> None:
    with pytest.raises(ConfigError, match="--folds 1: expected at least 2"):
        make_folds(documents(10), 1)
    with pytest.raises(DataError, match="use fewer --folds"):
        make_folds(documents(3), 5)
    with pytest.raises(DataError, match="nearly equal"):
        make_folds([Document("一样的话一样的话")] * 10, 3)
