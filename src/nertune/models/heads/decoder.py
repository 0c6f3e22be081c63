"""Logits to entities: what every head is once it is trained, with or without PyTorch.

Nothing here needs PyTorch, so that an exported graph is decoded without it.

Axes: B windows, U units, K tags.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.errors import ArtifactError
from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.heads.decoding import Chain, span_probabilities, viterbi

__all__ = [
    "ChainDecoder",
    "Decoder",
    "ScoreArrays",
    "SequenceDecoder",
    "SpanProbabilities",
    "decode",
    "read_chain_decoder",
]

ScoreArrays: TypeAlias = Sequence[NDArray[np.floating]]
"""One `[U, K]` array a document, as `Head.scores` gives them; U may be 0."""


class Decoder(Protocol):
    """Scores of tags to entities and their probabilities.

    Attributes:
        tagset: the K tags that the classifier's outputs stand for.
    """

    tagset: TagSet

    @abstractmethod
    def spans(self, scores: ScoreArrays) -> list[list[TokenSpan]]:
        """The entities of each document, in units.

        Raises:
            ValueError: a score is NaN or infinite.
        """
        ...

    @abstractmethod
    def probabilities(
        self, scores: ScoreArrays, spans: Sequence[Sequence[TokenSpan]]
    ) -> list[list[float]]:
        """The probability in [0, 1] of each span, whether `spans` found it or not."""
        ...


class SequenceDecoder(Decoder, Protocol):
    """A decoder under which an entity is a run of tags in a legal sequence: softmax, CRF."""

    @abstractmethod
    def chain(self) -> Chain:
        """The scores between tags."""
        ...

    def spans(self, scores: ScoreArrays) -> list[list[TokenSpan]]:
        """The entities under the most probable legal tag sequence (`decoding.viterbi`)."""
        return [self.tagset.decode(ids) for ids in viterbi(scores, self.chain())]

    def probabilities(
        self,
        scores: ScoreArrays,
        spans: Sequence[Sequence[TokenSpan]],
        *,
        temperature: float = 1.0,
    ) -> list[list[float]]:
        """That of all legal sequences which hold the entity (`decoding.span_probabilities`).

        Args:
            scores: one `[U, K]` array a document.
            spans: in units, of each document.
            temperature: divides all scores, those between tags too.
        """
        if temperature != 1.0:
            scores = [scores_UK / temperature for scores_UK in scores]
        return span_probabilities(scores, spans, self.chain().tempered(temperature))


SpanProbabilities: TypeAlias = Callable[
    [Decoder, ScoreArrays, Sequence[Sequence[TokenSpan]]], list[list[float]]
]
"""The probability of each span of each document, from a decoder and its scores."""


def decode(
    decoder: Decoder,
    scores: ScoreArrays,
    *,
    with_scores: bool = True,
    probabilities: SpanProbabilities | None = None,
) -> list[tuple[list[TokenSpan], list[float]]]:
    """For each document its entities in units, and their probabilities (empty without scores).

    Args:
        decoder: what the scores belong to.
        scores: one `[U, K]` array a document.
        with_scores: whether probabilities are wanted.
        probabilities: gives them, e.g. `Calibration.probabilities`; by default the decoder does.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    spans = decoder.spans(scores)
    if not with_scores:
        return [(found, []) for found in spans]
    if probabilities is None:
        return list(zip(spans, decoder.probabilities(scores, spans), strict=True))
    return list(zip(spans, probabilities(decoder, scores, spans), strict=True))


class ChainDecoder(SequenceDecoder):
    """What a trained softmax head or CRF does with logits, in numpy.

    Args:
        chain: its scores between tags.
        is_normalized: whether scores are log-probabilities of each unit (softmax), or the logits
            as they are (CRF).
    """

    def __init__(self, chain: Chain, *, is_normalized: bool):
        self.tagset = chain.tagset
        self._chain, self._is_normalized = chain, is_normalized

    def chain(self) -> Chain:
        """The scores between tags."""
        return self._chain

    def scores(self, logits_BUK: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `spans` and `probabilities` take, in nats, float32 `[B, U, K]`."""
        if not self._is_normalized:
            return logits_BUK
        shifted_BUK = logits_BUK - logits_BUK.max(axis=-1, keepdims=True)
        log_BUK: NDArray[np.float32] = shifted_BUK - np.log(
            np.exp(shifted_BUK).sum(axis=-1, keepdims=True)
        )
        return log_BUK


def read_chain_decoder(folder: Path, name: str, tagset: TagSet) -> ChainDecoder | None:
    """The decoder of a tagger's folder, read without PyTorch; `None`: only its head can decode.

    Args:
        folder: from `artifacts.save.save_model`.
        name: of its head.
        tagset: its tags.

    Raises:
        ArtifactError: the CRF's weights are missing, damaged or of other tags.
    """
    if name == "softmax":
        return ChainDecoder(Chain.of(tagset), is_normalized=True)
    if name != "crf":
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path, size = folder / "crf.safetensors", len(tagset)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); copy the model's folder again"
        ) from error
    expected = {"start_K": (size,), "transition_KK": (size, size), "end_K": (size,)}
    if (found := {key: array.shape for key, array in state.items()}) != expected:
        raise ArtifactError(
            f"{path}: got {found}, expected {expected}; copy the model's folder again"
        )
    parts = (state[key].astype(np.float64) for key in expected)
    return ChainDecoder(Chain.of(tagset, *parts), is_normalized=False)
