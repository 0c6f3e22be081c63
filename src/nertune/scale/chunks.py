"""Documents in chunks, and chunks in shards: always the same ones for the same input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nertune.data.formats.values import Join
from nertune.data.inputs import read_files
from nertune.errors import DataError
from nertune.scale.tasks import Reject
from nertune.types import Document

__all__ = ["CHUNK_DOCUMENTS", "Chunk", "Reading", "cut_chunks", "read_input"]

CHUNK_DOCUMENTS = 512
"""Documents that are sorted by length and tagged together, as `Predictor` does."""
CHUNK_CHARACTERS = 2_000_000
SHARD_CHARACTERS = 64_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input is read; see `data.inputs.read_files`."""

    input_format: str = "auto"
    join: Join = "auto"
    whole: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some documents of a shard.

    Attributes:
        number: of the chunk in the input, from 0.
        shard: the number of its shard, from 0.
        documents: in order.
        rejects: what could not be read before the chunk's last document.
        is_last: of its shard.
    """

    number: int
    shard: int
    documents: tuple[Document, ...]
    rejects: tuple[Reject, ...]
    is_last: bool


def read_input(
    files: Sequence[Path], how: Reading, reject: Callable[[Reject], None]
) -> Iterator[Document]:
    """The documents of files, each with an `id` in its `meta`; what cannot be read is rejected.

    Files without a byte hold no document and are passed over.
    """

    def refuse(error: DataError) -> None:
        where = error.path if error.line is None else f"{error.path}:{error.line}"
        reject(Reject(str(where), str(error)))

    filled = [path for path in files if not path.is_file() or path.stat().st_size]
    return read_files(
        filled, how.input_format, join=how.join, whole=how.whole, options=how.options,
        reject=refuse, with_ids=True,
    )  # fmt: skip


def cut_chunks(
    documents: Iterable[Document], rejects: list[Reject], *, shard_documents: int
) -> Iterator[Chunk]:
    """Chunks of at most 512 documents or two million characters, and shards of whole chunks.

    Args:
        documents: the input.
        rejects: a list that reading appends to; what it holds goes to the next chunk.
        shard_documents: of a shard, at most; one of long documents holds fewer.
    """
    place = _Place()
    held: list[Document] = []
    size = 0
    for document in documents:
        full = len(held) >= min(CHUNK_DOCUMENTS, shard_documents - place.documents)
        if held and (full or size >= CHUNK_CHARACTERS):
            place.pass_by(len(held), size)
            is_last = place.documents >= shard_documents or place.characters >= SHARD_CHARACTERS
            yield Chunk(place.chunk, place.shard, tuple(held), tuple(rejects), is_last)
            place.move(new_shard=is_last)
            rejects.clear()
            held, size = [], 0
        held.append(document)
        size += len(document.text)
    if held or rejects:
        yield Chunk(place.chunk, place.shard, tuple(held), tuple(rejects), is_last=True)
        rejects.clear()


@dataclass(slots=True)
class _Place:
    """Where the next chunk stands, and what its shard holds before it."""

    chunk: int = 0
    shard: int = 0
    documents: int = 0
    characters: int = 0

    def pass_by(self, documents: int, characters: int) -> None:
        self.documents += documents
        self.characters += characters

    def move(self, *, new_shard: bool) -> None:
        self.chunk += 1
        if new_shard:
            self.shard += 1
            self.documents = self.characters = 0
