"""Several corpora as one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nertune.data.borders import BORDER_KEYS
from nertune.data.editing.conflicts import Conflict, conflict_between
from nertune.data.editing.labels import Mapped, map_labels
from nertune.errors import ConfigError
from nertune.types import Document

__all__ = ["Merged", "merge_documents", "name_sources"]


@dataclass(frozen=True, slots=True)
class Merged:
    """Documents of several corpora.

    Attributes:
        documents: all of them, in their order.
        sources: how many documents of each corpus, by its name.
        repeated: how many documents repeat the text of an earlier one; they are kept.
        conflicts: where such a document is annotated otherwise than the first one.
        mapped: what became of labels that were renamed; `None` where none were.
        notices: ids that were changed.
    """

    documents: tuple[Document, ...]
    sources: Mapping[str, int]
    repeated: int
    conflicts: tuple[Conflict, ...]
    mapped: Mapped | None
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the documents."""
        return {
            "sources": dict(self.sources),
            "repeated": self.repeated,
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "labels": self.mapped and self.mapped.to_dict(),
            "notices": list(self.notices),
        }


def merge_documents(
    sources: Mapping[str, Sequence[Document]], *, labels: Mapping[str, str] | None = None
) -> Merged:
    """Put corpora one behind the other; no two documents are made one.

    An id that stands in the result already gets the corpus's name before it. So do numbers of
    source documents (`meta` keys `document`, `document_id`, `doc_id`) that two corpora use; names
    of source documents stay, so that sentences of one document are known as such.

    Args:
        sources: the documents of each corpus, by a name for it, e.g. its file's.
        labels: the new label of each old one, in all corpora; `""` drops its entities.

    Raises:
        ConfigError: a label of `labels` is in none of them, or there are no sources.

    Example:
        >>> merge_documents({"a": first, "b": second}).documents    # doctest: +SKIP
    """
    if not sources:
        raise ConfigError("nothing to merge: expected at least one corpus")
    notices: list[str] = []
    documents = _with_own_sources(sources, notices)
    unique = _with_own_ids(documents, notices)
    mapped = map_labels(unique, labels) if labels else None
    found = tuple(unique) if mapped is None else mapped.documents
    first: dict[str, Document] = {}
    repeated = 0
    conflicts = []
    for document in found:
        other = first.setdefault(document.text, document)
        if other is not document:
            repeated += 1
            if (conflict := conflict_between(other, document)) is not None:
                conflicts.append(conflict)
    counts = {name: len(held) for name, held in sources.items()}
    return Merged(found, counts, repeated, tuple(conflicts), mapped, tuple(notices))


def _with_own_sources(
    sources: Mapping[str, Sequence[Document]], notices: list[str]
) -> list[tuple[str, Document]]:
    """Documents with the name of their corpus; numbers of source documents are made unique."""
    used: dict[str, set[str]] = {key: set() for key in BORDER_KEYS}
    shared: Counter[str] = Counter()
    documents = []
    for name, held in sources.items():
        own: dict[str, set[str]] = {key: set() for key in BORDER_KEYS}
        for document in held:
            meta = dict(document.meta)
            for key in BORDER_KEYS:
                value = meta.get(key)
                if value is None:
                    continue
                text = json.dumps(value, sort_keys=True)
                own[key].add(text)
                if text in used[key] and _is_number(value):
                    meta[key] = f"{name}:{value}"
            documents.append((name, replace(document, meta=meta)))
        for key in BORDER_KEYS:
            clashing = own[key] & used[key]
            numbers = [value for value in clashing if _is_number(json.loads(value))]
            if numbers:
                notices.append(
                    f"{name}: {len(numbers):,} numbers of source documents ({key}) stand in an "
                    f"earlier file: they begin with {name!r} now"
                )
            shared[key] += len(clashing) - len(numbers)
            used[key] |= own[key]
    notices += (
        f"{count:,} source documents ({key}) have texts in several files"
        for key, count in shared.items()
        if count
    )
    return documents


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, int)


def _with_own_ids(documents: Sequence[tuple[str, Document]], notices: list[str]) -> list[Document]:
    """Documents with an id each, if they have one."""
    new_ids = _Names(_text(d.meta["id"]) for _, d in documents if "id" in d.meta)
    seen: set[str] = set()
    labels = _Names()  # of `Document.id`, which says where a document comes from
    changed: Counter[str] = Counter()
    examples: dict[str, str] = {}
    unique = []
    for name, document in documents:
        meta, id = document.meta, document.id
        if "id" in meta:
            old = _text(meta["id"])
            if old in seen:
                id = new_ids.find_free(f"{name}:{old}")
                meta = {**meta, "id": id}
                examples.setdefault(name, f"{old} is {id} now")
                changed[name] += 1
            seen.add(old)
        free = labels.find_free(id) if id else ""
        unique.append(replace(document, id=free, meta=meta))
    notices += (
        f"{name}: {count:,} ids stand there already and were changed, e.g. {examples[name]}"
        for name, count in changed.items()
    )
    return unique


def _text(id: object) -> str:
    return id if isinstance(id, str) else json.dumps(id, ensure_ascii=False, sort_keys=True)


class _Names:
    """Names that are given once each."""

    def __init__(self, reserved: Iterable[str] = ()):
        self._taken = set(reserved)
        self._numbers: Counter[str] = Counter()

    def find_free(self, name: str) -> str:
        """A name, with the least number behind it that makes it new."""
        free = name
        while free in self._taken:
            self._numbers[name] += 1
            free = f"{name}-{self._numbers[name] + 1}"
        self._taken.add(free)
        return free


def name_sources(paths: Sequence[Path]) -> list[str]:
    """A short name for each file: as much of its path as tells it from the others."""
    deepest = max((len(path.parts) for path in paths), default=0)
    choices = [
        [path.name.partition(".")[0] or path.name for path in paths],
        *(["/".join(path.parts[-n:]) for path in paths] for n in range(1, deepest + 1)),
    ]
    for names in choices:
        if len(set(names)) == len(names):
            return names
    return [f"{number}-{path.name}" for number, path in enumerate(paths, 1)]
