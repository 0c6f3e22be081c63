"""The files of a run: train, dev and test, read alike."""

from __future__ import annotations

from collections.abc import Sequence

from nertune.config import DataSettings
from nertune.data.corpus import Corpus, load_corpus
from nertune.data.formats.conll import Join
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError

__all__ = ["SPLITS", "CorpusCache", "load_splits"]

SPLITS = ("train", "dev", "test")

CorpusCache = dict[tuple[str, ...], Corpus]
"""Files that were read before, by name and by how they were read."""


def load_splits(
    data: DataSettings,
    splits: Sequence[str] = SPLITS,
    *,
    cache: CorpusCache | None = None,
) -> dict[str, Corpus]:
    """Read the corpora that settings name.

    What joins the tokens of a two-column file is recognised on the training file and holds for the
    others, so that the splits of a corpus are read alike. Every document is there: `train_share` is
    not applied.

    Args:
        data: which files, and how to read them; an empty name is left out.
        splits: which of them to read.
        cache: gets what is read, and is asked first.

    Raises:
        ConfigError: there is no training file.
        DataError: a file or a line of it cannot be used; the message names both.
    """
    if "train" in splits and not data.train:
        raise ConfigError("data.train is empty: expected a file to train on, or sample:train")
    cache = {} if cache is None else cache
    corpora: dict[str, Corpus] = {}
    join: Join = data.join
    for split in splits:
        name: str = getattr(data, split)
        if not name:
            continue
        how = (name, data.format, data.scheme, str(data.strict))
        if (*how, join) not in cache:
            corpus = load_corpus(
                resolve_data(name),
                format=data.format,
                scheme=data.scheme,
                join=join,
                strict=data.strict,
            )
            cache[*how, join] = cache[*how, corpus.joined] = corpus
        corpora[split] = cache[*how, join]
        if split == "train" and corpora[split].format == "conll":
            join = corpora[split].joined
    return corpora
