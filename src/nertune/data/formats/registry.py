"""All formats: nertune's own, those of other packages, and those that a program registers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points

from nertune.data.formats.base import Format
from nertune.data.formats.binary.spacy_bin import SpacyBin
from nertune.data.formats.cas.json_cas import CasJson
from nertune.data.formats.cas.xmi import CasXmi
from nertune.data.formats.conll import Conll
from nertune.data.formats.conllu import ConlluPlus
from nertune.data.formats.json_files.bioc_json import BiocJson
from nertune.data.formats.json_files.cluener import Cluener
from nertune.data.formats.json_files.cmeee import Cmeee
from nertune.data.formats.json_files.doccano import Doccano
from nertune.data.formats.json_files.genia import Genia
from nertune.data.formats.json_files.gliner import Gliner
from nertune.data.formats.json_files.huggingface import HuggingFace
from nertune.data.formats.json_files.label_studio import LabelStudio
from nertune.data.formats.json_files.prodigy import Prodigy
from nertune.data.formats.json_files.spacy_json import SpacyJson
from nertune.data.formats.jsonl import Jsonl
from nertune.data.formats.lines import Lines
from nertune.data.formats.standoff.brat import Brat
from nertune.data.formats.standoff.pubtator import PubTator
from nertune.data.formats.tables.parquet import Parquet
from nertune.data.formats.webanno import WebAnno
from nertune.data.formats.xml_files.bioc_xml import BiocXml
from nertune.errors import ConfigError

__all__ = ["ENTRY_POINTS", "all_formats", "find_format", "format_names", "register", "unregister"]

ENTRY_POINTS = "nertune.formats"
"""The group of entry points by which another package offers formats."""

_LOG = logging.getLogger("nertune")
_RESERVED = ("auto", "text")  # of options: recognise it; highlighted on a terminal

# A format's registry line. The first ones of a kind are named first in messages.
_BUILT_IN: tuple[Format, ...] = (
    Conll(),
    Jsonl(),
    Jsonl(name="predictions"),
    Cluener(),
    Cmeee(),
    Doccano(),
    LabelStudio(),
    Prodigy(),
    HuggingFace(),
    Parquet(),
    Gliner(),
    Genia(),
    SpacyJson(),
    SpacyBin(),
    Brat(),
    PubTator(),
    WebAnno(),
    ConlluPlus(),
    BiocXml(),
    BiocJson(),
    CasXmi(),
    CasJson(),
    Lines(),
)
_formats: dict[str, Format] = {format.name: format for format in _BUILT_IN}


def register(format: Format) -> None:
    """Add a format; its name and suffixes must be new.

    Raises:
        ConfigError: the name or a suffix is taken.
    """
    if not format.name or format.name in _RESERVED:
        raise ConfigError(f"format {format.name!r}: expected a name other than auto and text")
    if format.name in _formats:
        raise ConfigError(f"format {format.name!r} is registered already")
    for other in _formats.values():
        if shared := set(format.suffixes) & set(other.suffixes):
            raise ConfigError(
                f"format {format.name!r}: the suffix {min(shared)} already means {other.name!r}; "
                "leave it out, and recognise the content"
            )
    _formats[format.name] = format


def unregister(name: str) -> None:
    """Remove a format that was registered; one that is not there is no error."""
    _formats.pop(name, None)


def all_formats() -> tuple[Format, ...]:
    """Every format, those of other packages included."""
    _load_entry_points()
    return tuple(_formats.values())


@cache
def _load_entry_points() -> None:
    """Register what installed packages offer, once; one that fails is warned of and left out."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found = point.load()
            register(found() if isinstance(found, type) else found)
        except Exception as error:  # whatever another package's code raises
            _LOG.warning("format %s (%s) is left out: %s", point.name, point.value, error)


def format_names(
    *, reads: bool = False, writes: bool = False, entities: bool = False
) -> tuple[str, ...]:
    """The names of formats that can do what is asked for.

    Args:
        reads: only those that can be read.
        writes: only those that can be written.
        entities: only those that hold entities.
    """
    return tuple(f.name for f in _suitable(reads=reads, writes=writes, entities=entities))


def _suitable(*, reads: bool, writes: bool, entities: bool) -> Iterator[Format]:
    for format in all_formats():
        if format.reads >= reads and format.writes >= writes and format.holds.entities >= entities:
            yield format


def find_format(
    name: str,
    *,
    reads: bool = False,
    writes: bool = False,
    entities: bool = False,
    option: str = "format=",
    also: tuple[str, ...] = (),
) -> Format:
    """A format by its name.

    Args:
        name: of the format.
        reads, writes, entities: what it has to be able to do.
        option: what the user wrote before the name, for the message.
        also: what the option takes beside names of formats, for the message.

    Raises:
        ConfigError: there is no such format that can do that; lists those that can.
    """
    for format in _suitable(reads=reads, writes=writes, entities=entities):
        if format.name == name:
            return format
    known = [*also, *format_names(reads=reads, writes=writes, entities=entities)]
    expected = ", ".join(known[:-1]) + f" or {known[-1]}"
    told = " is unknown, expected" if option.endswith("=") else ": expected"
    raise ConfigError(f"{option}{name!r}{told} {expected}")
