"""Which share of units in entities a run keeps to where unmarked text is unknown."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from nertune.config.run import TrainSettings
from nertune.errors import ConfigError
from nertune.labels.align import align_entities
from nertune.models.heads.base import Head
from nertune.models.heads.entity_ratio import EntityRatio
from nertune.tokens.tokenizer import encode_document
from nertune.tokens.windows import Segmenter
from nertune.types import Document

__all__ = ["choose_entity_ratio", "is_open", "measure_entity_ratio"]

_LOG = logging.getLogger("nertune")
_USUAL = 0.15  # Effland & Collins (2021), with a margin of 0.05, for seven corpora


def choose_entity_ratio(
    settings: TrainSettings,
    train: Sequence[Document],
    dev: Sequence[Document],
    segmenter: Segmenter,
    head: Head,
) -> EntityRatio | None:
    """The ratio of `train.entity_ratio`, or by default of what is fully labelled.

    Args:
        settings: what was asked for.
        train, dev: the documents; `dev` may be empty.
        segmenter: cuts units.
        head: what is to keep to the ratio.

    Returns:
        `None` where no training document needs it, or the settings switch it off.

    Raises:
        ConfigError: a ratio is asked for, and the head cannot keep it.
    """
    if not any(map(is_open, train)):
        return None
    if settings.entity_ratio == 0 or not settings.entity_ratio_weight:
        _LOG.warning(
            "unmarked text of training documents is unknown and train.entity_ratio is off: nothing "
            "speaks against entities there, so expect far too many"
        )
        return None
    has_units = callable(getattr(head, "expected_entity_units", None))
    if getattr(head, "allowed", None) is None or not has_units:
        told = "unmarked text of training documents is unknown, and the head keeps no entity ratio"
        if settings.entity_ratio is not None:
            raise ConfigError(f"train.entity_ratio: {told}; set it to 0, or use softmax or crf")
        _LOG.warning("%s: expect far too many entities", told)
        return None
    ratio, source, share = settings.entity_ratio, "train.entity_ratio", 1 / 3
    for split, documents in (("of dev", dev), ("of fully labelled training documents", train)):
        measured = None if ratio else measure_entity_ratio(documents, segmenter, head.tagset.labels)
        if measured:
            ratio, source, share = measured, split, 0.1
    if not ratio:
        ratio, source = _USUAL, "no fully labelled document says another"
    margin = settings.entity_ratio_margin
    margin = share * ratio if margin is None else margin
    _LOG.info(
        "unmarked text of training documents is unknown: the expected share of units in entities "
        "is kept to %.3f ± %.3f (%s)", ratio, margin, source,
    )  # fmt: skip
    return EntityRatio(ratio, margin, settings.entity_ratio_weight)


def is_open(document: Document) -> bool:
    """Whether nothing is known of some of a document's text."""
    return not document.scope.complete or bool(document.scope.unknown)


def measure_entity_ratio(
    documents: Iterable[Document], segmenter: Segmenter, labels: Collection[str]
) -> float | None:
    """The share of units in entities among documents that are labelled in full for these labels.

    Returns:
        `None` if there are no such documents, or no entities in them.
    """
    num_inside = num_units = 0
    for document in documents:
        if document.scope.is_full_for(labels):
            units = encode_document(document, segmenter.tokenizer, segmenter.unit).units
            num_units += len(units)
            num_inside += sum(s.last - s.first for s in align_entities(document, units).spans)
    return num_inside / num_units if num_inside else None
