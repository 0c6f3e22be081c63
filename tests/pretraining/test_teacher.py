"""A trained tagger's entities as words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import pytest

from helpers.raw_text import encode_text, tiny_tokenizer
from nertune.errors import ConfigError
from nertune.pretraining.packing import LineEncoder
from nertune.pretraining.teacher import TeacherWords
from nertune.pretraining.text import Line
from nertune.pretraining.words import Word, choose_entity_tags
from nertune.types import Document, Entity

KNOWN = {"王明": "PER", "李华": "PER", "北京": "LOC", "GPU": "LOC"}


class Finder:
    """Finds what stands in `KNOWN`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Iterable[str]) -> Iterator[Document]:
        self.asked.append(list(texts))
        for text in self.asked[-1]:
            entities = [
                Entity(i, i + len(surface), label)
                for surface, label in KNOWN.items()
                for i in range(len(text))
                if text.startswith(surface, i)
            ]
            yield Document(text, tuple(sorted(entities, key=lambda e: e.start)))


def teacher(finder: Finder | None = None) -> TeacherWords:
    return TeacherWords("finder", "teacher 1", ("LOC", "PER"), finder or Finder())


def words(text: str) -> list[Word]:
    (found,) = teacher().cut([Line(0, 1, text)])
    return list(found)


def test_its_name_and_tags() -> None:
    found = teacher()
    assert (found.name, found.fingerprint) == ("finder", "teacher 1")
    assert found.tags == ("O", "LOC", "PER")
    assert choose_entity_tags(found, ()) == (1, 2)
    with pytest.raises(ConfigError, match="entity_tags: 'ORG' is no tag of finder; it gives O, "):
        choose_entity_tags(found, ("ORG",))


def test_entities_are_words() -> None:
    """Those beside each other too; what is between them is cut as without a tagger."""
    assert words("王明李华在北京1998年") == [
        (2, "PER"), (2, "PER"), (1, "O"), (2, "LOC"), (4, "O"), (1, "O"),
    ]  # fmt: skip
    assert words("在 OK大") == [(1, "O"), (1, "O"), (2, "O"), (1, "O")]
    assert words("北京") == [(2, "LOC")]
    assert words("12GPU34") == [(2, "O"), (3, "LOC"), (2, "O")]  # within a run of letters


def test_the_tags_of_tokens() -> None:
    encoder = LineEncoder(tiny_tokenizer(), "char", words=teacher())
    ids, starts, tags = encode_text(encoder, "王明李华在北京19")
    assert len(ids) == 9
    assert starts == [True, False, True, False, True, True, False, True, False]
    assert tags == [4, 5, 4, 5, 0, 2, 3, 0, 1]


def test_lines_are_tagged_together_and_never_all_at_once() -> None:
    """And in order; those that nobody takes are not asked for."""
    finder = Finder()
    lines = [Line(0, i, f"王明{i}") for i in range(2000)]
    found = list(islice(teacher(finder).cut(iter(lines)), 700))
    assert found == [[(2, "PER"), (len(str(i)), "O")] for i in range(700)]
    assert [text for texts in finder.asked for text in texts] == [
        line.text for line in lines[: sum(map(len, finder.asked))]
    ]
    assert len(finder.asked) == 2
    assert 700 <= sum(map(len, finder.asked)) < 2000


@pytest.mark.parametrize("count", [126, 127])
def test_the_number_of_labels(count: int) -> None:
    labels = [f"L{i}" for i in range(count)]
    if count == 126:
        assert len(TeacherWords("t", "", labels, Finder()).tags) == 127
        return
    with pytest.raises(ConfigError, match="teacher: t gives 127 labels; expected 126 at most"):
        TeacherWords("t", "", labels, Finder())
