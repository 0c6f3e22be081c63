"""The files of an annotated corpus: one a shard, a journal of those that are done, and a manifest.

shards/shard-00001.jsonl  tagged documents; appears when it is complete and on the disk
journal.jsonl       a line for each shard that is done: counts, hash, rejects
rejects.jsonl       in the end: what has no answer, and why
manifest.json       hashes of model and input, options, counts
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nertune.errors import DataError
from nertune.scale.table import TableWriter
from nertune.scale.tasks import OutputFormat, Reject, Tagged
from nertune.storage.atomic import flush, write_json, write_whole
from nertune.storage.files import hash_file

__all__ = ["JOURNAL", "MANIFEST", "REJECTS", "SHARDS", "Shard", "ShardFolder"]

MANIFEST, JOURNAL, REJECTS = "manifest.json", "journal.jsonl", "rejects.jsonl"
SHARDS = "shards"
_OWN = re.compile(r"shard-\d{5,}\.(jsonl|parquet)|\.shard-\d{5,}\.(jsonl|parquet)\.part")


@dataclass(slots=True)
class Shard:
    """A shard that is done.

    Attributes:
        number: from 0.
        file: its path in the output; empty for one in which all is rejected.
        sha256: of the file.
        tagged: counts and rejects, without the data.
    """

    number: int
    file: str
    sha256: str
    tagged: Tagged

    def to_dict(self) -> dict[str, Any]:
        """A line of the journal."""
        own = {"shard": self.number, "file": self.file, "sha256": self.sha256}
        return {**own, **self.tagged.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shard:
        """What `to_dict` gave."""
        tagged = Tagged.from_dict(values)
        return cls(values["shard"], values["file"], values["sha256"], tagged)


@dataclass
class ShardFolder:
    """Writes the shards, one chunk after the other.

    Args:
        folder: the output.
        format: of the shards.
    """

    folder: Path
    format: OutputFormat
    _open: _OpenShard | None = field(default=None, init=False)

    def add(
        self, shard: int, tagged: Tagged, *, rejects: tuple[Reject, ...], is_last: bool
    ) -> Shard | None:
        """Write the next chunk; gives its shard when that is complete.

        Args:
            shard: its number.
            tagged: the chunk.
            rejects: what could not be read before its last document.
            is_last: of its shard.

        Raises:
            DataError: the file cannot be written, e.g. since the disk is full.
        """
        name = f"{SHARDS}/shard-{shard + 1:05d}.{self.format}"
        try:
            if self._open is None:
                self._open = _OpenShard(self.folder, name, self.format)
            self._open.add(tagged, rejects)
            if not is_last:
                return None
            done = self._open.finish(shard)
            self._open = None
            _append(self.folder / JOURNAL, done.to_dict())
        except OSError as error:
            self.close()
            raise DataError(
                f"cannot be written: {error.strerror or error}; --resume continues",
                path=self.folder / name,
            ) from error
        return done

    def close(self) -> None:
        """Remove a shard that is not complete."""
        if self._open is not None:
            self._open.discard()
            self._open = None

    def finished(self) -> Iterator[Shard]:
        """The shards that are done, as the journal has them and whose files are what they were.

        A last line that was cut off by a kill is left out, as is any shard whose file is gone.
        """
        path = self.folder / JOURNAL
        if not path.exists():
            return
        with path.open("rb") as lines:
            for line in lines:
                try:
                    shard = Shard.from_dict(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue
                file = self.folder / shard.file
                if not shard.file or (file.is_file() and hash_file(file) == shard.sha256):
                    yield shard

    def repair(self, shards: Mapping[int, Shard]) -> None:
        """Write the journal anew, these shards alone, in order; remove what a kill has left."""

        def write(part: Path) -> None:
            with part.open("w", encoding="utf-8", newline="\n") as stream:
                for _, shard in sorted(shards.items()):
                    stream.write(_line(shard.to_dict()))

        write_whole(self.folder / JOURNAL, write)
        (self.folder / SHARDS).mkdir(exist_ok=True)
        for left in (self.folder / SHARDS).glob(".shard-*.part"):
            if _OWN.fullmatch(left.name):
                left.unlink()

    def remove(self) -> None:
        """Remove what an annotation writes; the manifest, which says whose it is, goes last."""
        for path in (self.folder / SHARDS).glob("*"):
            if _OWN.fullmatch(path.name):
                path.unlink()
        for name in (JOURNAL, REJECTS, MANIFEST):
            (self.folder / name).unlink(missing_ok=True)

    def write_rejects(self, shards: Mapping[int, Shard]) -> int:
        """Write what has no answer, in the order of the input; gives how many."""
        number = 0

        def write(part: Path) -> None:
            nonlocal number
            with part.open("w", encoding="utf-8", newline="\n") as stream:
                for _, shard in sorted(shards.items()):
                    for reject in shard.tagged.rejects:
                        stream.write(_line(reject.to_dict()))
                        number += 1

        write_whole(self.folder / REJECTS, write)
        return number

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """Write what is said of the whole."""
        write_json(self.folder / MANIFEST, values)


class _OpenShard:
    """A shard that is being written, under a name of its own."""

    def __init__(self, folder: Path, name: str, format: OutputFormat):
        self._path, self._name = folder / name, name
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._total = Tagged()
        self._stream: IO[bytes] | None = None
        self._table: TableWriter | None = None
        self._format = format

    def add(self, tagged: Tagged, rejects: tuple[Reject, ...]) -> None:
        total = self._total
        total.rejects += [*rejects, *tagged.rejects]
        total.num_documents += tagged.num_documents
        total.num_units += tagged.num_units
        total.entities.update(tagged.entities)
        total.losses.update(tagged.losses)
        if not tagged.num_documents:
            return
        if self._stream is None:
            self._stream = self._part.open("wb")
        if self._format == "parquet":
            self._table = self._table or TableWriter(self._stream)
            self._table.add(tagged.data)
        else:
            self._stream.write(tagged.data)

    def finish(self, number: int) -> Shard:
        if self._stream is None:  # all was rejected
            return Shard(number, "", "", self._total)
        if self._table is not None:
            self._table.close()
        self._stream.close()
        flush(self._part)
        sha256 = hash_file(self._part)
        self._part.replace(self._path)
        flush(self._path.parent)
        return Shard(number, self._name, sha256, self._total)

    def discard(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # what could not be written
                self._stream.close()
        self._part.unlink(missing_ok=True)


def _append(path: Path, values: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(_line(values))
        stream.flush()
        os.fsync(stream.fileno())


def _line(values: Mapping[str, Any]) -> str:
    # Escaped: a file name may hold bytes that are no UTF-8.
    return json.dumps(values) + "\n"
