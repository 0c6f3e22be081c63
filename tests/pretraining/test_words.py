"""jieba as a teacher of words."""

from __future__ import annotations

import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.raw_text import encode_text, made_up_lines, tiny_tokenizer
from nertune.errors import MissingDependencyError
from nertune.pretraining.packing import LineEncoder
from nertune.pretraining.text import Line
from nertune.pretraining.words import JiebaWords, Word


@cache
def tagger() -> JiebaWords:
    pytest.importorskip("jieba", reason="the extra `words` is not installed")
    return JiebaWords()


def tag_text(text: str) -> list[Word]:
    (words,) = tagger().cut([Line(0, 1, text)])
    return list(words)


def cut(text: str) -> list[tuple[str, str]]:
    words, start = [], 0
    for length, tag in tag_text(text):
        words.append((text[start : start + length], tag))
        start += length
    return words


def test_its_name_and_tags() -> None:
    name, version = tagger().name.split()
    assert name == "jieba"
    assert version[0].isdigit()
    assert len(set(tagger().tags)) == len(tagger().tags) < 128  # twice as many fit a byte
    assert {"nr", "ns", "nt", "n", "v", "m", "x"} <= set(tagger().tags)


def test_names_and_their_kinds() -> None:
    found = dict(cut("王小明昨天到了北京,参观北京大学。"))
    assert found["北京"] == "ns"
    assert found["北京大学"] == "nt"
    assert found["王小明"] == "nr"
    assert found[","] == found["。"] == "x"


def test_words_add_up_to_the_text() -> None:
    for line in made_up_lines(100):
        assert "".join(word for word, _ in cut(line)) == line


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.text(
            st.sampled_from("北京大学的王明在12.5%abGPU+#_ \t\u3000\r\n,。é\U00020000"), max_size=40
        ),
        st.text(max_size=40),
    )
)
def test_any_text(text: str) -> None:
    words = tag_text(text)
    assert sum(length for length, _ in words) == len(text)
    assert all(length > 0 for length, _ in words)
    assert {tag for _, tag in words} <= set(tagger().tags)


def test_as_a_line_encoder_takes_them() -> None:
    encoder = LineEncoder(tiny_tokenizer(), "char", words=tagger())
    ids, starts, tags = encode_text(encoder, "今天在北京")
    place = 2 * tagger().tags.index("ns")
    assert len(ids) == 5
    assert starts == [True, False, True, True, False]
    assert tags[3:] == [place, place + 1]


def test_two_taggers_know_nothing_of_each_other() -> None:
    """What a program adds to jieba's own dictionary does not change what is learned."""
    tagger()
    import jieba

    before = cut("今天天气在北京")
    jieba.add_word("天气在北京", tag="nr")
    try:
        assert cut("今天天气在北京") == before
    finally:
        jieba.del_word("天气在北京")


def test_without_jieba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "nertune\[words\]"'):
        JiebaWords()
