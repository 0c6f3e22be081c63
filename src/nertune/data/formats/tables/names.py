"""The names of tags that a table holds as integers, as the Hugging Face `datasets` library does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nertune.data.formats.base import Findings, ReadOptions
from nertune.errors import ConfigError, DataError
from nertune.storage.files import shorten

__all__ = ["BESIDE", "find_columns", "names_beside", "names_of_features", "parse_names",
           "settle_names", "to_tags"]  # fmt: skip

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "ner", "tags", "labels")
BESIDE = ("dataset_info.json", "dataset_infos.json")  # what `datasets` writes to a folder
_MOST_BYTES = 1 << 24  # of such a file
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_columns(
    found: Sequence[str], asked: str, path: Path, *, tags: bool = True
) -> tuple[str, str]:
    """The names of the columns of tokens and of tags.

    Args:
        found: the table's columns.
        asked: the option `columns`; empty for those that are usual.
        path: the file, for messages.
        tags: whether there have to be tags; else the second name may be empty.

    Raises:
        DataError: there is no such column.
        ConfigError: `columns` is not two names.
    """
    names = [name.strip() for name in asked.split(",")] if asked else []
    if asked and (len(names) != 2 or not all(names)):
        raise ConfigError(f"columns={asked!r}: expected two names such as tokens,ner_tags")
    wanted = [(names[0],), (names[1],)] if asked else [TOKEN_COLUMNS, TAG_COLUMNS]
    chosen = [next((name for name in some if name in found), "") for some in wanted]
    if not chosen[0] or (tags and not chosen[1]):
        what = "tags" if chosen[0] else "tokens"
        columns = ", ".join(map(shorten, found[:20])) or "none"
        told = f"no column of {what} (its columns: {columns}): name both with the option columns="
        raise DataError(f"{told}tokens,ner_tags", path=path)
    return chosen[0], chosen[1]


def parse_names(given: str) -> tuple[str, ...]:
    """The option `tags`: names parted by commas, or a JSON array of them.

    Raises:
        ConfigError: a name is empty or stands twice, or it is no such array.
    """
    names: Any = given.split(",")
    if given.lstrip().startswith("["):
        try:
            names = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"tags={given!r} is no JSON array: {error}") from error
    if not _is_names(names) or len(set(names)) < len(names):
        raise ConfigError(f"tags={given!r}: expected different names such as O,B-PER,I-PER")
    return tuple(names)


def names_of_features(features: Any, column: str) -> tuple[str, ...] | None:
    """The names that a description of columns gives for a column of tags; `None` if it has none.

    It is that of the schema of a parquet file (`info.features`), of `dataset_info.json`, or of the
    rows that the Hugging Face dataset server answers with.
    """
    if isinstance(features, list):  # of objects with a name and a type
        described = [f for f in features if isinstance(f, dict) and f.get("name") == column]
        feature = described[0].get("type") if described else None
    else:
        feature = features.get(column) if isinstance(features, dict) else None
    for _ in range(8):  # Sequence, List and [...] stand around the ClassLabel
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and _is_names(feature.get("names")):
            return tuple(feature["names"])
        elif isinstance(feature, dict):
            feature = feature.get("feature")
    return None


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and name and not _SURROGATE.search(name) for name in value)
    )


def names_beside(path: Path, column: str) -> tuple[tuple[str, ...], str] | None:
    """The names that a file in the same folder gives for a column, and that file's name."""
    for name in BESIDE:
        try:
            with (path.parent / name).open("rb") as stream:
                described = json.loads(stream.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            continue
        infos = [described, *described.values()] if isinstance(described, dict) else []
        found = {
            names
            for info in infos
            if isinstance(info, Mapping)
            and (names := names_of_features(info.get("features"), column)) is not None
        }
        if len(found) == 1:
            return found.pop(), name
    return None


def settle_names(
    options: ReadOptions, features: Any, column: str, path: Path, findings: Findings
) -> tuple[str, ...] | None:
    """The names of integers, in case the tags are such; `None` where nothing gives them.

    Args:
        options: the option `tags` comes first.
        features: what the file itself says of its columns.
        column: that of the tags; empty if there is none.
        path: the file, beside which another one may give the names.
        findings: gets where the names come from, if it is that one.

    Raises:
        ConfigError: the option `tags` is no list of different names.
    """
    if given := options.more.get("tags"):
        return parse_names(given)
    if names := names_of_features(features, column):
        return names
    if not column or (beside := names_beside(path, column)) is None:
        return None
    told = f"the names of tags that are integers are those of {beside[1]}"
    if told not in findings.notices:
        findings.notices.append(told)
    return beside[0]


def to_tags(
    value: Any, names: Sequence[str] | None, column: str, path: Path, line: int
) -> list[str]:
    """The tags of a row by their names.

    Raises:
        DataError: they are neither all names nor all integers that have one.
    """
    if not isinstance(value, list):
        raise DataError(f"{column!r} is not a list of tags", path=path, line=line)
    kinds = set(map(type, value))
    if kinds <= {str}:
        if not all(value) or _SURROGATE.search("".join(value)):
            told = f"a tag in {column!r} is empty, or holds half a surrogate pair"
            raise DataError(told, path=path, line=line)
        return value
    if kinds != {int}:
        told = f"the tags in {column!r} are neither all strings nor all integers"
        raise DataError(told, path=path, line=line)
    if names is None:
        told = (
            f"the tags in {column!r} are integers without names: give the names in order with the "
            "option tags=O,B-PER,I-PER, or put the dataset's dataset_info.json beside the file"
        )
        raise DataError(told, path=path, line=line)
    if not all(0 <= tag < len(names) for tag in value):
        wrong = next(tag for tag in value if not 0 <= tag < len(names))
        told = f"tag {str(wrong)[:20]} in {column!r}: there are {len(names)} names, counted from 0"
        raise DataError(told, path=path, line=line)
    return [names[tag] for tag in value]
