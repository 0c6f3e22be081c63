"""The batches of a training run: which windows, in which order, with what they are to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from nertune.labels.align import UNKNOWN
from nertune.tokens.batching import Batch, collate
from nertune.tokens.grouping import epoch_batches
from nertune.tokens.windows import Window
from nertune.training.examples import Examples
from nertune.training.noise import TokenNoise
from nertune.training.stores.hidden_state_cache import StateStore

__all__ = ["TrainingBatches", "order_of_epoch"]

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

    Attributes:
        num_batches: of an epoch; 0: one pass over the examples. Passes follow each other without a
            break, so an epoch may end within one.
        seed: that was given.
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
        self._examples, self._windows = examples, examples.all_windows
        self._budget_tokens, self.seed, self._pad_id = budget_tokens, seed, pad_id
        self._continuation, self.states, self._noise = continuation, states, noise
        self._lengths = examples.lengths
        self._units = examples.count_units()
        self.num_batches = 0
        self._sizes: list[int] = []
        self._targets = examples.count_targets(all_pieces=continuation is not None)

    def order(self, epoch: int) -> Sequence[list[int]]:
        """The windows of each batch of an epoch, which counts from 1."""
        return order_of_epoch(
            self._lengths,
            budget_tokens=self._budget_tokens,
            seed=self.seed,
            epoch=epoch,
            num_batches=self.num_batches,
            sizes=self._sizes,
        )

    def count_targets(self, chosen: Sequence[int]) -> int:
        """How many units of these windows enter the loss; their tokens, with a continuation."""
        return sum(self._targets[i] for i in chosen)

    def count_units(self, chosen: Sequence[int]) -> int:
        """How many units these windows own."""
        return sum(self._units[i] for i in chosen)

    def load(
        self, order: Iterable[Sequence[int]], device: torch.device, *, epoch: int
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
            tags=self._gold(chosen),
            continuation=self._continuation,
        )
        if self.states is not None:
            batch = replace(batch, states_BLD=self.states.batch(chosen))
        num_gold = len(self._examples.targets)
        rows = {row: i - num_gold for row, i in enumerate(chosen) if i >= num_gold}
        if not rows:
            return batch
        assert self._examples.soft is not None
        return self._examples.soft.add_to(batch, rows, continuation=self._continuation)

    def _window(self, index: int, epoch: int) -> Window:
        window = self._windows[index]
        return window if self._noise is None else self._noise.apply(window, index, epoch)

    def _gold(self, chosen: Sequence[int]) -> list[Sequence[Any]]:
        """Of each window; of one without gold, that nothing is known."""
        gold = self._examples.targets
        shape = np.shape(gold[0])[1:] if gold else ()
        return [
            gold[i] if i < len(gold) else np.full((self._units[i], *shape), UNKNOWN).tolist()
            for i in chosen
        ]


def order_of_epoch(
    lengths: Sequence[int],
    *,
    budget_tokens: int,
    seed: int,
    epoch: int,
    num_batches: int = 0,
    sizes: list[int] | None = None,
) -> Sequence[list[int]]:
    """The batches of an epoch; see `tokens.grouping.epoch_batches`.

    Args:
        lengths, budget_tokens, seed, epoch: as there.
        num_batches: of an epoch; 0: one pass. Otherwise passes follow each other without a break.
        sizes: how many batches the first passes have, as far as that is known; gets more of them.
    """
    if not num_batches or not lengths:
        return epoch_batches(lengths, budget_tokens=budget_tokens, seed=seed, epoch=epoch)
    sizes = [] if sizes is None else sizes
    found: list[list[int]] = []
    skip, number = (epoch - 1) * num_batches, 0
    while len(found) < num_batches:
        number += 1
        if number <= len(sizes) and sizes[number - 1] <= skip:  # passes differ in their number
            skip -= sizes[number - 1]
            continue
        one = epoch_batches(lengths, budget_tokens=budget_tokens, seed=seed, epoch=number)
        sizes += [len(one)] if number > len(sizes) else []
        found += one[skip:]
        skip = max(0, skip - len(one))
    return found[:num_batches]


def _map_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Like `map`, the next result computed by another thread while this one is used."""
    with ThreadPoolExecutor(1, "nertune-batches") as pool:
        coming: Future[_Result] | None = None
        for item in items:
            before, coming = coming, pool.submit(function, item)
            if before is not None:
                yield before.result()
        if coming is not None:
            yield coming.result()
