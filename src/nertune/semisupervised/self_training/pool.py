"""The unlabelled texts that self-training reads: streamed, without repeats and without leaks."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappush, heappushpop
from pathlib import Path

from nertune.data.corpus import Corpus
from nertune.data.formats.values import Join
from nertune.data.inputs import expand_files, read_files
from nertune.data.samples import resolve_data
from nertune.errors import DataError
from nertune.pretraining.exclusion import Exclusion
from nertune.pretraining.text import is_labelled
from nertune.types import Document, Scope

__all__ = ["Pool", "PoolCounts", "draw_pool", "read_unlabelled"]

_LOG = logging.getLogger("nertune")
_SAY_EVERY = 1_000_000  # texts


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What became of the unlabelled texts.

    Attributes:
        read: texts that are not blank.
        known: those left out since they stand in the training data.
        leaked: those left out since they stand in dev or test, or share 24 characters in a row.
        repeated: those left out since the same text was among the kept ones; with more texts than
            are drawn, repeats of texts that were not kept are not counted.
        drawn: those kept.
    """

    read: int = 0
    known: int = 0
    leaked: int = 0
    repeated: int = 0
    drawn: int = 0

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        left_out = [
            (self.known, "in the training data"),
            (self.leaked, "in dev or test"),
            (self.repeated, "repeats"),
        ]
        told = ", ".join(f"{number:,} {what}" for number, what in left_out if number)
        return f"unlabelled: {self.drawn:,} of {self.read:,} texts drawn" + (
            f"; left out: {told}" if told else ""
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """Unlabelled documents, in an order that the seed shuffles, and where the others went."""

    documents: tuple[Document, ...]
    counts: PoolCounts


def draw_pool(
    texts: Iterable[Document], corpora: Mapping[str, Corpus], *, most: int, seed: int
) -> Pool:
    """Draw unlabelled texts; memory grows with what is drawn, not with what is read.

    A text's place is a hash of its characters, white space apart, and of the seed; those of the
    lowest hashes are kept (bottom-k sampling; Cohen & Kaplan, 2007). So a text that stands twice is
    drawn once, and the draw depends on the set of texts and not on their order.

    Args:
        texts: unlabelled documents.
        corpora: by split. Texts of `train` are left out, and so is every text that shares 24
            characters in a row with one of `dev` or `test` (`pretraining.exclusion`).
        most: how many to draw, at most.
        seed: of the draw.

    Raises:
        DataError: no text is left.
    """
    known = {_plain(d.text) for d in corpora["train"].documents}
    leaks = Exclusion(
        d.text for split in ("dev", "test") if split in corpora for d in corpora[split].documents
    )
    heap: list[tuple[int, Document]] = []  # the highest hash first
    held: set[int] = set()
    num_read = num_known = num_leaked = num_repeated = 0
    for document in texts:
        plain = _plain(document.text)
        if not plain:
            continue
        num_read += 1
        if num_read % _SAY_EVERY == 0:
            _LOG.info("%s", f"unlabelled: {num_read:,} texts read")
        place = -_hash(plain, seed)
        if plain in known:
            num_known += 1
        elif place in held:
            num_repeated += 1
        elif len(heap) == most and place < heap[0][0]:
            num_leaked += leaks.shares(plain)
        elif leaks.shares(plain):
            num_leaked += 1
        elif len(heap) < most:
            held.add(place)
            heappush(heap, (place, document))
        else:
            held.add(place)
            held.discard(heappushpop(heap, (place, document))[0])
    counts = PoolCounts(num_read, num_known, num_leaked, num_repeated, len(heap))
    if not heap:
        raise DataError(f"--unlabelled: no text is left to learn from ({counts.describe()})")
    return Pool(tuple(d for _, d in sorted(heap, key=lambda item: -item[0])), counts)


def _plain(text: str) -> str:
    return "".join(text.split())


def _hash(plain: str, seed: int) -> int:
    key = seed.to_bytes(8, "little")
    data = plain.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=16, key=key).digest(), "big")


def read_unlabelled(paths: Sequence[Path], *, join: Join) -> Iterator[Document]:
    """The texts of files, one after the other, without what they are labelled with.

    Args:
        paths: text files (a text a line), files of any format that nertune reads, packed or not;
            folders and patterns.
        join: what joins the source tokens of a file, as in the training data.

    Raises:
        DataError: a file or a line of it cannot be read.
    """
    files, left_out = expand_files([resolve_data(str(path)) for path in paths])
    if left_out:
        _LOG.info("%s", f"unlabelled: {len(left_out)} files are of no format, e.g. {left_out[0]}")
    for path in files:
        if path.is_file() and is_labelled(path):
            _LOG.info("%s", f"unlabelled: {path}: what it is labelled with is not read")
        for document in read_files([path], join=join):
            if document.text.strip():
                yield replace(document, entities=(), meta={}, scope=Scope())
