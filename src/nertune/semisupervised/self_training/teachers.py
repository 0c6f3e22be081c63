"""What the teachers of round 0 say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from nertune.inference.predictor import Predictor
from nertune.labels.align import spans_to_entities
from nertune.models.heads.marginals import (
    Marginals,
    find_marginals,
    likeliest_tags,
    mean_marginals,
)
from nertune.tokens.tokenizer import Encoding
from nertune.types import Document

__all__ = ["say_together", "tag_together"]

_CHUNK_DOCUMENTS = 64


def say_together(
    teachers: Sequence[Predictor], documents: Sequence[Document], *, with_pairs: bool
) -> list[tuple[Encoding, Marginals]]:
    """Each document in units, and the mean of the teachers' own, uncalibrated marginals.

    Args:
        teachers: at least one; they were trained on the same data, and so have the same tags and
            cut text alike.
        documents: some.
        with_pairs: also the marginals of neighbours.
    """
    said = []
    for teacher in teachers:
        encodings, emissions = teacher.emissions(documents)
        chain = teacher.tagger.head.chain()
        said.append(find_marginals(emissions, chain, with_pairs=with_pairs))
    found = [mean_marginals(of_document) for of_document in zip(*said, strict=True)]
    return list(zip(encodings, found, strict=True))


def tag_together(
    teachers: Sequence[Predictor], documents: Sequence[Document]
) -> Iterator[Document]:
    """Tag documents; of several teachers, by the chain that has their mean marginals."""
    first = teachers[0]
    if len(teachers) == 1:
        yield from first.tag_documents(documents)
        return
    iterator = iter(documents)
    while chunk := list(islice(iterator, _CHUNK_DOCUMENTS)):
        said = say_together(teachers, chunk, with_pairs=True)
        for document, (encoding, marginals) in zip(chunk, said, strict=True):
            spans = first.tagset.decode(likeliest_tags(marginals))
            yield document.with_predictions(spans_to_entities(spans, encoding.units, None))
