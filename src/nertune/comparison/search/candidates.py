"""What an advice tries, and how much of it fits into the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nertune.training.learning_rates import HEAD_RATES, suggest_rates

__all__ = [
    "METHODS", "NAMES", "Candidate", "Method", "Plan", "Speed", "further_rate",
    "ideal_epochs", "possible_plans", "try_rates", "try_shapes",
]  # fmt: skip

Method = Literal["full", "lora"]
METHODS: tuple[Method, ...] = get_args(Method)
NAMES: dict[Method, str] = {"full": "full fine-tuning", "lora": "LoRA"}

_PROCESS_SECONDS = 8.0  # to start a process and to import PyTorch
_LEAST_DOCUMENTS = 1000  # of those that are left out to save time
_STEPS: dict[Method, float] = {"full": 2.5, "lora": 2.0}  # from one rate to the next
_MOST_RATES = 6
_LEARNED_MORE = 0.9  # of another's loss


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tuning method with its settings.

    Attributes:
        method: `full` or `lora`.
        rate: the learning rate, of two digits.
        rank, layers, targets: of LoRA.
    """

    method: Method
    rate: float
    rank: int = 8
    layers: str = "all"
    targets: str = "all-linear"

    @property
    def name(self) -> str:
        """Of its run."""
        name = f"{self.method}-{self.rate:g}"
        return f"{name}-{self.rank}-{self.layers}-{self.targets}" if self.is_lora else name

    @property
    def is_lora(self) -> bool:
        return self.method == "lora"

    @property
    def told(self) -> str:
        """Its settings for people, e.g. `rank 8, rate 1.5e-4`."""
        mantissa, _, exponent = f"{self.rate:e}".partition("e")
        told = f"rank {self.rank}, " * self.is_lora + f"rate {float(mantissa):g}e{int(exponent)}"
        told += "" if self.layers == "all" else f", upper {self.layers.partition('-')[2]} layers"
        return told + ("" if self.targets == "all-linear" else ", query, key, value")

    @property
    def title(self) -> str:
        """Method and settings."""
        return f"{NAMES[self.method]}, {self.told}"

    @property
    def changes(self) -> dict[str, Any]:
        """Settings by `section.key`."""
        adapter = {
            "lora.rank": self.rank,
            "lora.alpha": 4 * self.rank,  # the update's scale stays the same
            "lora.layers": self.layers,
            "lora.targets": [self.targets],
        }
        return {
            "model.tuning": self.method,
            **(adapter if self.is_lora else {}),
            "train.learning_rate": self.rate,
            "train.head_learning_rate": HEAD_RATES["adapter" if self.is_lora else "full"],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "family": self.method, "told": self.told, "rate": self.rate,
                "changes": self.changes}  # fmt: skip


def _at(method: Method, rate: float) -> Candidate:
    return Candidate(method, float(f"{rate:.1e}"))


def try_rates(config: Any) -> list[Candidate]:
    """Three rates of either method, the middle ones first; LoRA of rank 8 on all linear maps.

    They begin with what a recipe without a rate would have; `further_rate` goes on from there.

    Args:
        config: the encoder's, of transformers.
    """
    suggested = suggest_rates(config)
    middle: dict[Method, float] = {"full": suggested.encoder, "lora": suggested.adapter}
    return [_at(method, middle[method] * _STEPS[method] ** power)
            for power in (0, -1, 1) for method in METHODS]  # fmt: skip


def further_rate(tried: Sequence[tuple[Candidate, float, float]]) -> Candidate | None:
    """The next rate of a method whose best one is the lowest or the highest that was tried.

    Args:
        tried: its candidates that differ in the rate alone, each with its micro-F1 and its training
            loss, the best one first; at least one.

    Returns:
        Where none found an entity: two steps down, or one up if the highest has learned most;
        nothing if the best has others on both sides, or if enough were tried.
    """
    if len(tried) >= _MOST_RATES:
        return None
    best, f1, loss = tried[0]
    lowest = min(tried, key=lambda found: found[0].rate)
    is_highest = best.rate == max(candidate.rate for candidate, _, _ in tried)
    step = _STEPS[best.method]
    if f1 <= 0 and not (is_highest and loss < _LEARNED_MORE * lowest[2]):
        return _at(best.method, lowest[0].rate / step**2)
    if is_highest:
        return _at(best.method, best.rate * step)
    return _at(best.method, best.rate / step) if best is lowest[0] else None


def try_shapes(best: Candidate, config: Any) -> list[Candidate]:
    """Other ranks, targets and layers at the best rate of LoRA."""
    found = [replace(best, rank=32), replace(best, rank=2), replace(best, targets="qkv")]
    layers = config.num_hidden_layers
    return found + [replace(best, layers=f"top-{math.ceil(layers / 2)}")] * (layers > 1)


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that a method's runs take here.

    Attributes:
        document: to train on one, in an epoch.
        epoch: of each epoch besides: to score dev and to write the checkpoint.
        run: of each run besides: to load, to save, to score at the end.
    """

    document: float
    epoch: float
    run: float

    def epochs(self, count: float, documents: float) -> float:
        """Of so many epochs on so many documents."""
        return count * (self.document * documents + self.epoch)

    def seed(self, epochs: int, documents: float) -> float:
        """Of a whole run in a process of its own."""
        return self.run + _PROCESS_SECONDS + self.epochs(epochs, documents)


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits into the minutes.

    Attributes:
        share: of the training documents.
        epochs: of a whole run.
        first: epochs after which candidates are weighed.
        shapes: whether ranks, layers and targets are tried too.
        seeds: so many are planned for the last comparison; there are more if time is left, and
            fewer if runs take longer than the pilots let expect.
        seconds: what this should take.
    """

    share: float
    epochs: int
    first: int
    shapes: bool
    seeds: int
    seconds: float

    def finalists(self, method: Method) -> int:
        """How many of a method go on to the end of their run, for the last choice among them.

        Where only rates were weighed and other seeds follow, none does: the best goes there at
        once.
        """
        if self.shapes:
            return 2 if method == "lora" else 1
        return 0 if self.seeds else 1

    def documents(self, available: int) -> int:
        """How many of the training documents its runs have."""
        return max(1, round(self.share * available))

    def at(self, speeds: Mapping[Method, Speed], available: int) -> Plan:
        """The same with the seconds that it takes at these speeds."""
        count, seconds = self.share * available, 0.0
        for method, speed in speeds.items():
            # Three rates and a further one; then LoRA's shapes.
            weighed = (4 + 4 * (method == "lora")) if self.shapes else 3
            rest = speed.run + speed.epochs(self.epochs - self.first, count)
            seconds += weighed * (speed.run + speed.epochs(self.first, count))
            seconds += self.finalists(method) * rest + self.seeds * speed.seed(self.epochs, count)
        return replace(self, seconds=seconds)


def ideal_epochs(documents: int) -> int:
    """How many epochs a data set wants, so that small ones get enough steps.

    A power law near the numbers that docs/results.md was measured with (60 of 100 documents, 24 of
    400, 10 of 1,412, 5 of 3,821).

    Args:
        documents: to train on; at least 1.
    """
    return min(60, max(3, round(10 * math.pow(1412 / documents, 2 / 3))))


def possible_plans(documents: int, speeds: Mapping[Method, Speed]) -> Iterator[Plan]:
    """From the most thorough to the shortest.

    The third seed goes first, then other ranks, layers and targets, then the second seed, then
    epochs, then, where there are thousands, documents; last all seeds but the search's. What
    decides between the methods is whole runs: with half of the epochs the one that learns faster
    in the beginning looks better.
    """
    share = 1.0
    while True:
        ideal = ideal_epochs(max(1, round(share * documents)))
        for part, shapes, seeds in (
            (1.0, True, 3), (1.0, True, 2), (1.0, False, 2), (1.0, False, 1), (0.7, False, 1)
        ):  # fmt: skip
            yield _plan(share, part * ideal, shapes, seeds).at(speeds, documents)
        if share / 2 * documents < _LEAST_DOCUMENTS:
            break
        share /= 2
    for part, seeds in ((0.5, 1), (0.35, 1), (0.35, 0)):
        yield _plan(share, part * ideal, False, seeds).at(speeds, documents)


def _plan(share: float, epochs: float, shapes: bool, seeds: int) -> Plan:
    whole = max(3, math.ceil(epochs))
    return Plan(share, whole, math.ceil(whole / 3), shapes, seeds, 0.0)
