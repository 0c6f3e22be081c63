"""What an advice tries, and how much of it fits into the time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nertune.encoders import resolve_encoder

__all__ = [
    "FAMILIES",
    "NAMES",
    "PROCESS_SECONDS",
    "Candidate",
    "Family",
    "Plan",
    "Speed",
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
_LARGEST_FACTOR = 10  # between the rate as it is set and the encoder's


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to tune.

    Attributes:
        name: of its run.
        family: `full` or `lora`.
        told: for people.
        changes: settings by `section.key`.
    """

    name: str
    family: Family
    told: str
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
        seeds: at least so many for the last comparison; more if time is left.
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

    A power law through what was measured with the bundled encoder (docs/results.md): 60 epochs
    of 100 documents, 25 of 400, 10 of 1,400, 5 of 3,800.

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

    from nertune.models.bert import loading_errors

    location = resolve_encoder(encoder)
    with loading_errors(encoder, location, "token-classification"):
        return AutoConfig.from_pretrained(location, trust_remote_code=False)


def try_rates(config: Any) -> list[Candidate]:
    """Three rates of either way, the middle ones first; LoRA of rank 8 on all linear maps.

    Wider encoders want lower ones. For narrow ones they are those that were good for the bundled
    encoder, for wide ones those that BERT's authors and LoRA's recommend.
    """
    narrow = bool(config.hidden_size < 512)
    full = (4e-4, 1.5e-4, 1e-3) if narrow else (5e-5, 2e-5, 1e-4)
    lora = (2e-3, 1e-3, 4e-3) if narrow else (5e-4, 2e-4, 1e-3)
    candidates = []
    for rate_full, rate_lora in zip(full, lora, strict=True):
        changes = {
            "model.tuning": "full",
            "train.rate": _LARGEST_FACTOR * rate_full,
            "train.encoder_factor": 1 / _LARGEST_FACTOR,
            "train.head_rate": 1e-3,
        }
        candidates.append(
            Candidate(f"full-{rate_full:g}", "full", f"rate {_short(rate_full)}", changes)
        )
        candidates.append(_lora(rate_lora))
    return candidates


def _lora(
    rate: float, rank: int = 8, layers: str = "all", targets: str = "all-linear"
) -> Candidate:
    told = f"rank {rank}, rate {_short(rate)}"
    told += "" if layers == "all" else f", upper {layers.partition('-')[2]} layers"
    told += "" if targets == "all-linear" else ", query, key, value"
    changes = {
        "model.tuning": "lora",
        "lora.rank": rank,
        "lora.alpha": 4 * rank,  # the update's scale stays the same
        "lora.layers": layers,
        "lora.targets": [targets],
        "train.rate": rate,
    }
    return Candidate(f"lora-{rate:g}-{rank}-{layers}-{targets}", "lora", told, changes)


def _short(rate: float) -> str:
    """E.g. `1.5e-4`."""
    mantissa, _, exponent = f"{rate:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def try_shapes(best: Candidate, config: Any) -> list[Candidate]:
    """Other ranks, layers and targets at the best rate."""
    rate = best.changes["train.rate"]
    half = math.ceil(config.num_hidden_layers / 2)
    found = [_lora(rate, rank=32), _lora(rate, rank=2), _lora(rate, targets="qkv")]
    return found + ([_lora(rate, layers=f"top-{half}")] if config.num_hidden_layers > 1 else [])


def possible_plans(documents: int, speeds: Mapping[str, Speed]) -> Iterator[Plan]:
    """From the most thorough to the shortest.

    Fewer seeds come first, then fewer epochs, then, where there are thousands, fewer documents;
    then no other ranks, layers and targets, and no seeds but the search's.
    """
    share = 1.0
    while True:
        ideal = ideal_epochs(max(1, round(share * documents)))
        for part, seeds in ((1.0, 3), (1.0, 2), (1.0, 1), (0.7, 1), (0.5, 1)):
            yield _planned(share, part * ideal, True, seeds, documents, speeds)
        if share / 2 * documents < _LEAST_DOCUMENTS:
            break
        share /= 2
    for part, seeds in ((0.5, 1), (0.35, 1), (0.35, 0)):
        yield _planned(share, part * ideal, False, seeds, documents, speeds)


def _planned(
    share: float,
    epochs: float,
    shapes: bool,
    seeds: int,
    documents: int,
    speeds: Mapping[str, Speed],
) -> Plan:
    count = share * documents
    epochs = max(3, math.ceil(epochs))
    first = max(1, math.ceil(epochs / 3))
    full, lora = speeds["full"], speeds["lora"]
    seconds = sum(3 * (s.run + s.epochs(first, count)) for s in (full, lora))
    seconds += 4 * shapes * (lora.run + lora.epochs(first, count))
    for speed, finalists in ((full, 1), (lora, 2)):
        seconds += finalists * (speed.run + speed.epochs(epochs - first, count))
        seconds += seeds * (speed.run + PROCESS_SECONDS + speed.epochs(epochs, count))
    return Plan(share, epochs, first, shapes, seeds, seconds)
