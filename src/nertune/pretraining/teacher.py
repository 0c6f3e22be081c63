"""Entities that a trained tagger finds, as words with tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from nertune.errors import ConfigError
from nertune.pretraining.text import Line
from nertune.pretraining.words import MAX_TAGS, Word, plain_words
from nertune.types import Document

__all__ = ["OUTSIDE", "TeacherWords"]

OUTSIDE = "O"
"""The tag of every word that is no entity."""

_CHUNK_LINES = 512  # as many as `Predictor` sorts by length


class TeacherWords:
    """A teacher's entities are words whose tags are their labels; other words are plain ones.

    Args:
        name: the teacher, for the reader.
        fingerprint: changes with the teacher's weights and the way it reads text.
        labels: the labels that it gives.
        tag_texts: tags texts, in order, e.g. `Predictor.tag_texts`.

    Raises:
        ConfigError: it gives too many labels.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        labels: Sequence[str],
        tag_texts: Callable[[Iterable[str]], Iterable[Document]],
    ):
        if len(labels) >= MAX_TAGS:
            raise ConfigError(
                f"teacher: {name} gives {len(labels)} labels; expected {MAX_TAGS - 1} at most"
            )
        self._name = name
        self._fingerprint = fingerprint
        self._labels = tuple(labels)
        self._tag_texts = tag_texts

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def tags(self) -> tuple[str, ...]:
        return (OUTSIDE, *self._labels)

    @property
    def entity_tags(self) -> tuple[str, ...]:
        return self._labels

    def cut(self, lines: Iterable[Line]) -> Iterator[Sequence[Word]]:
        iterator = iter(lines)
        while chunk := list(islice(iterator, _CHUNK_LINES)):
            yield from map(_words, self._tag_texts([line.text for line in chunk]))


def _words(document: Document) -> list[Word]:
    words: list[Word] = []
    place = 0
    for entity in sorted(document.entities, key=lambda entity: entity.start):
        words += ((length, OUTSIDE) for length in plain_words(document.text[place : entity.start]))
        words.append((entity.end - entity.start, entity.label))
        place = entity.end
    words += ((length, OUTSIDE) for length in plain_words(document.text[place:]))
    return words
