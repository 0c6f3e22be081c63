"""Gold labels of another naming: said before they are scored, renamed or dropped on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nertune.data.editing.labels import count_labels, map_labels, nearest_label
from nertune.errors import ConfigError
from nertune.types import Document

__all__ = ["Relabelled", "describe_gold", "rename_labels"]


@dataclass(frozen=True, slots=True)
class Relabelled:
    """Documents whose gold labels were renamed.

    Attributes:
        documents: with the new labels.
        renamed: how many entities have another label now.
        dropped: how many were left out, by their label in the file.
        merged: how many came to be the same as another.
    """

    documents: tuple[Document, ...]
    renamed: int
    dropped: Mapping[str, int]
    merged: int

    def describe(self) -> str:
        """One line for people."""
        parts = [f"{self.renamed} gold entities renamed"]
        if self.dropped:
            named = ", ".join(f"{label} {count}" for label, count in sorted(self.dropped.items()))
            parts.append(
                f"{sum(self.dropped.values())} dropped ({named}): what the model finds there "
                "counts as wrong"
            )
        if self.merged:
            parts.append(f"{self.merged} are now the same as another and count once")
        return "--labels: " + ", ".join(parts)


def rename_labels(
    documents: Sequence[Document], names: Mapping[str, str], known: Sequence[str]
) -> Relabelled:
    """Rename gold labels to a model's; those that are not named stay.

    Args:
        documents: with gold entities.
        names: as `read_label_map` gives them.
        known: the model's labels.

    Raises:
        ConfigError: a label is not in the documents, or its new name not among the model's.
    """
    present = count_labels(documents)
    for gold, label in names.items():
        if gold not in present:
            raise ConfigError(
                f"--labels: no gold entity is labelled {gold!r}; the file has "
                f"{', '.join(sorted(present)) or 'none'}"
            )
        if label and label not in known:
            raise ConfigError(
                f"--labels {gold}={label}: the model knows no {label!r}; it knows "
                f"{', '.join(known)}"
            )
    found = map_labels(documents, names)
    renamed = sum(found.renamed.values())
    return Relabelled(found.documents, renamed, found.dropped, found.num_merged)


def describe_gold(documents: Sequence[Document], known: Sequence[str]) -> list[str]:
    """What must be known before a score of these documents is read: a line for each thing.

    Args:
        documents: with gold entities.
        known: the model's labels.
    """
    present = count_labels(documents)
    if not present:
        return ["the file holds no entity: there is nothing to find, and F1 is undefined"]
    unknown = sorted(present.keys() - set(known))
    if not unknown:
        return []
    count = sum(present[label] for label in unknown)
    return [
        f"{count} of {present.total()} gold entities have labels that the model does not know "
        f"({', '.join(unknown)}; the model knows {', '.join(known)}): they are scored as missed; "
        f"rename them with --labels {unknown[0]}={nearest_label(unknown[0], known)}"
    ]
