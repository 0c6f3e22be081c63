"""The files of a run: train, dev and test, read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nertune.config.run import DataSettings
from nertune.data.corpus import Corpus, Reading, load_with
from nertune.data.document_store import is_large, load_stored
from nertune.data.formats.base import ReadOptions
from nertune.data.label_sets import join_files
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError

__all__ = ["SPLITS", "CorpusCache", "load_splits"]

SPLITS = ("train", "dev", "test")

CorpusCache = dict[tuple[object, ...], Corpus]
"""Files that were read before, by name and by how they were read."""


def load_splits(
    data: DataSettings,
    splits: Sequence[str] = SPLITS,
    *,
    cache: CorpusCache | None = None,
    given: Mapping[str, Corpus] | None = None,
) -> dict[str, Corpus]:
    """Read the corpora that settings name.

    What is recognised on the training file (what joins tokens, the tag scheme, what offsets count)
    holds for the others, so that the splits of a corpus are read alike; where their tags do not fit
    its scheme, a notice says so. Every document is there: `train_share` is not applied.

    Args:
        data: which files, and how to read them; an empty name is left out.
        splits: which of them to read.
        cache: gets what is read, and is asked first.
        given: corpora by split that are in memory already; their files are not read.

    Raises:
        ConfigError: there is no training file.
        DataError: a file or a line of it cannot be used; the message names both.
    """
    if "train" in splits and not data.train and "train" not in (given or {}):
        raise ConfigError("data.train is empty: expected a file to train on, or sample:train")
    cache = {} if cache is None else cache
    corpora: dict[str, Corpus] = {}
    like = Reading()
    for split in splits:
        if given and split in given:
            corpora[split] = given[split]
            continue
        if split == "train" and not isinstance(data.train, str):
            _refuse_disk(data, "there are several training files")
            files = [_load(file.file, data, Reading(), cache) for file in data.train]
            corpora[split] = join_files(files, data.train)
        elif name := getattr(data, split):
            corpora[split] = _load(name, data, like, cache, may_store=split == "train")
        if split == "train":
            like = corpora[split].reading
    return corpora


def _load(
    name: str, data: DataSettings, like: Reading, cache: CorpusCache, *, may_store: bool = False
) -> Corpus:
    """One file, read like another; the cache is asked first, and gets it.

    A large training file is put on the disk, if that is not forbidden.
    """
    own = tuple(sorted(data.options.items()))
    how = (name, data.format, data.scheme, data.join, data.offsets, data.strict, own)
    if (*how, like) not in cache:
        options = ReadOptions(
            data.scheme, data.join, data.offsets, data.strict, like=like, more=data.options
        )
        path = Path(resolve_data(name))
        if may_store and path.exists() and not path.is_file():
            _refuse_disk(data, f"{name} is a folder")
        stores = may_store and path.is_file() and data.storage != "memory"
        if stores and (data.storage == "disk" or is_large(path)):
            corpus = load_stored(path, options, format=data.format)
        else:
            corpus = load_with(path, options, format=data.format)
        cache[*how, like] = cache[*how, corpus.reading] = corpus
    return cache[*how, like]


def _refuse_disk(data: DataSettings, reason: str) -> None:
    """What is asked for is not left undone without a word.

    Raises:
        ConfigError: the documents were to be held on the disk.
    """
    if data.storage == "disk":
        raise ConfigError(
            f'data.storage = "disk" is for one training file, and {reason}: put them into one '
            'with nertune data merge, or use "auto"'
        )
