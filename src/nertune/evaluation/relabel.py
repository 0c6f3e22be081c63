"""Gold labels of another naming: said before they are scored, renamed or dropped on request."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nertune.errors import ConfigError
from nertune.storage.paths import user_path
from nertune.types import Document

__all__ = ["Relabelled", "describe_gold", "read_label_map", "rename_labels"]

_FORM = "GOLD=MODEL,GOLD2=MODEL2 (GOLD= drops a label), or a .toml or .json file of such pairs"


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
            parts.append(f"{sum(self.dropped.values())} dropped ({named}): they are not scored")
        if self.merged:
            parts.append(f"{self.merged} are now the same as another and count once")
        return "--labels: " + ", ".join(parts)


def read_label_map(text: str) -> dict[str, str]:
    """Label in the file -> label of the model, or `""` to drop it.

    Args:
        text: `GOLD=MODEL,…`, or the name of a TOML or JSON file.

    Raises:
        ConfigError: it is neither, or the file cannot be read.
    """
    path = user_path(text)
    if path.suffix in (".toml", ".json"):
        try:
            content = path.read_text(encoding="utf-8-sig")
            values = tomllib.loads(content) if path.suffix == ".toml" else json.loads(content)
        except OSError as error:
            raise ConfigError(f"--labels {text}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # both formats' errors, and bytes that are no UTF-8
            raise ConfigError(f"--labels {text}: cannot be read: {error}") from error
        return _check_pairs(text, values)
    pairs: dict[str, str] = {}
    for part in text.split(","):
        gold, equals, label = (piece.strip() for piece in part.partition("="))
        if not equals or not gold or gold in pairs:
            why = "stands twice" if gold in pairs else "is no pair"
            raise ConfigError(f"--labels {text!r}: {part.strip()!r} {why}; expected {_FORM}")
        pairs[gold] = label
    return pairs


def _check_pairs(name: str, values: Any) -> dict[str, str]:
    if isinstance(values, dict) and isinstance(values.get("labels"), dict):
        values = values["labels"]
    if not isinstance(values, dict) or not values:
        raise ConfigError(f'--labels {name}: holds no pairs; expected e.g. PER = "PERSON"')
    pairs = {gold: "" if label is None else label for gold, label in values.items()}
    for gold, label in pairs.items():
        if not isinstance(label, str):
            raise ConfigError(
                f"--labels {name}: {gold} = {label!r}: expected the model's label as text, or "
                '"" to drop it'
            )
    return pairs


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
    present = _labels(documents)
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
    dropped: Counter[str] = Counter()
    renamed = merged = 0
    changed = []
    for document in documents:
        kept = []
        for entity in document.entities:
            label = names.get(entity.label, entity.label)
            if not label:
                dropped[entity.label] += 1
                continue
            renamed += label != entity.label
            kept.append(dataclasses.replace(entity, label=label))
        distinct = tuple({entity.key: entity for entity in kept}.values())
        merged += len(kept) - len(distinct)
        changed.append(document.with_entities(distinct))
    return Relabelled(tuple(changed), renamed, dict(dropped), merged)


def describe_gold(documents: Sequence[Document], known: Sequence[str]) -> list[str]:
    """What must be known before a score of these documents is read: a line for each thing.

    Args:
        documents: with gold entities.
        known: the model's labels.
    """
    present = _labels(documents)
    if not present:
        return ["the file holds no entity: there is nothing to find, and F1 is undefined"]
    unknown = sorted(present.keys() - set(known))
    if not unknown:
        return []
    count = sum(present[label] for label in unknown)
    return [
        f"{count} of {present.total()} gold entities have labels that the model does not know "
        f"({', '.join(unknown)}; the model knows {', '.join(known)}): they are scored as missed; "
        f"rename them with --labels {unknown[0]}={_nearest(unknown[0], known)}"
    ]


def _labels(documents: Iterable[Document]) -> Counter[str]:
    return Counter(entity.label for document in documents for entity in document.entities)


def _nearest(label: str, known: Sequence[str]) -> str:
    """The model's label that is most like it: `PERSON` for `per`."""
    if not known:
        return ""

    def likeness(other: str) -> tuple[bool, float]:
        one, two = label.lower(), other.lower()
        return one.startswith(two) or two.startswith(one), (
            difflib.SequenceMatcher(None, one, two).ratio()
        )

    return max(known, key=likeness)
