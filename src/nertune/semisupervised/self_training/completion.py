"""What a person left open in partially labelled documents, filled in by a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nertune.data.corpus import Corpus
from nertune.data.inputs import in_batches
from nertune.inference.predictor import Predictor
from nertune.semisupervised.self_training.teachers import tag_together
from nertune.types import Document, Entity, Scope

__all__ = ["complete", "complete_documents", "is_partial"]

_LIKELY = 0.5  # of a calibrated score: more likely right than wrong


def is_partial(corpus: Corpus) -> bool:
    """Whether some of its documents are labelled in part."""
    if corpus.facts is not None:
        return not corpus.facts.is_full
    return any(not document.scope.is_full for document in corpus.documents)


def complete_documents(
    teachers: Sequence[Predictor], documents: Sequence[Document]
) -> Iterator[Document]:
    """Each document as fully labelled: with what teachers find where its scope leaves text open.

    What a person labelled, and what a person says is no entity, stays. Where the teachers find
    nothing, the text then counts as holding no entity. So a type that one half of
    a corpus is labelled for is learned from the other half, too.

    Args:
        teachers: one tagger, whose entities count from a calibrated score of 0.5 on; or several,
            heard together.
        documents: partially and fully labelled ones.
    """
    for batch in in_batches(documents):
        plain = [replace(document, entities=(), scope=Scope()) for document in batch]
        for document, tagged in zip(batch, tag_together(teachers, plain), strict=True):
            yield complete(document, tagged.entities)


def complete(document: Document, found: Sequence[Entity]) -> Document:
    """A document with entities that were found where its scope leaves text open, and no scope.

    Args:
        document: with gold.
        found: of a tagger; those less likely than not, and those that overlap gold, are left out.
    """
    if document.scope.is_full:
        return document
    added = [
        replace(entity, score=None)
        for entity in found
        if (entity.score is None or entity.score >= _LIKELY)
        and document.scope.leaves_open(entity)
        and not any(_overlap(entity, gold) for gold in document.entities)
    ]
    whole = sorted((*document.entities, *added), key=lambda entity: entity.key)
    return replace(document, entities=tuple(whole), scope=Scope())


def _overlap(one: Entity, other: Entity) -> bool:
    return any(a < end and start < b for a, b in one.spans for start, end in other.spans)
