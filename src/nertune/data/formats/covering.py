"""A text cut into words that cover all of it, as spaCy's formats have them.

In spaCy a document is its words, each with or without one space behind it. Whatever else stands
between source tokens becomes words as well, which are marked, so that reading gives the source's
own tokens again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nertune.data.formats.fitting import fit_tokens, keep_entities, refuse_fragments
from nertune.data.formats.values import Loss, Spans
from nertune.types import Document

__all__ = ["Words", "cover", "join_words", "source_tokens", "widen_to_tokens"]

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Words:
    """What covers a text.

    Attributes:
        spans: of each word.
        spaces: whether one space follows it, which is part of no word.
        mark: what says which words are source tokens: `None` if all are, else `{"added": [i, …]}`,
            or `{"tokens": False}` if the source has none.
    """

    spans: tuple[tuple[int, int], ...]
    spaces: tuple[bool, ...]
    mark: dict[str, Any] | None


def cover(document: Document, tokenize: Callable[[str], Spans] | None) -> Words:
    """The words of a document, at whose bounds all its entities begin and end.

    Args:
        document: its entities begin and end with its tokens, if it has any.
        tokenize: cuts a text that has none; else it is cut at white space, and at entities.
    """
    tokens = document.tokens
    if tokens is None:
        spans, spaces, _ = _fill(document.text, _cut(document, tokenize))
        return Words(spans, spaces, {"tokens": False})
    spans, spaces, added = _fill(document.text, tokens)
    return Words(spans, spaces, {"added": added} if added else None)


def _cut(document: Document, tokenize: Callable[[str], Spans] | None) -> list[tuple[int, int]]:
    text = document.text
    words = tokenize(text) if tokenize else [found.span() for found in _WORD.finditer(text)]
    starts = {entity.start for entity in document.entities}
    ends = {entity.end for entity in document.entities}
    cuts = sorted({0, len(text), *starts, *ends, *(place for word in words for place in word)})
    return [
        (a, b) for a, b in pairwise(cuts) if text[a:b] != " " or a == 0 or a in starts or b in ends
    ]


def _fill(
    text: str, tokens: Sequence[tuple[int, int]]
) -> tuple[tuple[tuple[int, int], ...], tuple[bool, ...], list[int]]:
    """Words and spaces of the whole text, and which of them are no tokens."""
    spans: list[tuple[int, int]] = []
    spaces: list[bool] = []
    added: list[int] = []
    position = 0
    for start, end in [*tokens, (len(text), len(text))]:
        if position < start and spans and text[position] == " ":
            spaces[-1] = True
            position += 1
        if position < start:
            added.append(len(spans))
            spans.append((position, start))
            spaces.append(False)
        if start < end:
            spans.append((start, end))
            spaces.append(False)
        position = end
    return tuple(spans), tuple(spaces), added


def join_words(words: Sequence[str], spaces: Sequence[bool]) -> tuple[str, list[tuple[int, int]]]:
    """The text of words and spaces, and the span of each word in it."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    position = 0
    for word, has_space in zip(words, spaces, strict=True):
        parts.append(word + " " if has_space else word)
        spans.append((position, position + len(word)))
        position += len(parts[-1])
    return "".join(parts), spans


def source_tokens(
    spans: Sequence[tuple[int, int]], mark: Any
) -> tuple[tuple[int, int], ...] | None:
    """The source's tokens among words; a mark that is none of ours says nothing."""
    if isinstance(mark, dict) and mark.get("tokens") is False:
        return None
    added = mark.get("added") if isinstance(mark, dict) else None
    skipped = {i for i in added if type(i) is int} if isinstance(added, list) else set()
    return tuple(span for i, span in enumerate(spans) if i not in skipped and span[0] < span[1])


def widen_to_tokens(document: Document) -> tuple[Document, list[Loss]]:
    """The document with entities of whole tokens, where it has tokens; its text stays.

    Discontinuous entities are lost.
    """
    document, losses = keep_entities(document, refuse_fragments)
    if document.tokens is None:
        return document, losses
    document, dropped = fit_tokens(document, document.tokens)
    return document, [*losses, *(loss for loss in dropped if loss.kind != "text")]
