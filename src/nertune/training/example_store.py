"""Training examples on the disk: windows in tokens, and what their units are to learn.

Documents are tokenised once; whoever trains on the same documents with the same tokenizer, units,
windows and tags finds the examples in the cache (`storage.cache`). Windows are read one at a time,
so memory does not depend on how many there are, but for some numbers of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np

import nertune
from nertune.data.corpus import Corpus
from nertune.errors import DataError
from nertune.labels.align import UNKNOWN, LostEntity
from nertune.models.heads.base import Head
from nertune.storage.array_file import ArrayFile, ArrayFileWriter
from nertune.storage.cache import cache_folder, make_once
from nertune.tokens.windows import Segmenter, Window
from nertune.training.examples import (
    Coverage,
    ExampleCounts,
    Examples,
    count_known,
    count_known_pieces,
)
from nertune.types import Entity

__all__ = ["StoredWindows", "store_examples"]

_VERSION = 1
_DTYPES = {"pieces": "<i4", "positions": "<i4", "targets": "<i4", "windows": "<i8"}
_PIECE_END, _UNIT_END, _DOCUMENT, _OWNED_END, _FIRST_UNIT, _ENDS, _KNOWN, _KNOWN_PIECES = range(8)
_WIDTHS = {"windows": 8}
_CHUNK = 1 << 16  # rows that are read at once when all are counted


def store_examples(corpus: Corpus, segmenter: Segmenter, head: Head) -> Examples | None:
    """What `examples.prepare_examples` gives, from the disk.

    Args:
        corpus: the documents.
        segmenter: cuts them.
        head: gives targets.

    Returns:
        `None` where targets are not the ids of tags, e.g. since some units may have one of several
        tags, which the head numbers as it meets them.

    Raises:
        DataError: the cache cannot be written, or is damaged.
        ValueError: an entity's label is not in the tag set.
    """
    kind = type(head)
    told = [
        _VERSION, nertune.__version__, corpus.sha256, segmenter.tokenizer.fingerprint(),
        segmenter.unit, segmenter.max_pieces, segmenter.stride, list(head.tagset.tags),
        f"{kind.__module__}.{kind.__qualname__}",
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
    try:
        folder = make_once(
            cache_folder() / "examples" / key, lambda draft: _write(draft, corpus, segmenter, head)
        )
    except _NotStorableError:
        return None
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        windows = StoredWindows(folder, state["rows"])
        lost, trimmed = (list(map(_lost, state[name])) for name in ("lost", "trimmed"))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"is damaged ({error}): remove the folder", path=folder) from error
    coverage = Coverage(corpus.num_entities, lost, trimmed)
    return Examples(windows, _StoredTargets(windows), coverage, counts=windows.counts())


class _NotStorableError(Exception):
    """Targets are not the ids of tags."""


def _write(draft: Path, corpus: Corpus, segmenter: Segmenter, head: Head) -> None:
    writers = {
        name: ArrayFileWriter(draft / f"{name}.bin", dtype, width=_WIDTHS.get(name, 1))
        for name, dtype in _DTYPES.items()
    }
    lost: list[LostEntity] = []
    trimmed: list[LostEntity] = []
    for index, document in enumerate(corpus.documents):
        encoding, cut = segmenter.segment(document, index)
        found = head.targets(document, encoding.units)
        lost += found.lost
        trimmed += found.trimmed
        if not isinstance(found.values, list) or min(found.values, default=0) < UNKNOWN:
            raise _NotStorableError
        for window in cut:
            _append(writers, window, found.values)
    for writer in writers.values():
        writer.close()
    state = {
        "rows": {name: writer.num_rows for name, writer in writers.items()},
        "lost": [asdict(item) for item in lost], "trimmed": [asdict(item) for item in trimmed],
    }  # fmt: skip
    (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _append(writers: Mapping[str, ArrayFileWriter], window: Window, values: Sequence[int]) -> None:
    tags = values[window.first_unit : window.first_unit + window.num_units]
    writers["pieces"].append(window.piece_ids)
    writers["positions"].append(window.positions)
    writers["targets"].append(tags)
    row = (
        writers["pieces"].num_rows, writers["positions"].num_rows, window.document,
        window.owned_end, window.first_unit, int(window.is_first) + 2 * int(window.is_last),
        count_known(tags), count_known_pieces(window, tags),
    )  # fmt: skip
    writers["windows"].append(row)


def _lost(values: dict[str, Any]) -> LostEntity:
    entity = values["entity"]
    fragments = tuple(map(tuple, entity.pop("fragments")))
    return LostEntity(**{**values, "entity": Entity(**entity, fragments=fragments)})


class StoredWindows(Sequence[Window]):
    """Windows on the disk, each read when it is asked for.

    Args:
        folder: as `store_examples` left it.
        rows: of each file.

    Raises:
        OSError: a file is not there, or not whole.
    """

    def __init__(self, folder: Path, rows: Mapping[str, int]):
        self._files = {
            name: ArrayFile(folder / f"{name}.bin", dtype, rows[name], width=_WIDTHS.get(name, 1))
            for name, dtype in _DTYPES.items()
        }

    def __len__(self) -> int:
        return len(self._files["windows"])

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        (first_piece, first_unit), row = self._row(range(len(self))[index])
        return Window(
            document=row[_DOCUMENT],
            piece_ids=self._files["pieces"].read(first_piece, row[_PIECE_END]).tolist(),
            positions=self._files["positions"].read(first_unit, row[_UNIT_END]).tolist(),
            owned_end=row[_OWNED_END],
            first_unit=row[_FIRST_UNIT],
            is_first=bool(row[_ENDS] & 1),
            is_last=bool(row[_ENDS] & 2),
        )

    def __iter__(self) -> Iterator[Window]:
        return (self[i] for i in range(len(self)))

    def targets(self, index: int) -> list[int]:
        """What the units of a window are to learn."""
        (_, first), row = self._row(range(len(self))[index])
        found: list[int] = self._files["targets"].read(first, row[_UNIT_END]).tolist()
        return found

    def counts(self) -> ExampleCounts:
        """The sizes of all windows."""
        counts = ExampleCounts([], [], [], [])
        last_N2 = np.zeros((1, 2), np.int64)
        for start in range(0, len(self), _CHUNK):
            rows_NC = self._files["windows"].read(start, min(len(self), start + _CHUNK))
            sizes_N2 = np.diff(np.concatenate([last_N2, rows_NC[:, :2]]), axis=0)
            last_N2 = rows_NC[-1:, :2]
            counts.lengths.extend(sizes_N2[:, 0].tolist())
            counts.units.extend(sizes_N2[:, 1].tolist())
            counts.known.extend(rows_NC[:, _KNOWN].tolist())
            counts.known_pieces.extend(rows_NC[:, _KNOWN_PIECES].tolist())
        return counts

    def _row(self, index: int) -> tuple[list[int], list[int]]:
        """Where the window begins among tokens and units, and its row."""
        *before, row = self._files["windows"].read(max(0, index - 1), index + 1).tolist()
        return (before[0][:2] if before else [0, 0]), row


class _StoredTargets(Sequence[Sequence[int]]):
    def __init__(self, windows: StoredWindows):
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> Sequence[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence[int]]: ...
    def __getitem__(self, index: int | slice) -> Sequence[int] | list[Sequence[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._windows.targets(index)
