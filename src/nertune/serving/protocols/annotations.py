"""What annotation tools send back: finished annotations, kept as training data.

    FOLDER/label-studio-2.jsonl            nertune JSONL of what holds now: train on this
    FOLDER/.changes/label-studio-2.jsonl   every change, in the order in which they came

A change is on the disk before its request is answered. The file to train on is made of the
changes, so that a crash between the two loses nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock, Timeout

from nertune.data.formats.base import WriteOptions
from nertune.data.formats.registry import find_format
from nertune.errors import ConfigError, DataError
from nertune.storage.atomic import write_whole
from nertune.types import Document

__all__ = ["AnnotationStore"]

_LOG = logging.getLogger("nertune")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,150}")


class _Place(NamedTuple):
    """Where the last change of a key stands."""

    offset: int
    length: int
    digest: bytes


@dataclass(slots=True)
class _Kept:
    """One file's state: keys that hold now, in the order in which they came first.

    Attributes:
        places: of each key the last change, in the file of changes.
        size: bytes of the file of changes.
        is_stale: whether the file to train on has to be written again.
    """

    places: dict[str, _Place] = field(default_factory=dict)
    size: int = 0
    is_stale: bool = True


class AnnotationStore:
    """Keeps annotations in a folder. Threads may share it; processes may not.

    What was sent before and is sent again changes nothing.

    Args:
        folder: where; it is made if it is missing.

    Raises:
        ConfigError: the folder cannot be written, or another server keeps annotations in it.

    Example:
        >>> with AnnotationStore(Path("annotations")) as store:               # doctest: +SKIP
        ...     store.keep("label-studio-2", "17", [document], event="ANNOTATION_CREATED")
        True
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._changes = folder / ".changes"
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        try:
            self._changes.mkdir(parents=True, exist_ok=True)
            self._owner = FileLock(self._changes / "lock", timeout=0)
            self._owner.acquire()
        except Timeout as error:
            told = "another server keeps annotations in it: name another folder with --annotations"
            raise ConfigError(f"{folder}: {told}") from error
        except OSError as error:
            told = f"{error.strerror}: name a folder that can be written with --annotations"
            raise ConfigError(f"{folder}: {told}") from error

    def __enter__(self) -> AnnotationStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the folder."""
        self._owner.release()

    def file(self, name: str) -> Path:
        """The file to train on.

        Raises:
            DataError: it is no name of a file.
        """
        if not _NAME.fullmatch(name):
            raise DataError(f"{name!r} is no name of a file: expected letters, digits, . _ and -")
        return self.folder / f"{name}.jsonl"

    def keep(self, name: str, key: str, documents: Sequence[Document], *, event: str) -> bool:
        """Keep the documents of a key, instead of those that it had.

        Args:
            name: of the file.
            key: what identifies them for the tool, e.g. the annotation's number.
            documents: what holds now.
            event: why, for whoever reads the changes.

        Returns:
            Whether that changes anything.

        Raises:
            DataError: it cannot be written, or the file of changes is damaged.
        """
        format = find_format("jsonl")
        fitted = [format.fit(document, WriteOptions()).document for document in documents]
        found = [document.to_dict() for document in fitted if document is not None]
        return self._change(name, key, found, event)

    def remove(self, name: str, key: str, *, event: str) -> bool:
        """Forget a key; arguments, answer and errors are those of `keep`."""
        return self._change(name, key, None, event)

    def _change(
        self, name: str, key: str, documents: list[dict[str, Any]] | None, event: str
    ) -> bool:
        path = self.file(name)
        with self._lock:
            try:
                kept = self._kept.get(name) or self._read(name)
                is_new = key not in kept.places
                changed = self._append(name, kept, key, documents, event)
                if changed and is_new and not kept.is_stale and path.is_file():
                    _append_lines(path, documents or [])
                elif changed or kept.is_stale or not path.is_file():
                    self._write_current(path, kept, name)
            except OSError as error:
                self._kept.pop(name, None)  # read again next time: what is written may be cut off
                told = f"the annotation is not kept: {error.strerror}; make room, or name another"
                raise DataError(f"{told} folder with --annotations", path=path) from error
            return changed

    def _append(
        self,
        name: str,
        kept: _Kept,
        key: str,
        documents: list[dict[str, Any]] | None,
        event: str,
    ) -> bool:
        digest = _hash(documents)
        known = kept.places.get(key)
        if (known is None and documents is None) or (known and known.digest == digest):
            return False
        now = datetime.now(UTC).isoformat(timespec="seconds")
        change = {"key": key, "event": event, "at": now, "documents": documents}
        line = json.dumps(change, ensure_ascii=False).encode() + b"\n"
        with (self._changes / f"{name}.jsonl").open("ab") as stream:
            stream.write(line)
            _flush(stream)
        if documents is None:
            del kept.places[key]
        else:
            kept.places[key] = _Place(kept.size, len(line), digest)
        kept.size += len(line)
        return True

    def _read(self, name: str) -> _Kept:
        """The state that the file of changes describes; a last line that was cut off goes."""
        kept = _Kept()
        path = self._changes / f"{name}.jsonl"
        if path.is_file():
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if not line.endswith(b"\n"):
                        break  # its request was never answered
                    key, documents = _parse(line, path, number)
                    if documents is None:
                        kept.places.pop(key, None)
                    else:
                        kept.places[key] = _Place(kept.size, len(line), _hash(documents))
                    kept.size += len(line)
            if path.stat().st_size > kept.size:
                _LOG.warning("%s: its last line was cut off and is removed", path)
                os.truncate(path, kept.size)
        self._kept[name] = kept
        return kept

    def _write_current(self, path: Path, kept: _Kept, name: str) -> None:
        """The whole file to train on, in place of the one before."""
        changes = self._changes / f"{name}.jsonl"
        kept.is_stale = True

        def write(part: Path) -> None:
            with part.open("wb") as target:
                if not kept.places:
                    return
                with changes.open("rb") as source:
                    for place in kept.places.values():
                        source.seek(place.offset)
                        _, documents = _parse(source.read(place.length), changes, None)
                        target.write(_lines(documents or []))

        write_whole(path, write)
        kept.is_stale = False


def _parse(line: bytes, path: Path, number: int | None) -> tuple[str, list[dict[str, Any]] | None]:
    try:
        change = json.loads(line)
        return str(change["key"]), change["documents"]
    except (ValueError, KeyError, TypeError) as error:
        told = "this line is no change: restore the file, or move it away to begin anew"
        raise DataError(told, path=path, line=number) from error


def _hash(documents: list[dict[str, Any]] | None) -> bytes:
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).digest()


def _lines(documents: Iterable[dict[str, Any]]) -> bytes:
    stream = io.StringIO()
    found = (Document.from_dict(document) for document in documents)
    find_format("jsonl").write(found, stream, WriteOptions())
    return stream.getvalue().encode()


def _append_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    with path.open("ab") as stream:
        stream.write(_lines(documents))
        _flush(stream)


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())
