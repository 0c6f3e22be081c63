"""Small tokenizers of every kind, built here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXT = ["the cat sat on the mat in Paris", "在1998年的北京", "a cat, the cat"] * 20
MARKS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
AROUND = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
)


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=MARKS, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = AROUND
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = AROUND
    return tokenizer


def split_byte_level() -> Tokenizer:
    """As Qwen's and Llama's: a split by pattern first, so `add_prefix_space` has no effect."""
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s?\w+|\s+|[^\s\w]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=MARKS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = AROUND
    return tokenizer


KINDS: dict[str, tuple[Callable[[], Tokenizer], str, str]] = {
    # name: (how it is built, tokenizer_class, model_type)
    "word-piece": (word_piece, "PreTrainedTokenizerFast", "bert"),
    "byte-level-roberta": (byte_level, "RobertaTokenizer", "roberta"),
    "byte-level-gpt2": (byte_level, "GPT2Tokenizer", "gpt2"),
    "byte-level-plain": (byte_level, "PreTrainedTokenizerFast", "modernbert"),
    "byte-level-split": (split_byte_level, "PreTrainedTokenizerFast", "modernbert"),
    "unigram": (unigram, "PreTrainedTokenizerFast", "xlm-roberta"),
}


@cache
def trained(build: Callable[[], Tokenizer]) -> str:
    """Once, for training breaks ties at random."""
    return str(build().to_str())


def write_tokenizer(folder: Path, kind: str, change: Callable[[Tokenizer], Any] | None) -> Path:
    build, tokenizer_class, model_type = KINDS[kind]
    tokenizer = Tokenizer.from_str(trained(build))
    if change:
        change(tokenizer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": tokenizer_class,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> Callable[..., Path]:
    """`make_tokenizer(kind, change=None)` gives the folder of a tokenizer of that kind."""

    def make(kind: str, change: Callable[[Tokenizer], Any] | None = None) -> Path:
        return write_tokenizer(tmp_path / kind, kind, change)

    return make


@pytest.fixture(params=sorted(KINDS))
def any_tokenizer(request: pytest.FixtureRequest, make_tokenizer: Callable[..., Path]) -> Path:
    """The folder of a tokenizer, once for each kind."""
    return make_tokenizer(request.param)
