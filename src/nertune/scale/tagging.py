"""What a worker does: tag a chunk of documents, and give the bytes that are written.

The same documents, model and options give the same bytes, whichever worker computes them.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from typing import Any

from nertune.data.formats.base import Fitted, WriteOptions
from nertune.data.formats.registry import find_format
from nertune.errors import NertuneError
from nertune.inference.predictor import Predictor
from nertune.models.graphs.threads import set_num_threads
from nertune.scale.table import to_table
from nertune.scale.tasks import Reject, Tagged, Tagging
from nertune.tokens.units import cut_units
from nertune.types import Document

__all__ = ["ChunkTagger"]

_LOG = logging.getLogger("nertune")
_WRITE = WriteOptions(scores=True, predicted=True)


class ChunkTagger:
    """A loaded tagger that tags chunks.

    Args:
        tagging: how.

    Raises:
        NertuneError: the model cannot be loaded.
    """

    def __init__(self, tagging: Tagging):
        set_num_threads(tagging.threads)  # first: a graph is opened for so many
        self._tagging = tagging
        self._predictor = Predictor.load(
            tagging.model, device=tagging.device, backend=tagging.backend, encoder=tagging.encoder
        )
        parts = self._predictor.parts or (self._predictor,)
        self._unit = parts[0].segmenter.unit
        self._jsonl = find_format("jsonl")

    def tag(self, documents: Sequence[Document]) -> Tagged:
        """Tag and write documents, in order; those that cannot be are rejected."""
        found = Tagged()
        kept = []
        with _Warnings() as warnings:
            answers = self._tag(documents)
        found.notices = warnings.messages
        for tagged in answers:
            if isinstance(tagged, Reject):
                found.rejects.append(tagged)
                continue
            fitted = self._jsonl.fit(tagged, _WRITE)
            found.losses.update(loss.kind for loss in fitted.losses)
            if reason := _unwritable(fitted):
                found.rejects.append(Reject(tagged.id, reason))
            elif fitted.document is not None:
                kept.append(fitted.document)
        found.num_documents = len(kept)
        found.num_units = sum(map(self._count_units, kept))
        found.entities.update(e.label for document in kept for e in document.entities)
        found.data = self._write(kept)
        return found

    def _tag(self, documents: Sequence[Document]) -> list[Document | Reject]:
        """All together; one by one where that fails, to find whose fault it is."""
        try:
            return list(self._tag_together(documents))
        except (NertuneError, ValueError, ArithmeticError, RuntimeError) as error:
            if len(documents) == 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                return [Reject(documents[0].id, reason)]
        return [found for document in documents for found in self._tag([document])]

    def _tag_together(self, documents: Sequence[Document]) -> list[Document]:
        tagging = self._tagging
        return list(
            self._predictor.tag_batches(
                [documents], by_sentence=tagging.by_sentence, min_score=tagging.min_score
            )
        )

    def _count_units(self, document: Document) -> int:
        if self._unit == "char":
            return len("".join(document.text.split()))
        return len(cut_units(document, self._unit))

    def _write(self, documents: Sequence[Document]) -> bytes:
        if self._tagging.format == "parquet":
            return to_table(documents)
        stream = io.StringIO()
        self._jsonl.write(documents, stream, _WRITE)
        return stream.getvalue().encode()


class _Warnings(logging.Handler):
    """Collects what the library warns of, which nobody would see in a worker."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> _Warnings:
        _LOG.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOG.removeHandler(self)


def _unwritable(fitted: Fitted) -> str:
    """Why a document cannot be written; empty if it can be."""
    if fitted.document is None:
        return "; ".join(f"{loss.kind}: {loss.reason}" for loss in fitted.losses)
    values: list[Any] = [fitted.document.text, dict(fitted.document.meta)]
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # escaped in a file of JSON
        return "holds half a surrogate pair, which is no character"
    return ""
