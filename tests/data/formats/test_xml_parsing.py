"""XML: elements as a stream, entities refused, depth and memory bounded."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.formats.source import Glimpse, Source
from nertune.data.formats.xml_parsing import (
    MAX_DEPTH,
    escape_attribute,
    escape_text,
    iterate_elements,
    parse_xml,
    seen_tags,
    unwritable,
)
from nertune.errors import DataError

LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>
<a>&c;</a>"""
EXTERNAL = """<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>"""
PARAMETER = """<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1/x.dtd"> %b;]><a/>"""


def of(text: str | bytes, name: str = "a.xml") -> Source:
    return Source(Path(name), text.encode() if isinstance(text, str) else text)


def test_outermost_wanted_elements_come_with_their_lines() -> None:
    text = "<all>\n<x>1</x>\n<in>\n<x k='v'>2<x>3</x></x></in><y/></all>"
    found = list(iterate_elements(of(text), lambda tag, depth: tag == "x", root="all"))
    assert [(line, e.text, len(e)) for line, e in found] == [(2, "1", 0), (4, "2", 1)]
    assert found[1][1].attrib == {"k": "v"}
    at_depth = iterate_elements(of(text), lambda tag, depth: depth == 2)
    assert [element.tag for _, element in at_depth] == ["x", "in", "y"]


def test_a_whole_file_in_any_encoding_and_with_a_plain_doctype() -> None:
    text = "<!DOCTYPE a SYSTEM 'a.dtd'><a b='ü'>王<n:c xmlns:n='u'/>&#x1F469;</a>"
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        root = parse_xml(of(data))
        assert (root.get("b"), root.text, root[0].tag, root[0].tail) == ("ü", "王", "{u}c", "👩")


@pytest.mark.parametrize("text", [LAUGHS, EXTERNAL, PARAMETER])
def test_entities_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"a\.xml:\d: this XML declares entities or refers"):
        parse_xml(of(text))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not well-formed"),
        (b"<a>\n<b></a>", r"a\.xml:2: this XML is not well-formed .mismatched tag"),
        (b"<a>&nbsp;</a>", "not well-formed .undefined entity"),
        (b"<!DOCTYPE a SYSTEM 'a.dtd'><a>&b;</a>", "not well-formed .undefined entity"),
        (b"<a>\xff</a>", "not well-formed"),
        (b"<a>\0</a>", "not well-formed"),
        (b"<a>&#xD800;</a>", "not well-formed"),
        (b"<?xml version='1.0' encoding='gbk'?><a/>", "convert it to UTF-8"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", "unknown encoding"),
        (b"<a>" * 300, f"nested deeper than {MAX_DEPTH}"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_xml(of(data))


def test_another_root_and_a_cut_gzip_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.xml:2: expected XML with the root a, got html"):
        list(iterate_elements(of("\n<html/>"), lambda tag, depth: True, root="a"))
    path = tmp_path / "a.xml.gz"
    path.write_bytes(gzip.compress(b"<a>" + bytes(range(65, 90)) * 900 + b"</a>")[:-30])
    with pytest.raises(DataError, match="the gzip data is cut short or damaged"):
        parse_xml(Source(path))


def test_a_stream_takes_the_memory_of_one_element(tmp_path: Path) -> None:
    path = tmp_path / "long.xml"
    with path.open("w") as stream:
        stream.write("<all>")
        for number in range(20_000):
            stream.write(f"<x><t>{number} {'text ' * 20}</t></x><other/>")
        stream.write("</all>")
    tracemalloc.start()
    count = sum(1 for _ in iterate_elements(Source(path), lambda tag, depth: tag == "x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size / 2


def test_tags_of_the_head_recognise_a_format() -> None:
    assert seen_tags(Glimpse("a", b"\n<a xmlns='u'><b/><c", is_whole=False)) == ["{u}a", "{u}b"]
    assert seen_tags(Glimpse("a", "<a/>".encode("utf-16"))) == ["a"]
    assert seen_tags(Glimpse("a", LAUGHS.encode())) == []
    assert seen_tags(Glimpse("a", b'{"a": "<b>"}')) == []


@given(st.text(st.characters() | st.sampled_from("\r\n\t<>&\"'\0\ufffe]👩")))
def test_what_can_be_written_is_read_the_same(text: str) -> None:
    if told := unwritable(text):
        assert chr(int(told[2:], 16)) in text
        with pytest.raises(DataError, match="not well-formed"):
            parse_xml(of(f"<a>{escape_text(text)}</a>".encode("utf-8", "surrogatepass")))
        return
    root = parse_xml(of(f'<a b="{escape_attribute(text)}">{escape_text(text)}</a>'))
    assert (root.get("b"), root.text or "") == (text, text)
