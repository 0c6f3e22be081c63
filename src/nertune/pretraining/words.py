"""Words and their parts of speech, from a public segmenter: a free second teacher.

A segmenter's dictionary knows names of people, places and organisations that a small encoder
would need many more texts to find out by itself.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from typing import Protocol

from nertune.errors import MissingDependencyError

__all__ = ["JiebaWords", "Word", "WordTagger"]

Word = tuple[int, str]
"""Length in characters, part of speech."""

# jieba's own classes, cut down to those that matter here; what is in none of them is "x".
_KEPT = ("nr", "ns", "nt", "nz", "nrt", "ng", "n", "t", "m", "q", "r", "f", "s", "vn", "vd", "v",
         "an", "ad", "a", "d", "p", "c", "u", "y", "i", "l", "j", "eng", "b", "z", "k", "h", "o",
         "w", "x")  # fmt: skip


class WordTagger(Protocol):
    """Cuts a text into words and says what kind each is."""

    @property
    def name(self) -> str:
        """Which one, with its version."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Every kind that it gives, e.g. `nr` for names of persons."""
        ...

    def cut(self, text: str) -> Iterable[Word]:
        """The words; their lengths add up to the text's."""
        ...


class JiebaWords:
    """jieba's part-of-speech tagger (extra: `words`).

    Raises:
        MissingDependencyError: jieba is not installed.
    """

    def __init__(self) -> None:
        try:
            import jieba
            import jieba.posseg
        except ImportError as error:
            raise MissingDependencyError(
                "jieba", extra="words", purpose="tagging words while pre-training"
            ) from error
        jieba.setLogLevel(logging.ERROR)
        tokenizer = jieba.Tokenizer()
        # jieba keeps a cache in the common temporary folder, where anyone could leave another one.
        with tempfile.TemporaryDirectory() as private:
            tokenizer.tmp_dir = private
            tokenizer.initialize()
        self._tagger = jieba.posseg.POSTokenizer(tokenizer)
        self._version = str(jieba.__version__)

    @property
    def name(self) -> str:
        return f"jieba {self._version}"

    @property
    def tags(self) -> tuple[str, ...]:
        return _KEPT

    def cut(self, text: str) -> Iterable[Word]:
        for word, flag in self._tagger.cut(text):
            yield len(word), next((tag for tag in (flag, flag[:1]) if tag in _KEPT), "x")
