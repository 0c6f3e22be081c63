"""Documents in sentences: for a model that was trained on sentences and is given whole texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from nertune.types import Document, Entity

__all__ = ["join_sentences", "split_document", "split_sentences", "tag_by_sentence"]

_CLOSING = "\"'”’」』）)\\]】》"
# Behind a line end, a Chinese full stop, or a Latin one that white space follows.
_END = re.compile(rf"\n|[。！？…]+[{_CLOSING}]*|[.!?]+[{_CLOSING}]*(?=\s)")
_ABBREVIATED = frozenset(
    (  # titles, companies, months
        *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "no", "vs", "fig", "gen", "sen"),
        *("rep", "gov", "col", "capt", "lt", "sgt", "rev", "hon", "inc", "ltd", "co", "corp"),
        *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
    )
)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Where sentences stand, without the white space around them; half-open, in code points.

    A sentence ends at a line end, at `。！？…`, or at `.!?` before white space, closing quotes and
    brackets included. A full stop behind a letter, an abbreviated title or a month ends none.
    """
    cuts = [m.end() for m in _END.finditer(text) if not _is_abbreviation(text, m)]
    spans = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        inner = text[start:end]
        if stripped := inner.strip():
            begin = start + len(inner) - len(inner.lstrip())
            spans.append((begin, begin + len(stripped)))
    return spans


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    if end[0] != ".":
        return False
    word = re.search(r"[^\W\d_]+\Z", text[max(0, end.start() - 20) : end.start()])
    if word is None:
        return False
    return (len(word[0]) == 1 and word[0].isascii()) or word[0].lower() in _ABBREVIATED


def split_document(document: Document) -> list[tuple[int, Document]]:
    """A document's sentences, and where each begins; one with tokens of its own stays whole."""
    if document.tokens is not None:
        return [(0, document)]
    return [
        (start, Document(document.text[start:end])) for start, end in split_sentences(document.text)
    ]


def join_sentences(document: Document, tagged: Sequence[tuple[int, Document]]) -> Document:
    """A document with the entities of its sentences, at the document's own offsets."""
    entities: list[Entity] = []
    for offset, sentence in tagged:
        entities += (
            replace(e, start=e.start + offset, end=e.end + offset) for e in sentence.entities
        )
    return document.with_predictions(entities)


def tag_by_sentence(
    documents: Sequence[Document], tag: Callable[[Iterable[Document]], Iterator[Document]]
) -> Iterator[Document]:
    """Tag documents, in order, a sentence at a time.

    Args:
        documents: whole texts.
        tag: tags what it is given, in order.
    """
    parts = [split_document(document) for document in documents]
    tagged = tag(sentence for part in parts for _, sentence in part)
    for document, part in zip(documents, parts, strict=True):
        yield join_sentences(document, [(start, next(tagged)) for start, _ in part])
