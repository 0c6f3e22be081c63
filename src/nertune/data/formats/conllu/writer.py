"""Documents to CoNLL-U Plus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

from nertune.data.formats.base import WriteOptions
from nertune.data.formats.conllu.columns import STANDARD
from nertune.data.formats.conllu.comments import Said, write_comments
from nertune.data.formats.conllu.lines import group_words
from nertune.data.formats.conllu.spaces import SPACES, drop_items, encode_spaces
from nertune.data.formats.fitting import fit_tokens
from nertune.data.formats.values import Spans
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan, encode_tags
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["ConlluStyle", "form_of", "write"]

_WHITE = re.compile(r"[ \t\r\n]+")
_FEW = ("ID", "FORM", "MISC")
_NER = "NER"


@dataclass(frozen=True, slots=True)
class ConlluStyle:
    """The columns of the file that documents come from, without those of entities."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The rows of a sentence.

    Attributes:
        columns: the cells of each column but NER.
        groups: the rows of each token, see `group_words`.
        rest: metadata that stands in no column.
    """

    columns: Mapping[str, Sequence[str]]
    groups: Sequence[Sequence[int]]
    rest: Mapping[str, Any]


def form_of(token: str) -> str:
    """A token as its column holds it: its white space is one space; empty where it is all of it."""
    return _WHITE.sub(" ", token).strip(" ")


def write(target: TextIO, documents: Iterable[Document], options: WriteOptions) -> None:
    """Write sentences, each as soon as it comes; the first one decides on the columns.

    Raises:
        DataError: a document has no tokens, or an entity does not fit them.
    """
    names: tuple[str, ...] = ()
    said = Said()
    for document in documents:
        if not names:
            names = _names(document, options)
            target.write(f"# global.columns = {' '.join((*names, _NER))}\n")
        comments, rows, said = _sentence(document, names, options, said)
        target.write("\n".join([*comments, *map("\t".join, rows)]) + "\n\n")


def _names(document: Document, options: WriteOptions) -> tuple[str, ...]:
    if isinstance(options.style, ConlluStyle):
        given = options.style.columns
        return (*given, *(name for name in _FEW if name not in given))
    return STANDARD if isinstance(document.meta.get("columns"), Mapping) else _FEW


def _sentence(
    document: Document, names: Sequence[str], options: WriteOptions, last: Said
) -> tuple[list[str], list[list[str]], Said]:
    tokens = document.tokens
    if tokens is None and options.tokenize is not None:
        tokens = tuple(options.tokenize(document.text))
    if not tokens:
        raise _unwritable(document, "it has no tokens: say how to cut its text, e.g. tokenize=")
    forms = [form_of(document.text[start:end]) for start, end in tokens]
    if "" in forms:
        raise _unwritable(document, "a token is white space alone")
    sheet = _sheet(document.meta, forms, names)
    tags = _tags(document, tokens, sheet, options)
    spaces = _spaces(document.text, tokens, forms)
    columns = dict(sheet.columns)
    misc = list(columns.get("MISC", ["_"] * len(tags)))
    for group, values in zip(sheet.groups, spaces, strict=True):
        kept = [] if misc[group[0]] == "_" else [misc[group[0]]]
        misc[group[0]] = "|".join([*kept, *values]) or "_"
    columns["MISC"] = misc
    empty = ["_"] * len(tags)
    cells = [columns.get(name, empty) for name in names]
    rows = [list(row) for row in zip(*cells, tags, strict=True)]
    plain = "".join(
        form + ("" if "SpaceAfter=No" in values else " ")
        for form, values in zip(forms, spaces, strict=True)
    )
    before, after = document.text[: tokens[0][0]], document.text[tokens[-1][1] :]
    comments, said = write_comments(
        sheet.rest, last, text=plain.strip(), before=before, after=after
    )
    return comments, rows, said


def _spaces(text: str, tokens: Spans, forms: Sequence[str]) -> list[list[str]]:
    """What MISC says of the white space in and behind each token; nothing behind the last one."""
    found = []
    for number, (start, end) in enumerate(tokens):
        values = []
        if number + 1 < len(tokens):
            gap = text[end : tokens[number + 1][0]]
            if not gap:
                values.append("SpaceAfter=No")
            elif gap != " ":
                values.append(f"SpacesAfter={encode_spaces(gap)}")
        if text[start:end] != forms[number]:
            values.append(f"SpacesInToken={encode_spaces(text[start:end])}")
        found.append(values)
    return found


def _sheet(meta: Mapping[str, Any], forms: Sequence[str], names: Sequence[str]) -> _Sheet:
    """The columns of a sentence, those of its metadata where they fit."""
    given = meta.get("columns")
    plain = [[row] for row in range(len(forms))]
    ids = [str(row + 1) for row in range(len(forms))]
    if not isinstance(given, Mapping) or not _is_table(given, names):
        return _Sheet({"ID": ids, "FORM": forms}, plain, meta)
    rest = {key: value for key, value in meta.items() if key != "columns"}
    if "ID" not in given and "FORM" not in given:
        own: set[int] = set(range(len(forms)))
        if all(len(cells) == len(forms) for cells in given.values()) and _is_misc(given, own):
            return _Sheet({"ID": ids, "FORM": forms, **given}, plain, rest)
    elif "ID" in given and "FORM" in given:
        num_rows = len(given["ID"])
        try:
            groups = group_words(given["ID"], [0] * num_rows, Path())
        except DataError:
            groups = []
        own = {group[0] for group in groups}
        fits = [given["FORM"][group[0]] for group in groups] == list(forms)
        is_otherwise = given["ID"] != [str(row + 1) for row in range(num_rows)]
        if fits and is_otherwise and _is_misc(given, own):
            return _Sheet(given, groups, rest)
    return _Sheet({"ID": ids, "FORM": forms}, plain, meta)


def _is_table(given: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether columns have names of the file and cells that are read again as they are."""
    if not given or not set(given) <= set(names):
        return False
    if not all(isinstance(cells, list) and cells for cells in given.values()):
        return False
    if len({len(cells) for cells in given.values()}) > 1:
        return False
    return all(
        all(map(_is_cell, cells)) and any(cell != "_" for cell in cells) for cells in given.values()
    )


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, str) or not cell or cell != cell.strip():
        return False
    return not re.search("[\t\n\r\0\ud800-\udfff]|  ", cell)


def _is_misc(given: Mapping[str, Sequence[str]], own: set[int]) -> bool:
    """Whether no cell of MISC says something of spaces, which the text says."""
    cells = given.get("MISC", ())
    return all(cells[row] == drop_items(cells[row], SPACES) for row in own if row < len(cells))


def _tags(document: Document, tokens: Spans, sheet: _Sheet, options: WriteOptions) -> list[str]:
    """The tag of each row."""
    if options.misfit == "widen":
        document = fit_tokens(document, tokens)[0]
    starts = {start: token for token, (start, _) in enumerate(tokens)}
    ends = {end: token + 1 for token, (_, end) in enumerate(tokens)}
    words = [row for group in sheet.groups for row in group[1:] or group]
    # The first word of each token, and behind the last one how many there are.
    first_word = list(accumulate((len(group[1:] or group) for group in sheet.groups), initial=0))
    spans = []
    for entity in document.entities:
        name = f"{entity.label} {shorten(document.surface(entity))}"
        if entity.start not in starts or entity.end not in ends or entity.fragments:
            told = f"{name} does not begin and end with a token; widen it (misfit widen)"
            raise _unwritable(document, told)
        if re.search(r"[\s\0]", entity.label):
            raise _unwritable(document, f"the label {entity.label!r} cannot stand in a tag")
        first, last = starts[entity.start], ends[entity.end]
        spans.append(TokenSpan(first_word[first], first_word[last], entity.label))
    try:
        encoded = encode_tags(spans, len(words), options.scheme)
    except ValueError as error:
        raise _unwritable(document, "two of its entities overlap") from error
    num_rows = len(sheet.columns["ID"])
    tags = ["_"] * num_rows
    for row, tag in zip(words, encoded, strict=True):
        tags[row] = tag
    return tags


def _unwritable(document: Document, reason: str) -> DataError:
    name = document.id or shorten(document.text)
    return DataError(f"document {name} cannot be written as CoNLL-U Plus: {reason}")
