"""Sentences of one document depend on each other: whole documents are drawn and swapped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nertune.evaluation.metrics import document_counts, score
from nertune.evaluation.resampling import caveats, source_documents, sum_by_source
from nertune.evaluation.significance import compare_counts, hierarchical_interval
from nertune.types import Document, Entity

TEXT = "x" * 20


def corpus(
    rng: np.random.Generator, *, num_documents: int = 20, sentences: int = 12, spread: float = 1.5
) -> tuple[list[Document], list[Document]]:
    """Gold and predictions of sentences that are all easy or all hard within a document."""
    gold, predicted = [], []
    for number in range(num_documents):
        chance = 1 / (1 + np.exp(-0.5 - rng.normal(0, spread)))
        for _ in range(sentences):
            entities = [Entity(at, at + 2, "PER") for at in (0, 4, 8)]
            found = [entity for entity in entities if rng.random() < chance]
            gold.append(Document(TEXT, tuple(entities), meta={"document": number}))
            predicted.append(Document(TEXT, tuple(found)))
    return gold, predicted


def without_borders(documents: list[Document]) -> list[Document]:
    return [replace(document, meta={}) for document in documents]


def test_correlated_sentences_give_a_wider_interval() -> None:
    gold, predicted = corpus(np.random.default_rng(1))
    known, unknown = score(gold, predicted), score(without_borders(gold), predicted)
    assert known.micro == unknown.micro
    assert (known.num_documents, known.num_sources) == (240, 20)
    assert (unknown.num_documents, unknown.num_sources) == (240, None)
    assert known.micro_f1_ci95 is not None
    assert unknown.micro_f1_ci95 is not None
    widths = [high - low for low, high in (known.micro_f1_ci95, unknown.micro_f1_ci95)]
    assert widths[0] > 1.8 * widths[1]
    assert known.to_dict()["source_documents"] == 20


def test_the_interval_covers_only_if_documents_are_drawn() -> None:
    """Of 95 % intervals nearly 95 % hold what more documents of the same kind would give."""
    rng = np.random.default_rng(2)
    everything = score(*corpus(rng, num_documents=3000, sentences=4), num_resamples=0).micro.f1
    assert everything is not None
    covered = {True: 0, False: 0}
    for _ in range(60):
        gold, predicted = corpus(rng, num_documents=30, sentences=10)
        for known in covered:
            scores = score(gold if known else without_borders(gold), predicted, num_resamples=200)
            assert scores.micro_f1_ci95 is not None
            low, high = scores.micro_f1_ci95
            covered[known] += low <= everything <= high
    assert covered[True] >= 52
    assert covered[False] <= 45


def test_independent_documents_give_what_they_gave_before() -> None:
    gold, predicted = corpus(np.random.default_rng(3), sentences=1, num_documents=60)
    assert score(gold, predicted) == score(without_borders(gold), predicted)
    assert source_documents(gold) is None
    counts = document_counts(gold, predicted)
    assert counts.tolist() == document_counts(without_borders(gold), predicted).tolist()


def test_the_test_of_two_models_swaps_whole_documents() -> None:
    """With sentences swapped one by one, documents that one model happens to like look like proof.

    Both models are alike; in a document one of them is ahead in every sentence, by chance.
    """
    rng = np.random.default_rng(4)
    apart = {"documents": 0, "sentences": 0}
    for number in range(60):
        lead = np.repeat(rng.normal(0, 1.2, 20), 10)
        gold = np.full(200, 3)
        models = []
        for sign in (1, -1):
            correct = rng.binomial(gold, 1 / (1 + np.exp(-0.8 - sign * lead / 2)))
            models.append(np.stack([gold, gold, correct], axis=1)[None])
        sources = np.repeat(np.arange(20), 10)
        for name, (one, other) in {
            "sentences": tuple(models),
            "documents": tuple(sum_by_source(m[0], sources)[None] for m in models),
        }.items():
            found = compare_counts(one, other, num_permutations=199, num_resamples=200, seed=number)
            apart[name] += found.verdict == "models differ"
    assert apart["documents"] <= 5
    assert apart["sentences"] >= 15
    assert hierarchical_interval(one, other)[0] > -1.0


@pytest.mark.parametrize("key", ["document", "document_id", "doc_id"])
def test_borders_are_read_from_what_the_source_said(key: str) -> None:
    def numbers(*values: object) -> list[int] | None:
        found = source_documents([Document("a", meta={} if v is ... else {key: v}) for v in values])
        return None if found is None else found.tolist()

    assert numbers("x", "x", "y", "x") == [0, 0, 1, 0]
    assert numbers(7, 7, "7") == [0, 0, 1]
    assert numbers(["a", 1], ["a", 1], {"b": 2}) == [0, 0, 1]
    assert numbers("x", "y", "z") is None  # each its own
    assert numbers("x", "x", "x") is None  # no border
    assert numbers("x", "x", ...) is None  # of one it is not known
    assert numbers("x", "x", None) is None
    assert numbers() is None


def test_counts_are_added_up_by_document() -> None:
    counts: NDArray[np.int64] = np.array([[1, 1, 1], [2, 0, 0], [3, 3, 2]])
    assert sum_by_source(counts, np.array([0, 1, 0])).tolist() == [[4, 4, 3], [2, 0, 0]]
    assert sum_by_source(counts, None) is counts


def test_what_little_data_cannot_say() -> None:
    assert caveats(10, 50) == []
    (few,) = caveats(9, 50)
    assert few.startswith("9 documents: with fewer than 10 to resample the interval is unreliable")
    (rough,) = caveats(10, 49)
    assert rough.startswith("49 gold entities: with fewer than 50")
    assert [text.split(":")[0] for text in caveats(1, 1)] == [
        "1 document", "1 gold entity"
    ]  # fmt: skip
