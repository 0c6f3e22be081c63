"""Files of columns to documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add, sub
from pathlib import Path
from typing import get_args

from nertune.data.formats.base import ReadOptions, check_choice
from nertune.data.formats.conll import slash
from nertune.data.formats.conll.columns import Columns, find_columns
from nertune.data.formats.conll.layout import ConllStyle, count_layers
from nertune.data.formats.conll.lines import (
    Lines,
    Sentence,
    detect_separator,
    say_skipped,
    scan,
    splits_in_two,
)
from nertune.data.formats.conll.tags import (
    check_tags,
    decode,
    detect_mark,
    say_repairs,
    settle_scheme,
)
from nertune.data.formats.values import Join, TagRepair
from nertune.errors import DataError
from nertune.labels.schemes import SCHEMES, Scheme
from nertune.storage.files import split_lines
from nertune.types import Document, Entity

__all__ = ["CHARACTER_SHARE", "ConllFile", "read", "token_spans"]

CHARACTER_SHARE = 0.8
"""From this share of tokens that are one character on, a file holds characters, not words."""


@dataclass(frozen=True, slots=True)
class ConllFile:
    """What a CoNLL file holds.

    Attributes:
        documents: one per sentence.
        style: how the file is laid out.
        join: what joins the tokens of a text: nothing or a space.
        repairs: tags that were repaired.
        notices: what was decided or repaired, for the user to read.
        inner: the option `columns` for each further layer of nested entities.
    """

    documents: tuple[Document, ...]
    style: ConllStyle
    join: str
    repairs: tuple[TagRepair, ...]
    notices: tuple[str, ...]
    inner: tuple[str, ...] = ()


def read(text: str, path: Path, options: ReadOptions | None = None) -> ConllFile:
    """Read CoNLL, two columns or more.

    The separator is a TAB or a single space, the same in the whole file; a token may itself be
    white space. `-DOCSTART-` lines are skipped; where they part the file, `Document.meta` has the
    number of each sentence's `document`. Comments are skipped: lines before a sentence that begin
    with `# ` and do not end in a tag. Any other `#` begins a token.

    A file of more columns is read as well: the tag is in the last column that holds nothing but
    tags, the token in the first, or behind it where that counts tokens; a notice says so. The
    option `columns` names others. So is a file that has `token/TAG` items, a sentence a line.

    Args:
        text: the file's text.
        path: its name, for ids and messages.
        options: `join` `auto` joins without a space where at least 80 % of the tokens are single
            characters; with `ignore_tags` the scheme counts as BIO.

    Raises:
        DataError: a line cannot be read, or none holds a token.
        ConfigError: `scheme` or `join` is unknown.
    """
    options = options or ReadOptions()
    check_choice("scheme", options.scheme, ("auto", *SCHEMES))
    check_choice("join", options.join, get_args(Join))
    lines = split_lines(text)
    sentences, columns, notices = _read_sentences(lines, path, options)
    if doubled := len(re.findall("\r\r+\n", text)):
        told = f"{doubled} lines end in \\r\\r\\n (converted twice?), read as line ends"
        notices.insert(0, told)
    check_tags(sentences, columns.separator, path)
    sentences, scheme, said = settle_scheme(sentences, options.scheme, options.like.scheme, path)
    if not options.ignore_tags:
        notices += said
    glue, share = _choose_join(sentences, options.join)
    if options.join == "auto":
        how = "with a space" if glue else "without a space"
        notices.append(f"tokens joined {how} ({share:.0%} of them are single characters)")
    documents, repairs = _build(sentences, scheme, glue, path)
    if repairs:
        notices.append(say_repairs(repairs, scheme, path, strict=options.strict))
    style = ConllStyle(
        scheme=scheme,
        separator="\t" if columns.separator == "," else columns.separator,
        mark=detect_mark(sentences, scheme),
        newline="\r\n" if "\r\n" in text else "\n",
        final_newlines=_count_final_newlines(text),
        layers=1 + len(columns.inner),
    )
    inner = () if options.ignore_tags else columns.inner
    asked = tuple(f"{columns.token},{tag}" for tag in inner)
    return ConllFile(documents, style, glue, tuple(repairs), tuple(notices), asked)


def _read_sentences(
    lines: Sequence[str], path: Path, options: ReadOptions
) -> tuple[list[Sentence], Columns, list[str]]:
    """The sentences, the columns they are in, and what was skipped.

    Where tags are ignored, all are `O`.
    """
    separator = detect_separator(lines)
    columns = Columns(separator, 2, 0, 1)
    notices = []
    if slash.fits(lines):
        found = Lines([Sentence(*row) for row in slash.read(lines, path)])
        notices.append("token/TAG items recognised, a sentence a line")
    else:
        bare_types = options.scheme == "IO"
        chosen = _find_columns(lines, separator, options)
        if chosen is None:
            found = scan(lines, separator, path, bare_types=bare_types)
        else:
            columns = chosen
            notices.append(columns.describe())
            found = scan(
                lines,
                columns.separator,
                path,
                bare_types=bare_types,
                split=columns.split,
                blocks=columns.blocks(),
            )
    if not found.sentences:
        raise DataError("the file holds no sentence", path=path)
    notices += say_skipped(found, lines)
    if options.ignore_tags:
        untagged = [s._replace(tags=["O"] * len(s.tokens)) for s in found.sentences]
        return untagged, columns, notices
    return found.sentences, columns, notices


def _find_columns(lines: Sequence[str], separator: str, options: ReadOptions) -> Columns | None:
    """Those that are asked for, or those of a file in which no line has two."""
    asked = options.more.get("columns", "")
    layers = count_layers(options.more)
    if layers > 1 and not asked:  # as they are written
        asked = ",".join(map(str, range(layers + 1)))
    return None if not asked and splits_in_two(lines, separator) else find_columns(lines, asked)


def _choose_join(sentences: Iterable[Sentence], join: Join) -> tuple[str, float]:
    """What joins the tokens, and the share of tokens that are one character."""
    num_tokens = num_single = 0
    for sentence in sentences:
        lengths = list(map(len, sentence.tokens))
        num_tokens += len(lengths)
        num_single += lengths.count(1)
    share = num_single / num_tokens
    if join == "auto":
        join = "none" if share >= CHARACTER_SHARE else "space"
    return ("" if join == "none" else " "), share


def _build(
    sentences: Sequence[Sentence], scheme: Scheme, glue: str, path: Path
) -> tuple[tuple[Document, ...], list[TagRepair]]:
    documents: list[Document] = []
    repairs: list[TagRepair] = []
    # One such line, on top of the file, says nothing of borders.
    has_borders = len({sentence.document for sentence in sentences}) > 1
    for sentence in sentences:
        meta = {"document": sentence.document} if has_borders else {}
        text = glue.join(sentence.tokens)
        tokens = token_spans(sentence.tokens, text, len(glue))
        entities: tuple[Entity, ...] = ()
        if sentence.tags.count("O") != len(sentence.tags):
            spans, repaired = decode(sentence, scheme, path)
            entities = tuple(
                Entity(tokens[span.first][0], tokens[span.last - 1][1], span.label)
                for span in spans
            )
            repairs += (TagRepair(sentence.lines[r.position], r.tag, r.reason) for r in repaired)
        name = f"{path.name}:{sentence.line}"
        documents.append(Document(text, entities, name, tokens, meta))
    return tuple(documents), repairs


_CHARACTERS = tuple((i, i + 1) for i in range(1000))  # the spans of a text's first characters


def token_spans(tokens: Sequence[str], text: str, gap: int) -> tuple[tuple[int, int], ...]:
    """Where tokens stand in their text when `gap` characters stand between them."""
    if gap == 0 and len(tokens) == len(text) <= len(_CHARACTERS):
        return _CHARACTERS[: len(text)]
    lengths = list(map(len, tokens))
    ends = list(accumulate(lengths))
    if gap:
        ends = list(map(add, ends, range(0, gap * len(ends), gap)))
    return tuple(zip(map(sub, ends, lengths), ends, strict=True))


def _count_final_newlines(text: str) -> int:
    tail = text[len(text.rstrip("\r\n \t")) :]
    return tail.count("\n")
