"""WebAnno TSV 3, as WebAnno and INCEpTION export it: a file for each document.

    #FORMAT=WebAnno TSV 3.3
    #T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|value


    #Text=王明在京。
    1-1<TAB>0-2<TAB>王明<TAB>PER<TAB>

Offsets count UTF-16 units. An entity of several tokens has an id in each of them, `PER[1]`;
entities of the same token are stacked, `PER[1]|ORG[2]`; one that begins or ends inside a token
stands at a part of it, `1-1.1`. Sentences are the document's metadata `sentences`: the start, the
end and, where it has one, the id of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
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
from nertune.data.formats.fitting import fit
from nertune.data.formats.folders import document_files, new_name
from nertune.data.formats.values import Reading
from nertune.data.formats.webanno.header import FORMAT, Column, Header, choose_column, read_header
from nertune.data.formats.webanno.reader import Reader
from nertune.data.formats.webanno.writer import fit_sentences, fit_text, lines_of
from nertune.errors import DataError
from nertune.types import Document

__all__ = ["WebAnno"]


class WebAnno(Format):
    """A file a document: its sentences, tokens and layers of annotations."""

    name = "webanno"
    title = "WebAnno TSV 3"
    holds = Holds(overlap=True, tokens="required", offsets="utf16")
    container = "folder"
    options = MappingProxyType(
        {
            "layer": "the layer that holds the entities, e.g. webanno.custom.Entity",
            "feature": "the feature of that layer that holds their labels, e.g. value",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether a file, or the first one of a folder, has the format's first line."""
        if seen.text.startswith(f"{FORMAT}3"):
            return f"its first line is {FORMAT}3"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents in the order of their names, those of folders inside included."""
        findings.reading = Reading(offsets="utf16")
        seen: Counter[str] = Counter()
        choice = _Choice(options)
        for name, file in document_files(source, ".tsv"):
            lines = file.lines()
            header = read_header(lines, file.path)
            column = choice.of(header, lines, file)
            yield Reader(file.path, header, column, options.strict, seen).read(lines, name)
        findings.notices += choice.notices(source)
        findings.notices += (f"{count} {what}" for what, count in seen.items())

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A file a document, numbered so that their order stays."""
        for number, document in enumerate(documents, 1):
            lines = "".join(f"{line}\n" for line in lines_of(document, options))
            (target / f"{new_name(number, document)}.tsv").write_bytes(lines.encode())

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """On tokens; entities may begin and end inside of them, but not between them."""
        on_tokens = fit_text(document, options)
        if on_tokens.document is None:
            return on_tokens
        document = on_tokens.document
        sentences, dropped = fit_sentences(document)
        meta = {key: value for key, value in document.meta.items() if key != "sentences"}
        holds = replace(self.holds, tokens="optional")  # entities are on them already
        fitted = fit(replace(document, meta=meta), holds, options)
        losses = (*on_tokens.losses, *dropped, *fitted.losses)
        if fitted.document is None or sentences is None:
            return Fitted(fitted.document, losses)
        meta = {**fitted.document.meta, "sentences": sentences}
        return Fitted(replace(fitted.document, meta=meta), losses)


class _Choice:
    """Which layer holds the entities, which has to be the same in all files."""

    def __init__(self, options: ReadOptions):
        self._options = options
        self._chosen: Column | None = None
        self._file: Source | None = None
        self._layers: dict[str, None] = {}  # of all files, in order
        self._features: dict[str, None] = {}  # of the layer, but for the chosen one
        self._missing = 0

    def of(self, header: Header, lines: list[str], file: Source) -> Column | None:
        """The column of a file.

        Raises:
            DataError: it has another layer than the files before, or several.
        """
        self._layers |= dict.fromkeys(header.layers)
        if self._options.ignore_tags:
            return None
        column = choose_column(header, lines, file.path, self._options.more)
        if column is None:
            self._missing += 1
            return None
        if self._chosen is None or self._file is None:
            self._chosen, self._file = column, file
        one, other = self._chosen, column
        of_layer = [c.feature for c in header.columns if c.layer == column.layer]
        self._features |= dict.fromkeys(name for name in of_layer if name != column.feature)
        if (one.layer, one.feature) != (other.layer, other.feature):
            raise DataError(
                f"entities would be {other.layer} {other.feature}, but {one.layer} {one.feature} "
                f"in {self._file.path}: say option layer= (and feature=)",
                path=file.path,
            )
        return column

    def notices(self, source: Source) -> Iterator[str]:
        """What was chosen, and what is not read.

        Raises:
            DataError: no file has the layer that was asked for.
        """
        if self._options.ignore_tags:
            return
        asked = self._options.more.get("layer")
        if self._chosen is None:
            if asked:
                known = ", ".join(self._layers) or "none"
                raise DataError(f"no layer {asked!r}; there are: {known}", path=source.path)
            yield "no layer of entities was found"
        else:
            feature = f"the feature {self._chosen.feature}" if self._chosen.feature else "the spans"
            yield f"entities are {feature} of the layer {self._chosen.layer}"
        if self._features:
            yield f"features of the layer that are not read: {', '.join(self._features)}"
        others = [name for name in self._layers if not self._chosen or name != self._chosen.layer]
        if others:
            yield f"layers that are not read: {', '.join(others)}"
        if self._missing and self._chosen is not None:
            yield f"{self._missing} files without that layer"
