"""A data file in another format: what the target cannot hold is listed, and what it can is proved.

The file appears only when nothing is lost, or when losses are allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast, get_args

from nertune.data.corpus import Corpus, save_with, written_format
from nertune.data.formats.base import Format, ReadOptions, WriteOptions
from nertune.data.formats.fitting import difference
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import Loss
from nertune.data.reading import CorpusReader
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document

__all__ = ["Conversion", "convert", "how_to_read"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a file.

    Attributes:
        source, target: the paths.
        source_format, target_format: the names of their formats.
        reason: why the source is read as that.
        documents: how many there are in the target.
        entities: how many entities there are in the target.
        notices: what was said while reading.
        losses: what the target cannot hold, in the order of the source.
        is_written: whether the target is there: not if something is lost that may not be.
        differences: what reading the target again gave otherwise; `None` where it was not checked.
    """

    source: Path
    target: Path
    source_format: str
    target_format: str
    reason: str
    documents: int
    entities: int
    notices: tuple[str, ...]
    losses: tuple[Loss, ...]
    is_written: bool
    differences: tuple[str, ...] | None = None

    def count_losses(self) -> dict[str, int]:
        """How much of each kind is lost."""
        return dict(Counter(loss.kind for loss in self.losses))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        losses = [
            {
                "document": loss.document,
                "kind": loss.kind,
                "reason": loss.reason,
                "entity": None if loss.entity is None else asdict(loss.entity),
            }
            for loss in self.losses
        ]
        plain = {name: getattr(self, name) for name in self.__slots__}
        paths = {"source": str(self.source), "target": str(self.target)}
        return {**plain, **paths, "losses": losses, "lost": self.count_losses()}


class _Refused(Exception):
    """Something is lost that may not be."""


@dataclass
class _Fitting:
    """Documents as a format can hold them; counts them, and lists what is lost."""

    format: Format
    options: WriteOptions
    losses: list[Loss] = field(default_factory=list)
    num_documents: int = 0
    num_entities: int = 0

    def fit(self, documents: Iterable[Document], *, allow_loss: bool) -> Iterator[Document]:
        """What can be held of each, as it comes."""
        for document in documents:
            result = self.format.fit(document, self.options)
            self.losses.extend(result.losses)
            if result.document is not None:
                self.num_documents += 1
                self.num_entities += len(result.document.entities)
                yield result.document
        if self.losses and not allow_loss:
            raise _Refused


def convert(
    corpus: Corpus | CorpusReader,
    target: Path,
    options: WriteOptions,
    *,
    to: str = "auto",
    check: bool = False,
    allow_loss: bool = False,
) -> Conversion:
    """Write a corpus in another format.

    Args:
        corpus: what was read; a `CorpusReader` is read while the target is written, so that a
            file may be larger than memory.
        target: the new file or folder.
        options: how to write it.
        to: the new format; `auto` goes by the suffix of `target`.
        check: read it again and compare.
        allow_loss: write it even if something is lost.

    Raises:
        DataError: the target cannot be written, or every document is lost.
        ConfigError: the format is unknown, or cannot be written.
    """
    format = _target_format(target, to)
    fitting = _Fitting(format, options)
    is_written = True
    try:
        documents = fitting.fit(corpus, allow_loss=allow_loss)
        save_with(target, documents, options, format=format.name)
    except _Refused:
        is_written = False
    losses = fitting.losses
    if is_written and not fitting.num_documents:
        why = f", e.g. since {losses[0].reason}" if losses else ""
        raise DataError(f"format {format.name} can hold no document of it{why}", path=corpus.path)
    differences = _compare(target, corpus, format, options) if check and is_written else None
    return Conversion(
        source=corpus.path,
        target=target,
        source_format=corpus.format,
        target_format=format.name,
        reason=corpus.reason,
        documents=fitting.num_documents,
        entities=fitting.num_entities,
        notices=tuple(corpus.notices),
        losses=tuple(losses),
        is_written=is_written,
        differences=differences,
    )


def _target_format(target: Path, name: str) -> Format:
    if name == "auto":
        return written_format(target)
    return find_format(name, writes=True, option="--to ", also=("auto",))


def how_to_read(format: Format, options: WriteOptions) -> ReadOptions:
    """How what was written so is read again: nothing is left to be found out."""
    counted = format.holds.offsets
    offsets = cast("Offsets", counted) if counted in get_args(Offsets) else "codepoint"
    return ReadOptions(scheme=options.scheme, offsets=offsets, strict=True, more=options.more)


def _compare(
    target: Path, corpus: Corpus | CorpusReader, format: Format, options: WriteOptions
) -> tuple[str, ...]:
    """Where what is read again differs from what was written."""
    how = how_to_read(format, options)
    fitted = (format.fit(document, options).document for document in corpus)
    written = (document for document in fitted if document is not None)
    again = CorpusReader(target, how, format=format.read_as or format.name)
    found: list[str] = []
    num_written = num_read = 0
    for expected, document in zip_longest(written, again):
        num_written += expected is not None
        num_read += document is not None
        if expected is None or document is None or num_written < num_read:
            continue
        if told := difference(expected, document, format.holds):
            name = shorten(expected.id or expected.text)
            found.append(f"document {num_written} ({name}): {told}")
    if num_written != num_read:
        found.append(f"{num_written} documents were written, {num_read} read")
    return tuple(found)
