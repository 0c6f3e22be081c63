"""Items `token/TAG`, a sentence a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.data.formats.conll import slash
from nertune.errors import DataError

NAME = Path("x.txt")


@pytest.mark.parametrize(
    ("lines", "fits"),
    [
        (["王/B-PER 明/I-PER 来/O"], True),
        (["", "a/O\tb/B", "c/O"], True),
        (["//O a/b/B-X"], True),  # the last slash divides
        (["a/PER-B b/O"], True),
        (["a/O", "b/O"], False),  # no line has several
        (["and/or yes/no"], False),
        (["王/nr 来/v"], False),
        (["a/O b/O", "plain text"], False),
        ([], False),
        (["", " "], False),
    ],
)
def test_what_looks_like_items(lines: list[str], fits: bool) -> None:
    assert slash.fits(lines) is fits


def test_only_the_first_fifty_lines_decide() -> None:
    assert slash.fits(["a/O b/O"] * 50 + ["text"])
    assert not slash.fits(["a/O b/O"] * 49 + ["text"])


def test_items_are_read_with_their_line() -> None:
    found = list(slash.read(["", "王/B-PER  1/2/O", "\t", " x/O "], NAME))
    assert found == [
        ([2, 2], ["王", "1/2"], ["B-PER", "O"]),
        ([4], ["x"], ["O"]),
    ]


@pytest.mark.parametrize("item", ["a", "/O", "a/"])
def test_an_item_without_token_or_tag_is_refused(item: str) -> None:
    with pytest.raises(DataError, match=r"^x\.txt:2: expected token/TAG, got ") as caught:
        list(slash.read(["a/O b/O", f"c/O {item}"], NAME))
    assert repr(item) in str(caught.value)
