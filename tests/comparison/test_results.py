"""Figures over seeds, and what runs found on dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.bench import documents
from nertune.comparison.results import Estimate, count_dev
from nertune.data.corpus import load_corpus, save_documents
from nertune.evaluation.metrics import document_counts


def test_estimate_of_few_values() -> None:
    assert Estimate.of([2.0]) == Estimate(2.0, None, (2.0,))
    assert Estimate.of([1.0, 3.0]).deviation == pytest.approx(2**0.5)
    assert Estimate.of([None, None]) == Estimate(None, None, (None, None))


def test_what_runs_found_on_dev_is_counted_by_seed(tmp_path: Path) -> None:
    gold = documents(1, 5)
    save_documents(tmp_path / "dev.jsonl", gold)
    found = [gold, [document.with_entities(()) for document in gold]]
    folders = [tmp_path / "seed-1", tmp_path / "seed-2"]
    for folder, predicted in zip(folders, found, strict=True):
        folder.mkdir()
        save_documents(folder / "dev.predictions.jsonl", predicted, format="predictions")
    counts = count_dev(load_corpus(tmp_path / "dev.jsonl"), folders)
    assert counts.shape == (2, 5, 3)
    for row, predicted in zip(counts, found, strict=True):
        assert row.tolist() == document_counts(gold, predicted).tolist()
