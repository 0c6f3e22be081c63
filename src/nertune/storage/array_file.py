"""Arrays in files, read piece by piece: what is not asked for takes no memory.

Unlike a memory map, whose pages count as the memory of the process once they were touched.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ArrayFile", "ArrayFileWriter"]


class ArrayFileWriter:
    """Appends rows to a file.

    Args:
        path: of the file, which is made anew.
        dtype: of the numbers, e.g. `<i4`.
        width: numbers in a row.

    Attributes:
        num_rows: written so far.
    """

    def __init__(self, path: Path, dtype: str, *, width: int = 1):
        self._dtype, self._width = np.dtype(dtype), width
        self._stream = path.open("wb", buffering=1 << 20)
        self.num_rows = 0

    def append(self, rows: ArrayLike) -> None:
        """Append whole rows: a multiple of `width` numbers."""
        values = np.asarray(rows, dtype=self._dtype)
        self._stream.write(values.tobytes())
        self.num_rows += values.size // self._width

    def close(self) -> None:
        """All is given to the system."""
        self._stream.close()


class ArrayFile:
    """Reads rows of a file; may be used by several threads.

    Args:
        path, dtype, width: as they were written.
        num_rows: how many there must be.

    Raises:
        OSError: the file cannot be read, or has another size.
    """

    def __init__(self, path: Path, dtype: str, num_rows: int, *, width: int = 1):
        self._dtype, self._width = np.dtype(dtype), width
        self._row_bytes = self._dtype.itemsize * width
        self._stream = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.num_rows = num_rows
        if path.stat().st_size != num_rows * self._row_bytes:
            raise OSError(f"{path} has not {num_rows:,} rows of {self._row_bytes} bytes")

    def __len__(self) -> int:
        return self.num_rows

    def read(self, first: int, last: int) -> NDArray[Any]:
        """The rows from `first` to before `last`, `[N]`, or `[N, width]` of wide ones.

        Raises:
            OSError: they cannot be read.
        """
        data = self.read_bytes(first * self._row_bytes, last * self._row_bytes)
        found = np.frombuffer(data, dtype=self._dtype)
        return found if self._width == 1 else found.reshape(-1, self._width)

    def read_bytes(self, first: int, last: int) -> bytes:
        """The bytes from `first` to before `last`.

        Raises:
            OSError: they cannot be read.
        """
        size = last - first
        if hasattr(os, "pread"):
            data = os.pread(self._stream.fileno(), size, first)
        else:
            with self._lock:
                self._stream.seek(first)
                data = self._stream.read(size) or b""
        if len(data) != size:
            raise OSError(f"{self._stream.name} is cut short")
        return data
