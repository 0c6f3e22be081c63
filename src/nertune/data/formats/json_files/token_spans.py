"""What JSON files of tokens and spans of tokens have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nertune.data.formats.base import Findings, ReadOptions, Source
from nertune.data.formats.conll.joining import JoinVote
from nertune.data.formats.json_files.records import Record, stream_records
from nertune.data.formats.json_files.values import RecordIds, read_span, require_text
from nertune.data.formats.tables.tokens import TokenText, require_tokens
from nertune.data.formats.values import Reading
from nertune.errors import DataError
from nertune.labels.schemes import TokenSpan

__all__ = ["TokenRecord", "read_texts", "token_span"]


class TokenRecord(NamedTuple):
    """A record with the text that its tokens make.

    `num_tokens` counts empty ones too, as the spans of the file do.
    """

    line: int
    name: str
    record: Record
    tokens: list[str]
    text: TokenText

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)


def read_texts(
    source: Source, key: str, options: ReadOptions, findings: Findings, seen: Counter[str]
) -> Iterator[TokenRecord]:
    """The records of a file with the texts that their tokens make.

    The file is read twice where `join` is `auto`: all tokens decide what joins them.

    Args:
        source: the file.
        key: what holds the tokens of a record.
        options: what the user asked for.
        findings: gets how the file was read.
        seen: counts what is left out.

    Raises:
        DataError: the file cannot be read, or a record has no tokens.
        ConfigError: `join` is unknown.
    """
    path, vote = source.path, JoinVote(options.join)
    source = source.reopenable()
    if options.join == "auto":
        for line, record in stream_records(source):
            vote.add(require_tokens(record.get(key), f'"{key}"', path, line))
    join = vote.settle(findings.notices)
    findings.reading = Reading(join=join)
    ids = RecordIds(path)
    for line, record in stream_records(source):
        tokens = require_tokens(record.get(key), f'"{key}"', path, line)
        text = TokenText(tokens, join, seen)
        yield TokenRecord(line, ids.of(record, line), record, tokens, text)


def token_span(
    start: Any, end: Any, label: Any, num_tokens: int, path: Path, line: int, *, is_inclusive: bool
) -> TokenSpan:
    """A half-open range of tokens.

    Raises:
        DataError: it is none of the sentence's, or has no label.
    """
    first, last = read_span(start, end, path, line, is_inclusive=is_inclusive)
    if not require_text(label, "a label", path, line):
        raise DataError(f"the label of [{start}, {end}] is empty", path=path, line=line)
    if last > num_tokens:
        how = "included" if is_inclusive else "excluded"
        told = (
            f"{label} [{start}, {end}] reaches beyond the {num_tokens} tokens, counted from 0 (the "
            f"end is {how} in this format)"
        )
        raise DataError(told, path=path, line=line)
    return TokenSpan(first, last, label)
