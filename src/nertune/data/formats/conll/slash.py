"""Items `token/TAG`, joined by spaces, a sentence a line: `王/B-PER 明/I-PER 来/O`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from nertune.errors import DataError
from nertune.storage.files import shorten

__all__ = ["fits", "read"]

_SAMPLE = 50  # lines that decide whether a file is one
# Bare types are left out: `and/or` and a part of speech (`王/nr`) look the same.
_ITEM = r"\S+/(?:[Oo]|[BIMELSUbimelsu](?:[-_]\S+)?|[^\s/]+[-_][BIMELSU])"
_LINE = re.compile(rf"{_ITEM}(?:[ \t]+{_ITEM})*[ \t]*")


def fits(lines: Sequence[str]) -> bool:
    """Whether lines hold such items and nothing else, and some line several of them."""
    sample = list(islice((line.strip(" \t") for line in lines if line.strip()), _SAMPLE))
    return (
        bool(sample)
        and any(re.search("[ \t]", line) for line in sample)
        and all(_LINE.fullmatch(line) for line in sample)
    )


def read(
    lines: Sequence[str], path: Path, first: int = 1
) -> Iterator[tuple[Sequence[int], list[str], list[str]]]:
    """Of each sentence the line of each token, the tokens and the tags.

    Args:
        lines: of a part of the file.
        path: its name, for messages.
        first: the line of the file at which the part begins.

    Raises:
        DataError: an item has no token or no tag.
    """
    for number, line in enumerate(lines, first):
        items = re.split("[ \t]+", line.strip(" \t"))
        if items == [""]:
            continue
        rows = [item.rpartition("/") for item in items]
        for item, (token, _, tag) in zip(items, rows, strict=True):
            if not token or not tag:
                raise DataError(
                    f"expected token/TAG, got {shorten(item)}, in a file of such items, a sentence "
                    "a line",
                    path=path,
                    line=number,
                )
        yield [number] * len(rows), [row[0] for row in rows], [row[2] for row in rows]
