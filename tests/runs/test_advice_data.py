"""The data that an advice is asked about."""

from __future__ import annotations

from pathlib import Path

from nertune.config import parse_settings
from nertune.data.corpus import load_corpus
from nertune.runs.advice_data import load_data


def test_a_fifth_of_the_sample_can_be_set_aside(tmp_path: Path) -> None:
    """Whose splits were made by a hash of their texts."""
    settings = parse_settings({"data": {"train": "sample:train"}})
    data = load_data(settings.data, tmp_path)
    num_train, num_dev = len(data.train.documents), len(data.dev.documents)
    assert num_train + num_dev == 405
    assert 0.1 < num_dev / 405 < 0.3
    assert list(tmp_path.iterdir()) == []
    data.save()
    for corpus in (data.train, data.dev):
        assert load_corpus(corpus.path).sha256 == corpus.sha256
