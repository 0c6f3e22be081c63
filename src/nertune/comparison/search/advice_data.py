"""The data that an advice is asked about: training documents, and some to score on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nertune.config.run import DataSettings
from nertune.data.borders import number_sources
from nertune.data.corpus import Corpus, save_fitting
from nertune.data.splits import load_splits
from nertune.errors import DataError
from nertune.types import Document

__all__ = ["AdviceData", "find_data", "load_data"]

_DEV_SHARE = 0.2  # of the training documents, where there is no dev file


@dataclass(frozen=True, slots=True)
class AdviceData:
    """What an advice trains on, and what it scores on.

    Attributes:
        train: never empty of entities.
        dev: the same; disjoint from `train` where it was set aside.
        changes: settings of `[data]` that name the files; to be put into every run's.
        notice: what a reader has to know; may be empty.
    """

    train: Corpus
    dev: Corpus
    changes: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""

    def save(self) -> None:
        """Write the files of documents that were set aside; without any nothing."""
        if self.changes:
            for corpus in (self.train, self.dev):
                corpus.path.parent.mkdir(parents=True, exist_ok=True)
                save_fitting(corpus.path, corpus.documents, format="jsonl")


def find_data(data: str, dev: str) -> tuple[str, str]:
    """Where an advice's data are.

    Args:
        data: a training file, a folder that holds `train` and `dev` (with any suffix), or `sample`.
        dev: a file to score on, which goes before the folder's.

    Returns:
        Training and dev file as settings name them; the latter may be empty.

    Raises:
        DataError: the folder holds no training file, or several of a split.
    """
    if data == "sample":
        return "sample:train", dev or "sample:dev"
    folder = Path(data)
    if data.startswith("sample:") or not folder.is_dir():
        return data, dev
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = {}
    for split in ("train", "dev"):
        paths = [path for path in files if path.name.split(".")[0] == split]
        if len(paths) > 1:
            told = f"{', '.join(path.name for path in paths)}; name one of them"
            raise DataError(f"holds several files of {split}: {told}", path=folder)
        found[split] = str(paths[0]) if paths else ""
    if not found["train"]:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:10])
        raise DataError(
            f"holds no file named train, train.conll, train.jsonl or the like; it holds: {names}",
            path=folder,
        )
    return found["train"], dev or found["dev"]


def load_data(settings: DataSettings, folder: Path) -> AdviceData:
    """Read both corpora; where there is no dev file, set a fifth of the training documents aside.

    Args:
        settings: which files, and how to read them.
        folder: gets `train.jsonl` and `dev.jsonl` where documents are set aside, once
            `AdviceData.save` is called.

    Raises:
        DataError: a file cannot be used, holds no entity, or is too small to be divided.
    """
    corpora = load_splits(settings, ("train", "dev"))
    for corpus in corpora.values():
        if not corpus.num_entities:
            raise DataError("holds no entity", path=corpus.path)
    if "dev" not in corpora:
        return _divide(corpora["train"], folder)
    return AdviceData(corpora["train"], corpora["dev"])


def _divide(whole: Corpus, folder: Path) -> AdviceData:
    """By a hash of the text, so that equal texts stay together; whole source documents, if known.

    It has a word of its own: corpora that were divided by the same hash before, as the sample was,
    would all fall on one side.
    """
    documents = whole.documents
    numbers = number_sources(documents) or range(len(documents))
    texts: dict[int, str] = {}
    for number, document in zip(numbers, documents, strict=True):
        texts[number] = texts.get(number, "advise ") + document.text
    places = {n: hashlib.sha256(text.encode()).digest()[0] / 256 for n, text in texts.items()}
    parts: dict[str, list[Document]] = {"train": [], "dev": []}
    for number, document in zip(numbers, documents, strict=True):
        parts["dev" if places[number] < _DEV_SHARE else "train"].append(document)
    if not all(any(document.entities for document in part) for part in parts.values()):
        raise DataError(
            f"is too small to set a fifth of it aside ({len(whole.documents)} documents): name a "
            "dev file with --dev",
            path=whole.path,
        )
    names = {split: str(folder / f"{split}.jsonl") for split in parts}
    train, dev = (Corpus.from_documents(parts[s], name=names[s]) for s in ("train", "dev"))
    return AdviceData(
        train,
        dev,
        # The source's format, tag scheme and offsets hold no longer.
        changes={**names, "format": "jsonl", "offsets": "codepoint", "options": {}},
        notice=f"no dev file: {len(parts['dev'])} of {len(whole.documents)} documents were set "
        f"aside for it, in {folder}",
    )
