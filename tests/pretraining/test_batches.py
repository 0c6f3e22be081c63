"""What the model gets: words masked, special tokens around each row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.pretraining import Run, run, token_ids
from helpers.raw_text import made_up_lines
from nertune.pretraining.batches import collate_rows
from nertune.pretraining.packing import Block


@pytest.mark.parametrize("masking", ["word", "span", "piece"])
def test_a_batch(masking: str, tmp_path: Path) -> None:
    """Masked words between special tokens, and what they were."""
    it = run(tmp_path / "run", masking=masking, words="jieba", mask_share=0.3)
    rows = 40
    block = it.text().block(0)
    assert block is not None
    part = Block(*(a[: rows * 30] for a in (block.ids, block.starts, block.tags))).shaped(rows, 30)
    found = collate_rows(
        part, token_ids(), it.settings, np.random.default_rng(0), torch.device("cpu")
    )
    ids_BL = found.ids_BL.numpy()
    assert ids_BL.shape == (rows, 32)
    assert (ids_BL[:, 0] == token_ids().prefix[0]).all()
    assert (ids_BL[:, -1] == token_ids().suffix[0]).all()
    masked = np.zeros(rows * 32, dtype=bool)
    masked[found.positions_N.numpy()] = True
    masked = masked.reshape(rows, 32)
    assert not masked[:, [0, -1]].any()
    inside = masked[:, 1:-1]
    assert abs(inside.mean() - 0.3) < 0.08
    assert np.array_equal(found.targets_N.numpy(), part.ids[inside])
    assert np.array_equal(ids_BL[:, 1:-1][~inside], part.ids[~inside])
    assert (ids_BL[:, 1:-1][inside] == token_ids().mask).mean() > 0.7
    assert found.tags_BL is not None
    assert (found.tags_BL[:, [0, -1]] == -100).all()
    assert np.array_equal(found.tags_BL[:, 1:-1].numpy(), part.tags)
    # A word that is masked in part: never with "word", often with the others.
    torn = (inside[:, 1:] != inside[:, :-1]) & ~part.starts[:, 1:]
    assert torn.any() == (masking != "word")
    alone = inside[:, 1:-1] & ~inside[:, :-2] & ~inside[:, 2:]
    assert (alone.sum() / inside.sum() > 0.35) == (masking == "piece")


def entity_rows(it: Run, num_rows: int = 200) -> Block:
    """Rows of `Halves`; every `odd` word is an entity."""
    block = it.text().block(0)
    assert block is not None
    assert len(block) >= num_rows * 30
    return Block(*(a[: num_rows * 30] for a in (block.ids, block.starts, block.tags))).shaped(
        num_rows, 30
    )


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_entities_are_masked_whole_and_with_a_chance_of_their_own(
    share: float, tmp_path: Path
) -> None:
    it = run(tmp_path / "run", words="jieba", mask_share=0.2, entity_mask_share=share)
    it.lines = made_up_lines(600)
    rows = entity_rows(it)
    rng = np.random.default_rng(0)
    masked_entities: list[bool] = []
    masked_words: list[bool] = []
    for _ in range(5):
        batch = collate_rows(rows, token_ids(), it.settings, rng, torch.device("cpu"))
        masked = np.zeros(rows.ids.shape[0] * 32, dtype=bool)
        masked[batch.positions_N.numpy()] = True
        inside = masked.reshape(-1, 32)[:, 1:-1]
        for row, tags, starts in zip(inside, rows.tags, rows.starts, strict=True):
            column = 0
            while column < 30:  # in the plainest way: an entity is a run of odd words
                end = column + 1
                is_entity = tags[column] // 2 == 1
                while end < 30 and (tags[end] // 2 == 1 if is_entity else not starts[end]):
                    end += 1
                assert len(set(row[column:end])) == 1
                (masked_entities if is_entity else masked_words).append(bool(row[column]))
                column = end
    for found, expected in ((masked_entities, share), (masked_words, 0.2)):
        deviation = (expected * (1 - expected) / len(found)) ** 0.5
        assert len(found) > 2000
        assert abs(np.mean(found) - expected) < 4 * deviation


def test_without_a_chance_of_their_own_entities_are_words_like_others(tmp_path: Path) -> None:
    it = run(tmp_path / "run", words="jieba", mask_share=0.2)
    it.lines = made_up_lines(600)
    rows = entity_rows(it)
    found = [
        collate_rows(rows, named, it.settings, np.random.default_rng(0), torch.device("cpu"))
        for named in (token_ids(), replace(token_ids(), entity_tags=()))
    ]
    assert torch.equal(found[0].positions_N, found[1].positions_N)
    masked = np.zeros(rows.ids.shape[0] * 32, dtype=bool)
    masked[found[0].positions_N.numpy()] = True
    inside = masked.reshape(-1, 32)[:, 1:-1]
    entities = rows.tags // 2 == 1
    both = entities[:, 1:] & entities[:, :-1] & rows.starts[:, 1:]
    assert (inside[:, 1:] != inside[:, :-1])[both].any()


def test_a_batch_without_tags(tmp_path: Path) -> None:
    it = run(tmp_path / "run")
    part = it.text().held_out()
    part = Block(part.ids[:30], part.starts[:30], part.tags[:30]).shaped(1, 30)
    rng = np.random.default_rng(0)
    assert collate_rows(part, token_ids(), it.settings, rng, torch.device("cpu")).tags_BL is None
