"""The bundled sample corpus: see README.md in this folder."""

from __future__ import annotations

from pathlib import Path

from nertune.errors import DataError
from nertune.storage.paths import user_path

__all__ = ["SAMPLE_SPLITS", "resolve_data"]

SAMPLE_SPLITS = ("train", "dev", "test")


def resolve_data(name: str) -> Path:
    """A data file's path; `sample:train`, `sample:dev` and `sample:test` name the bundled corpus.

    Raises:
        DataError: the sample has no such split.
    """
    prefix, colon, split = name.partition(":")
    if prefix != "sample" or not colon:
        return user_path(name)
    if split not in SAMPLE_SPLITS:
        raise DataError(f"{name}: the sample corpus has {', '.join(SAMPLE_SPLITS)}")
    return Path(__file__).parent / f"{split}.jsonl"
