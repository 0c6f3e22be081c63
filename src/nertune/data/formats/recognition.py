"""What format a file has, by its content and by its name, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nertune.data.formats.base import Format
from nertune.data.formats.registry import all_formats
from nertune.data.formats.source import Glimpse, Source
from nertune.errors import DataError
from nertune.storage.compression import unpacked_name

__all__ = ["Recognised", "format_of_name", "recognise", "recognise_glimpse"]


@dataclass(frozen=True, slots=True)
class Recognised:
    """A format and why a file is of it.

    Attributes:
        format: the format.
        reason: ends the sentence "read as NAME: …".
        against_name: whether the file's suffix means another format of labelled files.
    """

    format: Format
    reason: str
    against_name: bool = False


def format_of_name(path: Path | str) -> Format | None:
    """The format that a file's suffix means, packed or not; `None` for any other."""
    name = _bare(Path(path))
    found = [
        (len(suffix), format)
        for format in all_formats()
        for suffix in format.suffixes
        if name.endswith(suffix) and name != suffix
    ]
    return max(found, key=lambda item: item[0])[1] if found else None


def recognise(source: Source, *, entities: bool = False) -> Recognised | None:
    """The format of a file or folder.

    Args:
        source: the file.
        entities: only formats that hold entities.

    Returns:
        `None` where neither content nor name say anything.

    Raises:
        DataError: two formats recognise it, and the suffix is of neither.
    """
    return recognise_glimpse(source.glimpse(), source.path, entities=entities)


def recognise_glimpse(seen: Glimpse, path: Path, *, entities: bool = False) -> Recognised | None:
    """The same of what was seen of a file."""
    named = format_of_name(path)
    if named is not None and (not named.reads or (entities and not named.holds.entities)):
        named = None
    usable = [f for f in all_formats() if f.reads and f.holds.entities >= entities]
    if seen.files:
        usable = [f for f in usable if f.container == "folder"]
    claims = [(f, reason) for f in usable if (reason := f.recognise(seen)) is not None]
    if len(claims) > 1:
        claims = [claim for claim in claims if not claim[0].general] or claims
    if len(claims) > 1:
        claims = [claim for claim in claims if claim[0] is named] or claims
    if len(claims) > 1:
        told = "; ".join(f"as {format.name}, since {reason}" for format, reason in claims)
        names = " or ".join(format.name for format, _ in claims)
        raise DataError(f"can be read in two ways: {told}; say format {names}", path=path)
    if claims:
        format, reason = claims[0]
        is_other = named is not None and named is not format and named.holds.entities
        return Recognised(format, reason, is_other)
    if named is None:
        return None
    return Recognised(named, f"its name ends in {_suffix(path, named)}")


def _bare(path: Path) -> str:
    return unpacked_name(path.name).lower()


def _suffix(path: Path, format: Format) -> str:
    return max((s for s in format.suffixes if _bare(path).endswith(s)), key=len)
