"""Unlabelled text: read as it streams, of any size, and what its teachers say of it."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from nertune.data.inputs import expand_files, read_files, refuse_pipes
from nertune.errors import ConfigError, DataError
from nertune.models.heads.base import Head, soft_head
from nertune.semisupervised.distillation.teachers import Teachers
from nertune.tokens.windows import Segmenter
from nertune.training.soft_targets import SoftTargets
from nertune.training.stores.soft_store import SoftStore, SoftStoreWriter
from nertune.types import Document

__all__ = ["TaughtText", "UnlabelledText"]

_LOG = logging.getLogger("nertune")
_CHUNK_DOCUMENTS = 64
_COMMIT_CHUNKS = 20
_TELL_SECONDS = 20.0


class UnlabelledText:
    """The documents of files, as many as are wanted, without their labels.

    The files are gone through once to count and choose; they are read again whenever the text is
    asked for, and never held.

    Args:
        files: of any format that can be read; folders and patterns, too.
        most: documents at most, drawn with `seed`; 0: all.
        seed: draws them.
        known: texts of dev and test, which are counted where they stand in the files.
        format: of the files; `auto` recognises it.

    Attributes:
        num_documents: how many are there, those without text not counted.
        num_known: how many of the chosen ones have a known text.
        sha256: over the chosen texts.

    Raises:
        DataError: a file cannot be read, or only once (a pipe), or all of them hold no text.
        ConfigError: no file is given.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        most: int = 0,
        seed: int = 0,
        known: Collection[str] = (),
        format: str = "auto",
    ):
        if not files:
            raise ConfigError("--unlabelled: name at least one file of text")
        self.files, self._format = expand_files(list(files))[0], format
        refuse_pipes(self.files)
        self._chosen: set[int] | None = None
        self.num_documents = sum(1 for _ in self._read())
        if not self.num_documents:
            raise DataError("holds no text", path=files[0])
        if 0 < most < self.num_documents:
            self._chosen = set(random.Random(seed).sample(range(self.num_documents), most))
        digest = hashlib.sha256()
        self.num_known = 0
        for document in self:
            text = document.text
            digest.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
            self.num_known += text in known
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return self.num_documents if self._chosen is None else len(self._chosen)

    def __iter__(self) -> Iterator[Document]:
        for number, document in enumerate(self._read()):
            if self._chosen is None or number in self._chosen:
                yield document

    def _read(self) -> Iterator[Document]:
        for document in read_files(self.files, self._format):
            if not document.text.isspace() and document.text:
                yield Document(document.text, id=document.id)


@dataclass(frozen=True)
class TaughtText:
    """Unlabelled text with its teachers: a `training.soft_targets.SoftSource`.

    Attributes:
        text: to learn from.
        load: gives the teachers, which are not loaded where all is on the disk already.
        teachers: names and hashes of the teachers.
        labels: those that the student learns from them.
        table: how labels are renamed.
        weight: factor of the loss.
        temperature: softens the teachers.
    """

    text: UnlabelledText
    load: Callable[[], Teachers]
    teachers: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    table: tuple[tuple[str, str], ...]
    weight: float
    temperature: float

    @cached_property
    def key(self) -> str:
        """Over text, teachers (in any place), table, weight and temperature."""
        decisive = [
            self.text.sha256, [sha256 for _, sha256 in self.teachers], sorted(self.table),
            list(self.labels), self.weight, self.temperature,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        """The text."""
        return iter(self.text)

    def prepare(self, segmenter: Segmenter, head: Head, folder: Path) -> SoftTargets:
        """Have the teachers read the text, as far as that was not done before."""
        own = hashlib.sha256(
            f"{self.key} {segmenter.unit} {segmenter.max_pieces} {segmenter.stride} "
            f"{segmenter.tokenizer.fingerprint()} {head.tagset.tags}".encode()
        ).hexdigest()
        if not SoftStore.is_complete(folder, own):
            self._write(segmenter, head, folder, own)
        return SoftTargets(SoftStore(folder, head.tagset), self.weight, self.temperature)

    def _write(self, segmenter: Segmenter, head: Head, folder: Path, key: str) -> None:
        writer = SoftStoreWriter(
            folder, head.tagset, with_pairs=soft_head(head).soft_pairs, key=key
        )
        teachers = self.load()
        conversions = [one.conversion(head.tagset, self.temperature) for one in teachers.each]
        iterator = islice(iter(self.text), writer.num_read, None)
        number, told = 0, time.monotonic()
        try:
            while chunk := list(islice(iterator, _CHUNK_DOCUMENTS)):
                cut = [segmenter.segment(document) for document in chunk]
                said = teachers.say(chunk, [encoding.units for encoding, _ in cut], conversions)
                for (_, windows), marginals in zip(cut, said, strict=True):
                    writer.add(windows, marginals)
                number += 1
                if number % _COMMIT_CHUNKS == 0:
                    writer.commit()
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    _LOG.info(
                        "the teachers have read %s of %s documents", f"{writer.num_read:,}",
                        f"{len(self.text):,}",
                    )  # fmt: skip
            writer.finish()
        finally:
            writer.close()

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "files": [str(file) for file in self.text.files],
            "documents": len(self.text),
            "of_documents": self.text.num_documents,
            "sha256": self.text.sha256,
            "teachers": [{"name": name, "sha256": sha256} for name, sha256 in self.teachers],
            "labels": list(self.labels),
            "map": dict(self.table),
            "weight": self.weight,
            "temperature": self.temperature,
        }
