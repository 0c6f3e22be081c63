"""Annotations added to an XMI file, whose other content stays as it is."""

from __future__ import annotations

import xml.sax
import xml.sax.handler
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import defusedxml.sax
from defusedxml import DefusedXmlException

from nertune.data.formats.cas.model import Annotation
from nertune.data.formats.xml_parsing import escape_attribute, escape_text
from nertune.errors import DataError

if TYPE_CHECKING:
    from xml.sax.xmlreader import AttributesImpl

__all__ = ["add_annotations"]

_XMI = "http://www.omg.org/XMI"
_CAS = "http:///uima/cas.ecore"
_MOST_DIGITS = 10  # of an id, which Java holds in 32 bits


def add_annotations(xmi: bytes, sofa: str, annotations: Sequence[Annotation]) -> str:
    """XMI with annotations more, all of one type, which are indexed in the view of a subject.

    They stand in front of the first view: readers of UIMA want what is indexed before the index.

    Args:
        xmi: what `xmi.read_views` has read without an error.
        sofa: the `xmi:id` of the subject.
        annotations: with offsets and features as the file shall have them.

    Raises:
        DataError: the XML names another file, e.g. one with its DTD.
    """
    copy = _Copy(sofa)
    try:
        defusedxml.sax.parse(BytesIO(xmi), copy, forbid_dtd=False)
    except (DefusedXmlException, xml.sax.SAXException) as error:
        told = "this XML refers to other files, which is refused: write it again without a DOCTYPE"
        raise DataError(told) from error
    return copy.text(annotations)


class _Copy(xml.sax.handler.ContentHandler):
    """Writes what it is told of, with room for what is added."""

    def __init__(self, sofa: str):
        super().__init__()
        self._sofa = sofa
        self._parts: list[str] = ['<?xml version="1.0" encoding="UTF-8"?>\n']
        self._depth = 0
        self._is_open = False  # the last start tag may still become an empty element
        self._prefixes: dict[str, str] = {}  # of namespaces, as the root declares them
        self._after_root = 0  # where further declarations go
        self._before_view: int | None = None
        self._members: tuple[int, str] | None = None
        self._last_id = 0

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        self._close_tag()
        if self._depth == 0:
            declared = {v: k.partition(":")[2] for k, v in attrs.items() if k.startswith("xmlns:")}
            self._prefixes = declared
        self._depth += 1
        id = attrs.get(f"{self._prefix(_XMI)}:id", "")
        if id.isdecimal() and len(id) < _MOST_DIGITS:
            self._last_id = max(self._last_id, int(id))
        is_view = name == f"{self._prefix(_CAS)}:View"
        if is_view and self._before_view is None:
            self._before_view = self._slot()
        self._parts.append(f"<{name}")
        for key, value in attrs.items():
            if is_view and key == "members" and attrs.get("sofa") == self._sofa:
                self._members = (self._slot(), value)
            else:
                self._parts.append(f' {key}="{escape_attribute(value)}"')
        if is_view and "members" not in attrs and attrs.get("sofa") == self._sofa:
            self._members = (self._slot(), "")
        if self._depth == 1:
            self._after_root = self._slot()
        self._is_open = True

    def endElement(self, name: str) -> None:
        self._depth -= 1
        if self._depth == 0 and self._before_view is None:
            self._close_tag()
            self._before_view = self._slot()
        if self._is_open:
            self._parts.append("/>")
            self._is_open = False
        else:
            self._parts.append(f"</{name}>")

    def characters(self, content: str) -> None:
        self._close_tag()
        self._parts.append(escape_text(content))

    def text(self, annotations: Sequence[Annotation]) -> str:
        """All of it."""
        if not annotations:
            return self._joined("", [])
        package, _, short = annotations[0].type.rpartition(".")
        namespace = f"http:///{package.replace('.', '/') or 'uima/noNamespace'}.ecore"
        prefix = self._prefixes.get(namespace)
        if prefix is None:
            taken = self._prefixes.values()
            prefix = next(p for n in range(len(taken) + 1) if (p := f"nertune{n}") not in taken)
            self._parts[self._after_root] = f' xmlns:{prefix}="{escape_attribute(namespace)}"'
        written, ids = [], []
        for number, annotation in enumerate(annotations, self._last_id + 1):
            values: dict[str, Any] = {f"{self._prefix(_XMI)}:id": number, "sofa": self._sofa}
            values |= {"begin": annotation.begin, "end": annotation.end, **annotation.features}
            told = "".join(f' {k}="{escape_attribute(str(v))}"' for k, v in values.items())
            written.append(f"<{prefix}:{short}{told}/>")
            ids.append(str(number))
        return self._joined("".join(written), ids)

    def _joined(self, written: str, ids: Sequence[str]) -> str:
        """The parts, with what is added and its ids in the view."""
        if self._members is not None:
            slot, members = self._members
            told = escape_attribute(" ".join([*members.split(), *ids]))
            self._parts[slot] = f' members="{told}"'
        elif ids:
            view, sofa = self._prefix(_CAS), escape_attribute(self._sofa)
            written += f'<{view}:View sofa="{sofa}" members="{" ".join(ids)}"/>'
        if self._before_view is not None:
            self._parts[self._before_view] = written
        return "".join(self._parts)

    def _slot(self) -> int:
        self._parts.append("")
        return len(self._parts) - 1

    def _close_tag(self) -> None:
        if self._is_open:
            self._parts.append(">")
            self._is_open = False

    def _prefix(self, namespace: str) -> str:
        return self._prefixes.get(namespace, "xmi" if namespace == _XMI else "cas")
