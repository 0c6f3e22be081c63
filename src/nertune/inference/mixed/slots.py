"""Which models are in memory; the least recently used one makes room and is read again later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nertune.errors import NertuneError
from nertune.inference.mixed.models import Mixed, Own
from nertune.inference.mixed.stacks import NO_ADAPTER, Pair, Stacks
from nertune.inference.predictor import Predictor

__all__ = ["Held", "OwnModels", "Slots"]


@dataclass(frozen=True, slots=True)
class Held:
    """Models that stay in memory while a batch is computed.

    Attributes:
        slots: where they are.
        failed: those that could not be read again.
        pairs: the stacks of the linear modules.
        heads: the stacks of the heads.
    """

    slots: Mapping[Mixed, int]
    failed: Mapping[Mixed, NertuneError]
    pairs: Mapping[str, Pair]
    heads: Mapping[str, Tensor]


class Slots:
    """The models on one encoder that are in memory. Threads may share it.

    Args:
        num_slots: models in memory at once, at most.
        device: where they are.
    """

    def __init__(self, num_slots: int, device: torch.device):
        self._num_slots = num_slots
        self._stacks = Stacks(num_slots, device)
        self._free = list(range(num_slots, NO_ADAPTER, -1))
        self._loaded: OrderedDict[Mixed, int] = OrderedDict()  # the least recently used first
        self._uses: dict[Mixed, int] = {}
        self._forgotten: set[Mixed] = set()
        # One thread at a time takes slots, or two that have some each could wait for each other.
        self._taking = threading.Lock()
        self._changed = threading.Condition()

    def __contains__(self, model: object) -> bool:
        """Whether a model is in memory."""
        with self._changed:
            return model in self._loaded

    @contextmanager
    def hold(self, models: Sequence[Mixed]) -> Iterator[Held]:
        """Keep models in memory; those that are not there are read.

        Args:
            models: different ones, at most as many as there are slots.
        """
        assert len(models) <= self._num_slots
        loaded: dict[Mixed, int] = {}
        failed: dict[Mixed, NertuneError] = {}
        try:
            with self._taking:
                for model in models:
                    try:
                        loaded[model] = self._take(model)
                    except NertuneError as error:
                        failed[model] = error
                held = Held(loaded, failed, self._stacks.pairs, self._stacks.heads)
            yield held
        finally:
            with self._changed:
                for model in loaded:
                    self._release(model)
                self._changed.notify_all()

    def forget(self, model: Mixed) -> None:
        """Take a model out of memory as soon as no batch uses it."""
        with self._changed:
            if self._uses.get(model):
                self._forgotten.add(model)
            elif model in self._loaded:
                self._drop(model)
            self._changed.notify_all()

    def _take(self, model: Mixed) -> int:
        with self._changed:
            found = self._loaded.get(model)
            if found is not None:
                self._loaded.move_to_end(model)
                self._uses[model] = self._uses.get(model, 0) + 1
                return found
        adapter, model.adapter = model.adapter or model.read(), None
        with self._changed:
            slot = self._find_slot()
            self._stacks.put(slot, adapter)
            self._loaded[model] = slot
            self._uses[model] = 1
            return slot

    def _find_slot(self) -> int:
        """A free slot, if need be that of the least recently used model that no batch uses."""
        while not self._free:
            idle = (model for model in self._loaded if not self._uses.get(model))
            if (oldest := next(idle, None)) is not None:
                self._drop(oldest)
            else:
                self._changed.wait()
        return self._free.pop()

    def _release(self, model: Mixed) -> None:
        self._uses[model] -= 1
        if not self._uses[model]:
            del self._uses[model]
            if model in self._forgotten:
                self._forgotten.discard(model)
                self._drop(model)

    def _drop(self, model: Mixed) -> None:
        slot = self._loaded.pop(model)
        self._stacks.put(slot, None)
        self._free.append(slot)


class OwnModels:
    """The models that compute on their own and are in memory. Threads may share it.

    Args:
        most: models in memory at once, at most.
    """

    def __init__(self, most: int):
        self._most = most
        self._loaded: OrderedDict[Own, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, model: object) -> bool:
        """Whether a model is in memory."""
        with self._lock:
            return model in self._loaded

    def get(self, model: Own) -> Predictor:
        """A model, which is read if it is not in memory.

        Raises:
            ModelError: it cannot be read again.
        """
        with self._lock:
            if (found := self._loaded.get(model)) is None:
                found, model.predictor = model.predictor or model.read(), None
                self._loaded[model] = found
            self._loaded.move_to_end(model)
            while len(self._loaded) > self._most:
                self._loaded.popitem(last=False)
            return found

    def forget(self, model: Own) -> None:
        """Take a model out of memory."""
        with self._lock:
            self._loaded.pop(model, None)
