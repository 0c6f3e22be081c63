"""Documents on the disk, read one at a time, for training data that are larger than memory.

A file is read once, as any format is read, and its documents are put into the cache
(`storage.cache`) under a key that says what was read and how. Whoever asks for the same file again,
e.g. another configuration of a comparison, finds them there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nertune.data.corpus import Corpus, CorpusFacts
from nertune.data.formats.base import ReadOptions
from nertune.data.formats.values import Reading
from nertune.data.reading import CorpusReader
from nertune.data.statistics import ContentHash
from nertune.errors import DataError
from nertune.storage.array_file import ArrayFile, ArrayFileWriter
from nertune.storage.cache import cache_folder, make_once
from nertune.storage.compression import packing
from nertune.storage.hashing import hash_once
from nertune.types import Document, Entity, Scope

__all__ = ["StoredDocuments", "is_large", "load_stored"]

_VERSION = 1
_LARGE_BYTES = 64 << 20
_PACKED = 5  # estimated ratio of unpacked to packed size


def is_large(path: Path) -> bool:
    """Whether a file is one whose documents had better not be held in memory, above 64 MiB."""
    if not path.is_file():
        return False
    return path.stat().st_size * (_PACKED if packing(path) else 1) > _LARGE_BYTES


class StoredDocuments(Sequence[Document]):
    """Documents in a folder, each read when it is asked for.

    Args:
        folder: as `load_stored` left it.
        chosen: which of them, in order; all by default.

    Raises:
        DataError: the folder is damaged.
    """

    def __init__(self, folder: Path, chosen: NDArray[np.int64] | None = None):
        self.folder, self._chosen = folder, chosen
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._ends = ArrayFile(folder / "ends.bin", "<i8", state["documents"])
            self._data = ArrayFile(folder / "documents.bin", "u1", state["bytes"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"is damaged ({error}): remove the folder", path=folder) from error

    def __len__(self) -> int:
        return len(self._ends) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDocuments: ...
    def __getitem__(self, index: int | slice) -> Document | StoredDocuments:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        number = range(len(self))[index]
        if self._chosen is not None:
            number = int(self._chosen[number])
        first = max(0, number - 1)
        *begin, end = self._ends.read(first, number + 1).tolist()
        return _unpack(self._data.read_bytes(begin[0] if begin else 0, end))

    def __iter__(self) -> Iterator[Document]:
        return (self[i] for i in range(len(self)))

    def take(self, places: Sequence[int]) -> StoredDocuments:
        """Some of these documents, in this order."""
        numbers = np.asarray(places, dtype=np.int64)
        return StoredDocuments(
            self.folder, numbers if self._chosen is None else self._chosen[numbers]
        )


def load_stored(path: Path, options: ReadOptions, *, format: str = "auto") -> Corpus:
    """Read a file into the cache, or find it there; see `data.corpus.load_with`.

    The corpus has neither the style of its file nor a list of repaired tags, only their number in
    the notices.

    Raises:
        DataError: the file or a line of it cannot be used, or the cache cannot be written.
        ConfigError: `format` or an option is unknown.
    """
    told = [_VERSION, hash_once(path), path.name, format, _plain(options)]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    def make(draft: Path) -> None:
        reader = CorpusReader(path, options, format=format)
        state = _write(draft, reader)
        state |= {
            "format": reader.format, "reason": reader.reason, "notices": reader.notices,
            "reading": asdict(reader.reading),
        }  # fmt: skip
        (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")

    folder = make_once(cache_folder() / "documents" / key, make)
    documents = StoredDocuments(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Corpus(
        path=path,
        documents=documents,
        format=state["format"],
        reading=Reading(**state["reading"]),
        style=None,
        repairs=(),
        notices=tuple(state["notices"]),
        sha256=state["sha256"],
        reason=state["reason"],
        facts=CorpusFacts(state["entities"], tuple(state["labels"]), state["is_full"]),
    )


def _plain(options: ReadOptions) -> dict[str, Any]:
    values = asdict(replace(options, reject=None))
    return {name: dict(v) if name == "more" else v for name, v in values.items()}


@dataclass
class _Counts:
    entities: int = 0
    is_full: bool = True


def _write(draft: Path, documents: Iterable[Document]) -> dict[str, Any]:
    """The documents one behind the other, where each ends, and what is said of all."""
    ends = ArrayFileWriter(draft / "ends.bin", "<i8")
    content, counts = ContentHash(), _Counts()
    labels: set[str] = set()
    size = 0
    with (draft / "documents.bin").open("wb", buffering=1 << 20) as stream:
        for document in documents:
            data = _pack(document)
            stream.write(data)
            size += len(data)
            ends.append([size])
            content.add(document)
            labels.update(entity.label for entity in document.entities)
            counts.entities += len(document.entities)
            counts.is_full = counts.is_full and document.scope.is_full
    ends.close()
    return {
        "version": _VERSION, "documents": ends.num_rows, "bytes": size,
        "entities": counts.entities, "labels": sorted(labels), "is_full": counts.is_full,
        "sha256": content.hexdigest(),
    }  # fmt: skip


def _pack(document: Document) -> bytes:
    entities = [[e.start, e.end, e.label, e.score, e.fragments] for e in document.entities]
    scope = None if document.scope == Scope() else document.scope.to_dict()
    values = [
        document.text, entities, document.id, document.tokens, dict(document.meta), scope,
    ]  # fmt: skip
    return json.dumps(values, separators=(",", ":")).encode()


def _unpack(data: bytes) -> Document:
    text, entities, id, tokens, meta, scope = json.loads(data)
    return Document(
        text,
        tuple(
            Entity(start, end, label, score, tuple(map(tuple, fragments)))
            for start, end, label, score, fragments in entities
        ),
        id,
        None if tokens is None else tuple(map(tuple, tokens)),
        meta,
        Scope() if scope is None else Scope.from_dict(scope),
    )
