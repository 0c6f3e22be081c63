"""Two-column CoNLL behind the `Format` protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
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
from nertune.data.formats.conll import slash
from nertune.data.formats.conll.layout import ConllStyle, count_layers
from nertune.data.formats.conll.reader import ConllFile
from nertune.data.formats.conll.writer import breaks_tag, layers_of, token_problem, write
from nertune.data.formats.fitting import fit, keep_entities
from nertune.data.formats.values import Loss, Reading
from nertune.errors import ConfigError
from nertune.storage.files import shorten
from nertune.types import Document, Entity

__all__ = ["Conll", "part_neighbours"]

_TAGGED = re.compile(r".+[\t ](O|[BIMELSU][-_]\S+)[\t ]*")
_TYPE = re.compile(r"[^\W\d][\w.&/+-]*")
_SPELLED = re.compile(r"O|[BIMELSU](?:[-_].+)?|.+[-_][BIMELSU]", re.IGNORECASE)


class Conll(Format):
    """A token and a tag a line; also `token/TAG` items, a sentence a line."""

    name = "conll"
    title = "CoNLL, two columns or more"
    suffixes = (".conll", ".bio", ".bioes", ".bmes", ".iob")
    holds = Holds(tokens="required", text="tokens", offsets="token", borders=True, scope="labels")
    options = MappingProxyType(
        {
            "columns": "token and tag of more than two, from 0: 0,3 or 0,-1; 0,1,2 has two layers",
            "layers": "how many tag columns to write, for nested entities: 1 to 9",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether each of several lines is a token and a tag, or holds such items."""
        if re.match(r"#\s*global\.columns\s*=", seen.first):
            return None  # CoNLL-U Plus
        lines = [line for line in seen.lines if not line.startswith(("-DOCSTART-", "# "))]
        if _has_columns(lines):
            return "its lines are a token and a tag each"
        return "its lines are token/TAG items" if slash.fits(lines) else None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The sentences; the scheme and what joins tokens are those of the whole file."""
        file = ConllFile(source, options)
        layers = [
            ConllFile(source, replace(options, more={"columns": columns})) for columns in file.inner
        ]
        findings.reading = Reading(file.style.scheme, file.join)
        findings.style = file.style
        streams = [layer.documents() for layer in (file, *layers)]
        for document, *others in zip(*streams, strict=True):
            yield reduce(_join, others, document)
        findings.repairs += file.repairs
        findings.notices += file.notices
        for layer in layers:
            findings.repairs += layer.repairs
            findings.notices += (
                notice
                for notice in layer.notices
                if notice not in findings.notices and not notice.startswith("columns ")
            )

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """A sentence each; only tokens are written, not the text between them."""
        write(
            target,
            documents,
            style=_style(options),
            misfit=options.misfit,
            tokenize=options.tokenize,
        )

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without tokens that no line can hold, and entities that no tag can say."""
        style = _style(options)
        tokens = document.tokens
        if tokens is None and options.tokenize is not None:
            tokens = tuple(options.tokenize(document.text))
        losses: list[Loss] = []
        if tokens:
            usable = []
            for a, b in tokens:
                if problem := token_problem(document.text[a:b], style.separator):
                    token = shorten(document.text[a:b])
                    losses.append(Loss(document.id, "text", f"the token {token} {problem}"))
                else:
                    usable.append((a, b))
            document = replace(document, tokens=tuple(usable))
        document, dropped = keep_entities(document, lambda e: _refuse_label(e, style))
        losses += dropped
        if style.layers > 1:
            fitted = fit(document, replace(self.holds, overlap=True), options)
            if fitted.document is not None:
                document, dropped = _fit_layers(fitted.document, style.layers)
                fitted = Fitted(document, (*fitted.losses, *dropped))
            return Fitted(fitted.document, (*losses, *fitted.losses))
        fitted = fit(document, self.holds, options)
        if fitted.document is not None and style.scheme == "IO":
            document, dropped = part_neighbours(fitted.document)
            fitted = Fitted(document, (*fitted.losses, *dropped))
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _style(options: WriteOptions) -> ConllStyle:
    """That of the source where it is a file of columns."""
    if isinstance(options.style, ConllStyle) and "layers" not in options.more:
        return options.style
    layers = count_layers(options.more)
    if layers > 1 and options.scheme == "IO":
        raise ConfigError("layers: scheme IO has one layer; choose another scheme")
    return ConllStyle(scheme=options.scheme, separator=options.separator, layers=layers)


def _join(document: Document, layer: Document) -> Document:
    """The entities of two layers; one that stands in both is one."""
    found = {entity.key: entity for entity in (*document.entities, *layer.entities)}
    return document.with_entities(found.values())


def _fit_layers(document: Document, count: int) -> tuple[Document, list[Loss]]:
    """Without the entities for which no layer is free."""
    kept = {entity for layer in layers_of(document.entities, count) for entity in layer}
    why = f"it overlaps an entity in each of {count} layers"
    return keep_entities(document, lambda entity: "" if entity in kept else why)


def _refuse_label(entity: Entity, style: ConllStyle) -> str:
    return "its label cannot stand in a tag" if breaks_tag(entity.label, style) else ""


def part_neighbours(document: Document) -> tuple[Document, list[Loss]]:
    """Without the second of two entities that scheme IO would make one."""
    tokens = {start: i for i, (start, _) in enumerate(document.tokens or ())}
    ends = {end: i + 1 for i, (_, end) in enumerate(document.tokens or ())}
    merged = {
        other
        for one, other in pairwise(document.entities)
        if one.label == other.label and ends[one.end] == tokens[other.start]
    }
    return keep_entities(
        document, lambda e: "scheme IO cannot keep it apart" if e in merged else ""
    )


def _has_columns(lines: Sequence[str]) -> bool:
    """Whether each of several lines is a token and a tag."""
    if len(lines) < 2:
        return False
    if all(map(_TAGGED.fullmatch, lines)):
        return True
    return any(_has_types(lines, separator) for separator in ("\t", " "))


def _has_types(lines: Sequence[str], separator: str) -> bool:
    """Whether lines are a token and a tag in another spelling, or a bare type; one must be `O`."""
    rows = [line.rstrip(" \t").rpartition(separator) for line in lines]
    tags = [tag for _, _, tag in rows]
    if not {"O", "o"} & set(tags) or not all(map(_TYPE.fullmatch, tags)):
        return False
    tokens = [token for token, _, _ in rows]
    if separator == "\t":
        return all(token and "\t" not in token for token in tokens)
    # Two words a line may be text: then the second ones are not the same again and again.
    is_repeated = 2 * len(set(tags)) <= len(tags) + 1 or all(map(_SPELLED.fullmatch, tags))
    return is_repeated and all(token and " " not in token for token in tokens)
