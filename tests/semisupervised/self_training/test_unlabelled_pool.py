"""Unlabelled texts: what is drawn, what is left out, and that memory stays flat."""

from __future__ import annotations

import gzip
import logging
import lzma
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.corpus import Corpus
from nertune.errors import DataError
from nertune.semisupervised.self_training.pool import draw_pool, read_unlabelled
from nertune.types import Document

CORPORA = {
    "train": Corpus.from_documents([Document("这是训练的句子")]),
    "dev": Corpus.from_documents(
        [Document("这是开发集里的一个足够长的句子,它有二十四个以上的字符。")]
    ),
    "test": Corpus.from_documents([Document("短的测试句")]),
}


def texts(number: int) -> list[Document]:
    return [Document(f"第{i}句没有标注的话") for i in range(number)]


def test_texts_of_train_dev_and_test_are_left_out() -> None:
    leaks = ["这是 训练的句子", "前面" + CORPORA["dev"].documents[0].text[:-1], "短的测试句"]

    pool = draw_pool([*map(Document, leaks), *texts(3)], CORPORA, most=10, seed=1)

    assert {d.text for d in pool.documents} == {d.text for d in texts(3)}
    assert pool.counts.to_dict() == {
        "read": 6, "known": 1, "leaked": 2, "repeated": 0, "drawn": 3,
    }  # fmt: skip
    assert "1 in the training data, 2 in dev or test" in pool.counts.describe()


def test_repeats_and_blank_texts_are_left_out() -> None:
    pool = draw_pool([*texts(5), Document("  "), *texts(5)], CORPORA, most=10, seed=1)

    assert len(pool.documents) == 5
    assert (pool.counts.read, pool.counts.repeated) == (10, 5)


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    def drawn(documents: list[Document], seed: int) -> list[str]:
        return [d.text for d in draw_pool(documents, CORPORA, most=20, seed=seed).documents]

    first = drawn(texts(200), 1)
    assert drawn(texts(200)[::-1], 1) == first
    assert len(set(first)) == 20
    assert set(drawn(texts(200), 2)) != set(first)
    # A smaller draw is the beginning of a larger one.
    assert [d.text for d in draw_pool(texts(200), CORPORA, most=5, seed=1).documents] == first[:5]


def test_every_text_has_the_same_chance() -> None:
    counts = [0] * 10
    for seed in range(400):
        for document in draw_pool(texts(10), CORPORA, most=3, seed=seed).documents:
            counts[int(document.text[1])] += 1
    assert sum(counts) == 1200
    assert all(85 < count < 160 for count in counts)


def test_memory_does_not_grow_with_what_is_read() -> None:
    def many(number: int) -> Iterator[Document]:
        return (Document(f"{i}" * 20) for i in range(number))

    def peak(number: int) -> int:
        tracemalloc.start()
        draw_pool(many(number), CORPORA, most=50, seed=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(5000) < 1.5 * peak(500)


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match=r"no text is left.*1 in the training data"):
        draw_pool([Document("这是训练的句子")], CORPORA, most=10, seed=1)


def test_files_of_any_kind_are_read_without_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, packed, xz = (tmp_path / f"texts.txt{s}" for s in ("", ".gz", ".xz"))
    plain.write_text("一句\n\n二句\n", encoding="utf-8")
    packed.write_bytes(gzip.compress("三句\n".encode()))
    xz.write_bytes(lzma.compress("四句\n".encode()))
    labelled = write_jsonl(tmp_path / "labelled.jsonl")

    with caplog.at_level(logging.INFO, logger="nertune"):
        found = list(read_unlabelled([plain, packed, xz, labelled], join="auto"))

    assert [d.text for d in found] == ["一句", "二句", "三句", "四句", *(d.text for d in SENTENCES)]
    assert not any(d.entities for d in found)
    assert [r.getMessage() for r in caplog.records if "is not read" in r.getMessage()] == [
        f"unlabelled: {labelled}: what it is labelled with is not read"
    ]


def test_the_texts_of_a_labelled_file_packed_with_xz(tmp_path: Path) -> None:
    """Its lines are no texts."""
    path = tmp_path / "labelled.jsonl.xz"
    path.write_bytes(lzma.compress(write_jsonl(tmp_path / "labelled.jsonl").read_bytes()))

    found = [document.text for document in read_unlabelled([path], join="auto")]
    assert found == [document.text for document in SENTENCES]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.txt"):
        list(read_unlabelled([tmp_path / "gone.txt"], join="auto"))
