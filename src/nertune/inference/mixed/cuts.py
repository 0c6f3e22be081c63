"""Documents cut into windows, kept from when they are counted until they are tagged."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nertune.errors import NertuneError
from nertune.inference.mixed.models import Mixed, Own
from nertune.tokens.tokenizer import Encoding
from nertune.tokens.windows import Segmenter, Window
from nertune.types import Document

__all__ = ["Cuts"]

_MOST_CHARACTERS = 1 << 18  # of the texts that are kept; about 200 bytes each
_Cut = tuple[Encoding, list[Window]]
_Key = tuple[Segmenter, str, tuple[tuple[int, int], ...] | None]


class Cuts:
    """Cuts documents into windows, each once. Threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, _Cut] = OrderedDict()
        self._num_characters = 0
        self._lock = threading.Lock()

    def make(self, model: Mixed | Own, document: Document) -> _Cut:
        """A document's units and windows, which are kept for `take` if the model shares batches.

        Raises:
            NertuneError: the document cannot be read.
        """
        key = (model.segmenter, document.text, document.tokens)
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                return found
        found = _cut(model, document)
        if isinstance(model, Own):  # cuts them itself
            return found
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._num_characters += len(document.text)
            while self._num_characters > _MOST_CHARACTERS:
                (_, text, _), _ = self._kept.popitem(last=False)
                self._num_characters -= len(text)
        return found

    def take(self, model: Mixed, document: Document) -> _Cut:
        """A document's units and windows, which are not kept any longer.

        Raises:
            NertuneError: the document cannot be read.
        """
        key = (model.segmenter, document.text, document.tokens)
        with self._lock:
            if (found := self._kept.pop(key, None)) is not None:
                self._num_characters -= len(document.text)
                return found
        return _cut(model, document)


def _cut(model: Mixed | Own, document: Document) -> _Cut:
    try:
        return model.segmenter.segment(document)
    except NertuneError:
        raise
    except Exception as error:
        name = model.served.name
        raise NertuneError(f"{name}: cannot read this text ({type(error).__name__})") from error
