"""What an advice tries, and how much of it fits into the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nertune.storage.encoders import resolve_encoder
from nertune.training.learning_rates import HEAD_RATES, suggest_rates

__all__ = [
    "FAMILIES",
    "NAMES",
    "PROCESS_SECONDS",
    "Candidate",
    "Family",
    "Plan",
    "Speed",
    "finalists",
    "further_rate",
    "ideal_epochs",
    "possible_plans",
    "read_measures",
    "try_rates",
    "try_shapes",
]

Family = Literal["full", "lora"]
FAMILIES: tuple[Family, ...] = get_args(Family)
NAMES: dict[Family, str] = {"full": "full tuning", "lora": "LoRA"}

PROCESS_SECONDS = 8.0
"""To start a process and to import PyTorch."""

_LEAST_DOCUMENTS = 1000  # of those that are left out to save time
_STEPS: dict[Family, float] = {"full": 2.5, "lora": 2.0}  # from one rate to the next
_MOST_RATES = 6
_LEARNED_MORE = 0.9  # of another's loss


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to tune.

    Attributes:
        name: of its run.
        family: `full` or `lora`.
        told: for people.
        rate: of what trains in the encoder.
        changes: settings by `section.key`.
    """

    name: str
    family: Family
    told: str
    rate: float
    changes: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Family and settings."""
        return f"{NAMES[self.family]}, {self.told}"


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


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that a family's runs take here.

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


def ideal_epochs(documents: int) -> int:
    """How many epochs a data set wants, so that small ones get enough steps.

    A power law near the numbers that docs/results.md was measured with (60 of 100 documents, 24 of
    400, 10 of 1,412, 5 of 3,821).

    Args:
        documents: to train on; at least 1.
    """
    return min(60, max(3, round(10 * math.pow(1412 / documents, 2 / 3))))


def read_measures(encoder: str) -> Any:
    """An encoder's configuration.

    Raises:
        ModelError: there is no such encoder.
    """
    from transformers import AutoConfig

    from nertune.models.encoder import loading_errors

    location = resolve_encoder(encoder)
    with loading_errors(encoder, location, "token-classification"):
        return AutoConfig.from_pretrained(location, trust_remote_code=False)


def try_rates(config: Any) -> list[Candidate]:
    """Three rates of either way, the middle ones first; LoRA of rank 8 on all linear maps.

    They begin with what a recipe without a rate would have; `further_rate` goes on from there.
    """
    suggested = suggest_rates(config)
    middle: dict[Family, float] = {"full": suggested.encoder, "lora": suggested.adapter}
    return [
        _make(family, middle[family] * _STEPS[family] ** power)
        for power in (0, -1, 1)
        for family in FAMILIES
    ]


def further_rate(tried: Sequence[tuple[Candidate, float, float]]) -> Candidate | None:
    """The next rate of a way whose best one is the lowest or the highest that was tried.

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
    highest = max(candidate.rate for candidate, _, _ in tried)
    step = _STEPS[best.family]
    if f1 <= 0 and not (best.rate == highest and loss < _LEARNED_MORE * lowest[2]):
        return _make(best.family, lowest[0].rate / step**2)
    if best.rate == highest:
        return _make(best.family, best.rate * step)
    return _make(best.family, best.rate / step) if best is lowest[0] else None


def _make(family: Family, rate: float) -> Candidate:
    return _full(rate) if family == "full" else _lora(rate)


def _full(rate: float) -> Candidate:
    rate = _round(rate)
    changes = {
        "model.tuning": "full",
        "train.learning_rate": rate,
        "train.head_learning_rate": HEAD_RATES["full"],
    }
    return Candidate(f"full-{rate:g}", "full", f"rate {_short(rate)}", rate, changes)


def _lora(
    rate: float, rank: int = 8, layers: str = "all", targets: str = "all-linear"
) -> Candidate:
    rate = _round(rate)
    told = f"rank {rank}, rate {_short(rate)}"
    told += "" if layers == "all" else f", upper {layers.partition('-')[2]} layers"
    told += "" if targets == "all-linear" else ", query, key, value"
    changes = {
        "model.tuning": "lora",
        "lora.rank": rank,
        "lora.alpha": 4 * rank,  # the update's scale stays the same
        "lora.layers": layers,
        "lora.targets": [targets],
        "train.learning_rate": rate,
        "train.head_learning_rate": HEAD_RATES["adapter"],
    }
    return Candidate(f"lora-{rate:g}-{rank}-{layers}-{targets}", "lora", told, rate, changes)


def _round(rate: float) -> float:
    """To two digits, so that names stay short."""
    return float(f"{rate:.1e}")


def _short(rate: float) -> str:
    """E.g. `1.5e-4`."""
    mantissa, _, exponent = f"{rate:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def try_shapes(best: Candidate, config: Any) -> list[Candidate]:
    """Other ranks, layers and targets at the best rate."""
    rate = best.rate
    half = math.ceil(config.num_hidden_layers / 2)
    found = [_lora(rate, rank=32), _lora(rate, rank=2), _lora(rate, targets="qkv")]
    return found + ([_lora(rate, layers=f"top-{half}")] if config.num_hidden_layers > 1 else [])


def possible_plans(documents: int, speeds: Mapping[Family, Speed]) -> Iterator[Plan]:
    """From the most thorough to the shortest.

    The third seed goes first, then other ranks, layers and targets, then the second seed, then
    epochs, then, where there are thousands, documents; last all seeds but the search's. What
    decides between the ways is whole runs: with half of the epochs the one that learns faster in
    the beginning looks better.
    """
    share = 1.0
    while True:
        ideal = ideal_epochs(max(1, round(share * documents)))
        for part, shapes, seeds in (
            (1.0, True, 3), (1.0, True, 2), (1.0, False, 2), (1.0, False, 1), (0.7, False, 1)
        ):  # fmt: skip
            yield _planned(share, part * ideal, shapes, seeds, documents, speeds)
        if share / 2 * documents < _LEAST_DOCUMENTS:
            break
        share /= 2
    for part, seeds in ((0.5, 1), (0.35, 1), (0.35, 0)):
        yield _planned(share, part * ideal, False, seeds, documents, speeds)


def finalists(plan: Plan, family: Family) -> int:
    """How many of a way go on to the end of their run, for the last choice among them.

    Where only rates were weighed and other seeds follow, none does: the best goes there at once.
    """
    if plan.shapes:
        return 2 if family == "lora" else 1
    return 0 if plan.seeds else 1


def _planned(
    share: float,
    epochs: float,
    shapes: bool,
    seeds: int,
    documents: int,
    speeds: Mapping[Family, Speed],
) -> Plan:
    count = share * documents
    epochs = max(3, math.ceil(epochs))
    plan = Plan(share, epochs, max(1, math.ceil(epochs / 3)), shapes, seeds, 0.0)
    seconds = 0.0
    for family, speed in speeds.items():
        # Three rates and a further one; then LoRA's shapes.
        weighed = (4 + 4 * (family == "lora")) if shapes else 3
        rest = speed.run + speed.epochs(plan.epochs - plan.first, count)
        seconds += weighed * (speed.run + speed.epochs(plan.first, count))
        seconds += finalists(plan, family) * rest
        seconds += seeds * (speed.run + PROCESS_SECONDS + speed.epochs(plan.epochs, count))
    return replace(plan, seconds=seconds)
