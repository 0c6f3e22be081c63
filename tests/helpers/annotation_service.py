"""A service whose models find the words of a list, for tests of protocols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nertune.errors import ModelError, NertuneError
from nertune.inference.mixed import ServedModel
from nertune.types import Document, Entity

__all__ = ["FAILS", "LABELS", "WORDS", "WordEngine"]

WORDS = {"王明": ("PER", 0.75), "北京": ("LOC", 0.5), "Ada": ("PER", 0.9), "UNO": ("ORG", 0.25)}
LABELS = ("PER", "LOC", "ORG")
FAILS = "☠"  # a text with it cannot be tagged


class WordEngine:
    """Finds words."""

    names = ("news", "law")

    def describe(self, name: str) -> ServedModel:
        return ServedModel(name, LABELS, "tiny", "lora", "char", "crf", mixes=True)

    def add(self, name: str, folder: str | Path) -> None:
        raise ModelError("no model can be added")

    def remove(self, name: str) -> None:
        raise ModelError("no model can be removed")

    def count_tokens(self, document: Document, name: str) -> int:
        return len(document.text) + 2

    def tag(
        self, documents: Sequence[Document], names: Sequence[str] | str
    ) -> list[Document | NertuneError]:
        return [ModelError("it fails") if FAILS in d.text else tagged(d) for d in documents]


def tagged(document: Document) -> Document:
    found = re.finditer("|".join(WORDS), document.text)
    return document.with_entities(
        Entity(match.start(), match.end(), *WORDS[match[0]]) for match in found
    )
