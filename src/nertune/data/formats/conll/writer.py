"""Documents to two-column files."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TextIO, get_args

from nertune.data.formats.base import check_choice
from nertune.data.formats.conll.layout import DOCSTART, NAMES, ConllStyle, has_space
from nertune.data.formats.scope_text import spell_scope
from nertune.data.formats.values import Misfit, Spans
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan, encode_tags
from nertune.storage.files import shorten
from nertune.types import Document, Entity, Scope

__all__ = ["breaks_tag", "layers_of", "token_problem", "write"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def write(
    stream: TextIO,
    documents: Iterable[Document],
    *,
    style: ConllStyle | None = None,
    misfit: Misfit = "error",
    tokenize: Callable[[str], Spans] | None = None,
) -> None:
    """Write two-column CoNLL, such that `read` gives back the same tokens and entities.

    Args:
        stream: where to; opened so that it does not translate line ends.
        documents: what to write; only their tokens are written, not the text between them.
        style: the layout.
        misfit: what to do where an entity begins or ends inside a token: an `error`, or `widen`
            it to the whole token.
        tokenize: gives the token spans of a text, for documents that have none of their own.

    Raises:
        DataError: a document has no tokens, or the format cannot hold a token or an entity.
    """
    style = style or ConllStyle()
    check_choice("misfit", misfit, get_args(Misfit))
    # Each document is written up to its end at once, so that it can be flushed.
    at_once = min(style.final_newlines, 2)
    empty = True
    scope = Scope()
    border: Any = 0  # what a reader calls the sentences above the first border
    for document in documents:
        lines = _document_lines(document, style, misfit, tokenize)
        head: list[str] = []
        if (source := document.meta.get("document", border)) != border:
            border = source
            head = [DOCSTART + style.layers * f"{style.separator}O", ""]
        if document.scope != scope:
            scope = document.scope
            head.append(f"# nertune: {spell_scope(scope)}")
        lines = [*head, *lines]
        if empty:
            # A reader takes one leading U+FEFF for a byte order mark.
            stream.write("\ufeff" if lines[0].startswith("\ufeff") else "")
        else:
            stream.write((2 - at_once) * style.newline)
        stream.write(style.newline.join(lines) + at_once * style.newline)
        empty = False
    if not empty:
        stream.write((style.final_newlines - at_once) * style.newline)


def _document_lines(
    document: Document,
    style: ConllStyle,
    misfit: Misfit,
    tokenize: Callable[[str], Spans] | None,
) -> list[str]:
    if document.scope.unknown:
        raise _unwritable(document, "it has unknown spans, which no comment can say")
    spans: Spans | None = document.tokens
    if spans is None and tokenize is not None:
        spans = tokenize(document.text)
    if spans is None:
        raise _unwritable(document, "it has no tokens: say how to cut its text, e.g. tokenize=")
    if not spans:
        raise _unwritable(document, "it has no token, and the format cannot hold an empty sentence")
    tokens = [document.text[start:end] for start, end in spans]
    for token in set(tokens):
        if problem := token_problem(token, style.separator):
            raise _unwritable(document, f"its token {shorten(token)} {problem}")
    layers = layers_of(document.entities, style.layers)
    if style.layers == 1 or sum(map(len, layers)) < len(document.entities):
        layers = [[*document.entities], *layers[1:]]  # what overlaps is refused
    columns = [tokens]
    for layer in layers:
        found = _in_tokens(document.with_entities(layer), spans, misfit)
        columns.append(_tags(document, found, len(tokens), style))
    return list(map(style.separator.join, zip(*columns, strict=True)))


def layers_of(entities: Iterable[Entity], count: int) -> list[list[Entity]]:
    """Layers without overlaps, outer entities first; what fits in none is left out."""
    layers: list[list[Entity]] = [[] for _ in range(count)]
    for entity in sorted(entities, key=lambda e: (e.start - e.end, e.start, e.label)):
        for layer in layers:
            if all(other.end <= entity.start or entity.end <= other.start for other in layer):
                layer.append(entity)
                break
    return layers


def _unwritable(document: Document, reason: str) -> DataError:
    name = document.id or shorten(document.text)
    return DataError(f"document {name} cannot be written as two columns: {reason}")


def token_problem(token: str, separator: str) -> str:
    """Why a line of two columns cannot hold a token; empty if it can."""
    problem = ""
    if "\n" in token:
        problem = "holds a line end"
    elif separator in token and not (separator == " " and not token.strip(" ")):
        problem = f"holds the separator ({NAMES[separator]})"
    elif token == DOCSTART:
        problem = "marks the start of a document in this format"
    elif "\0" in token:
        problem = "holds a NUL"
    elif _SURROGATE.search(token):
        problem = "holds half a surrogate pair, which is no character"
    return problem


def _in_tokens(document: Document, spans: Spans, misfit: Misfit) -> list[TokenSpan]:
    """The entities in tokens."""
    starts = [start for start, _ in spans]
    ends = [end for _, end in spans]
    found = []
    for entity in document.entities:
        # The tokens that the entity touches.
        first, last = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        name = f"{entity.label} {shorten(document.surface(entity))}"
        fits = first < last and starts[first] == entity.start and ends[last - 1] == entity.end
        if first >= last or (not fits and misfit == "error"):
            hint = "" if first >= last else "; widen it (misfit widen) or cut the text otherwise"
            raise _unwritable(
                document,
                f"{name} at [{entity.start}, {entity.end}) does not begin and end with a token"
                f"{hint}",
            )
        found.append(TokenSpan(first, last, entity.label))
        if len(found) > 1 and found[-2].last > first:
            raise _unwritable(document, f"{name} overlaps the entity before it")
    return found


def _tags(
    document: Document, found: list[TokenSpan], num_tokens: int, style: ConllStyle
) -> list[str]:
    for span in found:
        if breaks_tag(span.label, style):
            raise _unwritable(document, f"the label {span.label!r} cannot stand in a tag")
    if style.scheme == "IO":
        for one, other in pairwise(found):
            if one.last == other.first and one.label == other.label:
                raise _unwritable(
                    document,
                    f"scheme IO cannot keep two {one.label} entities apart that touch: "
                    "choose another scheme",
                )
    tags = encode_tags(found, num_tokens, style.scheme)
    if style.mark != "-" and style.scheme != "IO":
        tags = [tag if tag == "O" else f"{tag[0]}{style.mark}{tag[2:]}" for tag in tags]
    return tags


def breaks_tag(label: str, style: ConllStyle) -> bool:
    """Whether a label cannot stand in a tag."""
    if style.scheme == "IO" and label == "O":
        return True
    if style.separator == " " and has_space(label):
        return True
    return label != label.strip() or bool(re.search("[\t\n\r\0\ud800-\udfff]", label))
