"""Which models are in memory; the least recently used one makes room and is read again later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from nertune.errors import NertuneError
from nertune.inference.mixed.encoder import MixedEncoder
from nertune.inference.mixed.models import Mixed, Own
from nertune.inference.mixed.stacks import NO_ADAPTER, Pair, Stacks
from nertune.inference.predictor import Predictor

__all__ = ["Held", "OwnModels", "Slots"]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model in memory.

    Attributes:
        slot: of its adapter.
        parts: what stands on the encoder.
    """

    slot: int
    parts: Mapping[str, nn.Module]


@dataclass(frozen=True, slots=True)
class Held:
    """Models that stay in memory while a batch is computed.

    Attributes:
        loaded: where they are.
        failed: those that could not be read again.
        pairs: the stacks.
    """

    loaded: Mapping[Mixed, _Loaded]
    failed: Mapping[Mixed, NertuneError]
    pairs: Mapping[str, Pair]


class Slots:
    """The models on one encoder that are in memory. Threads may share it.

    A model without adapter, which trained its head alone, takes no slot.

    Args:
        encoder: the base encoder.
        num_slots: adapters in memory at once, at most.
    """

    def __init__(self, encoder: MixedEncoder, num_slots: int):
        self._encoder = encoder
        self._num_slots = num_slots
        self._stacks = Stacks(num_slots, encoder.device)
        self._free = list(range(num_slots, NO_ADAPTER, -1))
        self._loaded: OrderedDict[Mixed, _Loaded] = OrderedDict()  # the least recently used first
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
        loaded: dict[Mixed, _Loaded] = {}
        failed: dict[Mixed, NertuneError] = {}
        try:
            with self._taking:
                for model in models:
                    try:
                        loaded[model] = self._take(model)
                    except NertuneError as error:
                        failed[model] = error
                pairs = self._stacks.pairs
            yield Held(loaded, failed, pairs)
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

    def _take(self, model: Mixed) -> _Loaded:
        with self._changed:
            found = self._loaded.get(model)
            if found is not None:
                self._loaded.move_to_end(model)
                self._uses[model] = self._uses.get(model, 0) + 1
                return found
        adapter, model.adapter = model.adapter or model.read(), None
        parts = self._encoder.build_head(adapter.heads, len(model.tagset))
        with self._changed:
            slot = self._find_slot() if adapter.pairs else NO_ADAPTER
            if slot != NO_ADAPTER:
                self._stacks.put(slot, adapter)
            self._loaded[model] = found = _Loaded(slot, parts)
            self._uses[model] = 1
            return found

    def _find_slot(self) -> int:
        """A free slot, if need be that of the least recently used model that no batch uses."""
        while not self._free:
            idle = (
                model
                for model, loaded in self._loaded.items()
                if loaded.slot != NO_ADAPTER and not self._uses.get(model)
            )
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
        slot = self._loaded.pop(model).slot
        if slot != NO_ADAPTER:
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
