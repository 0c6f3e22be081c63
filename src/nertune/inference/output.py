"""Predictions as highlighted text, or in any format that can be written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from nertune.data.corpus import save_with
from nertune.data.formats.base import Format, WriteOptions
from nertune.data.formats.recognition import format_of_name
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Loss
from nertune.errors import ConfigError
from nertune.storage.files import is_pipe_or_device, open_for_writing
from nertune.types import Document, Entity

if TYPE_CHECKING:
    from nertune.inference.predictor import Predictor

__all__ = [
    "Labelling",
    "highlight",
    "output_format",
    "refuse_without_metadata",
    "save_tagged",
    "write_predictions",
    "write_tagged",
]

_LOG = logging.getLogger("nertune")
_OPTIONS = WriteOptions(scores=True, predicted=True)
_COLOURS = ("bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_blue",
            "bright_red")  # fmt: skip


class Labelling(Protocol):
    """What is asked of a tagger to show what it found: a `Predictor`, or a client of a server."""

    @property
    def labels(self) -> Sequence[str]:
        """What it can find."""
        ...

    def visible_units(self, document: Document) -> list[tuple[int, int]]:
        """The units that it labels in a document, without those of white space."""
        ...


def output_format(format: str | None, output: Path | None) -> str:
    """`text`, or the name of the format that is asked for, else of the file's suffix.

    Raises:
        ConfigError: the format is unknown, or cannot be written.
    """
    if format == "text":
        return format
    if format is not None:
        found = _find(format)
    else:
        named = None if output is None else format_of_name(output)
        if named is None or not named.writes:
            return "text"
        found = named
    if found.container != "text" and output is None:
        raise ConfigError(f"format {found.name} is no stream of text: name a file with --output")
    return found.name


def refuse_without_metadata(format: str) -> None:
    """Refuse a format in which a text without an answer looks like one without entities.

    Raises:
        ConfigError: the format has no place for what is said of a document.
    """
    if format != "text" and not _find(format).holds.metadata:
        raise ConfigError(
            f"--abstain: format {format} cannot say that a text has no answer; use --format jsonl"
        )


def _find(format: str) -> Format:
    return find_format(format, writes=True, entities=True, option="--format ", also=("text",))


def save_tagged(
    predictor: Labelling, tagged: Iterable[Document], format: str, output: Path | None
) -> None:
    """Write tagged documents to a file, to stdout, or to the files of a format that is no text.

    Args:
        predictor: the tagger, or what stands for one.
        tagged: the documents.
        format: `text`, or a format's name.
        output: a file or folder, which appears when all is written; `None` for stdout.

    Raises:
        DataError: the file cannot be written.
    """
    chosen = None if format == "text" else _find(format)
    if chosen is not None and chosen.container != "text" and output is not None:
        save_with(output, _fitted(predictor, tagged, chosen), _OPTIONS, format=chosen.name)
        return
    if output is None:
        console = Console(markup=False, emoji=False, highlight=False)
        write_tagged(predictor, tagged, format, sys.stdout, console)
        return
    with open_for_writing(output) as stream:
        console = Console(file=stream, highlight=False)
        at_once = is_pipe_or_device(output)
        write_tagged(predictor, tagged, format, stream, console, at_once=at_once)


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
        format: `text`, or a format's name; what has no place in the format is left out: in
            `conll` texts without any unit, and tokens that hold a TAB, a line end or a NUL.
        stream: where formats go.
        console: where `text` goes; coloured if it is a terminal.
    """
    write_tagged(predictor, predictor.tag_documents(documents), format, stream, console)


def write_tagged(
    predictor: Labelling,
    tagged: Iterable[Document],
    format: str,
    stream: TextIO,
    console: Console,
    *,
    at_once: bool = True,
) -> None:
    """Write tagged documents; the other arguments are those of `write_predictions`.

    Args:
        at_once: write each as soon as it comes, since somebody may wait for it.
    """
    if format != "text":
        chosen = _find(format)
        flush = stream.flush if at_once else lambda: None
        chosen.write(_fitted(predictor, tagged, chosen, flush), stream, _OPTIONS)
        stream.flush()
        return
    for document in tagged:
        console.print(highlight(document, predictor.labels), soft_wrap=True)
        stream.flush()


def _fitted(
    predictor: Labelling,
    tagged: Iterable[Document],
    format: Format,
    when_written: Callable[[], None] = lambda: None,
) -> Iterator[Document]:
    """The documents as the format can hold them; each is written before the next one is tagged.

    Entities that it cannot hold are counted, and warned of in the end.
    """
    overlapping = 0
    lost: list[Loss] = []
    for document in tagged:
        if format.holds.tokens == "required":
            tokens = document.tokens or predictor.visible_units(document)
            document = replace(document, tokens=tuple(tokens))
        fitted = format.fit(document, _OPTIONS)
        overlaps = 0 if format.holds.overlap else _count_overlapping(document)
        overlapping += overlaps
        if not overlaps:
            lost += (loss for loss in fitted.losses if loss.kind == "entity")
        if fitted.document is not None:
            yield fitted.document
            when_written()
    if lost:
        _LOG.warning(
            "%d entities are not written as they are, since format %s cannot hold them (first: %s "
            "in %s: %s); jsonl holds them all", len(lost), format.name,
            lost[0].entity and lost[0].entity.label, lost[0].document, lost[0].reason,
        )  # fmt: skip
    if overlapping:
        _LOG.warning(
            "%d entities overlap others, which format %s cannot hold: only the likeliest are "
            "written; jsonl holds them all", overlapping, format.name,
        )  # fmt: skip


def _count_overlapping(document: Document) -> int:
    """Entities that begin before an earlier one ends; heads without overlaps give none."""
    reached, found = 0, 0
    for entity in document.entities:
        found += entity.start < reached
        reached = max(reached, entity.end)
    return found


def highlight(document: Document, labels: Iterable[str]) -> Text:
    """A text with its entities in brackets, their label and probability behind them.

    Args:
        document: a tagged document.
        labels: all labels, in the order that gives each its colour.
    """
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    parts: list[tuple[str, str]] = []  # text, style
    position = 0
    open_entities: list[Entity] = []  # the innermost last
    crossing: list[Entity] = []  # which no brackets can show

    def append(text: str, style: str) -> None:
        if parts and parts[-1][1] == style:
            text = parts.pop()[0] + text
        parts.append((text, style))

    def go_to(end: int) -> None:
        nonlocal position
        style = f"bold {colours.get(open_entities[-1].label, 'white')}" if open_entities else ""
        append(document.text[position:end], style)
        position = end

    def close() -> None:
        go_to(open_entities[-1].end)
        entity = open_entities.pop()
        colour = colours.get(entity.label, "white")
        score = "" if entity.score is None else f" {entity.score:.2f}"
        append("]", f"bold {colour}")
        append(f"({entity.label}{score})", colour)

    for entity in sorted(document.entities, key=lambda e: (e.start, -e.end, e.label)):
        while open_entities and open_entities[-1].end <= entity.start:
            close()
        if open_entities and open_entities[-1].end < entity.end:
            crossing.append(entity)
            continue
        go_to(entity.start)
        append("[", f"bold {colours.get(entity.label, 'white')}")
        open_entities.append(entity)
    while open_entities:
        close()
    go_to(len(document.text))
    shown = Text.assemble(*(part for part in parts if part[0]))
    if document.meta.get("abstained"):
        shown.append(f"  (no answer: confidence {document.meta['confidence']:.2f})", "dim")
    for entity in crossing:
        shown.append(" + ")
        shown.append_text(highlight(_cut_out(document, entity), labels))
    return shown


def _cut_out(document: Document, entity: Entity) -> Document:
    alone = replace(entity, start=0, end=entity.end - entity.start)
    return Document(document.surface(entity), (alone,))
