"""BioC XML and JSON, on samples written by hand, and with the `bioc` library as oracle."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus, save_documents
from nertune.data.formats import Findings, Format, ReadOptions, Source, WriteOptions, all_formats
from nertune.data.formats.json_files.bioc_json import BiocJson
from nertune.data.formats.xml_files.bioc_xml import BiocXml
from nertune.errors import DataError
from nertune.types import Document, Entity

XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source>S</source><date/><key/>
<document><id>11</id><infon key="year">2001</infon><infon key="id">x</infon>
<passage><infon key="type">title</infon><offset>0</offset><text>Fever &amp; joint pain</text>
<annotation id="1"><infon key="type">Disease</infon><infon key="MESH">D5</infon>
<location offset="0" length="5"/><text>Fever</text></annotation>
<annotation id="2"><infon key="type">Part</infon><infon key="score">0.5</infon>
<location offset="14" length="4"/><location offset="0" length="5"/>
<text>Fever pain</text></annotation>
<annotation id="3"><location offset="0" length="5"/><text>Fever</text></annotation>
<annotation id="4"><infon key="type">Topic</infon><text>x</text></annotation>
<relation id="R1"><node refid="1" role="a"/></relation></passage>
<passage><offset>20</offset>
<sentence><offset>20</offset><text>A case.</text></sentence>
<sentence><infon key="n">2</infon><offset>28</offset><text>Of fever.</text>
<annotation id="5"><infon key="type">Disease</infon><location offset="31" length="5"/>
<text>fever</text></annotation></sentence></passage>
<annotation id="6"><infon key="type">All</infon><location offset="8" length="15"/></annotation>
</document>
<document><id></id><passage><offset>2</offset><text>b</text></passage></document>
</collection>
"""
FORMATS = [BiocJson(), BiocXml()]
IDS = [format.name for format in FORMATS]


def document(text: str, *annotations: Any, offset: int = 0, **more: Any) -> dict[str, Any]:
    """A record with a passage and annotations `(offset, length, text)`."""
    given = [
        {
            "id": str(n), "infons": {"type": "X"}, "text": surface,
            "locations": [{"offset": start, "length": length}],
        }
        for n, (start, length, surface) in enumerate(annotations)
    ]  # fmt: skip
    passage = {"offset": offset, "infons": {}, "text": text, "annotations": given}
    return {"id": "7", "infons": {}, "passages": [passage], **more}


def read(record: Any, **options: Any) -> tuple[list[Document], list[str]]:
    findings = Findings()
    source = Source(Path("a"), json.dumps(record).encode())
    return list(BiocJson().read(source, ReadOptions(**options), findings)), findings.notices


def found(document: Document) -> list[tuple[str, str, float | None]]:
    return [(document.surface(e), e.label, e.score) for e in document.entities]


def test_a_collection_in_xml(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(XML, encoding="utf-8")
    corpus = load_corpus(path)
    assert (corpus.format, corpus.reason) == (
        "bioc-xml", "it is XML of a collection with documents of passages"
    )  # fmt: skip
    one, other = corpus.documents
    assert one.text == "Fever & joint pain\n\nA case. Of fever."
    assert found(one) == [
        ("Fever", "Disease", None), ("Fever … pain", "Part", 0.5),
        ("joint pain\n\nA c", "All", None), ("fever", "Disease", None),
    ]  # fmt: skip
    assert (one.id, other.id) == ("11", "a:21")
    assert one.meta == {
        "id": "11", "year": "2001", "infons": {"id": "x"},
        "passages": [
            {"offset": 0, "length": 18, "infons": {"type": "title"}},
            {"offset": 20, "length": 17, "sentences": [
                {"offset": 20, "length": 7}, {"offset": 28, "length": 9, "infons": {"n": "2"}}
            ]},
        ],
    }  # fmt: skip
    assert (other.text, other.meta) == ("\n\nb", {"passages": [{"offset": 2, "length": 1}]})
    assert set(corpus.notices) == {
        "1 annotations with other infons than their type, which are not read",
        "1 annotations without a type, which are not read",
        "1 annotations without a location, which are not read",
        "1 relations, which are not read",
        "1 collections of which source, date, key and infons are not read",
    }
    assert load_corpus(path, ignore_tags=True).num_entities == 0


@pytest.mark.parametrize("format", FORMATS, ids=IDS)
def test_passages_come_back(format: Format, tmp_path: Path) -> None:
    (tmp_path / "a.bioc.xml").write_text(XML, encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.bioc.xml")
    path = tmp_path / f"b{format.suffixes[0]}"
    save_documents(path, corpus.documents)
    again = load_corpus(path)
    assert (again.format, again.notices) == (format.name, ())
    for expected, document in zip(corpus.documents, again.documents, strict=True):
        assert (document.text, document.meta) == (expected.text, expected.meta)
        assert document.entities == expected.entities
    written = path.read_text(encoding="utf-8")
    assert "nertune" in written  # the infon that is called id, which is none of nertune's keys
    assert [f.name for f in all_formats() if f.reads and f.recognise(Source(path).glimpse())] == [
        format.name
    ]
    # As JSONL its metadata looks the same.
    lines = tmp_path / "c"
    save_documents(lines, again.documents, format="jsonl")
    assert load_corpus(lines).format == "jsonl"


def test_what_is_written() -> None:
    entities = (Entity(0, 2, "A<b"), Entity.of_fragments([(0, 1), (3, 4)], "B", 0.25))
    document = Document("a\r&d", entities, meta={"id": 7, "k": '"', "n": [1]})
    stream = io.StringIO()
    BiocXml().write([document], stream, WriteOptions(scores=True))
    assert stream.getvalue().split("<key></key>\n")[1] == (
        '<document><id></id><infon key="k">"</infon>'
        '<infon key="nertune">{"id": 7, "n": [1]}</infon>'
        "<passage><offset>0</offset><text>a&#13;&amp;d</text>"
        '<annotation id="T1"><infon key="type">A&lt;b</infon><location offset="0" length="2"/>'
        "<text>a&#13;</text></annotation>"
        '<annotation id="T2"><infon key="type">B</infon><infon key="score">0.25</infon>'
        '<location offset="0" length="1"/><location offset="3" length="1"/>'
        "<text>a&#13;&amp;d</text></annotation></passage></document>\n</collection>\n"
    )
    for bad, kept in ((Document("\x01"), False), (Document("a", (Entity(0, 1, "\x01"),)), True)):
        fitted = BiocXml().fit(bad, WriteOptions())
        assert (fitted.document is not None) is kept
        assert any("U+0001, which XML cannot" in loss.reason for loss in fitted.losses)


@pytest.mark.parametrize(
    "meta",
    [
        {"passages": [{"offset": 0, "length": 1}, {"offset": 2, "length": 1}]},
        {"passages": [{"offset": 0, "length": 1}, {"offset": 3, "length": 1}]},
        {"passages": [{"offset": 2, "length": 1}, {"offset": 0, "length": 1}]},
        {"passages": [{"offset": 0, "length": 3}]},
        {"passages": [{"offset": 0, "length": 10**30}]},
        {"passages": [{"offset": 0, "length": 3, "infons": {"a": "\x01"}}]},
        {"passages": [{"offset": 0, "length": 3, "infons": {"a": [1]}}]},
        {"passages": [{"offset": 0, "length": 3, "sentences": [{"offset": 0, "length": 3}]}]},
        {"passages": [{"offset": 0}]},
        {"passages": "x", "infons": {"id": 1}, "nertune": "{}", "other": None},
        {"passages": []},
    ],
)
@pytest.mark.parametrize("format", FORMATS, ids=IDS)
def test_any_metadata_comes_back(format: Format, meta: dict[str, Any], tmp_path: Path) -> None:
    given = Document("a\nb", (Entity(0, 3, "X"), Entity(2, 3, "Y")), meta=meta)
    path = tmp_path / f"a{format.suffixes[0]}"
    save_documents(path, [given])
    (again,) = load_corpus(path).documents
    assert (again.text, again.entities, again.meta) == (given.text, given.entities, meta)


def test_texts_tell_what_offsets_count() -> None:
    cases = {
        "codepoint": (2, 3, 0, ""),
        "byte": (5, 3, 0, "1 documents whose offsets count UTF-8 bytes, since only so they fit"),
        "utf16": (3, 3, 0, "1 documents whose offsets count UTF-16 units, since only so they fit"),
    }
    for start, length, offset, notice in cases.values():
        (one,), notices = read(document("👩 abc", (start, length, "abc"), offset=offset))
        assert found(one) == [("abc", "X", None)]
        assert notices == ([notice] if notice else [])
    # The offset of a passage counts the same.
    record = document("é", (0, 2, "é"))
    record["passages"] += document("bc", (4, 1, "c"), offset=3)["passages"]
    (one,), _ = read(record)
    assert (one.text, one.entities[1]) == ("é\nbc", Entity(3, 4, "X"))
    with pytest.raises(DataError, match="document '7': annotation '0', X"):
        read(record, offsets="codepoint")


def test_shapes_of_json(tmp_path: Path) -> None:
    one = document("ab", (0, 1, "a"))
    for shape in (
        {"documents": [one, one]},
        [{"documents": [one]}, {"documents": [one]}],
        [one, one],
        {"PubTator3": [one, one]},
    ):
        documents, notices = read(shape)
        assert [found(d) for d in documents] == [[("a", "X", None)]] * 2
        assert notices == []
    lines = tmp_path / "a"
    lines.write_text(json.dumps(one) + "\n" + json.dumps(one | {"id": None, "pmid": 3}) + "\n")
    corpus = load_corpus(lines)
    assert corpus.reason == "it is JSON of passages with infons"
    assert [d.id for d in corpus.documents] == ["7", "a:2"]
    assert corpus.notices == ("1 documents with other keys, which are not read",)
    lines.write_text(json.dumps({"documents": [one]}, indent=1))
    assert load_corpus(lines).format == "bioc-json"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"documents": 3}, '"documents" is no array of objects'),
        ({"text": "a"}, "expected a collection with documents, or a document with passages"),
        (document("ab", (0, 1, "b")), "X .0, 1. says its text is 'b', but there stands 'a'"),
        (document("ab", (0, 3, None)), "out of range: the text has 2 characters"),
        (document("ab", (0, 0, "")), "annotation '0' has a location of no length"),
        (document("ab", (0, -1, "")), "the length of annotation '0' is no count: '-1'"),
        (document("ab", (10**13, 1, "")), "the offset of annotation '0' is no count"),
        (document("ab", offset=30_000), "passage 1 at offset 30000 leaves a gap of 30000"),
        (document("ab", (0, 1, 3)), "the text of annotation '0' is not a string"),
        (document("\ud800"), "half a surrogate pair"),
        (document(3), "the text of passage 1 is not a string"),  # type: ignore[arg-type]
        (document("a", annotations=[3]), '"annotations" is no array of objects'),
        (document("a", infons=[3]), '"infons" is no object'),
        (document("a", relations={}), '"relations" is no array of objects'),
        ({"passages": [{"text": "a"}]}, "the offset of passage 1 is no count: 'None'"),
        (
            {"passages": [{"offset": 0, "text": "ab"}, {"offset": 1, "text": "c"}]},
            r"passage 2 at offset 1 begins before the end \(2\) of the one before it",
        ),
    ],
)
def test_what_is_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(record)
    assert str(caught.value).startswith("a:1: ")


def test_damaged_xml_is_refused() -> None:
    for text, message in (
        (XML.replace("</document>", "", 1), "not well-formed"),
        (XML.replace("<offset>20", "<offset>x20", 1), r"a:4: document '11': the offset of"),
        (XML.replace('key="id"', 'key="year"'), "a:4: the infon 'year' stands twice"),
        (XML.replace("collection", "other"), "root collection, got other"),
        (XML.replace('"BioC.dtd"', '"a" [<!ENTITY e "x">]'), "declares entities"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            list(BiocXml().read(Source(Path("a"), text.encode()), ReadOptions(), Findings()))


def test_xml_is_streamed() -> None:
    """The first document is there before what stands behind it is looked at."""
    rest = "<document><id>2</id>" + "<infon>x</infon>" * 10_000
    text = "<collection><document><id>1</id></document>" + rest
    documents = BiocXml().read(Source(Path("a"), text.encode()), ReadOptions(), Findings())
    assert next(documents).id == "1"
    with pytest.raises(DataError, match="not well-formed"):
        next(documents)


@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    for format, text in (
        (BiocXml(), XML),
        (BiocJson(), json.dumps({"documents": [document("ab")]})),
    ):
        damaged = bytearray(text.encode())
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(damaged)))
            end = start + data.draw(st.integers(0, 12))
            damaged[start:end] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"9" * 20, b"null", b"[]", b"{}", b"-1"])
            )
        try:
            list(format.read(Source(Path("a"), bytes(damaged)), ReadOptions(), Findings()))
        except DataError:
            continue


LETTERS = st.text(st.sampled_from("ab 明👩é<&\n"), min_size=1, max_size=8)


@pytest.mark.parametrize("format", FORMATS, ids=IDS)
@given(data=st.data())
def test_the_bioc_library_reads_and_writes_the_same(format: Format, data: st.DataObject) -> None:
    bioc = pytest.importorskip("bioc")
    from bioc import biocjson, biocxml, validator

    parts = data.draw(st.lists(LETTERS, min_size=1, max_size=3))
    text, passages = "", []
    for number, part in enumerate(parts):
        text += "\n" if text else ""
        about = {"infons": {"type": str(number)}}
        passages.append({"offset": len(text), "length": len(part), **about})
        text += part
    cuts = st.sets(st.integers(0, len(text)), min_size=2, max_size=4)
    entities = []
    for points in data.draw(st.lists(cuts, max_size=4)):
        ordered = sorted(points)
        spans = list(zip(ordered[::2], ordered[1::2], strict=False))
        entities.append(Entity.of_fragments(spans, "X", data.draw(st.none() | st.floats(0, 1))))
    entities = list({e.key: e for e in entities}.values())
    document = Document(
        text, tuple(entities), "7", meta={"id": "7", "k": "v", "passages": passages}
    )
    stream = io.StringIO()
    format.write([document, document], stream, WriteOptions(scores=True))

    library = biocjson if format.name == "bioc-json" else biocxml
    theirs = library.loads(stream.getvalue())
    validator.validate(theirs)  # annotations stand where they say
    assert len(theirs.documents) == 2
    for one in theirs.documents:
        assert (one.id, one.infons) == ("7", {"k": "v"})
        assert [(p.offset, p.text, p.infons) for p in one.passages] == [
            (p["offset"], part, p["infons"]) for p, part in zip(passages, parts, strict=True)
        ]
        annotations = [*one.annotations, *(a for p in one.passages for a in p.annotations)]
        assert sorted(
            (a.infons["type"], *((loc.offset, loc.end) for loc in a.locations)) for a in annotations
        ) == sorted((e.label, *e.spans) for e in entities)
    copy = bioc.BioCCollection.of_documents(*theirs.documents)
    copy.date = ""
    source = Source(Path("a"), library.dumps(copy).encode())
    findings = Findings()
    again = list(format.read(source, ReadOptions(), findings))
    assert [(d.text, d.entities, d.id, d.meta) for d in again] == [
        (text, document.entities, "7", document.meta)
    ] * 2
    assert findings.notices == []
