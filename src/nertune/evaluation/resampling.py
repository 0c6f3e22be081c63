"""What the resampling tests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nertune.data.borders import number_sources
from nertune.types import Document

__all__ = ["caveats", "chunk_sizes", "source_documents", "sum_by_source"]

_MAX_CELLS = 4_000_000  # of one matrix of draws: 32 MB
_FEW_DOCUMENTS, _FEW_ENTITIES = 10, 50


def chunk_sizes(num_draws: int, num_columns: int) -> list[int]:
    """Numbers of draws that add up to `num_draws`, each small enough for one matrix of draws."""
    size = max(1, min(num_draws, _MAX_CELLS // max(1, num_columns)))
    full, rest = divmod(num_draws, size)
    return [size] * full + ([rest] if rest else [])


def source_documents(documents: Sequence[Document]) -> NDArray[np.int64] | None:
    """Which source document each text was cut from, where the source says it.

    A CoNLL file says it with `-DOCSTART-` lines, JSONL with a key `document`, `document_id`
    or `doc_id`; both stand in `Document.meta`. Sentences of one document depend on each other, so
    what resamples has to draw or swap whole documents: as if they were independent, intervals are
    too narrow (Field & Welsh, 2007, *Bootstrapping clustered data*).

    Returns:
        `[num_texts]`, numbers counted from 0 in the order of first occurrence; `None` where the
        borders are not known (a text without the key, or one value for all) or every text is a
        document of its own.
    """
    numbers = number_sources(documents)
    return None if numbers is None else np.array(numbers, dtype=np.int64)


def sum_by_source(
    counts: NDArray[np.int64], sources: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Counts of texts, `[num_texts, 3]`, added up to those of their source documents."""
    if sources is None:
        return counts
    totals = np.zeros((int(sources.max()) + 1, counts.shape[1]), dtype=np.int64)
    np.add.at(totals, sources, counts)
    return totals


def caveats(num_documents: int, num_entities: int) -> list[str]:
    """What has to be said of intervals and tests on little data.

    A bootstrap of few documents knows little of how documents differ (Cameron, Gelbach & Miller,
    2008), and F1 of few entities moves in steps too large for its interval.

    Args:
        num_documents: that are resampled.
        num_entities: gold entities in them.
    """
    said = []
    if num_documents < _FEW_DOCUMENTS:
        said.append(
            f"{num_documents} document{'s' * (num_documents != 1)}: with fewer than "
            f"{_FEW_DOCUMENTS} to resample the interval is unreliable, most often too narrow"
        )
    if num_entities < _FEW_ENTITIES:
        said.append(
            f"{num_entities} gold entit{'y' if num_entities == 1 else 'ies'}: with fewer than "
            f"{_FEW_ENTITIES} every figure is rough, and only large differences can be seen"
        )
    return said
