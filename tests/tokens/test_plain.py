"""A tokenizer read from its files alone is the one that transformers reads, or is not taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune.errors import TokenizerError
from nertune.tokens.plain import is_plain, load_plain_tokenizer
from nertune.tokens.tokenizer import EncoderTokenizer, load_tokenizer

UNITS = ["cat", "the", "在", "1998", "</s>", "<mask>", " ", "\u3000", "É", "ё", "\ud83d", "[SEP]"]


def saved(source: str | Path, folder: Path) -> Path:
    """As in a tagger's folder."""
    folder.mkdir()
    load_tokenizer(source).save(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def assert_same(plain: EncoderTokenizer, tokenizer: EncoderTokenizer, units: list[str]) -> None:
    begins = [i % 2 == 0 for i in range(len(units))]
    assert plain.encode_units(units, begins) == tokenizer.encode_units(units, begins)
    assert plain.encode_units(units) == tokenizer.encode_units(units)
    assert plain.vocabulary_size == tokenizer.vocabulary_size


def test_every_kind(any_tokenizer: Path, tmp_path: Path) -> None:
    folder = saved(any_tokenizer, tmp_path / "saved")
    tokenizer = load_tokenizer(folder)
    assert is_plain(folder, tokenizer) or any_tokenizer.name != "word-piece"
    if is_plain(folder, tokenizer):
        assert_same(load_plain_tokenizer(folder, "running"), tokenizer, UNITS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderTokenizer, EncoderTokenizer]:
    folder = saved("mini-zh", tmp_path_factory.mktemp("plain") / "saved")
    tokenizer = load_tokenizer(folder)
    assert is_plain(folder, tokenizer)
    return load_plain_tokenizer(folder, "running"), tokenizer


@given(units=st.lists(st.text(min_size=1, max_size=6) | st.sampled_from(UNITS), max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(pair: tuple[EncoderTokenizer, EncoderTokenizer], units: list[str]) -> None:
    assert_same(*pair, units)


def change(folder: Path, **values: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_not_the_same_is_not_taken(
    make_tokenizer: Callable[..., Path], tmp_path: Path
) -> None:
    folder = saved(make_tokenizer("word-piece"), tmp_path / "saved")
    tokenizer = load_tokenizer(folder)
    assert is_plain(folder, tokenizer)
    change(folder, pad_token="the")
    assert not is_plain(folder, tokenizer)
    change(folder, pad_token="nowhere in the vocabulary")
    assert not is_plain(folder, tokenizer)
    change(folder, pad_token={"content": "<pad>", "lstrip": False})
    assert is_plain(folder, tokenizer)
    change(folder, extra_special_tokens=["cat"])
    assert not is_plain(folder, tokenizer)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"pad_token": 3}'])
def test_damaged_files(
    name: str, content: bytes | None, make_tokenizer: Callable[..., Path]
) -> None:
    folder = make_tokenizer("word-piece")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    if (name, content) == ("tokenizer_config.json", b"[]"):
        return  # says nothing, as an empty file of settings
    with pytest.raises(TokenizerError, match="its tokenizer cannot be read"):
        load_plain_tokenizer(folder, "running")
