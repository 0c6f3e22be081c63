"""A tagger whose emissions a graph computes: `models.tagger.Tagger` without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nertune.models.graphs.emitter import GraphEmitter
from nertune.models.heads.decoder import Decoder
from nertune.tokens.padding import pad_windows
from nertune.tokens.windows import Window

__all__ = ["GraphTagger"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class GraphTagger:
    """Windows to the scores from which a decoder reads entities.

    Args:
        emitter: computes the logits.
        head: reads entities.
        scores: logits `[B, U, K]` to what `head` takes.
    """

    def __init__(
        self,
        emitter: GraphEmitter,
        head: Decoder,
        scores: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ):
        self.emitter, self.head = emitter, head
        self._scores = scores

    @property
    def batch_tokens(self) -> int:
        """Padded tokens in a batch that are fast."""
        return self.emitter.batch_tokens

    @property
    def computes_beside(self) -> bool:
        """Whether there are threads besides the one that calls."""
        return self.emitter.num_workers > 1

    def predicting(self) -> AbstractContextManager[None]:
        """Nothing: a graph has no other mode."""
        return nullcontext()

    def emit_windows(self, windows: Sequence[Window], *, pad_id: int) -> list[NDArray[np.float32]]:
        """The `[U, K]` scores of each window's owned units.

        Raises:
            ArtifactError: the graph cannot take windows of this number and length.
        """
        padded = pad_windows(windows, pad_id=pad_id)
        emissions_BLK = self.emitter(padded.piece_ids_BL, padded.attention_BL)
        every_B1 = np.arange(len(windows))[:, None]
        logits_BUK = emissions_BLK[every_B1, padded.positions_BU]
        scores_BUK = self._scores(logits_BUK)
        return [
            row_UK[: window.num_units] for row_UK, window in zip(scores_BUK, windows, strict=True)
        ]

    def emit_batches(
        self, emit: Callable[[_Item], _Result], items: list[_Item]
    ) -> Iterable[_Result]:
        """Call `emit` on every item, in order; several beside each other."""
        return self.emitter.map_batches(emit, items)
