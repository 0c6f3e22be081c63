"""XML that is safe to read, whole or as a stream, and what is needed to write it.

No entity is expanded and nothing outside a file is loaded: a file that declares entities is
refused. A DOCTYPE without entities is allowed. Elements are built only where a reader wants them,
so the memory of a stream is that of one element.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from nertune.data.formats.source import Glimpse, Source
from nertune.errors import DataError
from nertune.storage.compression import describe_damage, unpacking_errors

__all__ = [
    "MAX_DEPTH",
    "escape_attribute",
    "escape_text",
    "iterate_elements",
    "parse_xml",
    "seen_tags",
    "unwritable",
]

MAX_DEPTH = 256
"""Elements nested deeper than this are refused."""

_CHUNK_BYTES = 1 << 16
_MARKS = (b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # a tag, or a byte order mark
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#13;"}
_IN_ATTRIBUTES = _MARKUP | {ord('"'): "&quot;", ord("\n"): "&#10;", ord("\t"): "&#9;"}

Wanted = Callable[[str, int], bool]


def parse_xml(source: Source) -> Element:
    """The root of a file.

    Raises:
        DataError: as for `iterate_elements`.
    """
    return next(element for _, element in iterate_elements(source, lambda tag, depth: True))


def iterate_elements(
    source: Source, wanted: Wanted, *, root: str = ""
) -> Iterator[tuple[int, Element]]:
    """The elements of a streamed file, each with the line of its start tag.

    What is inside an element that is given is part of it and not given again. Nothing else of the
    file is kept.

    Args:
        source: the file, in any encoding that it declares and expat knows.
        wanted: whether an element is given, by its tag (with a namespace: `{namespace}name`) and
            its depth, which is 1 for the root.
        root: the tag of the root; with another one the file is refused.

    Raises:
        DataError: the file cannot be read, is not well-formed, is nested deeper than `MAX_DEPTH`,
            declares or refers to entities, or has another root.
    """
    path = source.path
    collect = _Collect(wanted, path, root)
    parser = DefusedXMLParser(target=collect, forbid_dtd=False)
    collect.lines = parser.parser
    for chunk in _chunks(source):
        _feed(parser, chunk, path)
        while collect.found:
            yield collect.found.popleft()
    _feed(parser, None, path)
    yield from collect.found


def seen_tags(seen: Glimpse) -> list[str]:
    """The tags in the head of a file in their order, the root's first; empty if it is no XML."""
    if not seen.head.lstrip().startswith(_MARKS):
        return []
    tags: list[str] = []

    def note(tag: str, depth: int) -> bool:
        tags.append(tag)
        return False

    collect = _Collect(note, Path(seen.name))
    parser = DefusedXMLParser(target=collect, forbid_dtd=False)
    collect.lines = parser.parser
    with suppress(DataError):  # damaged: for its reader to refuse
        _feed(parser, seen.head, Path(seen.name))
    return tags


def unwritable(text: str) -> str:
    """The first character that XML 1.0 cannot hold, as U+XXXX; empty where there is none."""
    found = _UNWRITABLE.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def escape_text(text: str) -> str:
    """Text as it stands between tags, so that it is read the same."""
    return text.translate(_MARKUP)


def escape_attribute(text: str) -> str:
    """Text as it stands in double quotes, line ends and tabs included."""
    return text.translate(_IN_ATTRIBUTES)


class _Collect:
    """What a parser calls: builds the wanted elements and counts the depth of all."""

    def __init__(self, wanted: Wanted, path: Path, root: str = ""):
        self.found: deque[tuple[int, Element]] = deque()
        self.lines: Any = None  # the parser, which knows the line
        self._wanted = wanted
        self._path = path
        self._root = root
        self._depth = 0
        self._builder: TreeBuilder | None = None
        self._begun = (0, 0)  # depth and line of the element that is being built

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        line = self.lines.CurrentLineNumber
        if self._depth == 1 and self._root not in ("", tag):
            told = f"expected XML with the root {self._root}, got {tag}"
            raise DataError(told, path=self._path, line=line)
        if self._depth > MAX_DEPTH:
            told = f"its elements are nested deeper than {MAX_DEPTH}: is the file damaged?"
            raise DataError(told, path=self._path, line=line)
        if self._builder is None and self._wanted(tag, self._depth):
            self._builder = TreeBuilder()
            self._begun = (self._depth, line)
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag)
            if self._depth == self._begun[0]:
                self.found.append((self._begun[1], self._builder.close()))
                self._builder = None
        self._depth -= 1

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)


def _chunks(source: Source) -> Iterator[bytes]:
    with source.open() as stream:
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
        except unpacking_errors() as error:
            raise DataError(describe_damage(source.path), path=source.path) from error
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", path=source.path) from error


def _feed(parser: Any, chunk: bytes | None, path: Path) -> None:
    """Parse a chunk; `None` ends the file."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except ParseError as error:
        told = f"this XML is not well-formed ({error}): is the file damaged or cut off?"
        raise DataError(told, path=path, line=error.position[0]) from error
    except DefusedXmlException as error:
        told = (
            "this XML declares entities or refers to other files, which are refused since they can "
            "fill the memory or read files: write it again without them"
        )
        raise DataError(told, path=path, line=parser.parser.CurrentLineNumber) from error
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        told = f"this XML cannot be read ({error}): convert it to UTF-8"
        raise DataError(told, path=path) from error
