"""Masked tokens: which, how many, and the same ones after a resumption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.tiny import SENTENCES, make_settings, tiny_bert
from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.errors import TokenizerError
from nertune.experiments.train import train
from nertune.tokens.tokenizer import CharTokenizer, Tokenizer, load_tokenizer
from nertune.tokens.windows import Segmenter
from nertune.training.noise import PSEUDO, TokenNoise
from nertune.training.observer import Observer
from nertune.types import Document

MIXED = tuple(replace(d, meta={PSEUDO: i % 2 == 1}) for i, d in enumerate(SENTENCES * 2))


def tokenizers() -> list[Tokenizer]:
    return [load_tokenizer(str(tiny_bert())), CharTokenizer.from_documents(SENTENCES)]


@pytest.mark.parametrize("tokenizer", tokenizers(), ids=["encoder", "characters"])
def test_a_share_of_tokens_is_masked_and_special_ones_never(tokenizer: Tokenizer) -> None:
    [window] = Segmenter(tokenizer, "char", 10_000, 0).segment(Document("今天没有新闻" * 500), 0)[1]
    noise = TokenNoise(tokenizer, share=0.3, seed=1, noisy=[True])

    masked = noise.apply(window, 0, epoch=1)

    changed = [a != b for a, b in zip(masked.piece_ids, window.piece_ids, strict=True)]
    assert 0.27 < np.mean(changed) < 0.33
    new = {id for id, is_new in zip(masked.piece_ids, changed, strict=True) if is_new}
    assert new == {tokenizer.mask_id}
    before, behind = len(tokenizer.prefix_ids), len(tokenizer.suffix_ids)
    assert masked.piece_ids[:before] == tokenizer.prefix_ids
    assert masked.piece_ids[len(masked.piece_ids) - behind :] == tokenizer.suffix_ids
    assert replace(masked, piece_ids=window.piece_ids) == window


def test_what_is_masked_depends_on_seed_epoch_and_window_alone() -> None:
    tokenizer = tokenizers()[0]
    [window] = Segmenter(tokenizer, "char", 64, 0).segment(Document("今天没有新闻" * 10), 0)[1]

    def masked(seed: int, index: int, epoch: int) -> list[int]:
        noise = TokenNoise(tokenizer, share=0.3, seed=seed, noisy=[True, True])
        return noise.apply(window, index, epoch).piece_ids

    np.random.seed(1)
    first = masked(1, 0, 1)
    np.random.seed(2)
    assert masked(1, 0, 1) == first
    others = [masked(2, 0, 1), masked(1, 1, 1), masked(1, 0, 2)]
    assert all(other != first for other in others)


def test_windows_that_are_not_noisy_stay() -> None:
    tokenizer = tokenizers()[0]
    [window] = Segmenter(tokenizer, "char", 64, 0).segment(Document("今天没有新闻"), 0)[1]
    noise = TokenNoise(tokenizer, share=0.9, seed=1, noisy=[False, True])

    assert noise.apply(window, 0, epoch=1) is window
    assert noise.apply(window, 1, epoch=1) != window


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    class Without(CharTokenizer):
        mask_id = None

    with pytest.raises(TokenizerError, match=r"train\.noise = 0"):
        TokenNoise(Without("ab"), share=0.1, seed=1, noisy=[True])


class _Kill(Observer):
    """Kills a run behind its first epoch, as Ctrl-C does."""

    def on_epoch(self, report: Any, *, is_best: bool) -> None:
        raise KeyboardInterrupt


def _settings(folder: Path, name: str, variant: str, **values: Any) -> Settings:
    changes = {"run": {"dir": str(folder / name)}, "train": {"patience": 0} | values}
    return make_settings(folder, variant, changes)


def _weights(settings: Settings) -> dict[str, Any]:
    [path] = (settings.run.dir / "model").glob("model.safetensors")
    return dict(load_file(path))


@pytest.mark.parametrize("variant", ["full", "lstm", "frozen"])
def test_noise_changes_what_is_learned_and_a_resumed_run_learns_the_same(
    tmp_path: Path, variant: str
) -> None:
    corpora = {"train": Corpus.from_documents(MIXED)}
    noisy = _settings(tmp_path, "noisy", variant, noise=0.4, checkpoint_steps=1)
    killed = _settings(tmp_path, "killed", variant, noise=0.4, checkpoint_steps=1)
    plain = _settings(tmp_path, "plain", variant)
    for settings in (noisy, plain):
        train(settings, corpora=corpora)
    with pytest.raises(KeyboardInterrupt):
        train(killed, corpora=corpora, observers=[_Kill()])
    assert not (killed.run.dir / "record.json").exists()

    train(killed, corpora=corpora, resume=True)

    expected, found, other = map(_weights, (noisy, killed, plain))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert any(not np.array_equal(expected[name], other[name]) for name in expected)
    record = json.loads((noisy.run.dir / "record.json").read_text(encoding="utf-8"))
    assert record["frozen_layers"]["run_once"] is False


def test_without_pseudo_labelled_documents_nothing_is_masked(tmp_path: Path) -> None:
    corpora = {"train": Corpus.from_documents(SENTENCES)}
    noisy = _settings(tmp_path, "noisy", "full", noise=0.9)
    plain = _settings(tmp_path, "plain", "full")
    for settings in (noisy, plain):
        train(settings, corpora=corpora)

    expected, found = _weights(plain), _weights(noisy)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
