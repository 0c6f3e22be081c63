"""Words and their tags, from another tagger: the second task of pre-training.

A tagger knows names of people, places and organisations that a small encoder would need many more
texts to find out by itself. Three kinds give them: a segmenter (`JiebaWords`), a file that was
tagged before (`aligned_tags.AlignedTags`), and a model (`teacher.TeacherWords`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from nertune.errors import ConfigError, MissingDependencyError
from nertune.pretraining.text import Line

__all__ = ["MAX_TAGS", "JiebaWords", "Word", "WordTagger", "choose_entity_tags", "plain_words"]

Word = tuple[int, str]
"""Length in characters, tag."""

MAX_TAGS = 127
"""Twice as many tag ids (the word's first token, the others) fit in a byte."""

# jieba's own classes, cut down to those that matter here; what is in none of them is "x".
_KEPT = ("nr", "ns", "nt", "nz", "nrt", "ng", "n", "t", "m", "q", "r", "f", "s", "vn", "vd", "v",
         "an", "ad", "a", "d", "p", "c", "u", "y", "i", "l", "j", "eng", "b", "z", "k", "h", "o",
         "w", "x")  # fmt: skip


class WordTagger(Protocol):
    """Cuts lines into words and gives each word a tag."""

    @property
    def name(self) -> str:
        """Which tagger, as a person would name it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints give equal words for the same lines."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag that it gives, e.g. `nr` for names of persons; at most `MAX_TAGS`."""
        ...

    @property
    def entity_tags(self) -> tuple[str, ...]:
        """The tags that name entities, where nobody says otherwise."""
        ...

    def cut(self, lines: Iterable[Line]) -> Iterator[Sequence[Word]]:
        """The words of each line, in order; their lengths add up to that of `Line.text`.

        Args:
            lines: in the order of their places; lines may be missing between them.
        """
        ...


def choose_entity_tags(tagger: WordTagger, chosen: Sequence[str]) -> tuple[int, ...]:
    """The numbers (indices in `tagger.tags`) of the tags that name entities.

    Args:
        tagger: gives the tags.
        chosen: these; where none is given, the tagger's own.

    Raises:
        ConfigError: the tagger gives no such tag.
    """
    for tag in chosen:
        if tag not in tagger.tags:
            raise ConfigError(
                f"entity_tags: {tag!r} is no tag of {tagger.name}; it gives "
                f"{', '.join(tagger.tags)}"
            )
    return tuple(tagger.tags.index(tag) for tag in chosen or tagger.entity_tags)


def plain_words(text: str) -> list[int]:
    """The lengths of words without a tagger: a run of ASCII letters and digits, or a character."""
    lengths: list[int] = []
    joins = False
    for character in text:
        is_alphanumeric = character.isascii() and character.isalnum()
        if joins and is_alphanumeric:
            lengths[-1] += 1
        else:
            lengths.append(1)
        joins = is_alphanumeric
    return lengths


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
    def fingerprint(self) -> str:
        return self.name

    @property
    def tags(self) -> tuple[str, ...]:
        return _KEPT

    @property
    def entity_tags(self) -> tuple[str, ...]:
        return ("nr", "ns", "nt", "nz", "nrt")

    def cut(self, lines: Iterable[Line]) -> Iterator[Sequence[Word]]:
        for line in lines:
            yield [
                (len(word), next((tag for tag in (flag, flag[:1]) if tag in _KEPT), "x"))
                for word, flag in self._tagger.cut(line.text)
            ]
