"""What computes a tagger's emissions without PyTorch, several batches beside each other."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError

__all__ = ["INPUTS", "OUTPUT", "GraphEmitter", "brief"]

INPUTS = ("piece_ids", "attention")
"""What a graph takes."""
OUTPUT = "emissions"
"""What it gives."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class GraphEmitter(ABC):
    """Calls a graph as a tagger calls its emitter, but with arrays.

    On the CPU, several batches are computed beside each other with one thread each (`map_batches`),
    which leaves no core waiting for another; a single one with `alone` threads.

    Args:
        path: the graph.
        workers: batches that `map_batches` computes beside each other.
        alone: threads that share a batch which is computed alone.

    Shape legend:
        B windows, L tokens, K tags.
    """

    def __init__(self, path: Path, *, workers: int, alone: int):
        self.batch_tokens = 512  # of one call; see `Predictor`
        self._path, self.num_workers, self._alone = path, workers, alone
        self._inside = threading.local()
        self._lock = threading.Lock()
        self._opened: dict[bool, Any] = {}
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def _begin(self) -> None:
        """Open what computes one batch alone, and compute a token in this thread.

        The binding of a library (pybind11) may set itself up in its first call, and two threads
        that call it first at the same time can wait for each other for ever: seen with OpenVINO
        2026.4.

        Raises:
            ArtifactError: the graph cannot compute a token.
        """
        self._opened[False] = self._open(beside=False)
        token_BL = np.ones((1, 1), np.int64)
        self(token_BL, token_BL)

    @abstractmethod
    def _open(self, *, beside: bool) -> Any:
        """What computes: batches beside each other, or one alone."""

    @abstractmethod
    def _compute(self, opened: Any, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Emissions `[B, L, K]`; any exception says that the graph cannot take these windows."""

    def _get(self) -> Any:
        """What this thread computes with; each way is opened when it is first needed."""
        beside = bool(getattr(self._inside, "worker", False)) and self._alone != 1
        with self._lock:
            if beside not in self._opened:
                self._opened[beside] = self._open(beside=beside)
            return self._opened[beside]

    def map_batches(
        self, function: Callable[[_Item], _Result], items: list[_Item]
    ) -> list[_Result]:
        """Call a function that calls this emitter on every item, several at a time; in order.

        Whoever calls it beside others shares their workers, and waits behind them.
        """
        if self.num_workers == 1 or len(items) == 1:
            return [function(item) for item in items]
        return list(self._workers().map(function, items))

    def _workers(self) -> ThreadPoolExecutor:
        """The threads that compute batches beside each other; they end with this object."""
        inside = self._inside  # a thread must not hold the emitter, or it would live as long

        def mark() -> None:
            inside.worker = True

        process = os.getpid()
        with self._lock:
            if self._pool is None or self._pool[0] != process:  # a fork has none of the threads
                pool = ThreadPoolExecutor(self.num_workers, "nertune-graph", mark)
                self._pool = process, pool
            return self._pool[1]

    def __call__(
        self, piece_ids_BL: NDArray[np.int64], attention_BL: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Emissions `[B, L, K]`.

        Raises:
            ArtifactError: the graph cannot take windows of this number and length.
        """
        inputs = dict(zip(INPUTS, (piece_ids_BL, attention_BL), strict=True))
        try:
            return self._compute(self._get(), inputs)
        except Exception as error:  # the errors of these libraries have no common base but this one
            raise ArtifactError(
                f"{self._path}: cannot compute {piece_ids_BL.shape[0]} windows of "
                f"{piece_ids_BL.shape[1]} tokens ({brief(error)})"
            ) from error


def brief(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300]
