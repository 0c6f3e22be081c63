"""Soft targets on disk: what comes back, how little memory it takes, and what a kill leaves."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.soft import random_marginals
from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.errors import CheckpointError
from nertune.labels.tagset import TagSet
from nertune.models.heads.marginals import Marginals
from nertune.tokens.windows import Window
from nertune.training.stores.soft_store import SoftStore, SoftStoreWriter

TAGSET = TagSet.from_labels(["LOC", "PER"])


def windows_of(document: int, sizes: list[int]) -> list[Window]:
    """Windows that own so many units each, two tokens a unit, with a token of context before."""
    windows, first = [], 0
    for number, size in enumerate(sizes):
        positions = [1 + 2 * i for i in range(size)]
        windows.append(
            Window(
                document, [7 + number, *range(2 * size)], positions, 1 + 2 * size, first,
                is_first=number == 0, is_last=number == len(sizes) - 1,
            )
        )  # fmt: skip
        first += size
    return windows


@given(
    shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), max_size=5), with_pairs=st.booleans()
)
def test_what_was_added_comes_back(
    shapes: list[list[int]], with_pairs: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    writer = SoftStoreWriter(folder, TAGSET, with_pairs=with_pairs, key="a")
    added: list[tuple[Window, Marginals, float]] = []
    kept = 0
    for number, sizes in enumerate(shapes):
        marginals = random_marginals(TAGSET, sum(sizes), seed=number) if sizes else None
        windows = windows_of(kept, sizes)
        writer.add(windows, marginals, weight=1 + number)
        added += [(window, marginals, 1.0 + number) for window in windows if marginals is not None]
        kept += bool(sizes)
    store = writer.finish()
    assert list(store.windows) == [window for window, *_ in added]
    assert store.windows.lengths == [len(window.piece_ids) for window, *_ in added]
    assert store.windows.num_units == [window.num_units for window, *_ in added]
    assert store.windows.num_owned_pieces == [2 * window.num_units for window, *_ in added]
    assert store.texts.tolist() == [i for i, sizes in enumerate(shapes) if sizes]
    assert (store.num_documents, store.num_read) == (kept, len(shapes))
    for number, (window, marginals, weight) in enumerate(added):
        own = slice(window.first_unit, window.first_unit + window.num_units)
        tags_UK = store.tags(number)
        np.testing.assert_allclose(tags_UK, marginals.tags_UK[own], atol=1e-3)
        np.testing.assert_allclose(tags_UK.sum(axis=1), 1, atol=1e-6)
        assert store.weight(number) == weight
        if with_pairs:
            pairs_UKK = store.pairs(number)
            assert not pairs_UKK[0].any()
            np.testing.assert_allclose(pairs_UKK[1:], marginals.pairs_UKK[own][1:], atol=1e-3)
            assert not pairs_UKK[:, ~TAGSET.legal_KK].any()


def test_a_killed_writer_goes_on_behind_its_last_commit(tmp_path: Path) -> None:
    def add(writer: SoftStoreWriter, last: int) -> None:
        for number in range(writer.num_read, last):
            marginals = random_marginals(TAGSET, 5, seed=number)
            writer.add(windows_of(number, [2, 3]), marginals)
            if number % 2:
                writer.commit()

    whole = SoftStoreWriter(tmp_path / "whole", TAGSET, with_pairs=True, key="a")
    add(whole, 8)
    whole.finish()
    killed = SoftStoreWriter(tmp_path / "killed", TAGSET, with_pairs=True, key="a")
    add(killed, 5)
    killed.close()
    with pytest.raises(CheckpointError, match="no complete"):
        SoftStore(tmp_path / "killed", TAGSET)
    again = SoftStoreWriter(tmp_path / "killed", TAGSET, with_pairs=True, key="a")
    assert again.num_read == 4
    add(again, 8)
    again.finish()
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes(), path.name
    other = SoftStoreWriter(tmp_path / "killed", TAGSET, with_pairs=True, key="b")
    assert other.num_read == 0
    assert not SoftStore.is_complete(tmp_path / "killed", "a")


def test_other_tags_are_refused(tmp_path: Path) -> None:
    SoftStoreWriter(tmp_path, TAGSET, with_pairs=False, key="a").finish()
    assert SoftStore(tmp_path, TAGSET).num_units == 0
    with pytest.raises(CheckpointError, match="of the tags O, B-LOC"):
        SoftStore(tmp_path, TagSet.from_labels(["ORG"]))


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    marginals = random_marginals(TAGSET, 50, seed=0)
    writer = SoftStoreWriter(tmp_path, TAGSET, with_pairs=True, key="a")
    peaks = []
    for number_of_documents in (20, 400):
        tracemalloc.start()
        for number in range(number_of_documents):
            writer.add(windows_of(number, [50]), marginals)
        writer.commit()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    store = writer.finish()
    tracemalloc.start()
    for number in range(0, len(store.windows), 7):
        store.pairs(number)
    assert tracemalloc.get_traced_memory()[1] < 2**20 < store.num_bytes
    tracemalloc.stop()


def test_real_windows(tmp_path: Path) -> None:
    """Overlapping windows of a real segmenter own each unit once."""
    settings = make_settings(tmp_path, "full", {"model": {"max_pieces": 8, "stride": 2}})
    segmenter = make_predictor(settings).segmenter
    writer = SoftStoreWriter(tmp_path / "store", TAGSET, with_pairs=False, key="a")
    expected = []
    for number, document in enumerate(SENTENCES):
        encoding, windows = segmenter.segment(document, number)
        marginals = random_marginals(TAGSET, len(encoding.units), seed=number)
        writer.add(windows, marginals)
        expected.append(marginals.tags_UK)
    store = writer.finish()
    assert len(store.windows) > len(SENTENCES)
    found = np.concatenate([store.tags(i) for i in range(len(store.windows))])
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-3)
