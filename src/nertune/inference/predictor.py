"""The predictor: what evaluation while training, the command line and Python users all call."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from nertune.artifacts.exported import LoadedGraph, load_exported
from nertune.artifacts.graphs import resolve_backend
from nertune.artifacts.manifest import MANIFEST, Manifest, agreed_reading, own_folder
from nertune.artifacts.parts import Overlap, parse_extended
from nertune.data.corpus import Reading
from nertune.data.inputs import in_batches
from nertune.data.sentences import tag_by_sentence
from nertune.errors import ConfigError, ModelError, NertuneError, NotFiniteError
from nertune.inference.combination import combine_answers
from nertune.labels.align import spans_to_entities
from nertune.labels.tagset import TagSet
from nertune.models.graphs.onnx import AnyBackend, Backend
from nertune.models.graphs.tagger import GraphTagger
from nertune.models.heads.calibration import Calibration, has_chain
from nertune.models.heads.decoder import Decoder, decode
from nertune.tokens.grouping import sorted_batches
from nertune.tokens.tokenizer import Encoding
from nertune.tokens.units import cut_units
from nertune.tokens.windows import Segmenter, Window
from nertune.types import Document, Scope

__all__ = ["Computer", "Predictor", "load_model"]

if TYPE_CHECKING:
    from nertune.artifacts.load import LoadedTagger
    from nertune.models.tagger import Tagger

_Scores: TypeAlias = list[NDArray[np.float32]]
_Waiting: TypeAlias = tuple[list[Document], list[Encoding], Future[_Scores]]
_LOG = logging.getLogger("nertune")

_MUCH_LONGER = 5  # times what 95 % of the training texts do not exceed
_CHUNK_DOCUMENTS = 512  # documents that are sorted by length and decoded together
_CHUNKS_AHEAD = 2  # that are computed while one is decoded


class Computer(Protocol):
    """What gives the scores of windows: `models.tagger.Tagger`, or a graph without PyTorch."""

    @property
    def head(self) -> Decoder:
        """Reads entities from the scores."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Padded tokens in a batch that are fast."""
        ...

    @property
    def computes_beside(self) -> bool:
        """Whether the calling thread can do something else meanwhile."""
        ...

    def predicting(self) -> AbstractContextManager[None]:
        """While windows are computed."""
        ...

    def emit_windows(self, windows: Sequence[Window], *, pad_id: int) -> list[NDArray[np.float32]]:
        """The `[U, K]` scores of each window's owned units."""
        ...

    def emit_batches(
        self, emit: Callable[[list[int]], _Scores], items: list[list[int]]
    ) -> Iterable[_Scores]:
        """Call `emit` on every batch, in order; beside each other where that is faster."""
        ...


class Predictor:
    """Tags texts.

    Args:
        computer: the model, a `Tagger` or what was exported; its device is where it computes.
        segmenter: how it reads text.
        tagset: its tags.
        batch_tokens: padded tokens in a batch, at most; `None` takes what is fast on the device. A
            CPU wants what fits in its caches.
        calibration: of the scores of entities; `None` leaves the head's own probabilities.

    Attributes:
        parts: of an extended model (`nertune extend`), a predictor for each part, the oldest first;
            empty for any other. Such a model has several, so `computer`, `tagger`, `head`,
            `segmenter`, `tagset` and `emissions` raise `ModelError`; each part has its own.

    Example:
        >>> predictor = Predictor.load("runs/lora/model")                     # doctest: +SKIP
        >>> [(e.label, e.start, e.end) for e in predictor.tag("我在北京。").entities]
        ... # doctest: +SKIP
        [('LOCATION', 2, 4)]
    """

    def __init__(
        self,
        computer: Computer,
        segmenter: Segmenter,
        tagset: TagSet,
        *,
        batch_tokens: int | None = None,
        calibration: Calibration | None = None,
    ):
        self._only: tuple[Computer, Segmenter, TagSet] | None = (computer, segmenter, tagset)
        self.batch_tokens = batch_tokens
        self.calibration = calibration or Calibration()
        self.manifest: Manifest | None = None
        self.parts: tuple[Predictor, ...] = ()
        self._overlaps: tuple[Overlap, ...] = ()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        backend: AnyBackend = "torch",
        encoder: str | Path | None = None,
    ) -> Predictor:
        """Load a nertune folder, or any token-classification model from a folder or the hub.

        A LoRA adapter is merged into the encoder's weights, which saves time with every text.

        Args:
            model: the folder or hub name.
            device: `"auto"` takes a GPU where there is one; an exported graph runs on the CPU then.
            backend: `torch`; or `onnx`, `onnx-int8` or `openvino`, what `nertune export` made of
                it; `auto` takes what was the fastest then.
            encoder: where an adapter's base encoder is now, if not where it was; its hash decides.

        Raises:
            ModelError: nothing can be loaded from there.
            ArtifactError: the folder is damaged, its base encoder is another one, or it was not
                exported.
            ConfigError: the backend is unknown, or cannot compute on the device.
            MissingDependencyError: the backend's library is not installed.
        """
        return load_model(model, device=device, backend=backend, merge=True, encoder=encoder)

    @classmethod
    def combine(cls, parts: Sequence[Predictor], overlaps: Sequence[Overlap]) -> Predictor:
        """The predictor of several parts, each of which computes as it does alone.

        Args:
            parts: at least two; each finds labels that no other finds.
            overlaps: for each part but the first, see `inference.combination`.
        """
        combined = cls(parts[0].computer, parts[0].segmenter, parts[0].tagset)
        combined._only = None
        combined.parts = tuple(parts)
        combined._overlaps = tuple(overlaps)
        return combined

    def _alone(self) -> tuple[Computer, Segmenter, TagSet]:
        if self._only is None:
            found = "; ".join(", ".join(part.labels) for part in self.parts)
            raise ModelError(
                f"this model was extended, so it has {len(self.parts)} parts ({found}), and what "
                "was asked of it can be asked of one part: name the folder parts/0, parts/1, … in "
                "its folder (in Python: predictor.parts)"
            )
        return self._only

    @property
    def computer(self) -> Computer:
        """What computes."""
        return self._alone()[0]

    @property
    def tagger(self) -> Tagger:
        """The PyTorch model.

        Raises:
            ModelError: there is none: it was exported, or it has several parts.
        """
        computer = self._alone()[0]
        if isinstance(computer, GraphTagger):
            raise ModelError(
                "an exported graph is no PyTorch model, which is asked for here: load the model "
                "with the backend torch"
            )
        return cast("Tagger", computer)

    @property
    def head(self) -> Decoder:
        """Reads entities from the scores that `emissions` gives."""
        return self.computer.head

    @property
    def segmenter(self) -> Segmenter:
        """How it reads text."""
        return self._alone()[1]

    @property
    def tagset(self) -> TagSet:
        """Its tags."""
        return self._alone()[2]

    @property
    def is_calibrated(self) -> bool:
        """Whether scores differ from the head's own probabilities."""
        parts = self.parts or (self,)
        return any(part.calibration.changes_spans for part in parts)

    @property
    def reading(self) -> Reading:
        """How its training files were read; `auto` where that is not known, or they differ."""
        if self.parts:
            return agreed_reading([part.reading for part in self.parts])
        return Reading() if self.manifest is None else self.manifest.reading

    def tag(self, text: str) -> Document:
        """Tag one text; entities carry their calibrated probability (`heads.calibration`)."""
        return next(self.tag_documents([Document(text)]))

    def tag_texts(self, texts: Iterable[str]) -> Iterator[Document]:
        """Tag texts, in order, holding a bounded number of them at a time."""
        return self.tag_documents(Document(text) for text in texts)

    def tag_documents(
        self, documents: Iterable[Document], *, with_scores: bool = True
    ) -> Iterator[Document]:
        """Tag documents, in order; their own entities are replaced by the predicted ones.

        Up to 512, with an exported graph 1,536, are read before the first is given. What stands
        before a `NertuneError` of the source is given before it is raised.

        Raises:
            NotFiniteError: the model gives NaN or infinity.
        """
        chunks = in_batches(documents, _CHUNK_DOCUMENTS)
        if not self.parts and self.computer.computes_beside:
            yield from self._tag_ahead(chunks, with_scores=with_scores)
            return
        for chunk in chunks:
            yield from self._tag_chunk(chunk, with_scores=with_scores)

    def _tag_ahead(
        self, chunks: Iterator[list[Document]], *, with_scores: bool
    ) -> Iterator[Document]:
        """Read and decode in this thread while others have the next chunks computed.

        Two at a time: the first batches of one fill the cores that the last of the other leave.
        """
        chunk = next(chunks, None)
        if chunk is None:
            return
        if len(chunk) < _CHUNK_DOCUMENTS:  # the last
            yield from self._tag_chunk(chunk, with_scores=with_scores)
            next(chunks, None)  # raises what ended the source
            return
        left = threading.Event()
        with ThreadPoolExecutor(_CHUNKS_AHEAD, "nertune-compute") as pool:
            waiting: deque[_Waiting] = deque()
            failure: NertuneError | None = None
            try:
                while chunk is not None or waiting:
                    if chunk is not None:
                        encodings, windows = self._cut(chunk)
                        scores = pool.submit(self._emit, len(chunk), windows, left)
                        waiting.append((chunk, encodings, scores))
                    if len(waiting) > _CHUNKS_AHEAD or chunk is None:
                        documents, encodings, scores = waiting.popleft()
                        yield from self._decode(
                            documents, encodings, scores.result(), with_scores=with_scores
                        )
                    try:
                        chunk = None if failure else next(chunks, None)
                    except NertuneError as error:
                        chunk, failure = None, error
            finally:
                left.set()  # nobody waits for what is still to be computed
                pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def tag_or_abstain(
        self, documents: Iterable[Document], confidence: float
    ) -> Iterator[Document]:
        """Tag documents, in order, but those that the model is not sure enough of.

        How sure it is, is the probability that all entities of a document are right and none is
        missing: that of its best tag sequence, calibrated. It stands in `Document.meta`, under the
        key `confidence`. Where the model abstains, there is no entity, `abstained` is true, and the
        scope says that nothing is known.

        Args:
            documents: what to tag.
            confidence: from which a document is answered, in [0, 1].

        Raises:
            ConfigError: the model's head gives no probability of a whole document, or it was
                extended, so that it has several heads.
            NotFiniteError: the model gives NaN or infinity.
        """
        if self.parts:
            raise ConfigError(
                "an extended model has no probability of a whole document, but one of each part, "
                "so it cannot abstain; --min-score drops single entities"
            )
        if not has_chain(self.head):
            raise ConfigError(
                f"a model with the head {type(self.head).__name__} gives no probability of "
                "a whole document, so it cannot abstain; --min-score drops single entities"
            )
        iterator = iter(documents)
        while chunk := list(islice(iterator, _CHUNK_DOCUMENTS)):
            encodings, scores = self.emissions(chunk)
            tagged = self._decode(chunk, encodings, scores, with_scores=True)
            sure = self.calibration.confidences(self.head, scores)
            for document, found in zip(tagged, sure, strict=True):
                yield _answer(document, found, confidence)

    def tag_batches(
        self,
        batches: Iterable[Sequence[Document]],
        *,
        by_sentence: bool = False,
        min_score: float = 0.0,
        abstain: float = 0.0,
        ahead: bool = False,
    ) -> Iterator[Document]:
        """Tag documents, each batch as soon as it comes.

        Args:
            batches: documents, some at a time.
            ahead: read on before a batch is answered, which is faster; not from a source that
                waits for answers.
            by_sentence: tag a sentence at a time, see `tag_sentences`.
            min_score: leave out entities whose probability is lower.
            abstain: leave documents without an answer that the model is less sure of, see
                `tag_or_abstain`; 0 answers all.

        Raises:
            ConfigError: to abstain by sentence is asked for, or the model's head cannot abstain.
            NotFiniteError: the model gives NaN or infinity.
        """
        if by_sentence and abstain:
            raise ConfigError(
                "--abstain judges whole documents, so it does not go with --sentences: give a "
                "sentence a line, or drop single entities with --min-score"
            )
        checked = batches if by_sentence else self._warn_of_long_texts(batches)
        if ahead and not by_sentence and not abstain:
            tagged = self.tag_documents(document for batch in checked for document in batch)
        else:
            tagged = (
                document
                for batch in checked
                for document in self._tagged(batch, by_sentence=by_sentence, abstain=abstain)
            )
        for document in tagged:
            kept = [e for e in document.entities if (e.score or 0.0) >= min_score]
            yield document.with_entities(kept) if min_score else document

    def _warn_of_long_texts(
        self, batches: Iterable[Sequence[Document]]
    ) -> Iterator[Sequence[Document]]:
        limit = self._longest_as_trained()
        for batch in batches:
            longest = max((len(document.text) for document in batch), default=0)
            if limit and longest > limit:
                _LOG.warning(
                    "%s",
                    f"a text of {longest} characters, while 95 % of the training texts have "
                    f"{limit // _MUCH_LONGER} or fewer: --sentences tags a sentence at a time",
                )
                limit = 0  # said once
            yield batch

    def _tagged(
        self, batch: Sequence[Document], *, by_sentence: bool, abstain: float
    ) -> Iterator[Document]:
        if abstain:
            return self.tag_or_abstain(batch, abstain)
        return self.tag_sentences(batch) if by_sentence else self.tag_documents(batch)

    def _longest_as_trained(self) -> int:
        """From this number of characters on a text is unlike the training data; 0: not known."""
        if self.parts:
            known = [longest for part in self.parts if (longest := part._longest_as_trained())]
            return min(known, default=0)
        described = {} if self.manifest is None else self.manifest.data.get("train") or {}
        found = described.get("p95_characters")
        return _MUCH_LONGER * found if isinstance(found, int) else 0

    def tag_sentences(self, documents: Sequence[Document]) -> Iterator[Document]:
        """Tag documents a sentence at a time; see `data.sentences`."""
        return tag_by_sentence(documents, self.tag_documents)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can find."""
        if self.parts:
            return tuple(label for part in self.parts for label in part.labels)
        return self.tagset.labels

    def visible_units(self, document: Document) -> list[tuple[int, int]]:
        """The units that the model labels in a document, without those of white space."""
        if self.parts:  # all label the same units
            return self.parts[0].visible_units(document)
        spans = cut_units(document, self.segmenter.unit)
        return [(a, b) for a, b in spans if not document.text[a:b].isspace()]

    def emissions(
        self, documents: Sequence[Document]
    ) -> tuple[list[Encoding], list[NDArray[np.float32]]]:
        """Documents in units, and the `[U, K]` scores that the head decodes, in nats."""
        encodings, windows = self._cut(documents)
        return encodings, self._emit(len(documents), windows)

    def _cut(self, documents: Sequence[Document]) -> tuple[list[Encoding], list[Window]]:
        encodings: list[Encoding] = []
        windows: list[Window] = []
        for index, document in enumerate(documents):
            encoding, cut = self.segmenter.segment(document, index)
            encodings.append(encoding)
            windows += cut
        return encodings, windows

    def _tag_chunk(self, documents: Sequence[Document], *, with_scores: bool) -> list[Document]:
        if self.parts:
            # The same documents, one part after the other: batches are those of the part alone.
            found = [part._tag_chunk(documents, with_scores=with_scores) for part in self.parts]
            return [
                combine_answers(answers, self._overlaps) for answers in zip(*found, strict=True)
            ]
        encodings, emissions = self.emissions(documents)
        return self._decode(documents, encodings, emissions, with_scores=with_scores)

    def _decode(
        self,
        documents: Sequence[Document],
        encodings: Sequence[Encoding],
        emissions: Sequence[NDArray[np.float32]],
        *,
        with_scores: bool,
    ) -> list[Document]:
        try:
            decoded = decode(
                self.head,
                emissions,
                with_scores=with_scores,
                probabilities=self.calibration.probabilities,
            )
        except ValueError as error:
            raise NotFiniteError(
                f"{error}: the model's weights are not finite, or too large for its precision; "
                "load another copy of it, or train it again"
            ) from error
        return [
            document.with_predictions(
                spans_to_entities(spans, encoding.units, scores if with_scores else None)
            )
            for document, encoding, (spans, scores) in zip(
                documents, encodings, decoded, strict=True
            )
        ]

    def _emit(
        self,
        num_documents: int,
        windows: Sequence[Window],
        left: threading.Event | None = None,
    ) -> list[NDArray[np.float32]]:
        """The `[U, K]` scores of each document, its windows put one behind the other.

        Raises:
            CancelledError: `left` was set meanwhile.
        """
        pad_id = self.segmenter.tokenizer.pad_id
        computer = self.computer

        def emit(chosen: list[int]) -> list[NDArray[np.float32]]:
            if left is not None and left.is_set():
                raise CancelledError
            return computer.emit_windows([windows[i] for i in chosen], pad_id=pad_id)

        parts: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(windows)
        lengths = [len(window.piece_ids) for window in windows]
        budget = self.batch_tokens or computer.batch_tokens
        # The longest first: what is computed beside each other then ends at about the same time.
        batches = sorted_batches(lengths, budget_tokens=budget)[::-1]
        with computer.predicting():
            for chosen, found in zip(batches, computer.emit_batches(emit, batches), strict=True):
                for i, scores_UK in zip(chosen, found, strict=True):
                    parts[i] = scores_UK
        by_document: list[list[NDArray[np.float32]]] = [[] for _ in range(num_documents)]
        for window, scores_UK in zip(windows, parts, strict=True):
            by_document[window.document].append(scores_UK)
        empty_UK = np.zeros((0, len(self.tagset)), np.float32)
        return [np.concatenate(found) if found else empty_UK for found in by_document]


def _answer(document: Document, found: float, wanted: float) -> Document:
    """A tagged document with its confidence, or one without an answer."""
    meta = {**document.meta, "confidence": found}
    if found >= wanted:
        return replace(document, meta=meta)
    meta["abstained"] = True
    return replace(document, entities=(), meta=meta, scope=Scope(complete=False))


def _load(
    model: str | Path,
    folder: Path | None,
    backend: Backend,
    device: str,
    merge: bool,
    encoder: str | Path | None,
) -> LoadedTagger | LoadedGraph:
    if backend != "torch":
        return load_exported(str(model), folder, backend, device=device)
    from nertune.artifacts.load import load_tagger

    return load_tagger(model, device=device, merge=merge, encoder=encoder)


def load_model(
    model: str | Path,
    *,
    device: str = "auto",
    backend: AnyBackend = "torch",
    merge: bool = False,
    encoder: str | Path | None = None,
) -> Predictor:
    """The predictor of a tagger; arguments and errors are those of `artifacts.load.load_tagger`.

    Raises:
        ConfigError: the backend is unknown.
    """
    choice = resolve_backend(backend, model, device)
    if choice.reason:
        _LOG.info("backend: %s", choice.reason)
    backend = choice.backend
    folder = own_folder(str(model), graphs=backend != "torch")
    if folder is not None and (extended := parse_extended(folder / MANIFEST)) is not None:
        from nertune.artifacts.extended import find_parts

        parts = find_parts(folder)
        found = [
            load_model(place, device=device, backend=backend, merge=merge, encoder=base)
            for place, base in zip(parts.folders, parts.encoders(encoder), strict=True)
        ]
        return Predictor.combine(found, extended.overlaps)
    loaded = _load(model, folder, backend, device, merge, encoder)
    manifest = loaded.manifest
    calibration = None if manifest is None else manifest.calibration
    predictor = Predictor(loaded.tagger, loaded.segmenter, loaded.tagset, calibration=calibration)
    predictor.manifest = manifest
    return predictor
