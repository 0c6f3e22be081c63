"""CoNLL-U Plus behind the `Format` protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.conll.format import part_neighbours
from nertune.data.formats.conllu.columns import STANDARD
from nertune.data.formats.conllu.reader import read
from nertune.data.formats.conllu.writer import ConlluStyle, form_of, write
from nertune.data.formats.fitting import fit, keep_entities, lose
from nertune.data.formats.values import Loss, Reading
from nertune.types import Document, Entity

__all__ = ["ConlluPlus"]

_HEADER = re.compile(r"#\s*global\.columns\s*=")
_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
_HEAD = re.compile(r"[0-9]+|_")
_TAG = re.compile(r"O|[BIMELSU][-_]\S+")


class ConlluPlus(Format):
    """A word a line in the columns that the first line names, or in the ten of CoNLL-U.

    Each sentence is a document. Tags are read as those of `conll`, from the column NER or the one
    that alone holds tags; where no column does, from MISC, with `NER=B-PER`, `NE=`, `name=`, or
    `Entity=` in brackets. The tokens are what the text holds: a multiword token (`3-4`) is one,
    an empty node (`3.1`) is none. All other columns are kept in `meta["columns"]`.
    """

    name = "conllu-plus"
    title = "CoNLL-U Plus"
    suffixes = (".conllup", ".conllu")
    holds = Holds(tokens="required", ids=True, metadata=True, offsets="token")
    options = MappingProxyType(
        {"column": "the column of the tags: NER, MISC:NER, or several: NER,NER2"}
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether a comment names the columns, or all lines have the ten of CoNLL-U."""
        if _HEADER.match(seen.first):
            return "its first line names columns"
        rows = [line.split("\t") for line in seen.lines if not line.startswith("#")]
        return "its lines are the ten columns of CoNLL-U" if _are_conllu(rows) else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The sentences; the scheme of the tags is that of the whole file."""
        file = read(source.read_text(), source.path, options)
        findings.reading = Reading(file.scheme)
        findings.style = ConlluStyle(file.columns)
        findings.repairs += file.repairs
        findings.notices += file.notices
        return iter(file.documents)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A sentence each, with ID, FORM, MISC and NER, and all of CoNLL-U if the first has it."""
        write(target, documents, options)

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without tokens of white space alone, and labels with any."""
        if "\0" in document.text:
            return lose(document, "its text holds a NUL")
        losses: list[Loss] = []
        tokens = document.tokens
        if tokens is None and options.tokenize is not None:
            tokens = tuple(options.tokenize(document.text))
        if tokens:
            usable = tuple((a, b) for a, b in tokens if form_of(document.text[a:b]))
            if len(usable) < len(tokens):
                told = f"{len(tokens) - len(usable)} tokens of white space alone"
                losses.append(Loss(document.id, "tokens", told))
            document = replace(document, tokens=usable)
        if document.meta.get("document", "") is None:
            losses.append(Loss(document.id, "metadata", "its key 'document', which is null"))
            meta = {key: value for key, value in document.meta.items() if key != "document"}
            document = replace(document, meta=meta)
        document, dropped = keep_entities(document, lambda e: _refuse_label(e, options))
        losses += dropped
        fitted = fit(document, self.holds, options)
        if fitted.document is not None and options.scheme == "IO":
            document, dropped = part_neighbours(fitted.document)
            fitted = Fitted(document, (*fitted.losses, *dropped))
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _are_conllu(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows have the ten columns, and the last one is not of tags."""
    return bool(rows) and all(
        len(row) == len(STANDARD)
        and _ID.fullmatch(row[0]) is not None
        and _HEAD.fullmatch(row[6]) is not None
        and not _TAG.fullmatch(row[-1])
        for row in rows
    )


def _refuse_label(entity: Entity, options: WriteOptions) -> str:
    if re.search(r"[\s\0]", entity.label):
        return "its label holds white space, which no column of this format can"
    if options.scheme == "IO" and entity.label == "O":
        return "its label cannot stand in a tag"
    return ""
