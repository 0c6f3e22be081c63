"""A tiny tagger, texts to annotate, and workers that are no processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from helpers.mixed import make_model
from helpers.tiny import SENTENCES, session_folder
from nertune.scale.annotate import Work
from nertune.scale.tagging import ChunkTagger
from nertune.scale.tasks import Tagging
from nertune.scale.workers import Done
from nertune.types import Document

__all__ = ["InProcess", "contents", "make_work", "tiny_model", "write_texts"]


@cache
def tiny_model() -> Path:
    """Finds something in most texts."""
    labels = ("LOCATION", "PERSON")
    return make_model(session_folder() / "annotation", labels, {"model": {"tuning": "full"}})


def write_texts(path: Path, number: int) -> Path:
    """So many different texts, one a line."""
    draw = random.Random(number)
    with path.open("w", encoding="utf-8") as stream:
        for index in range(number):
            chosen = draw.choices(SENTENCES, k=draw.randint(1, 3))
            stream.write("".join(document.text for document in chosen) + f"第{index}号\n")
    return path


def make_work(folder: Path, *files: Path, shard_documents: int = 100, **tagging: object) -> Work:
    """An annotation of files into `folder`."""
    how = Tagging(str(tiny_model()), device="cpu", **tagging)  # type: ignore[arg-type]
    return Work(tuple(files), folder, how, shard_documents=shard_documents)


class InProcess:
    """Workers that tag in this process; answers come in any order."""

    def __init__(self, tagging: Tagging, num_workers: int = 3):
        self.num_workers = num_workers
        self._tagger = ChunkTagger(tagging)
        self._tasks: list[tuple[int, Sequence[Document]]] = []
        self._draw = random.Random(num_workers)

    def submit(self, number: int, documents: Sequence[Document]) -> None:
        """Remember a chunk."""
        self._tasks.append((number, documents))

    def wait(self) -> Done:
        """Tag any chunk."""
        place = self._draw.randrange(len(self._tasks))
        number, documents = self._tasks.pop(place)
        return Done(number, place % self.num_workers, self._tagger.tag(documents))

    def close(self) -> None:
        """Nothing to stop."""


def contents(folder: Path) -> dict[str, bytes]:
    """What an annotation has written."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
