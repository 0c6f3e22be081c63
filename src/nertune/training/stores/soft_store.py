"""Soft targets on disk: windows of unlabelled text, and what a teacher says of each of their units.

Everything is appended as text streams through the teacher and mapped into memory when it is read,
so memory stays flat however much text there is. Of each unit only the likely tags (and pairs of
tags) are kept, in float16; on text that a teacher is sure of, that is one number a unit. Plain
arrays beside a `store.json`: nothing in them can run.

A killed writer goes on behind its last `commit`.

Axes: N rows, U units, K tags.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from nertune.errors import CheckpointError
from nertune.labels.tagset import TagSet
from nertune.models.heads.marginals import Marginals
from nertune.storage.atomic import write_json
from nertune.tokens.windows import Window

__all__ = ["SoftStore", "SoftStoreWriter", "StoredWindows"]

_LEFT_OUT = 1e-4  # of a row's probability, at most: its smallest entries
_VERSION = 1
# What an array file holds; `index` and `count` of rows depend on how long a row is.
_DTYPES = {
    "pieces": "<i4",  # token ids of all windows, one behind the other
    "positions": "<i4",
    "windows": "<i8",  # [N, 7], see _WINDOW
    "weights": "<f4",  # of each document
    "texts": "<i8",  # of each document: which one of the text it is
}
_WINDOW = ("piece_end", "position_end", "document", "owned_end", "first_unit", "ends", "unit_end")
_WIDTH = {"windows": len(_WINDOW)}


def _row_dtypes(name: str, width: int) -> dict[str, str]:
    index = "<u2" if width < 1 << 16 else "<u4"
    return {f"{name}_index": index, f"{name}_value": "<f2", f"{name}_end": "<i8"}


def _dtypes(num_tags: int, *, with_pairs: bool) -> dict[str, str]:
    found = _DTYPES | _row_dtypes("tags", num_tags)
    return found | (_row_dtypes("pairs", num_tags * num_tags) if with_pairs else {})


class SoftStoreWriter:
    """Writes a store, document by document.

    Args:
        folder: of the store; what another run left in it is removed.
        tagset: the student's K tags.
        with_pairs: whether to keep pairs of neighbouring tags, which a CRF learns from.
        key: what decides the content (text, teachers, …). A folder of the same key that a killed
            process left is gone on with; `num_read` says behind which document.

    Example:
        >>> writer = SoftStoreWriter(folder, tagset, with_pairs=True, key=key)  # doctest: +SKIP
        >>> for number, (document, marginals) in enumerate(softened, writer.num_read):
        ...     encoding, windows = segmenter.segment(document)
        ...     writer.add(windows, marginals)                                  # doctest: +SKIP
        >>> store = writer.finish()                                             # doctest: +SKIP
    """

    def __init__(self, folder: Path, tagset: TagSet, *, with_pairs: bool, key: str):
        self._folder, self._tagset, self._key = folder, tagset, key
        self._with_pairs = with_pairs
        self._dtypes = _dtypes(len(tagset), with_pairs=with_pairs)
        self._legal_KK = tagset.legal_KK  # what a CRF forbids would cost without end
        state = self._resumed()
        self.num_read: int = state["num_read"]
        self._sizes: dict[str, int] = dict.fromkeys(self._dtypes, 0) | state["sizes"]
        self._files: dict[str, BinaryIO] = {}
        for name in self._dtypes:
            path = folder / f"{name}.bin"
            with path.open("ab") as stream:
                stream.truncate(self._sizes[name] * self._item_bytes(name))
            self._files[name] = path.open("ab")

    def _resumed(self) -> dict[str, Any]:
        found = _read_state(self._folder)
        if found is not None and found["key"] == self._key:
            return found
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return {"num_read": 0, "sizes": {}}

    def add(
        self, windows: Sequence[Window], marginals: Marginals | None, *, weight: float = 1.0
    ) -> None:
        """Append a document.

        Args:
            windows: of the student; together they own all units of the document. Without any, the
                document is left out and only counts as read.
            marginals: `tags_UK` and, if pairs are kept, `pairs_UKK` over the student's tags, by the
                document's units; `None` without windows.
            weight: factor of the document's loss, at least 0.

        Raises:
            ValueError: units and windows do not fit each other, or a weight is negative.
        """
        self.num_read += 1
        num_units = sum(window.num_units for window in windows)
        if not num_units:
            return
        if marginals is None or len(marginals) != num_units or not weight >= 0:
            raise ValueError(f"{num_units} units need as many rows, and a weight of 0 or more")
        document = self._sizes["weights"]
        base = self._sizes["tags_end"]
        for window in windows:
            self._append("pieces", np.asarray(window.piece_ids))
            self._append("positions", np.asarray(window.positions))
            ends = int(window.is_first) + 2 * int(window.is_last)
            row = (
                self._sizes["pieces"], self._sizes["positions"], document, window.owned_end,
                window.first_unit, ends, base + window.first_unit + window.num_units,
            )  # fmt: skip
            self._append("windows", np.asarray([row]))
        self._append("weights", np.asarray([weight]))
        self._append("texts", np.asarray([self.num_read - 1]))
        self._append_rows("tags", marginals.tags_UK)
        if self._with_pairs:
            assert marginals.pairs_UKK is not None, "pairs are to be kept"
            legal_UKK = marginals.pairs_UKK * self._legal_KK
            self._append_rows("pairs", legal_UKK.reshape(num_units, -1))

    def commit(self) -> None:
        """Put all that was added on the disk, so that a killed process goes on from here."""
        self._save(is_complete=False)

    def finish(self) -> SoftStore:
        """Put all on the disk; the store is complete."""
        self._save(is_complete=True)
        self.close()
        return SoftStore(self._folder, self._tagset)

    def close(self) -> None:
        """Let go of the files."""
        for stream in self._files.values():
            stream.close()

    def _save(self, *, is_complete: bool) -> None:
        for stream in self._files.values():
            stream.flush()
            os.fsync(stream.fileno())
        state = {
            "version": _VERSION, "key": self._key, "tags": list(self._tagset.tags),
            "with_pairs": self._with_pairs, "is_complete": is_complete,
            "num_read": self.num_read, "sizes": self._sizes,
        }  # fmt: skip
        write_json(self._folder / "store.json", state)

    def _append_rows(self, name: str, rows_NW: NDArray[np.floating]) -> None:
        """The likely entries of rows, and where each row ends."""
        keep_NW = _likely(rows_NW)
        row_C, index_C = np.nonzero(keep_NW)
        ends_N = self._sizes[f"{name}_index"] + np.cumsum(keep_NW.sum(axis=1))
        self._append(f"{name}_index", index_C)
        self._append(f"{name}_value", rows_NW[row_C, index_C])
        self._append(f"{name}_end", ends_N)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        self._files[name].write(values.astype(self._dtypes[name]).tobytes())
        self._sizes[name] += len(values)

    def _item_bytes(self, name: str) -> int:
        return np.dtype(self._dtypes[name]).itemsize * _WIDTH.get(name, 1)


class SoftStore:
    """A complete store, mapped into memory.

    Args:
        folder: as `SoftStoreWriter.finish` left it.
        tagset: the K tags that it must be of.

    Attributes:
        windows: those of all documents, read from the disk one at a time.

    Raises:
        CheckpointError: there is no complete store, or it is of other tags.
    """

    def __init__(self, folder: Path, tagset: TagSet):
        state = _read_state(folder)
        if state is None or not state["is_complete"]:
            raise CheckpointError(f"{folder}: holds no complete soft targets; write them again")
        if tuple(state["tags"]) != tagset.tags:
            raise CheckpointError(
                f"{folder}: the soft targets are of the tags {', '.join(state['tags'])}, and the "
                f"student has {', '.join(tagset.tags)}; write them again"
            )
        self.num_read: int = state["num_read"]
        self.with_pairs: bool = state["with_pairs"]
        self._num_tags = len(tagset)
        dtypes = _dtypes(self._num_tags, with_pairs=self.with_pairs)
        self._arrays = {
            name: _map(folder / f"{name}.bin", dtype, state["sizes"][name], _WIDTH.get(name))
            for name, dtype in dtypes.items()
        }
        self.windows = StoredWindows(self._arrays)

    @staticmethod
    def is_complete(folder: Path, key: str) -> bool:
        """Whether there is a complete store of this key."""
        state = _read_state(folder)
        return state is not None and state["key"] == key and bool(state["is_complete"])

    @property
    def num_documents(self) -> int:
        """Documents with units."""
        return len(self._arrays["weights"])

    @property
    def num_units(self) -> int:
        """Units of all documents."""
        return len(self._arrays["tags_end"])

    @property
    def num_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(int(array.nbytes) for array in self._arrays.values())

    @property
    def texts(self) -> NDArray[np.int64]:
        """Of each document the number of the text that it was, counted from 0, in order."""
        return np.asarray(self._arrays["texts"])

    def weight(self, window: int) -> float:
        """Of the window's document."""
        return float(self._arrays["weights"][int(self._arrays["windows"][window, 2])])

    def tags(self, window: int) -> NDArray[np.float32]:
        """What the window's owned units are to learn, `[U, K]`; every row sums to 1."""
        first, last = self.windows.units(window)
        return self._rows("tags", first, last, self._num_tags)

    def pairs(self, window: int) -> NDArray[np.float32]:
        """The pairs within a window, `[U, K, K]`: `[u, j, k]` of units u−1 and u; zeros at 0."""
        first, last = self.windows.units(window)
        size = self._num_tags
        pairs_UKK = np.zeros((last - first, size, size), np.float32)
        if last - first > 1:
            rows_NW = self._rows("pairs", first + 1, last, size * size)
            pairs_UKK[1:] = rows_NW.reshape(-1, size, size)
        return pairs_UKK

    def _rows(self, name: str, first: int, last: int, width: int) -> NDArray[np.float32]:
        ends, index, value = (self._arrays[f"{name}_{part}"] for part in ("end", "index", "value"))
        ends_N = np.asarray(ends[first:last])
        begin = int(ends[first - 1]) if first else 0
        end = int(ends_N[-1]) if len(ends_N) else begin
        count_N = np.diff(ends_N, prepend=begin)
        rows_NW = np.zeros((last - first, width), np.float32)
        rows_NW[np.repeat(np.arange(last - first), count_N), index[begin:end]] = value[begin:end]
        sums_N1 = rows_NW.sum(axis=1, keepdims=True)
        # Rounded and cut rows sum to 1 again: a shift of all logits must not change the loss.
        np.divide(rows_NW, sums_N1, out=rows_NW, where=sums_N1 > 0)
        return rows_NW


class StoredWindows(Sequence[Window]):
    """The windows of a store, in order; each is read when it is asked for."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]):
        self._pieces, self._positions = arrays["pieces"], arrays["positions"]
        self._windows: NDArray[np.int64] = arrays["windows"]

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        piece_end, position_end, document, owned_end, first_unit, ends, _ = map(
            int, self._windows[index]
        )
        piece_start, position_start = map(int, self._windows[index - 1, :2]) if index else (0, 0)
        return Window(
            document=document,
            piece_ids=self._pieces[piece_start:piece_end].tolist(),
            positions=self._positions[position_start:position_end].tolist(),
            owned_end=owned_end,
            first_unit=first_unit,
            is_first=bool(ends & 1),
            is_last=bool(ends & 2),
        )

    def __iter__(self) -> Iterator[Window]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each window."""
        lengths: list[int] = np.diff(self._windows[:, 0], prepend=0).tolist()
        return lengths

    @property
    def num_units(self) -> list[int]:
        """Units that each window owns."""
        counts: list[int] = np.diff(self._windows[:, 1], prepend=0).tolist()
        return counts

    @property
    def num_owned_pieces(self) -> list[int]:
        """Tokens of the units that each window owns."""
        ends_N = self._windows[:, 1]
        firsts_N = self._positions[np.concatenate([[0], ends_N[:-1]])] if len(ends_N) else ends_N
        counts: list[int] = (self._windows[:, 3] - firsts_N).tolist()
        return counts

    def units(self, window: int) -> tuple[int, int]:
        """Which rows of the store the window's owned units are."""
        position_end, unit_end = (int(self._windows[window, i]) for i in (1, 6))
        start = int(self._windows[window - 1, 1]) if window else 0
        return unit_end - (position_end - start), unit_end


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if state.get("version") == _VERSION else None


def _map(path: Path, dtype: str, size: int, width: int | None) -> NDArray[Any]:
    """A file as an array; an empty one cannot be mapped."""
    shape = (size,) if width is None else (size, width)
    if not size:
        return np.zeros(shape, dtype)
    try:
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); write the store again") from error


def _likely(rows_NW: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The entries of each row but the smallest ones that together are nearly nothing."""
    order_NW = np.argsort(rows_NW, axis=1)
    smaller_NW = np.cumsum(np.take_along_axis(rows_NW, order_NW, axis=1), axis=1)
    keep_NW = np.zeros(rows_NW.shape, bool)
    total_N1 = rows_NW.sum(axis=1, keepdims=True)
    np.put_along_axis(keep_NW, order_NW, smaller_NW > _LEFT_OUT * total_N1, axis=1)
    return keep_NW & (rows_NW > 0)
