"""The Python API in a few functions: read, train, load, evaluate, write.

>>> import nertune
>>> train, dev = nertune.read("train.conll"), nertune.read("dev.conll")     # doctest: +SKIP
>>> nertune.train({"run": {"dir": "runs/my"}}, train=train, dev=dev)        # doctest: +SKIP
>>> predictor = nertune.load("runs/my")                                     # doctest: +SKIP
>>> nertune.evaluate(predictor, "test.conll").micro.f1                      # doctest: +SKIP
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nertune.config.run import Settings, load_settings, parse_settings
from nertune.data.corpus import (
    Corpus,
    load_alike,
    load_with,
    save_with,
)
from nertune.data.formats.base import ReadOptions, WriteOptions
from nertune.data.formats.offsets import Offsets
from nertune.data.formats.values import Join, SchemeChoice
from nertune.data.samples import resolve_data
from nertune.errors import ConfigError
from nertune.evaluation.metrics import Scores, score
from nertune.experiments.train import train as train_run
from nertune.inference.predictor import Predictor
from nertune.labels.schemes import Scheme
from nertune.models.graphs.onnx import AnyBackend
from nertune.reports.corpora.corpus_page import corpus_page
from nertune.reports.html import to_html
from nertune.storage.files import open_for_writing
from nertune.training.observer import Observer
from nertune.types import Document

__all__ = ["evaluate", "load", "read", "train", "view", "write"]

_IN_MEMORY = "<documents>"


def read(
    path: str | Path,
    *,
    format: str = "auto",
    scheme: SchemeChoice = "auto",
    join: Join = "auto",
    offsets: Offsets = "auto",
    strict: bool = False,
    options: Mapping[str, str] | None = None,
) -> list[Document]:
    """Read the documents of a file in any format that nertune reads.

    Args:
        path: the file; a folder, a pattern such as `data/*.conll`, or a ZIP archive of several; or
            `sample:train`, `sample:dev`, `sample:test` for the bundled sample.
        format, scheme, join, offsets, strict: as for `nertune.load_corpus`, which also returns how
            the file was read.
        options: of the format, e.g. `{"columns": "0,3"}`.

    Raises:
        DataError: the file or a line of it cannot be used; the message names both.
        ConfigError: an option has an unknown value.
    """
    how = ReadOptions(scheme, join, offsets, strict, more=options or {})
    return list(load_with(resolve_data(str(path)), how, format=format).documents)


def write(
    path: str | Path,
    documents: Iterable[Document],
    *,
    format: str | None = None,
    scheme: Scheme = "BIO",
    options: Mapping[str, str] | None = None,
) -> None:
    """Write documents to a file, which appears (or replaces an older one) only when complete.

    Args:
        path: the file; `.gz`, `.xz` and `.zst` are packed.
        documents: the documents.
        format: a format's name; `None` goes by the suffix: JSONL spans for `.jsonl`, else CoNLL.
        scheme: the tag scheme of CoNLL.
        options: of the format, e.g. `{"layers": "2"}`.

    Raises:
        DataError: the file cannot be written, or the format cannot hold a document.
    """
    save_with(path, documents, WriteOptions(scheme, more=options or {}), format=format)


def view(
    path: str | Path, documents: Iterable[Document], *, title: str = "", page_size: int = 50
) -> None:
    """Write one HTML page to look through documents: search, filter by label, page by page.

    The page needs no other file. An older one at this place is replaced.

    Args:
        path: the page.
        documents: any number.
        title: above the page; by default the name of `path`.
        page_size: documents that are shown at a time.

    Raises:
        DataError: the page cannot be written.
    """
    path = Path(path)
    page = corpus_page(list(documents), name=title or path.name, page_size=page_size)
    with open_for_writing(path) as stream:
        stream.write(to_html(page))


def train(
    settings: Settings | Mapping[str, Any] | str | Path,
    *,
    train: Sequence[Document] | None = None,
    dev: Sequence[Document] | None = None,
    test: Sequence[Document] | bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Train, save and score one tagger, on files or on documents in memory.

    Notices and a line for each epoch go to `logging.getLogger("nertune")`, at level INFO.

    Args:
        settings: a recipe's path, its content as a dict, or `Settings`.
        train, dev: documents in the place of the files that the settings name.
        test: documents to score in the end; or `True`: score the file that the settings name.
        resume: continue a killed run, or return the record of a finished one; documents must be
            the same ones.
        overwrite: replace what an earlier run left in the folder.
        observers: are told about progress; what they raise ends the run.

    Returns:
        The record, as in `record.json`; the tagger is in `model/` of the run's folder.

    Raises:
        CheckpointError: the run in the folder had other documents.
        NertuneError: settings, data, encoder or folder cannot be used.
    """
    own_test = None if isinstance(test, bool) else test
    given = {"train": train, "dev": dev, "test": own_test}
    corpora = {
        split: Corpus.from_documents(documents, name=_IN_MEMORY)
        for split, documents in given.items()
        if documents is not None
    }
    return train_run(
        _settings(settings, corpora),
        corpora=corpora,
        score_test=test is not False,
        resume=resume,
        overwrite=overwrite,
        observers=observers,
    )


def _settings(
    settings: Settings | Mapping[str, Any] | str | Path, given: Iterable[str]
) -> Settings:
    """Settings in which given documents stand for files."""
    names = dict.fromkeys(given, _IN_MEMORY)
    if isinstance(settings, Settings):
        return settings.model_copy(update={"data": settings.data.model_copy(update=names)})
    if isinstance(settings, Mapping):
        values = copy.deepcopy(dict(settings))
        data = values.setdefault("data", {})
        if not isinstance(data, dict):
            raise ConfigError(f"data: got {data!r}; expected a section with keys, e.g. train")
        data.update(names)
        return parse_settings(values)
    return load_settings(Path(settings), [f"data.{key}={_IN_MEMORY}" for key in names])


def load(
    model: str | Path,
    *,
    device: str = "auto",
    backend: AnyBackend = "torch",
    encoder: str | Path | None = None,
) -> Predictor:
    """Load a trained tagger; the same as `Predictor.load`."""
    return Predictor.load(model, device=device, backend=backend, encoder=encoder)


def evaluate(model: Predictor | str | Path, data: Sequence[Document] | str | Path) -> Scores:
    """Score a tagger against gold entities.

    A file is read as the tagger's training file was. Entities that no tag can express are gold all
    the same, and count as missed.

    Args:
        model: a predictor, or what `load` takes.
        data: documents with gold entities, or a file of them.

    Raises:
        ModelError: nothing can be loaded from there.
        DataError: the file or a line of it cannot be used; the message names both.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    if isinstance(data, (str, Path)):
        data = load_alike(resolve_data(str(data)), predictor.reading).documents
    found = list(predictor.tag_documents(data))
    return score(data, found, types=predictor.labels)
