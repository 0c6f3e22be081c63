"""What a report is made of; `html`, `markdown` and `terminal` each show these same objects."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

__all__ = ["NOTHING", "Block", "Browser", "Bullets", "Cell", "Example", "Examples", "LabelCount",
           "Page", "Paragraph", "Picture", "Place", "Places", "Row", "Section", "Segment", "Table",
           "brief"]  # fmt: skip

NOTHING = "–"
"""In a cell: undefined, or not measured."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell that a terminal, which is narrow, shows in another form.

    Attributes:
        text: in a document; `str` of a cell gives it.
        short: on a terminal.
        style: on a terminal, as rich names it.
    """

    text: str
    short: str
    style: str = ""

    def __str__(self) -> str:
        return self.text


def brief(cell: Cell | str) -> str:
    """A cell's text on a terminal."""
    return cell.short if isinstance(cell, Cell) else cell


Row = Sequence[Cell | str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in groups, under headings.

    Attributes:
        headings: one for each column.
        groups: of rows; a page and a terminal draw a line between two groups.
        align: `l` or `r` for each column; the columns that it does not name are right-aligned.
        num_keys: how many leading cells the rows of a group share: shown once where space allows.
        title: above the table.
    """

    headings: Row
    groups: Sequence[Sequence[Row]]
    align: str = "l"
    num_keys: int = 0
    title: str = ""
    kind: ClassVar[str] = "table"

    def is_left(self, column: int) -> bool:
        """Whether a column, counted from 0, is left-aligned."""
        return self.align[column : column + 1] == "l"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of one of three kinds.

    `text` may hold anything, names from the data too; so may `notice`, which stands out; `note` is
    nertune's own prose, where `*…*` is emphasis and backticks enclose code.
    """

    text: str
    kind: Literal["text", "note", "notice"] = "text"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG file beside the report; `text` says what it shows."""

    text: str
    path: Path
    kind: ClassVar[str] = "picture"

    @property
    def uri(self) -> str:
        """The picture itself as a `data:` URI, so that a page needs no other file."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


class Segment(NamedTuple):
    """A part of a text. If it is an entity: its label, and `""` (right), `wrong` or `missed`."""

    text: str
    label: str | None = None
    kind: str = ""


class Place(NamedTuple):
    """A suspicious place of a corpus: `gold` and `suggested` are its text as each reads it."""

    kind: str
    meaning: str
    probability: str
    document: str
    gold: Sequence[Segment]
    suggested: Sequence[Segment]
    reason: str


@dataclass(frozen=True, slots=True)
class Places:
    """Suspicious places, one below the other; only an HTML page shows them."""

    items: Sequence[Place]
    kind: ClassVar[str] = "places"


Block = Table | Paragraph | Bullets | Picture | Places


class Example(NamedTuple):
    """A document as one configuration finds it (as gold), and as another does."""

    right: str
    gold: Sequence[Segment]
    wrong: str
    found: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Examples:
    """Documents with marked entities, in groups with a title; only an HTML page shows them."""

    text: str
    groups: Sequence[tuple[str, Sequence[Example]]]


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often a label stands in a corpus.

    Attributes:
        label: the label.
        hue: of its colour, in degrees.
        entities: with this label.
        documents: with such an entity.
    """

    label: str
    hue: int
    entities: int
    documents: int


@dataclass(frozen=True, slots=True)
class Browser:
    """The documents of a corpus to look through; only an HTML page shows them.

    Attributes:
        labels: the most frequent first.
        documents: JSON values that the page's script shows, see `reports.corpora.corpus_page`.
        page_size: documents that are shown at a time.
        num_without: documents without entities.
    """

    labels: Sequence[LabelCount]
    documents: Sequence[Any]
    page_size: int
    num_without: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it; without a title, the opening of a page."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    sections: Sequence[Section]
    examples: Examples | None = None
    browser: Browser | None = None
