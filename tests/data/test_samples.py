"""The bundled sample corpus holds what its data card says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from nertune.data import samples
from nertune.data.corpus import Corpus, load_corpus
from nertune.data.duplicates import find_duplicates, find_leakage
from nertune.data.samples import SAMPLE_SPLITS, resolve_data
from nertune.errors import DataError

LABELS = ("LOCATION", "ORGANIZATION", "PERSON", "TIME")


@pytest.fixture(scope="module")
def corpora() -> dict[str, Corpus]:
    return {split: load_corpus(resolve_data(f"sample:{split}")) for split in SAMPLE_SPLITS}


def test_there_are_at_least_500_sentences_without_notice(corpora: dict[str, Corpus]) -> None:
    assert sum(len(corpus.documents) for corpus in corpora.values()) >= 500
    assert not [notice for corpus in corpora.values() for notice in corpus.notices]


def test_no_text_stands_twice(corpora: dict[str, Corpus]) -> None:
    for corpus in corpora.values():
        assert find_duplicates(corpus.documents).documents == 0
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        leak = find_leakage(
            corpora[a].documents, corpora[b].documents, source_name=a, target_name=b
        )
        assert leak.documents == 0


def test_entities_are_flat_and_begin_and_end_with_letters_or_digits(
    corpora: dict[str, Corpus],
) -> None:
    for corpus in corpora.values():
        assert corpus.labels == LABELS
        for document in corpus.documents:
            previous_end = 0
            for entity in document.entities:
                assert entity.start >= previous_end, document
                previous_end = entity.end
                surface = document.surface(entity)
                assert surface == surface.strip()
                assert surface[0].isalnum(), surface
                assert surface[-1].isalnum() or surface[-1] in "）)”", surface


def test_labels_are_balanced_alike_in_all_splits(corpora: dict[str, Corpus]) -> None:
    for corpus in corpora.values():
        counts = Counter(e.label for document in corpus.documents for e in document.entities)
        for label in LABELS:
            assert 0.10 <= counts[label] / corpus.num_entities <= 0.50, (corpus.path, counts)
        without = sum(not document.entities for document in corpus.documents)
        assert 0.10 <= without / len(corpus.documents) <= 0.25


def test_the_hard_cases_are_there(corpora: dict[str, Corpus]) -> None:
    documents = [d for corpus in corpora.values() for d in corpus.documents]
    surfaces = [(d.surface(e), e.label) for d in documents for e in d.entities]
    assert sum(len(s) == 1 and label == "LOCATION" for s, label in surfaces) >= 80
    assert sum("·" in s for s, label in surfaces if label == "PERSON") >= 40
    assert sum(bool(re.search("[A-Za-zＡ-Ｚ]", s)) for s, _ in surfaces) >= 40
    assert sum(bool(re.search("[0-9０-９]", s)) for s, _ in surfaces) >= 80
    assert sum(len(s) >= 9 for s, label in surfaces if label == "ORGANIZATION") >= 80
    assert sum(bool(d.entities) and d.entities[0].start == 0 for d in documents) >= 75
    assert sum(bool(d.entities) and d.entities[-1].end >= len(d.text) - 1 for d in documents) >= 75
    ambiguous = {s for s, _ in surfaces if len({label for t, label in surfaces if t == s}) > 1}
    assert len(ambiguous) >= 5


def test_the_data_card_states_the_counts(corpora: dict[str, Corpus]) -> None:
    card = (Path(samples.__file__).parent / "README.md").read_text(encoding="utf-8")
    for split, corpus in corpora.items():
        counts = Counter(e.label for document in corpus.documents for e in document.entities)
        row = [
            len(corpus.documents),
            sum(len(document.text) for document in corpus.documents),
            *(counts[label] for label in ("PERSON", "LOCATION", "ORGANIZATION", "TIME")),
            sum(not document.entities for document in corpus.documents),
        ]
        assert f"| {split} | " + " | ".join(f"{n:,}" for n in row) + " |" in card


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="train, dev, test"):
        resolve_data("sample:valid")
