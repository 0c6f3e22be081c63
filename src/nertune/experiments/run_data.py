"""The data of a run: read, described, and looked through for what makes scores say less."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.data.duplicates import find_leakage
from nertune.data.formats.values import counted
from nertune.data.splits import SPLITS, load_splits
from nertune.errors import DataError
from nertune.experiments.run_warnings import find_data_warnings
from nertune.training.examples import Coverage
from nertune.training.soft_targets import SoftSource

__all__ = ["RunData", "load_run_data", "log_coverage"]

_LOG = logging.getLogger("nertune")


@dataclass(frozen=True, slots=True)
class RunData:
    """The corpora of a run; `train` as far as `data.train_share` wants it."""

    train: Corpus
    dev: Corpus | None
    test: Corpus | None

    def items(self) -> list[tuple[str, Corpus]]:
        """Those that there are, by split."""
        named = [("train", self.train), ("dev", self.dev), ("test", self.test)]
        return [(name, corpus) for name, corpus in named if corpus is not None]


def load_run_data(
    settings: Settings,
    given: Mapping[str, Corpus] | None,
    *,
    with_test: bool,
    soft: SoftSource | None = None,
) -> RunData:
    """Read the files of a run; counts, notices and what makes scores say less go to the log.

    Args:
        settings: of the run.
        given: by split, in the place of files.
        with_test: whether to read `data.test` at all.
        soft: unlabelled text with a teacher: the training data may then hold no entity.

    Raises:
        DataError: a file cannot be used, or holds no entity to learn from.
    """
    data = settings.data
    loaded = load_splits(data, SPLITS if with_test else ("train", "dev"), given=given)
    loaded["train"] = loaded["train"].take_share(data.train_share, settings.run.seed)
    for split, corpus in loaded.items():
        counts = (
            f"{counted(len(corpus.documents), 'document')}, "
            f"{counted(corpus.num_entities, 'entity')}"
        )
        _LOG.info("%s", f"{split}: {corpus.path}: {counts}")
        for notice in corpus.notices:
            _LOG.info("%s", f"  {notice}")
    train = loaded["train"]
    corpora = RunData(train, loaded.get("dev"), loaded.get("test"))
    if not train.labels and soft is None:
        raise DataError("holds no entity to learn from", path=train.path)
    if corpora.dev is None:
        _LOG.info("no data.dev: nothing chooses an epoch, so the last one is kept")
    if data.test and not with_test:
        _LOG.info(
            "%s", f"data.test is not scored: add --test, or nertune evaluate MODEL {data.test}"
        )
    for message in find_data_warnings(
        corpora.train, corpora.dev, corpora.test, () if soft is None else soft.labels
    ):
        _LOG.warning("%s", message)
    _warn_of_leakage(corpora)
    return corpora


def _warn_of_leakage(corpora: RunData) -> None:
    """A score on texts that were trained on is no score; say how many there are."""
    named = corpora.items()
    for i, (source, a) in enumerate(named):
        for target, b in named[i + 1 :]:
            leak = find_leakage(a.documents, b.documents, source_name=source, target_name=target)
            if leak.documents:
                _LOG.warning(
                    "%s",
                    f"{leak.documents} of {len(b.documents)} {target} texts stand in {source} "
                    f"too: scores on {target} are optimistic",
                )


def log_coverage(coverages: Mapping[str, Coverage]) -> None:
    """Say what of the gold is not expressed as it is."""
    for split, coverage in coverages.items():
        for line in coverage.describe(split):
            _LOG.info("%s", line)
