"""What self-training is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from nertune.errors import ConfigError

__all__ = ["Labels", "Options", "student_epochs"]

Labels = Literal["soft", "hard"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a student learns from its teacher.

    Attributes:
        labels: `soft`: the probabilities of all tags; `hard`: the entities that are likely enough,
            where others are unknown.
        teachers: trained in round 0, on the same labelled documents with different seeds; the first
            student learns from the mean of their probabilities. Several with soft labels only.
        rounds: students, one after the other.
        most: unlabelled documents, at most.
        noise: share of the tokens of pseudo-labelled documents that are masked, in [0, 1).
        epochs: of each student, at most; 0: fewer than the recipe's, as there is more to learn from
            (`student_epochs`).
        precision: of hard labels on dev, which chooses their threshold, in (0, 1].
        outside: hard labels: the lowest probability of a unit that is taken to be no part of an
            entity, in [0, 1].
        most_unknown: hard labels: a document of which a larger share is unknown is left out.
        balance: whether labels keep about the shares that they have in the labelled data.
        from_teacher: start each student from its teacher's weights, and not from the recipe's.

    Raises:
        ConfigError: a value is out of range.
    """

    labels: Labels = "soft"
    teachers: int = 1
    rounds: int = 2
    most: int = 5000
    noise: float = 0.1
    epochs: int = 0
    precision: float = 0.9
    outside: float = 0.8
    most_unknown: float = 0.3
    balance: bool = True
    from_teacher: bool = False

    def __post_init__(self) -> None:
        if self.labels not in get_args(Labels):
            raise ConfigError(f"--labels {self.labels!r}: expected soft or hard")
        for name, least in (("teachers", 1), ("rounds", 1), ("most", 1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} {getattr(self, name)}: expected at least {least}")
        if self.teachers > 1 and self.labels == "hard":
            raise ConfigError(
                f"--teachers {self.teachers}: several teachers give soft labels only, the mean of "
                "their probabilities; leave out --labels hard"
            )
        if not 0 <= self.noise < 1:
            raise ConfigError(f"--noise {self.noise:g}: expected 0 or more, and less than 1")
        if not 0 < self.precision <= 1:
            raise ConfigError(f"--precision {self.precision:g}: expected more than 0, at most 1")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def student_epochs(epochs: int, *, units: int, all_units: int) -> int:
    """Epochs of a student that reads more units than its teacher.

    With m times the units, m^(−2/3) times the epochs and so m^(1/3) times the steps: the rule by
    which `nertune compare --sizes` trains on parts of a corpus. It holds for a recipe whose epochs
    suit the labelled data: where they are few for so little data, a student has few as well.

    Args:
        epochs: of the recipe, for `units` labelled units.
        units, all_units: without and with the pseudo-labelled ones.
    """
    share: float = (all_units / max(1, units)) ** (-2 / 3)
    return max(1, round(epochs * share))
