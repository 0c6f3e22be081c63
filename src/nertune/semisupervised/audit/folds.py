"""Documents in folds, for models that judge only what they were not trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nertune.data.editing.groups import find_groups
from nertune.data.editing.stratification import stratify
from nertune.errors import ConfigError, DataError
from nertune.types import Document

__all__ = ["Folds", "make_folds"]

_NEAR = 0.8  # the similarity from which on two texts are in one fold


@dataclass(frozen=True, slots=True)
class Folds:
    """A corpus in folds.

    Attributes:
        members: of each fold, the indices of its documents, in order; together all of them.
        notices: what has to be known of it.
    """

    members: tuple[tuple[int, ...], ...]
    notices: tuple[str, ...] = ()

    def others(self, fold: int) -> list[int]:
        """The indices of all documents that are not in a fold, in order."""
        return sorted(i for k, found in enumerate(self.members) if k != fold for i in found)


def make_folds(documents: Sequence[Document], num_folds: int, *, seed: int = 0) -> Folds:
    """Part a corpus in folds of about the same size that have their share of every label.

    Equal and nearly equal texts are in one fold, and so are the texts of one source document: a
    model that has seen a copy repeats its labels, whether they are right or wrong.

    Args:
        documents: of the corpus.
        num_folds: at least 2.
        seed: the same seed gives the same folds.

    Raises:
        ConfigError: there are fewer than two folds.
        DataError: there are fewer groups of documents than folds.
    """
    if num_folds < 2:
        raise ConfigError(f"--folds {num_folds}: expected at least 2")
    groups = find_groups(documents, near=_NEAR)
    if len(groups.members) < num_folds:
        raise DataError(
            f"{len(groups.members)} to share out (by {groups.by}, nearly equal ones together), but "
            f"{num_folds} folds: expected one for each; use fewer --folds, or more data"
        )
    counts = [Counter(e.label for i in m for e in documents[i].entities) for m in groups.members]
    share, rest = divmod(len(documents), num_folds)
    wanted = [share + (fold < rest) for fold in range(num_folds)]
    places = stratify(counts, list(map(len, groups.members)), wanted, seed)
    members: list[list[int]] = [[] for _ in range(num_folds)]
    for indices, place in zip(groups.members, places, strict=True):
        members[place] += indices
    if not all(members):
        largest = max(map(len, groups.members))
        raise DataError(
            f"{len(documents)} documents cannot be parted in {num_folds} folds: {largest} of them "
            "are nearly equal or of one source; use fewer --folds"
        )
    return Folds(tuple(tuple(sorted(found)) for found in members), groups.notices)
