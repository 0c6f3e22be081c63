"""A vocabulary learned from text, and its tokenizer."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.commands import environment_of_children
from helpers.raw_text import made_up_lines, tiny_vocabulary
from nertune.errors import DataError
from nertune.pretraining.vocabulary import (
    SPECIAL,
    build_tokenizer,
    learn_vocabulary,
    read_tokenizer,
)
from nertune.tokens.tokenizer import EncoderTokenizer
from nertune.tokens.units import is_unspaced

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VISIBLE_ASCII = [chr(code) for code in range(33, 127)]


def invented_words() -> list[str]:
    """Many words of many letters, so that many pairs of them are as frequent as others."""
    draw = random.Random(3)
    words = ["".join(draw.choices(LETTERS, k=draw.randint(2, 7))) for _ in range(300)]
    return [" ".join(draw.choices(words, k=12)) for _ in range(200)]


def learn(texts: list[str], max_tokens: int = 400, **options: int) -> list[str]:
    values = {"min_count": 2, "word_tokens": 150, **options}
    return list(learn_vocabulary(texts, max_tokens=max_tokens, **values).tokens)


# Run as a process: the order of Python's sets and of Rust's hash maps differs from one to the next.
CHILD = """
import sys
from nertune.pretraining.vocabulary import learn_vocabulary
texts = sys.stdin.read().split("\\n")
found = learn_vocabulary(texts, max_tokens=400, min_count=2, word_tokens=150)
print("\\n".join(found.tokens))
"""


def test_every_process_learns_the_same() -> None:
    texts = invented_words() + list(made_up_lines())
    found = [
        subprocess.run(
            [sys.executable, "-c", CHILD],
            input="\n".join(texts),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            env=environment_of_children() | {"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert len([p for p in found[0][5:] if len(p.removeprefix("##")) > 1]) == 150
    assert found[0] == found[1]
    assert found[0] == learn(texts)


def test_the_order_of_the_lines_does_not_matter() -> None:
    texts = invented_words() + list(made_up_lines())
    assert learn(texts) == learn(texts[::-1])


def test_what_is_in_it() -> None:
    tokens = tiny_vocabulary().tokens
    assert tokens[:5] == SPECIAL == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert len(set(tokens)) == len(tokens) <= 300
    assert {c.lower() for c in VISIBLE_ASCII} <= set(tokens)
    assert {f"##{c}" for c in LETTERS + "0123456789"} <= set(tokens)
    text = "".join(made_up_lines())
    frequent = {c for c in text.lower() if not c.isspace() and text.lower().count(c) >= 10}
    assert frequent <= set(tokens)
    assert tiny_vocabulary().covered == 1
    longer = [p for p in tokens[5:] if len(p.removeprefix("##")) > 1]
    assert {"paris", "gpu", "linux"} & set(longer)


def test_frequent_characters_come_first() -> None:
    tokens = learn(["一" * 9 + "二" * 5 + "三" * 5 + "四" * 2 + "五"])
    assert [p for p in tokens if p in "一二三四五"] == ["一", "三", "二", "四"]


@pytest.mark.parametrize("max_tokens", [120, 150, 200, 1000])
@pytest.mark.parametrize("word_tokens", [0, 7, 500])
def test_limits(max_tokens: int, word_tokens: int) -> None:
    texts = [*invented_words(), "".join(map(chr, range(0x4E00, 0x4E00 + 300))) * 2]
    tokens = learn(texts, max_tokens, word_tokens=word_tokens)
    assert len(tokens) <= max_tokens
    assert len(set(tokens)) == len(tokens)
    assert len([p for p in tokens[5:] if len(p.removeprefix("##")) > 1]) <= word_tokens
    assert any(ord(p) >= 0x4E00 for p in tokens if len(p) == 1)  # words leave room for characters
    if max_tokens < 500 or word_tokens > 7:
        assert len(tokens) == max_tokens or word_tokens < max_tokens


def test_rare_characters_have_no_token() -> None:
    text = "一" * 20 + "二" * 3 + "é" * 3
    assert set("一二") <= set(learn([text], min_count=3))
    found = learn_vocabulary([text], max_tokens=400, min_count=4)
    assert "一" in found.tokens
    assert "二" not in found.tokens
    assert found.covered == pytest.approx(23 / 26)  # é is read as e, which is always there


@settings(deadline=None, max_examples=40)
@given(
    texts=st.lists(st.text("一二三abcé1２Ａ タイ가나ไทย!。", max_size=20), min_size=1, max_size=5),
    room=st.integers(1, 40),
    word_tokens=st.integers(0, 20),
)
def test_any_text(texts: list[str], room: int, word_tokens: int) -> None:
    max_tokens = 130 + room
    if not "".join(texts).split():
        with pytest.raises(DataError, match="the text is empty"):
            learn(texts, max_tokens, word_tokens=word_tokens)
        return
    found = learn_vocabulary(texts, max_tokens=max_tokens, min_count=1, word_tokens=word_tokens)
    assert len(set(found.tokens)) == len(found.tokens) <= max_tokens
    assert 0 <= found.covered <= 1
    backend = build_tokenizer(found, max_tokens=64)
    assert backend.convert_tokens_to_ids(list(found.tokens)) == list(range(len(found.tokens)))


def test_unspaced_scripts_have_single_characters_only() -> None:
    """A tagger cuts them character by character, so longer tokens would never be used."""
    tokens = learn(["タクシーのカメラ ไทย " * 20, "Москва " * 20])
    assert {len(p) for p in tokens if any(map(is_unspaced, p))} == {1}
    assert "москва" in tokens


@pytest.mark.parametrize("texts", [[], [""], ["  \u3000\t"]], ids=["none", "empty", "blank"])
def test_an_empty_text(texts: list[str]) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        learn(texts)


def test_no_room_for_characters() -> None:
    with pytest.raises(DataError, match=r"a vocabulary of 50 tokens has no room.* more than 109"):
        learn(["一二三" * 10], 50)
    with pytest.raises(DataError, match="has no room"):
        learn(["一二三" * 10], 109)
    assert "一" in learn(["一二三" * 10], 111)


def test_the_tokenizer_is_saved_and_loaded(tmp_path: Path) -> None:
    vocabulary = tiny_vocabulary()
    backend = build_tokenizer(vocabulary, max_tokens=48)
    backend.save_pretrained(tmp_path)
    before, after = EncoderTokenizer(backend, "tiny"), read_tokenizer(tmp_path)
    loaded = after.backend
    assert loaded.model_max_length == 48
    assert after.fingerprint() == before.fingerprint()
    assert after.vocabulary_size == len(vocabulary.tokens)
    assert (after.prefix_ids, after.suffix_ids, after.pad_id) == ([2], [3], 0)
    assert loaded.mask_token_id == 4
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    for character in [*"北京的。年", *VISIBLE_ASCII]:
        expected = [[ids[character.lower()]]]
        assert after.encode_units([character]) == before.encode_units([character]) == expected
    text = "".join(made_up_lines(30)) + "罕 Zürich"
    assert loaded.tokenize(text) == backend.tokenize(text)
    assert loaded.tokenize("罕") == ["[UNK]"]
    assert loaded.tokenize("ＧPU É") == backend.tokenize("ＧPU É")


def test_words_are_spelled_where_they_have_no_token() -> None:
    backend = build_tokenizer(tiny_vocabulary(), max_tokens=48)
    assert backend.tokenize("xqzj") == ["x", "##q", "##z", "##j"]
    assert backend.unk_token not in backend.tokenize("Qwertzuiop 1234567890 don't @#$")
