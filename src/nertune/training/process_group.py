"""The processes that train one tagger together, through accelerate.

Every process holds all weights and takes its share of the batches of each step. Their gradients are
added before the step, so that the weights stay the same everywhere, and the same as those of one
process that accumulates over as many batches. This is data parallelism as of Li et al. (2020,
"PyTorch Distributed"), without a wrapper around the model: processes may have different numbers of
batches, none at all, and parameters that some batch does not use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nertune.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["ProcessGroup"]

_BUCKET_NUMBERS = 8 << 20  # gradients that are added at once; bounds the memory that this takes


class ProcessGroup:
    """The processes of a run; most runs have one, for which nothing is exchanged.

    Args:
        accelerator: of this process.

    Attributes:
        size: how many there are.
        rank: which one this is, from 0.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.size: int = accelerator.num_processes
        self.rank: int = accelerator.process_index

    @property
    def is_first(self) -> bool:
        """The first one alone writes and tells."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes; all of them have to call this.

        Raises:
            TrainingError: another process has ended.
        """
        if self.size == 1:
            return list(values)
        return self._add(torch.tensor(values, dtype=torch.float64)).tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process; all of them have to call this.

        Raises:
            TrainingError: another process has ended.
        """
        return self.sum([float(flag)])[0] > 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Give all processes the sum of their gradients.

        Args:
            parameters: that train, in the same order everywhere; one without a gradient in any
                process keeps none.
            loss: a scalar.

        Returns:
            The sum of the losses.

        Raises:
            TrainingError: another process has ended.
        """
        if self.size == 1:
            return loss
        has = [float(p.grad is not None) for p in parameters]
        *has, total = self.sum([*has, float(loss)])
        used = [p for p, number in zip(parameters, has, strict=True) if number]
        for bucket in _buckets(used):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            sums = self._add(torch.cat([grad.flatten() for grad in grads]))
            parts = torch.split(sums, [p.numel() for p in bucket])
            for p, part in zip(bucket, parts, strict=True):
                p.grad = part.view_as(p)
        return torch.tensor(total, dtype=torch.float64)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes what the first one has.

        Raises:
            TrainingError: another process has ended.
        """
        if self.size == 1:
            return
        from accelerate.utils import broadcast

        with _told():
            for tensor in tensors:
                broadcast(tensor, from_process=0)

    def refuse_different(self, told: Mapping[str, Any], what: str) -> None:
        """All processes have to say the same.

        Args:
            told: JSON values.
            what: names them.

        Raises:
            ConfigError: they do not.
            TrainingError: another process has ended.
        """
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()
        number = int.from_bytes(digest[:6], "big")  # exact in float64
        numbers = self.sum([float(number) if i == self.rank else 0.0 for i in range(self.size)])
        if len(set(numbers)) > 1:
            raise ConfigError(
                f"the processes differ in {what}: give all machines the same files, settings and "
                "versions, and a run.dir that all of them can read"
            )

    def seed_step(self, seed: int, epoch: int, batch: int) -> None:
        """Seed what dropout draws, in every process otherwise.

        It depends on nothing but the place in the run, so a run that is resumed draws the same.
        Of one process torch's own generator goes on.
        """
        if self.size > 1:
            state = np.random.SeedSequence([seed, epoch, batch, self.rank])
            torch.manual_seed(int(state.generate_state(1)[0]))

    def _add(self, tensor: Tensor) -> Tensor:
        with _told():
            found = self._accelerator.reduce(tensor.to(self._accelerator.device), reduction="sum")
            return cast("Tensor", found)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters of one type, some at a time."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        is_other = bool(bucket) and parameter.dtype != bucket[0].dtype
        if is_other or size >= _BUCKET_NUMBERS:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


@contextmanager
def _told() -> Iterator[None]:
    """What torch raises when a process is gone, as an error for a person."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first = str(error).strip().split("\n", 1)[0]
        raise TrainingError(
            "another process of this training has ended (see its message), or cannot be reached: "
            f"{first[:200]}; --resume continues from the last checkpoint"
        ) from error
