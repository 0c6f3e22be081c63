"""What the service asks of whatever tags for it, which is `MultiPredictor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nertune.errors import NertuneError
from nertune.inference.mixed import ServedModel
from nertune.types import Document

__all__ = ["Engine"]


class Engine(Protocol):
    """Tags documents with models that have names.

    One thread at a time calls `tag` and `count_tokens`; others may add or remove models meanwhile.
    """

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
        """The tokens that a document costs."""
        ...

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        """Each document with what its model finds, in order, or why that could not be done."""
        ...
