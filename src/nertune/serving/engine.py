"""What the service asks of whatever tags for it, and an engine of one `Predictor` a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nertune.errors import ConfigError, ModelError, NertuneError
from nertune.inference.predictor import Predictor
from nertune.models.onnx import Backend
from nertune.types import Document

__all__ = ["Engine", "PredictorEngine", "ServedModel"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the service says of a model.

    Attributes:
        name: how requests name it.
        labels: what it can find.
        encoder: its base encoder's name; empty for an LSTM.
        method: how it was tuned, e.g. `lora` or `full`; `foreign` if nertune did not train it.
        unit: what it labels, `char` or `word`.
        mixes: whether its texts share batches with those of other models.
        why_not: why they do not; empty if they do.
        decoder: its head, e.g. `softmax` or `crf`.
    """

    name: str
    labels: tuple[str, ...]
    encoder: str
    method: str
    unit: str
    mixes: bool
    why_not: str
    decoder: str


class Engine(Protocol):
    """Tags documents with models that have names. One thread at a time calls it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The models; the first one answers requests that name none."""
        ...

    def describe(self, name: str) -> ServedModel:
        """What a model is."""
        ...

    def add(self, name: str, folder: str | Path) -> None:
        """Load a model.

        Raises:
            ModelError: it cannot be loaded.
        """
        ...

    def remove(self, name: str) -> None:
        """Forget a model."""
        ...

    def count_tokens(self, document: Document, name: str) -> int:
        """The padded tokens that a document costs."""
        ...

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        """Each document with what its model finds, in order, or why that could not be done."""
        ...


class PredictorEngine:
    """One `Predictor` a model; every model computes batches of its own."""

    def __init__(self, predictors: Mapping[str, Predictor], *, device: str = "auto"):
        self._predictors = dict(predictors)
        self._device = device
        self._encoder: str | Path | None = None
        self._backend: Backend = "torch"

    @classmethod
    def load(
        cls,
        encoder: str | Path | None,
        models: Mapping[str, str | Path],
        *,
        device: str = "auto",
        backend: Backend = "torch",
    ) -> PredictorEngine:
        """Load models.

        Args:
            encoder: where the adapters' base encoder is now; `None` takes what they name.
            models: names to folders or hub names; the first one is the default.
            device: where to compute.
            backend: what computes.

        Raises:
            ModelError: one of them cannot be loaded.
        """
        engine = cls({}, device=device)
        engine._encoder, engine._backend = encoder, backend
        for name, folder in models.items():
            engine.add(name, folder)
        return engine

    @property
    def names(self) -> tuple[str, ...]:
        """The models, in the order in which they came."""
        return tuple(self._predictors)

    def describe(self, name: str) -> ServedModel:
        """What a model is."""
        predictor = self._predictors[name]
        manifest = predictor.manifest
        return ServedModel(
            name=name,
            labels=predictor.tagset.labels,
            encoder="" if manifest is None else manifest.encoder,
            method="foreign" if manifest is None else manifest.tuning,
            unit=predictor.segmenter.unit,
            mixes=False,
            why_not="every model computes batches of its own",
            decoder="softmax" if manifest is None else manifest.decoder,
        )

    def add(self, name: str, folder: str | Path) -> None:
        """Load a model.

        Raises:
            ModelError: it cannot be loaded, or the name is taken.
        """
        if name in self._predictors:
            raise ModelError(f"there is a model named {name!r} already")
        how = {"device": self._device, "backend": self._backend}
        try:
            predictor = Predictor.load(folder, **how, encoder=self._encoder)  # type: ignore[arg-type]
        except ConfigError:  # holds no adapter, so that it takes no encoder
            predictor = Predictor.load(folder, **how)  # type: ignore[arg-type]
        self._predictors[name] = predictor

    def remove(self, name: str) -> None:
        """Forget a model."""
        del self._predictors[name]

    def count_tokens(self, document: Document, name: str) -> int:
        """Tokens of a document's windows, special ones counted."""
        _, windows = self._predictors[name].segmenter.segment(document)
        return sum(len(window.piece_ids) for window in windows)

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        """Each document with what its model finds, in order, or why that could not be done."""
        if isinstance(names, str):
            names = [names] * len(documents)
        tagged: list[Document | NertuneError] = list(documents)
        for name in dict.fromkeys(names):
            rows = [row for row, own in enumerate(names) if own == name]
            found = self._tag_alike([documents[row] for row in rows], name)
            for row, document in zip(rows, found, strict=True):
                tagged[row] = document
        return tagged

    def _tag_alike(self, documents: list[Document], name: str) -> list[Document | NertuneError]:
        if name not in self._predictors:
            return [ModelError(f"there is no model named {name!r}") for _ in documents]
        try:
            return list(self._predictors[name].tag_documents(documents))
        except NertuneError as error:
            if len(documents) == 1:
                return [error]
            return [found for one in documents for found in self._tag_alike([one], name)]
