"""Labels under another name, or dropped."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nertune.errors import ConfigError
from nertune.storage.paths import user_path
from nertune.types import Document, Entity, Scope

__all__ = ["Clash", "Mapped", "count_labels", "map_labels", "nearest_label", "read_label_map"]

_FORM = "OLD=NEW,OLD2=NEW2 (OLD= drops a label), or a .toml or .json file of such pairs"


@dataclass(frozen=True, slots=True)
class Clash:
    """Two entities that renaming brings into each other's way.

    Attributes:
        document: the document's id.
        first, second: the entities under their new labels.
        old_labels: what they were labelled before.
        surface: the characters of the second.
        is_same: whether they are the same entity now, so that the second is gone; else they have
            one label now and overlap.
    """

    document: str
    first: Entity
    second: Entity
    old_labels: tuple[str, str]
    surface: str
    is_same: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """Documents under other labels.

    Attributes:
        documents: with the new labels.
        renamed: how many entities have another label now, by their old label.
        dropped: how many were left out, by their old label.
        clashes: entities that have become the same, and overlapping ones that have one label now.
    """

    documents: tuple[Document, ...]
    renamed: Mapping[str, int]
    dropped: Mapping[str, int]
    clashes: tuple[Clash, ...]

    @property
    def num_merged(self) -> int:
        """How many entities are gone since they have become the same as another."""
        return sum(clash.is_same for clash in self.clashes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the documents."""
        return {
            "renamed": dict(self.renamed),
            "dropped": dict(self.dropped),
            "clashes": [asdict(clash) for clash in self.clashes],
        }


def read_label_map(text: str) -> dict[str, str]:
    """Old label -> new label, or `""` to drop it.

    Args:
        text: `OLD=NEW,…`, or the name of a TOML or JSON file.

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
        old, equals, new = (piece.strip() for piece in part.partition("="))
        if not equals or not old or old in pairs:
            why = "stands twice" if old in pairs else "is no pair"
            raise ConfigError(f"--labels {text!r}: {part.strip()!r} {why}; expected {_FORM}")
        pairs[old] = new
    return pairs


def _check_pairs(name: str, values: Any) -> dict[str, str]:
    if isinstance(values, dict) and isinstance(values.get("labels"), dict):
        values = values["labels"]
    if not isinstance(values, dict) or not values:
        raise ConfigError(f'--labels {name}: holds no pairs; expected e.g. PER = "PERSON"')
    pairs = {old: "" if new is None else new for old, new in values.items()}
    for old, new in pairs.items():
        if not isinstance(new, str):
            raise ConfigError(
                f'--labels {name}: {old} = {new!r}: expected the new label as text, or "" to drop '
                "it"
            )
    return pairs


def map_labels(documents: Sequence[Document], names: Mapping[str, str]) -> Mapped:
    """Rename or drop labels, all at once; those that are not named stay.

    Args:
        documents: with entities.
        names: the new label of each old one; `""` drops its entities.

    Raises:
        ConfigError: a label is not in the documents; names those that are.

    Example:
        >>> map_labels(documents, {"PER": "PERSON", "MISC": ""}).documents  # doctest: +SKIP
    """
    present = set(count_labels(documents))
    present |= {label for document in documents for label in document.scope.labels or ()}
    for old in names:
        if old not in present:
            known = ", ".join(sorted(present))
            near = nearest_label(old, sorted(present))
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(
                f"--labels: no entity is labelled {old!r}; there is {known or 'none'}{hint}"
            )
    renamed: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    clashes: list[Clash] = []
    changed = []
    for document in documents:
        pairs = [(entity, names.get(entity.label, entity.label)) for entity in document.entities]
        dropped.update(entity.label for entity, label in pairs if not label)
        renamed.update(entity.label for entity, label in pairs if label not in ("", entity.label))
        kept = [(entity, replace(entity, label=label)) for entity, label in pairs if label]
        found = _find_clashes(document, kept) if any(a != b for a, b in kept) else []
        clashes += found
        # Two that were the same before stay two: what is wrong with the source is not ours to say.
        gone = {id(clash.second) for clash in found if clash.is_same}
        changed.append(
            replace(
                document,
                entities=tuple(e for _, e in kept if id(e) not in gone),
                scope=_map_scope(document.scope, names, present),
            )
        )
    return Mapped(tuple(changed), dict(renamed), dict(dropped), tuple(clashes))


def _map_scope(scope: Scope, names: Mapping[str, str], present: Collection[str]) -> Scope:
    """A scope under other labels; a new one is in it where all that it is made of are.

    Args:
        scope: under the old labels.
        names: the new label of each old one; `""` drops it.
        present: all old labels of the corpus.
    """
    if scope.labels is None:
        return scope
    sources: dict[str, set[str]] = {}
    for old in present:
        sources.setdefault(names.get(old, old), set()).add(old)
    new = (label for label, old in sources.items() if label and old.issubset(scope.labels or ()))
    return replace(scope, labels=tuple(new))


def _find_clashes(document: Document, kept: Sequence[tuple[Entity, Entity]]) -> list[Clash]:
    """Entities of one label now, of two before, that share a character; `kept` is old and new."""
    by_label: dict[str, list[tuple[Entity, Entity]]] = {}
    for old, new in kept:
        by_label.setdefault(new.label, []).append((old, new))
    clashes = []
    gone: set[int] = set()
    for pairs in by_label.values():
        if len({old.label for old, _ in pairs}) < 2:
            continue
        for place, (old, one) in enumerate(pairs):
            for other_old, other in pairs[place + 1 :]:
                if other.start >= one.end or id(one) in gone:
                    break
                if old.label == other_old.label or id(other) in gone or not _overlap(one, other):
                    continue
                is_same = one.key == other.key
                gone |= {id(other)} if is_same else set()
                labels = (old.label, other_old.label)
                surface = document.surface(other)
                clashes.append(Clash(document.id, one, other, labels, surface, is_same))
    return clashes


def _overlap(one: Entity, other: Entity) -> bool:
    return any(a < d and c < b for a, b in one.spans for c, d in other.spans)


def count_labels(documents: Iterable[Document]) -> Counter[str]:
    """How many entities there are of each label."""
    return Counter(entity.label for document in documents for entity in document.entities)


def nearest_label(label: str, known: Sequence[str]) -> str:
    """The known label that is most like another: `PERSON` for `per`; empty without any."""
    if not known:
        return ""

    def likeness(other: str) -> tuple[bool, float]:
        one, two = label.lower(), other.lower()
        return one.startswith(two) or two.startswith(one), (
            difflib.SequenceMatcher(None, one, two).ratio()
        )

    return max(known, key=likeness)
