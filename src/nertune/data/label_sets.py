"""Files of different label sets as one corpus: each document says what its file is labelled for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nertune.config.run import TrainFile
from nertune.data.corpus import Corpus
from nertune.data.editing.labels import map_labels
from nertune.data.statistics import content_hash
from nertune.errors import ConfigError
from nertune.types import Document, Scope

__all__ = ["describe_scopes", "join_files"]

_LOG = logging.getLogger("nertune")


def join_files(corpora: Sequence[Corpus], files: Sequence[TrainFile]) -> Corpus:
    """One corpus of several files.

    Where the files have different labels, or say which they are labelled for, each document gets
    the scope of its file: text without an entity then holds none of the file's labels, and may hold
    one of the others. A document's own scope keeps its labels, if it names any, and its unknown
    spans.

    Args:
        corpora: the files as they were read, at least one.
        files: what the settings say of each, in the same order.

    Raises:
        ConfigError: a file stands there twice, or a map or labels do not fit what is in a file.
    """
    twice = [str(path) for path, n in Counter(c.path.resolve() for c in corpora).items() if n > 1]
    if twice:
        raise ConfigError(f"data.train names {twice[0]} twice: name each file once")
    renamed = [_rename(corpus, file) for corpus, file in zip(corpora, files, strict=True)]
    _tell_conflicts(renamed, files)
    differ = len({corpus.labels for corpus in renamed}) > 1
    documents: list[Document] = []
    described: list[Mapping[str, Any]] = []
    notices: list[str] = []
    for corpus, file in zip(renamed, files, strict=True):
        labels = _labels_of(corpus, file, differ=differ)
        scope = Scope(labels, file.complete)
        documents += (
            d if scope.is_full else replace(d, scope=_narrow(d.scope, scope))
            for d in corpus.documents
        )
        described.append(
            {
                "path": str(corpus.path),
                "sha256": corpus.sha256,
                "documents": len(corpus.documents),
                "entities": corpus.num_entities,
                "labels": None if labels is None else list(labels),
                "complete": file.complete,
                "map": dict(file.map),
            }
        )
        told = "all labels" if labels is None else ", ".join(labels) or "no label"
        by_default = " (those that occur in it)" if labels and file.labels is None else ""
        unknown = "" if file.complete else "; unmarked text is unknown"
        notices.append(f"{corpus.path}: labelled for {told}{by_default}{unknown}")
        notices += corpus.notices
    first = corpora[0]
    held = tuple(documents)
    return replace(
        first,
        path=Path(" + ".join(str(corpus.path) for corpus in corpora)),
        documents=held,
        repairs=tuple(repair for corpus in corpora for repair in corpus.repairs),
        notices=tuple(notices),
        sha256=content_hash(held),
        files=tuple(described),
    )


def _narrow(scope: Scope, of_file: Scope) -> Scope:
    """A document's scope with what its file says; the document's own labels go first."""
    labels = of_file.labels if scope.labels is None else scope.labels
    return Scope(labels, scope.complete and of_file.complete, scope.unknown)


def _rename(corpus: Corpus, file: TrainFile) -> Corpus:
    if not file.map:
        return corpus
    try:
        documents = map_labels(corpus.documents, file.map).documents
    except ConfigError as error:
        told = str(error).removeprefix("--labels: ")
        raise ConfigError(f"data.train: map of {corpus.path}: {told}") from error
    return replace(corpus, documents=documents)


def _labels_of(corpus: Corpus, file: TrainFile, *, differ: bool) -> tuple[str, ...] | None:
    """What a file is labelled for; `None` for all labels."""
    if file.labels is None:
        return corpus.labels if differ else None
    if others := sorted(set(corpus.labels) - set(file.labels)):
        raise ConfigError(
            f"data.train: labels of {corpus.path} lack {others[0]!r}, which occurs in it (after "
            f'the map): add it, or drop its entities with map = {{{others[0]} = ""}}'
        )
    return tuple(sorted(set(file.labels)))


def _tell_conflicts(corpora: Sequence[Corpus], files: Sequence[TrainFile]) -> None:
    """Say where a label has another name by one map, and stays in another file."""
    for corpus, file in zip(corpora, files, strict=True):
        for old, new in file.map.items():
            keeping = [c.path for c in corpora if old in c.labels and c is not corpus]
            if new not in ("", old) and keeping:
                _LOG.warning(
                    "%s",
                    f"data.train: {corpus.path} maps {old} to {new}, but {keeping[0]} keeps {old}: "
                    "two labels are learned; map it there, too, if they mean the same",
                )


def describe_scopes(documents: Sequence[Document]) -> dict[str, Any]:
    """How many documents are partially labelled, and for what; empty where none is.

    Returns:
        `documents`, `incomplete`, `with_unknown_spans`, and `labels`: how many documents are
        labelled for each set of labels, by the set's name.
    """
    partial = [document.scope for document in documents if document.scope != Scope()]
    if not partial:
        return {}
    sets = Counter(
        "all labels" if scope.labels is None else ", ".join(scope.labels) or "no label"
        for scope in partial
    )
    return {
        "documents": len(partial),
        "incomplete": sum(not scope.complete for scope in partial),
        "with_unknown_spans": sum(bool(scope.unknown) for scope in partial),
        "labels": dict(sorted(sets.items(), key=lambda item: (-item[1], item[0]))),
    }
