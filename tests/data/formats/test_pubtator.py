"""PubTator, on samples written by hand, and with the `bioc` library as oracle."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus, save_documents
from nertune.data.formats import Findings, ReadOptions, Source, WriteOptions
from nertune.data.formats.standoff.pubtator import PubTator
from nertune.errors import DataError
from nertune.types import Document, Entity

SAMPLE = """\
11|t|Fever and joint pain.
11|a|A case|of fever.
11\t0\t5\tFever\tDisease\tD005334
11\t10\t20\tjoint pain\tDisease\t-
11\t0\t20\tFever and joint pain\tDisease\tD1|D2\tfever|joint pain
11\t32\t37\tfever\tDisease
11\t32\t37\tfever\tDisease
11\tCID\tD1\tD2
11\tCause\tD1\tD2\tNovel

x2|t|No abstract here.
x2|a|
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_titles_abstracts_and_what_is_skipped(tmp_path: Path, line_end: str) -> None:
    path = write(tmp_path / "a", "\ufeff" + SAMPLE.replace("\n", line_end))
    corpus = load_corpus(path)
    assert corpus.format == "pubtator"
    assert corpus.reason == "it begins with the title of a document, '11'|t|"
    one, other = corpus.documents
    assert one.text == "Fever and joint pain.\nA case|of fever."
    assert [(one.surface(e), e.label) for e in one.entities] == [
        ("Fever", "Disease"), ("Fever and joint pain", "Disease"), ("joint pain", "Disease"),
        ("fever", "Disease"),
    ]  # fmt: skip
    assert (one.id, one.meta) == ("11", {"id": "11"})
    assert (other.text, other.entities, other.id) == ("No abstract here.", (), "x2")
    assert set(corpus.notices) == {
        "2 relations, which are not read",
        "2 identifiers of entities, which are not read",
        "1 composite mentions, whose parts are not read",
        "1 identical entities dropped",
    }
    assert load_corpus(path, ignore_tags=True).num_entities == 0


def test_mentions_tell_what_offsets_count(tmp_path: Path) -> None:
    text = "1|t|👩 fever\n1|a|x\n1\t{}\t{}\tfever\tD\t-\n\n2|t|é\n\n"
    points = load_corpus(write(tmp_path / "a", text.format(2, 7)))
    units = load_corpus(write(tmp_path / "b", text.format(3, 8)))
    assert points.sha256 == units.sha256
    assert points.notices == ()
    assert units.notices == (
        "1 documents whose offsets count UTF-16 units, since only so the mentions fit",
    )
    with pytest.raises(DataError, match=r"a:3: D \[2, 7\] says its text is 'fever', but"):
        load_corpus(tmp_path / "a", offsets="utf16")


def test_what_is_written(tmp_path: Path) -> None:
    documents = [
        Document("a b\nc\td", (Entity(0, 5, "X y"), Entity(4, 7, "Z")), meta={"id": "p-1"}),
        Document("one"),
        Document(""),
    ]
    path = tmp_path / "a.pubtator"
    save_documents(path, documents)
    assert path.read_text(encoding="utf-8") == (
        "p-1|t|a b\np-1|a|c\td\np-1\t0\t5\ta b c\tX y\t-\np-1\t4\t7\tc d\tZ\t-\n\n"
        "2|t|one\n2|a|\n\n3|t|\n3|a|\n\n"
    )
    again = load_corpus(path)
    assert [(d.text, d.entities) for d in again.documents] == [
        (d.text, d.entities) for d in documents
    ]
    assert [d.id for d in again.documents] == ["p-1", "2", "3"]
    for text, kept in (("a\n", "a "), ("a\nb\r\nc\n", "a\nb  c "), ("a\rb", "a b"), ("\n", " ")):
        fitted = PubTator().fit(Document(text, (Entity(0, len(text), "X"),)), WriteOptions())
        assert fitted.document == Document(kept, (Entity(0, len(text), "X"),))
        assert [loss.kind for loss in fitted.losses] == ["text"]
    assert PubTator().fit(Document("\0"), WriteOptions()).document is None
    lost = PubTator().fit(Document("a", meta={"id": "a|b"}), WriteOptions())
    assert [loss.kind for loss in lost.losses] == ["id"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t0\t2\tx\tD", r"D \[0, 2\] says its text is 'x', but there stands 'ab'"),
        ("1\t0\t99\tab\tD", r"D \[0, 99\] is out of range: the text has 4 characters"),
        ("1\t2\t2\t\tD", "is empty or negative"),
        ("1\t-2\t2\tab\tD", "offset '-2' is no count"),
        (f"1\t{'9' * 5000}\t2\tab\tD", "offset '999"),
        ("1\t0\t2\tab\t", "expected ID, start, end, mention and type"),
        ("2\t0\t2\tab\tD", "of document '1', got '2"),
        ("1 0 2 ab D", "of document '1', got '1 0 2 ab D'"),
        ("1|a|b", "expected one abstract of '1', got '1|a|b', behind its title"),
        ("2|a|b", "expected one abstract of '1'"),
        ("\n1\t0\t2\tab\tD", "expected the title of a document, ID|t|TITLE, got '1"),
    ],
)
def test_what_is_refused(line: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pubtator", f"1|t|ab\n1|a|c\n{line}\n")
    with pytest.raises(DataError, match=message.replace("|", r"\|")) as caught:
        load_corpus(path)
    number = 4 if line.startswith("\n") else 3
    assert str(caught.value).startswith(f"{path}:{number}: ")


@pytest.mark.parametrize("data", [b"1|t|\xff", b"1|t|\0\n", b"\xff\xfe1\0|\0", b"\x1f\x8b\x08"])
def test_what_is_no_text_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pubtator").write_bytes(data)
    with pytest.raises(DataError):
        load_corpus(tmp_path / "a.pubtator")


@given(st.binary(max_size=80) | st.text("1|ta\t\n09ab-").map(str.encode))
def test_damaged_files_are_read_or_refused(data: bytes) -> None:
    source = Source(Path("a"), b"1|t|ab\n1|a|c\n" + data)
    try:
        documents = list(PubTator().read(source, ReadOptions(), Findings()))
    except DataError:
        return
    assert documents[0].id == "1"


def test_it_streams() -> None:
    """The first document is there before the second one is looked at."""
    source = Source(Path("a"), b"1|t|ab\n\n1|t|cd\nbroken\n")
    documents = PubTator().read(source, ReadOptions(), Findings())
    assert next(documents).text == "ab"
    with pytest.raises(DataError, match="a:4: "):
        next(documents)


WORDS = st.text(st.sampled_from("ab 明👩é"), min_size=1, max_size=8).map(lambda s: f"x{s}x")


@given(title=WORDS, abstract=WORDS | st.just(""), data=st.data())
def test_the_bioc_library_reads_and_writes_the_same(
    title: str, abstract: str, data: st.DataObject
) -> None:
    pubtator = pytest.importorskip("bioc.pubtator")
    text = f"{title}\n{abstract}" if abstract else title
    place = st.integers(0, len(text))
    spans = {tuple(sorted(s)) for s in data.draw(st.lists(st.tuples(place, place), max_size=4))}
    entities = tuple(Entity(a, b, "X") for a, b in spans if a < b and text[a:b].strip())
    document = Document(text, entities, meta={"id": "7"})

    stream = io.StringIO()
    PubTator().write([document, document], stream, WriteOptions())
    theirs = pubtator.loads(stream.getvalue())
    for one in theirs:
        assert (one.pmid, one.text) == ("7", text)
        assert [(a.start, a.end, a.type, a.text) for a in one.annotations] == [
            (e.start, e.end, e.label, document.surface(e).replace("\n", " "))
            for e in document.entities
        ]
    source = Source(Path("a"), pubtator.dumps(theirs).encode())
    again = list(PubTator().read(source, ReadOptions(), Findings()))
    assert [(d.text, d.entities, d.id) for d in again] == [(text, document.entities, "7")] * 2
