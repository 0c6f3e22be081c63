"""The batches of a training run: which windows, in which order, with what they are to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from nertune.tokens.batching import Batch, collate, epoch_batches
from nertune.tokens.windows import Window
from nertune.training.examples import Examples
from nertune.training.hidden_state_cache import StateStore
from nertune.training.noise import TokenNoise

__all__ = ["TrainingBatches"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class TrainingBatches:
    """Examples in batches, in an order that depends on seed and epoch alone.

    Args:
        examples: what to train on.
        budget_tokens: the padded size of a batch, in tokens, at most.
        seed: orders the batches.
        pad_id: fills them.
        continuation: with `model.pieces = "all"`, as for `collate`.
        states: what the frozen layers give for every window, if they are not to be run again.
        noise: masks tokens; not with `states`, which were computed without.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        budget_tokens: int,
        seed: int,
        pad_id: int,
        continuation: Sequence[int] | Mapping[int, int] | None = None,
        states: StateStore | None = None,
        noise: TokenNoise | None = None,
    ):
        assert states is None or noise is None, "states of masked tokens are not kept"
        self._examples = examples
        self._budget_tokens, self._seed, self._pad_id = budget_tokens, seed, pad_id
        self._continuation, self.states, self._noise = continuation, states, noise
        self._lengths = [len(window.piece_ids) for window in examples.windows]
        self._targets = examples.count_targets(all_pieces=continuation is not None)

    def order(self, epoch: int) -> list[list[int]]:
        """The windows of each batch of an epoch, which counts from 1."""
        return epoch_batches(
            self._lengths, budget_tokens=self._budget_tokens, seed=self._seed, epoch=epoch
        )

    def count_targets(self, chosen: Sequence[int]) -> int:
        """How many units of these windows enter the loss; their tokens, with a continuation."""
        return sum(self._targets[i] for i in chosen)

    def count_units(self, chosen: Sequence[int]) -> int:
        """How many units these windows own."""
        return sum(len(self._examples.targets[i]) for i in chosen)

    def load(
        self, order: Sequence[Sequence[int]], device: torch.device, *, epoch: int
    ) -> Iterator[Batch]:
        """The batches on a device; elsewhere than on the CPU each is made ready ahead.

        Args:
            order: the windows of each batch, all or some of `self.order(epoch)`.
            device: where the batches shall be.
            epoch: the epoch, which decides what `noise` masks.
        """

        def prepare(chosen: Sequence[int]) -> Batch:
            return self._collate(chosen, epoch).to(device)

        # The cores of a CPU are all at work.
        return map(prepare, order) if device.type == "cpu" else _map_ahead(prepare, order)

    def _collate(self, chosen: Sequence[int], epoch: int) -> Batch:
        batch = collate(
            [self._window(i, epoch) for i in chosen],
            pad_id=self._pad_id,
            tags=[self._examples.targets[i] for i in chosen],
            continuation=self._continuation,
        )
        return (
            batch if self.states is None else replace(batch, states_BLD=self.states.batch(chosen))
        )

    def _window(self, index: int, epoch: int) -> Window:
        window = self._examples.windows[index]
        return window if self._noise is None else self._noise.apply(window, index, epoch)


def _map_ahead(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Like `map`, the next result computed by another thread while this one is used."""
    with ThreadPoolExecutor(1, "nertune-batches") as pool:
        coming = pool.submit(function, items[0]) if items else None
        for item in (*items[1:], None):
            if coming is None:
                return
            result = coming.result()
            coming = None if item is None else pool.submit(function, item)
            yield result
