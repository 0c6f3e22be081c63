"""Documents of several models through one encoder, batch by batch, and back to entities.

Axes: B windows, L tokens, U units, K tags.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nertune.errors import ModelError, NertuneError, NotFiniteError
from nertune.inference.mixed.encoder import MixedEncoder
from nertune.inference.mixed.models import Mixed, Own
from nertune.inference.mixed.slots import Held, Slots
from nertune.inference.mixed.stacks import Rows, Segment
from nertune.labels.align import spans_to_entities
from nertune.models.device import fast_batch_tokens
from nertune.models.heads.decoder import decode
from nertune.models.tagger import pick_units
from nertune.tokens.batching import collate
from nertune.tokens.grouping import sorted_batches
from nertune.tokens.tokenizer import Encoding
from nertune.tokens.windows import Window
from nertune.types import Document

__all__ = ["Answer", "Job", "Run", "as_ours", "decode_jobs"]

_LOG = logging.getLogger("nertune")

Answer = Document | NertuneError
"""A tagged document, or why it is not."""


@dataclass(slots=True, eq=False)
class Job:
    """A document on its way.

    Attributes:
        index: of the document.
        document: what to tag.
        model: with what.
        encoding: the document in tokens.
        windows: what the encoder reads of it.
        scores: of each window, `[U, K]`.
        error: why it cannot be tagged.
    """

    index: int
    document: Document
    model: Mixed
    encoding: Encoding
    windows: Sequence[Window]
    scores: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    error: NertuneError | None = None

    def joined(self) -> NDArray[np.float32]:
        """The scores of its windows, put one behind the other."""
        if not self.windows:
            return np.zeros((0, len(self.model.tagset)), np.float32)
        return np.concatenate([self.scores[i] for i in range(len(self.windows))])


_Piece = tuple[Job, int]  # a job, and the number of one of its windows


@dataclass(frozen=True, slots=True)
class Run:
    """Computes the scores of jobs.

    Attributes:
        slots: where their models are.
        base: the encoder.
        pad_id: fills batches.
    """

    slots: Slots
    base: MixedEncoder
    pad_id: int

    def emit(self, jobs: Sequence[Job]) -> None:
        """Fill in the scores of jobs, or why there are none; of no more models than slots."""
        pieces = [(job, i) for job in jobs for i in range(len(job.windows))]
        lengths = [len(job.windows[i].piece_ids) for job, i in pieces]
        budget = fast_batch_tokens(self.base.device)
        for chosen in sorted_batches(lengths, budget_tokens=budget)[::-1]:
            batch = [pieces[i] for i in chosen]
            try:
                self._emit_batch(batch)
            except Exception as error:
                _LOG.warning("a batch of %d windows failed: %s", len(batch), type(error).__name__)
                self._emit_singly(batch)

    def _emit_singly(self, batch: Sequence[_Piece]) -> None:
        """One window after the other, so that the one which cannot be computed fails alone."""
        for piece in batch:
            try:
                self._emit_batch([piece])
            except Exception as error:
                piece[0].error = as_ours(error, piece[0].model)

    def _emit_batch(self, batch: Sequence[_Piece]) -> None:
        batch = [piece for piece in batch if piece[0].error is None]
        models = list(dict.fromkeys(job.model for job, _ in batch))
        with self.slots.hold(models) as held:
            for job, _ in batch:
                job.error = held.failed.get(job.model)
            batch = [piece for piece in batch if piece[0].error is None]
            if batch:
                self._compute(batch, held)

    def _compute(self, batch: Sequence[_Piece], held: Held) -> None:
        pieces: dict[Mixed, list[_Piece]] = {}
        for piece in batch:
            pieces.setdefault(piece[0].model, []).append(piece)
        order = sorted(pieces, key=lambda model: Rows.order(len(pieces[model]), held.slots[model]))
        batch = [piece for model in order for piece in pieces[model]]
        segments: list[Segment] = []
        for model in order:
            start = segments[-1].end if segments else 0
            segments.append(Segment(start, start + len(pieces[model]), held.slots[model]))
        device = self.base.device
        collated = collate([job.windows[i] for job, i in batch], pad_id=self.pad_id)
        if device.type != "cpu":
            collated = collated.to(device)
        rows = Rows(segments, held.pairs, held.heads, device)
        logits_BLK = self.base.logits(collated.piece_ids_BL, collated.attention_BL, rows)
        lengths = collated.mask_BU.sum(dim=1).tolist()
        for model, segment in zip(order, segments, strict=True):
            own = slice(segment.start, segment.end)
            num_tags = len(model.tagset)
            logits_BUK = pick_units(logits_BLK[own, :, :num_tags], collated.positions_BU[own])
            with torch.inference_mode():
                array_BUK = model.head.scores(logits_BUK).cpu().numpy()
            for (job, i), row_UK, length in zip(batch[own], array_BUK, lengths[own], strict=True):
                job.scores[i] = row_UK[:length]


def decode_jobs(jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
    """The answers to jobs, by their indices; what heads alike have to decode goes together."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        if job.error is not None:
            yield job.index, job.error
        else:
            groups.setdefault(_decoder(job.model), []).append(job)
    for group in groups.values():
        yield from _decode(group)


def _decoder(model: Mixed) -> object:
    """Equal for models that decode alike: a head without weights follows from its tags."""
    head: Any = model.head
    if head.state_dict():
        return model
    calibration = model.calibration.model_dump_json()
    return type(head), model.tagset.tags, model.tagset.scheme, calibration


def _decode(jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
    try:
        model = jobs[0].model
        scores = [job.joined() for job in jobs]
        decoded = decode(model.head, scores, probabilities=model.calibration.probabilities)
    except Exception as error:
        if len(jobs) == 1:
            yield jobs[0].index, as_ours(error, jobs[0].model)
            return
        for job in jobs:
            yield from _decode([job])
        return
    for job, (spans, probabilities) in zip(jobs, decoded, strict=True):
        entities = spans_to_entities(spans, job.encoding.units, probabilities)
        yield job.index, job.document.with_predictions(entities)


def as_ours(error: Exception, model: Mixed | Own) -> NertuneError:
    """What a user can be told of any error; it says nothing of the text."""
    if isinstance(error, NertuneError):
        return error
    name = model.served.name
    if isinstance(error, ValueError) and "not finite" in str(error):
        return NotFiniteError(
            f"{name}: {error}: the model's weights are not finite, or too large for its "
            "precision; load another copy of it, or train it again"
        )
    return ModelError(f"{name}: could not tag this text ({type(error).__name__})")
