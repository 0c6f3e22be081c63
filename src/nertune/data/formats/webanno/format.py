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
from nertune.data.formats.layers import LAYER_OPTIONS, Layers
from nertune.data.formats.values import Reading, say_counts
from nertune.data.formats.webanno.header import FORMAT, choose_column, read_header
from nertune.data.formats.webanno.reader import Reader
from nertune.data.formats.webanno.writer import fit_sentences, fit_text, lines_of
from nertune.types import Document

__all__ = ["WebAnno"]


class WebAnno(Format):
    """A file a document: its sentences, tokens and layers of annotations."""

    name = "webanno"
    title = "WebAnno TSV 3"
    holds = Holds(overlap=True, tokens="required", offsets="utf16")
    container = "folder"
    options = LAYER_OPTIONS

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether a file, or the first one of a folder, has the format's first line."""
        if seen.text.startswith(f"{FORMAT}3"):
            return f"its first line is {FORMAT}3"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The documents in the order of their names, those of folders inside included."""
        findings.reading = Reading(offsets="utf16")
        seen: Counter[str] = Counter()
        layers = Layers(options.more)
        for name, file in document_files(source, ".tsv"):
            lines = file.lines()
            header = read_header(lines, file.path)
            column = None
            if not options.ignore_tags:
                column = choose_column(header, lines, file.path, options.more)
                layers.choose((column.layer, column.feature) if column else None, file.path)
                of_layer = [c for c in header.columns if column and c.layer == column.layer]
                layers.see(header.layers, (c.feature for c in of_layer if c != column))
            yield Reader(file.path, header, column, options.strict, seen).read(lines, name)
        if not options.ignore_tags:
            findings.notices += layers.notices(source.path)
        findings.notices += say_counts(seen)

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
