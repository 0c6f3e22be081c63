"""Predictions as highlighted text, JSONL or CoNLL."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from nertune.data.corpus import write_documents
from nertune.data.formats.jsonl import document_to_json, dump
from nertune.data.formats.recognition import kind_of_name
from nertune.errors import ConfigError
from nertune.inference.predictor import Predictor
from nertune.storage.files import open_for_writing
from nertune.types import Document

__all__ = ["highlight", "open_output", "output_format", "write_predictions", "write_tagged"]

_UNWRITABLE = re.compile("[\t\n\0]")
_COLOURS = ("bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_blue",
            "bright_red")  # fmt: skip


def output_format(format: str | None, output: Path | None) -> str:
    """`text`, `jsonl` or `conll`: what is asked for, else by the file's suffix.

    Raises:
        ConfigError: the format is unknown.
    """
    if format is None:
        return (None if output is None else kind_of_name(output)) or "text"
    if format not in ("text", "jsonl", "conll"):
        raise ConfigError(f"--format {format!r}: expected text, jsonl or conll")
    return format


@contextmanager
def open_output(output: Path | None) -> Iterator[TextIO]:
    """The file, which replaces an older one only when all is written; or stdout.

    Raises:
        DataError: the file cannot be written.
    """
    if output is None:
        yield sys.stdout
        return
    with open_for_writing(output) as stream:
        yield stream


def write_predictions(
    predictor: Predictor,
    documents: Iterable[Document],
    format: str,
    stream: TextIO,
    console: Console,
) -> None:
    """Tag documents and write them, in order, as they come.

    Args:
        predictor: the tagger.
        documents: what to tag.
        format: `text`, `jsonl` or `conll`; what has no place in `conll` is left out: texts without
            any unit, and tokens that are a TAB or hold a line end or a NUL.
        stream: where `jsonl` and `conll` go.
        console: where `text` goes; coloured if it is a terminal.
    """
    write_tagged(predictor, predictor.tag_documents(documents), format, stream, console)


def write_tagged(
    predictor: Predictor,
    tagged: Iterable[Document],
    format: str,
    stream: TextIO,
    console: Console,
) -> None:
    """Write tagged documents, each as soon as it comes; arguments as for `write_predictions`."""
    if format == "conll":

        def fitted() -> Iterator[Document]:
            for document in tagged:
                tokens = document.tokens or predictor.visible_units(document)
                on_tokens = _on_tokens(document, _writable(document, tokens))
                if on_tokens.tokens:
                    yield on_tokens
                    stream.flush()  # by now it is written

        write_documents(stream, fitted(), format="conll")
        return
    for document in tagged:
        if format == "jsonl":
            stream.write(dump(document_to_json(document), document) + "\n")
        else:
            console.print(highlight(document, predictor.tagset.labels), soft_wrap=True)
        stream.flush()


def _writable(document: Document, tokens: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The tokens that a line of two columns can hold."""
    return [(a, b) for a, b in tokens if not _UNWRITABLE.search(document.text, a, b)]


def _on_tokens(document: Document, tokens: Sequence[tuple[int, int]]) -> Document:
    """Entities widened to whole tokens; of those that then share a token the likeliest stays.

    A character model may predict two entities in one word of the source, or one of white space.
    """
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    taken: set[int] = set()
    kept = []
    for entity in sorted(document.entities, key=lambda e: (-(e.score or 0.0), e.start)):
        touched = range(bisect_right(ends, entity.start), bisect_left(starts, entity.end))
        if touched and taken.isdisjoint(touched):
            taken.update(touched)
            start, end = starts[touched[0]], ends[touched[-1]]
            kept.append(replace(entity, start=start, end=end))
    return replace(document, entities=tuple(kept), tokens=tuple(tokens))


def highlight(document: Document, labels: Iterable[str]) -> Text:
    """A text with its entities in brackets, their label and probability behind them.

    Args:
        document: a tagged document.
        labels: all labels, in the order that gives each its colour.
    """
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    shown = Text()
    position = 0
    for entity in document.entities:
        shown.append(document.text[position : entity.start])
        colour = colours.get(entity.label, "white")
        shown.append(f"[{document.surface(entity)}]", style=f"bold {colour}")
        score = "" if entity.score is None else f" {entity.score:.2f}"
        shown.append(f"({entity.label}{score})", style=colour)
        position = entity.end
    shown.append(document.text[position:])
    return shown
