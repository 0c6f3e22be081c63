"""What is to be annotated with what: the hashes that say whether a killed run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nertune.artifacts.manifest import MANIFEST, hash_encoder, own_folder
from nertune.data.inputs import Input
from nertune.scale.chunks import Reading, cut_chunks, read_input
from nertune.scale.tasks import Reject, Tagging
from nertune.storage.files import hash_file
from nertune.storage.hashing import hash_once
from nertune.types import Document

__all__ = ["Survey", "describe_plan", "hash_model", "survey"]

_ASIDE = ("metrics", "data")  # of a model's manifest: they decide no answer
_SAMPLE_DOCUMENTS = 512


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first reading of the input finds.

    Attributes:
        num_documents, num_characters, num_rejects, num_chunks, num_shards: counts.
        sample: some documents, evenly drawn.
    """

    num_documents: int
    num_characters: int
    num_rejects: int
    num_chunks: int
    num_shards: int
    sample: tuple[Document, ...]


def hash_model(name: str) -> str:
    """A hash over all that decides a model's answers.

    Raises:
        ModelError: there is no such model.
    """
    folder = own_folder(name)
    if folder is None:
        return hash_encoder(name)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".md" or path.name.startswith("."):
            continue
        found = _hash_manifest(path) if path.name == MANIFEST else hash_once(path)
        digest.update(f"{path.relative_to(folder).as_posix()} {found}\n".encode())
    return digest.hexdigest()


def _hash_manifest(path: Path) -> str:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # its reader says what is wrong
        return hash_file(path)
    kept = {key: value for key, value in values.items() if key not in _ASIDE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def describe_plan(
    tagging: Tagging, reading: Reading, inputs: Sequence[Input], *, model: str, shard_documents: int
) -> dict[str, Any]:
    """What decides the output, as JSON values.

    Args:
        tagging, reading, shard_documents: options.
        inputs: the files.
        model: its hash.
    """
    options = {k: v for k, v in tagging.to_dict().items() if k not in ("model", "encoder")}
    return {
        "model": {"name": tagging.model, "sha256": model},
        "options": {**options, **asdict(reading), "shard_documents": shard_documents},
        "inputs": [asdict(one) for one in inputs],
    }


def survey(files: Sequence[Path], reading: Reading, *, shard_documents: int) -> Survey:
    """Read the input once: how much there is, and what cannot be read.

    Raises:
        ConfigError: the format or an option is unknown.
    """
    rejects: list[Reject] = []
    sampler = _Sampler()
    num_documents = num_characters = num_rejects = num_chunks = num_shards = 0
    documents = sampler.watch(read_input(files, reading, rejects.append))
    for chunk in cut_chunks(documents, rejects, shard_documents=shard_documents):
        num_documents += len(chunk.documents)
        num_characters += sum(len(document.text) for document in chunk.documents)
        num_rejects += len(chunk.rejects)
        num_chunks, num_shards = chunk.number + 1, chunk.shard + 1
    return Survey(num_documents, num_characters, num_rejects, num_chunks, num_shards, sampler.drawn)


class _Sampler:
    """Every n-th document, where n doubles when there are too many."""

    def __init__(self) -> None:
        self._kept: list[Document] = []
        self._step = 1

    def watch(self, documents: Iterable[Document]) -> Iterable[Document]:
        for number, document in enumerate(documents):
            if number % self._step == 0:
                self._kept.append(document)
            if len(self._kept) >= 2 * _SAMPLE_DOCUMENTS:
                self._kept, self._step = self._kept[::2], 2 * self._step
            yield document

    @property
    def drawn(self) -> tuple[Document, ...]:
        return tuple(self._kept[:: max(1, len(self._kept) // _SAMPLE_DOCUMENTS)])
