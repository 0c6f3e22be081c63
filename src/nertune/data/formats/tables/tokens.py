"""Lists of tokens to texts, and entities in tokens."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from nertune.data.formats.base import WriteOptions
from nertune.data.formats.conll.joining import token_spans
from nertune.data.formats.fitting import fit_tokens
from nertune.data.formats.values import Join, Spans
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["TokenText", "in_tokens", "require_tokens"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def require_tokens(value: Any, name: str, path: Path, line: int) -> list[str]:
    """A value that has to be a list of tokens.

    Raises:
        DataError: it is none, or a token holds half a surrogate pair.
    """
    if not isinstance(value, list) or not all(type(token) is str for token in value):
        raise DataError(f"{name} is not a list of strings", path=path, line=line)
    if _SURROGATE.search("".join(value)):  # two halves make no character either
        told = f"{name} holds half a surrogate pair, which is no character"
        raise DataError(told, path=path, line=line)
    return value


class TokenText:
    """A list of tokens as a text.

    An empty token stands nowhere in the text: it is left out, and counted.

    Args:
        tokens: of the source.
        join: what joins them.
        seen: counts what is left out.

    Attributes:
        text: the text.
        spans: where the tokens stand that are not empty.
    """

    def __init__(self, tokens: Sequence[str], join: Join, seen: Counter[str]):
        glue = " " if join == "space" else ""
        self._seen = seen
        self._places: Sequence[int] | None = None  # how many whole tokens stand before each
        if not all(tokens):
            self._places = list(accumulate(map(bool, tokens), initial=0))
            seen["empty tokens left out"] += len(tokens) - self._places[-1]
            tokens = [token for token in tokens if token]
        self.text = glue.join(tokens)
        self.spans = token_spans(tokens, self.text, len(glue))

    def entities(self, spans: Iterable[TokenSpan]) -> tuple[Entity, ...]:
        """Entities of half-open ranges of the source's tokens, each once."""
        found: dict[tuple[Any, ...], Entity] = {}
        for first, last, label in spans:
            if self._places is not None:
                first, last = self._places[first], self._places[last]
            if first == last:
                self._seen["entities of empty tokens alone dropped"] += 1
                continue
            entity = Entity(self.spans[first][0], self.spans[last - 1][1], label)
            if entity.key in found:
                self._seen["identical entities dropped"] += 1
            found.setdefault(entity.key, entity)
        return tuple(found.values())

    def document(self, spans: Iterable[TokenSpan], name: str, meta: Mapping[str, Any]) -> Document:
        """The text with the entities of these spans."""
        return Document(self.text, self.entities(spans), name, self.spans, meta)


def in_tokens(document: Document, options: WriteOptions) -> tuple[list[str], list[TokenSpan]]:
    """A document's tokens, and its entities as half-open ranges of them.

    Raises:
        DataError: it has no tokens, or an entity begins or ends inside one and `misfit` is not
            `widen`.
    """
    tokens: Spans | None = document.tokens
    if tokens is None and options.tokenize is not None:
        tokens = options.tokenize(document.text)
    if tokens is None:
        raise _unwritable(document, "it has no tokens: say how to cut its text, e.g. tokenize=")
    if options.misfit == "widen":
        document, _ = fit_tokens(document, tokens)
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    found = []
    for entity in document.entities:
        first, last = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        fits = first < last and starts[first] == entity.start and ends[last - 1] == entity.end
        if not fits or entity.fragments:
            name = f"{entity.label} {shorten(document.surface(entity))}"
            told = f"{name} at [{entity.start}, {entity.end}) does not begin and end with a token"
            if entity.fragments:
                told = f"{name} is discontinuous"
            raise _unwritable(document, told)
        found.append(TokenSpan(first, last, entity.label))
    return [document.text[start:end] for start, end in tokens], found


def _unwritable(document: Document, reason: str) -> DataError:
    name = document.id or shorten(document.text)
    return DataError(f"document {name} cannot be written as tokens: {reason}")
