"""UIMA CAS as XMI and as JSON: against dkpro-cassis both ways, and what damaged files say."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.corpus import Corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.data.formats.cas.reading import decode_value
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

DKPRO = "de.tudarmstadt.ukp.dkpro.core.api"
NE, TOKEN, SENTENCE = (
    f"{DKPRO}.{name}"
    for name in ("ner.type.NamedEntity", "segmentation.type.Token", "segmentation.type.Sentence")
)
FORMATS = ["cas-xmi", "cas-json"]
TEXT = "👩 王小明\n在<北京>大学 & 'Ende'.\t"
DOCUMENT = Document(
    TEXT,
    (
        Entity(2, 5, "PER", 0.25),
        Entity(7, 12, 'ORG "x" <&>\n', 1.0),
        Entity(8, 10, "LOC"),
        Entity(8, 10, "GPE", 1e-7),
    ),
    id="d 7",
    tokens=((0, 1), (2, 5), (6, 7), (8, 10), (11, 13)),
    meta={
        "id": "d 7",
        "title": "Ein Titel",
        "language": "zh",
        "sentences": [[0, 5], [6, len(TEXT), "s2"]],
        "page": [3],
        "number": "3",
        "note": "a\0\x1f<",
        "plain": "ja",
    },
)


def save(path: Path, *documents: Document, format: str, **more: str) -> list[Path]:
    options = WriteOptions(scores=True, more=more)
    save_with(path, documents, options, format=format)
    return sorted(file for file in path.iterdir() if file.name != "TypeSystem.xml")


def load(path: Path, **more: str) -> Corpus:
    return load_with(path, ReadOptions(more=more))


@pytest.mark.parametrize("format", FORMATS)
def test_documents_come_back(format: str, tmp_path: Path) -> None:
    other = Document("", id="x")
    files = save(tmp_path / "out", DOCUMENT, other, format=format)
    suffix = format[4:]
    assert [file.name for file in files] == [f"000001-d-7.{suffix}", f"000002-x.{suffix}"]
    corpus = load(tmp_path / "out")
    assert corpus.format == format
    assert corpus.documents[0] == DOCUMENT
    assert corpus.documents[1] == Document("", id="000002-x")
    assert corpus.notices == (
        f"entities are the feature value of the layer {NE}",
        "1 files without that layer",
    )
    assert find_format(format).fit(DOCUMENT, WriteOptions(scores=True)).losses == ()
    alone = load_with(files[0], ReadOptions(ignore_tags=True))
    assert (alone.format, alone.documents[0].text) == (format, TEXT)
    assert alone.documents[0].entities == ()


@pytest.mark.parametrize("format", FORMATS)
def test_cassis_reads_what_is_written(format: str, tmp_path: Path) -> None:
    cassis = pytest.importorskip("cassis", reason="dkpro-cassis (extra test) is not installed")
    (file,) = save(tmp_path / "out", DOCUMENT, format=format)
    if format == "cas-xmi":
        with (tmp_path / "out" / "TypeSystem.xml").open("rb") as stream:
            types = cassis.load_typesystem(stream)
        cas = cassis.load_cas_from_xmi(file, typesystem=types)
    else:
        with file.open("rb") as stream:
            cas = cassis.load_cas_from_json(stream)
    assert cas.sofa_string == TEXT
    found = [(a.begin, a.end, a.value, a.score) for a in cas.select(NE)]
    assert sorted(found, key=str) == sorted(
        ((e.start, e.end, e.label, e.score) for e in DOCUMENT.entities), key=str
    )
    assert [(a.begin, a.end) for a in cas.select(TOKEN)] == list(DOCUMENT.tokens or ())
    assert [(a.begin, a.end, a.id) for a in cas.select(SENTENCE)] == [
        (0, 5, None),
        (6, len(TEXT), "s2"),
    ]
    (about,) = cas.select(f"{DKPRO}.metadata.type.DocumentMetaData")
    assert (about.documentId, about.documentTitle, about.language) == ("d 7", "Ein Titel", "zh")


def cas_of_cassis(cassis: Any) -> Any:
    """A CAS with DKPro's types, a custom layer, a second view, and what is not indexed."""
    types = cassis.load_dkpro_core_typesystem()
    custom = types.create_type("custom.Mention", supertypeName="uima.tcas.Annotation")
    types.create_feature(custom, "kind", "uima.cas.String")
    types.create_feature(custom, "rank", "uima.cas.Integer")
    types.create_feature(custom, "head", "uima.tcas.Annotation")
    about = types.create_type(
        f"{DKPRO}.metadata.type.DocumentMetaData", supertypeName="uima.tcas.DocumentAnnotation"
    )
    for name in ("documentId", "documentTitle"):
        types.create_feature(about, name, "uima.cas.String")
    cas = cassis.Cas(typesystem=types)
    cas.sofa_string = TEXT
    cas.sofa_mime = "text/plain"
    token, entity = types.get_type(TOKEN), types.get_type(NE)
    tokens = [token(begin=a, end=b) for a, b in DOCUMENT.tokens or ()]
    person, mention = types.get_type(f"{DKPRO}.ner.type.Person"), types.get_type("custom.Mention")
    cas.add_all(
        [
            *tokens,
            types.get_type(SENTENCE)(begin=0, end=5),
            entity(begin=8, end=10, value="LOC", identifier="Q956"),
            entity(begin=8, end=10, value="GPE"),
            entity(begin=8, end=10, value="GPE"),
            entity(begin=0, end=1),
            entity(begin=3, end=3, value="X"),
            person(begin=2, end=5),
            mention(begin=0, end=5, kind="a", rank=7, head=tokens[0]),
        ]
    )
    cas.add(about(begin=0, end=len(TEXT), documentId="7", documentTitle="T", language="zh"))
    return cas


@pytest.mark.parametrize("format", FORMATS)
def test_what_cassis_writes_is_read(format: str, tmp_path: Path) -> None:
    cassis = pytest.importorskip("cassis", reason="dkpro-cassis (extra test) is not installed")
    cas = cas_of_cassis(cassis)
    path = tmp_path / f"a.{format[4:]}"
    cas.to_xmi(path) if format == "cas-xmi" else cas.to_json(path)
    if format == "cas-xmi":
        assert "1 files without a TypeSystem.xml, read by the names of types" in load(path).notices
        cas.typesystem.to_xml(tmp_path / "TypeSystem.xml")
    corpus = load(path)
    (document,) = corpus.documents
    assert (corpus.format, document.text, document.id) == (format, TEXT, "7")
    assert document.meta == {"id": "7", "title": "T", "language": "zh", "sentences": [[0, 5]]}
    assert document.tokens == DOCUMENT.tokens
    assert [e.key for e in document.entities] == [(2, 5, "Person"), (8, 10, "GPE"), (8, 10, "LOC")]
    told = [notice for notice in corpus.notices if not notice.startswith("read as cas-json")]
    assert sorted(told) == [
        "1 annotations of no characters, which are not read",
        "1 annotations without a value, which are not read",
        "1 identical entities dropped",
        f"entities are the feature value of the layer {NE}",
        "features of the layer that are not read: identifier",
        "layers that are not read: custom.Mention",
    ]
    for more in ({"layer": "Mention"}, {"layer": "custom.Mention", "feature": "kind"}):
        assert load(path, **more).documents[0].entities == (Entity(0, 5, "a"),)
    assert load(path, layer="custom.Mention", feature="rank").labels == ("7",)
    with pytest.raises(DataError, match="has no feature 'x'; it has: kind"):
        load(path, layer="Mention", feature="x")


def test_an_archive_of_inception_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (file,) = save(folder, DOCUMENT, format="cas-xmi", layer="custom.A", feature="kind")
    path = tmp_path / "admin.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "TypeSystem.xml", "TypeSystem.xml")
        archive.write(file, "text.xmi")
    corpus = load(path)
    assert (corpus.format, corpus.documents) == ("cas-xmi", (DOCUMENT,))
    assert corpus.notices == ("entities are the feature kind of the layer custom.A",)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"admin\.zip: this archive cannot be unpacked"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.xmi", XMI)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + whole[64:])  # its first member begins before the file
    with pytest.raises(DataError, match=r"admin\.zip: this archive cannot be unpacked"):
        load_with(path, ReadOptions(), format="cas-xmi")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.xmi.txt", "x")
    with pytest.raises(DataError, match=r"the archive holds no \.xmi file"):
        load(path)


XMI = """<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="http:///uima/cas.ecore"
 xmlns:ner="http:///de/tudarmstadt/ukp/dkpro/core/api/ner/type.ecore"
 xmlns:c="http:///custom.ecore" xmlns:d="http:///other/custom.ecore" xmi:version="2.0">
<cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" sofaString="ab&#10;c"/>
<cas:Sofa xmi:id="9" sofaNum="2" sofaID="other" sofaString="x"/>
<c:A xmi:id="2" sofa="1" begin="0" end="2" ref="17" name="n"/>
<c:A xmi:id="3" sofa="1" begin="0" end="1" ref="17" name="not indexed"/>
<c:Rel xmi:id="4" sofa="1" begin="0" end="1" Governor="2" Dependent="3" name="r"/>
<cas:View sofa="1" members="2 4"/>
</xmi:XMI>"""


def test_without_types_the_only_layer_with_texts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xmi"
    path.write_text(XMI, newline="")
    corpus = load(path)
    assert corpus.documents[0].text == "ab\nc"
    assert corpus.documents[0].entities == (Entity(0, 2, "n"),)
    assert corpus.notices[0] == "entities are the feature name of the layer custom.A"
    assert "1 views beside the initial one, which are not read" in corpus.notices
    assert "1 annotations that are in no view, which are not read" in corpus.notices
    path.write_text(
        XMI.replace("<cas:View", '<d:B xmi:id="4" sofa="1" begin="0" end="1" v="w"/>\\g').replace(
            "\\g", "<cas:View"
        ),
        newline="",
    )
    with pytest.raises(DataError, match=r"option layer=custom\.A or layer=other\.custom\.B"):
        load(path)
    with pytest.raises(DataError, match=r"no layer 'C'; there are: custom\.A, .*other\.custom\.B"):
        load(path, layer="C")


def as_json(*structures: dict[str, Any], **more: Any) -> str:
    sofa = {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaID": "_InitialView", "sofaString": "👩 ab"}
    named = [{"%ID": n, "%TYPE": NE, "@sofa": 1, **given} for n, given in enumerate(structures, 2)]
    members = {"%SOFA": 1, "%MEMBERS": [fs["%ID"] for fs in named]}
    views = {"_InitialView": members}
    return json.dumps(
        {**more, "%TYPES": {}, "%FEATURE_STRUCTURES": [sofa, *named], "%VIEWS": views}
    )


def test_offsets_of_json_are_those_of_its_header_or_of_the_option(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    ab = (Entity(2, 4, "X"),)
    for header, begin in (
        ({}, 3),
        ({"%VERSION": "0.4.0"}, 3),
        ({"%E": "UTF-32"}, 2),
        ({"%E": "utf8"}, 5),
    ):
        given = {"^begin": begin, "^end": begin + 2, "value": "X"}
        path.write_text(as_json(given, **({"%HEADER": header} if header else {})))
        assert load(path).documents[0].entities == ab
    path.write_text(as_json({"begin": 2, "end": 4, "value": "X"}))
    corpus = load_with(path, ReadOptions(offsets="codepoint"))
    assert (corpus.documents[0].entities, corpus.offsets) == (ab, "codepoint")
    path.write_text(as_json(**{"%HEADER": {"%E": "grapheme clusters"}}))
    with pytest.raises(DataError, match="offsets count grapheme clusters: export it with UTF-16"):
        load(path)


def test_scores_of_other_tools_are_probabilities_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    spans = [{"begin": a, "end": a + 1, "value": "X"} for a in (2, 3, 4)]
    scores: list[dict[str, Any]] = [{"score": 0.5}, {"#score": "NaN"}, {"score": 7}]
    path.write_text(as_json(*({**a, **b} for a, b in zip(spans, scores, strict=True))))
    corpus = load(path)
    assert [e.score for e in corpus.documents[0].entities] == [0.5, None, None]
    assert corpus.notices[-1] == "2 scores that are no probabilities, which are not read"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (XMI.replace('end="2"', 'end="5"'), r"a:6: custom\.A .0, 5. is no span of the text 'ab"),
        (XMI.replace('end="2"', 'end="x"'), r"a:6: .* is no annotation of UIMA"),
        (XMI.replace("sofaString", "sofaURI"), "expected a view _InitialView with a text"),
        (XMI.replace("</xmi:XMI>", ""), "a:10: this XML is not well-formed"),
        (as_json({"begin": 1, "end": 4}), r"NamedEntity .1, 4. is no span of the text .* UTF-16"),
        (as_json({"begin": "1", "end": 4}), "are not both integers"),
        (as_json({"begin": 0, "end": 4, "value": "\ud800"}), "half a surrogate pair"),
        (as_json({"%TYPE": 3}), 'has no "%TYPE"'),
        (as_json().replace('"%MEMBERS": []', '"%MEMBERS": 3'), 'no list of "%MEMBERS"'),
        ('{"%TYPES": {}}', 'expected one JSON object with "%FEATURE_STRUCTURES"'),
        ('{"%FEATURE_STRUCTURES": [3]}', "is no list of objects"),
        ('{"%FEATURE_STRUCTURES": []}', "views with a text are: none"),
        ('{"%FEATURE_STRUCTURES": ' + "[" * 100_000, "cannot be read"),
    ],
)
def test_damage_has_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(text, newline="")
    with pytest.raises(DataError, match=message):
        load(path)


@settings(max_examples=200)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    format, text = data.draw(
        st.sampled_from([("cas-xmi", XMI), ("cas-json", as_json({"begin": 3, "end": 4}))])
    )
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=5))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(raw)
    with suppress(DataError):
        load_with(path, ReadOptions(), format=format)


def test_what_a_cas_cannot_hold_is_listed(tmp_path: Path) -> None:
    document = Document(
        "ab", (Entity(0, 1, "x\x01"),), tokens=(), meta={"a\x00": 1, "b": {1: 2}, "id": 7}
    )
    for format, kinds in (("cas-xmi", ["entity"]), ("cas-json", [])):
        fitted = find_format(format).fit(document, WriteOptions())
        assert [loss.kind for loss in fitted.losses] == [*kinds, "tokens", "metadata", "metadata"]
        assert fitted.document is not None
        assert fitted.document.meta == {"id": 7}
    control = Document("a\x02b")
    fitted = find_format("cas-xmi").fit(control, WriteOptions())
    assert (fitted.document, [loss.kind for loss in fitted.losses]) == (None, ["document"])
    assert fitted.losses[0].reason == "its text holds U+0002, which XML cannot hold"
    assert find_format("cas-json").fit(control, WriteOptions()).losses == ()
    for bad in (control, Document("a", (Entity(0, 1, "\x02"),))):
        with pytest.raises(DataError, match=r"holds U\+0002, which XML cannot hold"):
            save(tmp_path / "out", bad, format="cas-xmi")
    for more in ({"layer": "Entity"}, {"layer": "a.B", "feature": "b c"}):
        with pytest.raises(ConfigError, match=f"{list(more)[-1]}="):
            save(tmp_path / "out", Document("a"), format="cas-json", **more)


def test_values_of_metadata_are_json_where_they_can_be() -> None:
    for text, value in (("3", 3), ("[1]", [1]), ('"3"', "3"), ("NaN", "NaN"), ("ja", "ja")):
        assert decode_value(text) == value
    for text in ("[" * 100_000, "9" * 5_000, '{"a": 1, "a": 2}', ""):
        assert decode_value(text) == text
