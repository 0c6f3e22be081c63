"""What the frozen layers of an encoder give for each window, kept between epochs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nertune.models.encoder import EncoderEmitter
from nertune.models.tagger import Tagger
from nertune.tokens.batching import collate
from nertune.tokens.grouping import sorted_batches
from nertune.tokens.windows import Window
from nertune.training.accelerator import computed_precision

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["StateStore", "count_state_bytes", "store_states"]

_STORED_AS = {torch.float32: np.float32, torch.bfloat16: np.int16}  # NumPy has no bfloat16
_IN_MEMORY_BYTES = 2 << 30  # more than this lies on disk
_BUDGET_TOKENS = 4096


class StateStore:
    """Hidden states of windows, one behind the other; on disk where there are many.

    Args:
        lengths: tokens of each window.
        width: of the encoder, D.
        folder: where a file may lie; it is removed by `close`.
        dtype: in which they are kept, float32 or bfloat16.
        in_memory_bytes: up to this size nothing is written.

    Raises:
        OSError: the disk has no room for them.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        *,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        in_memory_bytes: int = _IN_MEMORY_BYTES,
    ):
        self._starts = [0, *accumulate(lengths)]
        shape = (self._starts[-1], width)
        size = dtype.itemsize * shape[0] * shape[1]
        stored_as = _STORED_AS[dtype]
        self._file = None
        if size <= in_memory_bytes:
            array_ND = np.empty(shape, dtype=stored_as)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            # Its name is gone at once where the system allows it, so that a kill leaves nothing.
            self._file = tempfile.TemporaryFile(prefix=".states-", dir=folder)  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):  # a full disk would end the process later on
                os.posix_fallocate(self._file.fileno(), 0, max(1, size))
            array_ND = np.memmap(self._file, dtype=stored_as, mode="w+", shape=shape)
        self._states_ND = torch.from_numpy(array_ND).view(dtype)

    @property
    def is_on_disk(self) -> bool:
        return self._file is not None

    def put(self, window: int, states_LD: Tensor) -> None:
        """Keep a window's states, rounded to the store's dtype."""
        self._states_ND[self._starts[window] : self._starts[window + 1]] = states_LD

    def batch(self, windows: Sequence[int]) -> Tensor:
        """The states of some windows, `[B, L, D]` in float32, zeros at padding."""
        longest = max(self._starts[i + 1] - self._starts[i] for i in windows)
        states_BLD = torch.zeros(len(windows), longest, self._states_ND.shape[1])
        for row, i in enumerate(windows):
            found_LD = self._states_ND[self._starts[i] : self._starts[i + 1]]
            states_BLD[row, : len(found_LD)] = found_LD
        return states_BLD

    def close(self) -> None:
        """Give memory and disk back."""
        self._states_ND = torch.empty(0, 0)
        if self._file is not None:
            self._file.close()


def count_state_bytes(tagger: Tagger, lengths: Sequence[int], accelerator: Accelerator) -> int:
    """How much the states of windows take; 0 where no layer is frozen from below.

    Args:
        tagger: whose layers run.
        lengths: tokens of each window.
        accelerator: whose precision the states are kept in.
    """
    prefix = tagger.emitter.prefix if isinstance(tagger.emitter, EncoderEmitter) else None
    return 0 if prefix is None else _dtype(accelerator).itemsize * prefix.width * sum(lengths)


def store_states(
    tagger: Tagger,
    windows: Sequence[Window],
    *,
    pad_id: int,
    accelerator: Accelerator,
    folder: Path,
) -> StateStore:
    """Run every window through the frozen layers once, without dropout.

    The states are kept in bfloat16 where training computes in it, in half of the bytes. This rounds
    what is added to the next layer's output, too, and not only what its matrix products read.
    """
    assert isinstance(tagger.emitter, EncoderEmitter)
    prefix = tagger.emitter.prefix
    assert prefix is not None, "no layer is frozen"
    lengths = [len(window.piece_ids) for window in windows]
    store = StateStore(lengths, prefix.width, folder=folder, dtype=_dtype(accelerator))
    for chosen in sorted_batches(lengths, budget_tokens=_BUDGET_TOKENS):
        batch = collate([windows[i] for i in chosen], pad_id=pad_id).to(accelerator.device)
        with accelerator.autocast():
            states_BLD = prefix.states(batch.piece_ids_BL, batch.attention_BL)
        states_BLD = states_BLD.cpu()
        for row, i in enumerate(chosen):
            store.put(i, states_BLD[row, : lengths[i]])
    return store


def _dtype(accelerator: Accelerator) -> torch.dtype:
    return torch.bfloat16 if computed_precision(accelerator) == "bf16" else torch.float32
