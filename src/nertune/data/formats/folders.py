"""Formats that have a file for each document: the names of the files, read and written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nertune.data.formats.source import Source
from nertune.errors import DataError
from nertune.storage.compression import unpacked_name
from nertune.types import Document

__all__ = ["document_files", "new_name"]

_UNSAFE = re.compile(r"[^\w.-]+")


def document_files(source: Source, suffix: str) -> Iterator[tuple[str, Source]]:
    """The files of a folder that end so, those of folders inside included, sorted by their names.

    Of a source that is one file, that file, whatever its suffix.

    Yields:
        The name without folder and suffix (with the folders inside), and the file.

    Raises:
        DataError: a folder has no such file.
    """
    if not source.path.is_dir():
        yield unpacked_name(source.path.name).removesuffix(suffix), source
        return
    found = sorted(p for p in source.path.rglob(f"*{suffix}*") if _ends(p, suffix) and p.is_file())
    if not found:
        raise DataError(f"the folder has no file that ends in {suffix}", path=source.path)
    for path in found:
        name = path.relative_to(source.path).as_posix()
        yield unpacked_name(name).removesuffix(suffix), Source(path)


def _ends(path: Path, suffix: str) -> bool:
    return not path.name.startswith(".") and unpacked_name(path.name).endswith(suffix)


def new_name(number: int, document: Document) -> str:
    """The name of a document's file without a suffix: numbered, so that their order stays."""
    about = _UNSAFE.sub("-", document.id).strip(".-")[:80]
    return f"{number:06d}" + (f"-{about}" if about else "")
