"""spaCy's DocBin, beside spaCy's own reader and writer, and on damaged bytes."""

from __future__ import annotations

import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.commands import run
from helpers.tiny import write_jsonl
from nertune.data.corpus import Corpus, load_corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

spacy = pytest.importorskip("spacy")
srsly = pytest.importorskip("srsly")

from spacy.tokens import Doc, DocBin, Span, SpanGroup  # noqa: E402

TEXT = "Anna Lee  of\nAcme."
PER, ORG, NESTED = Entity(0, 8, "PERSON"), Entity(13, 17, "ORG"), Entity(5, 8, "X")


def save(path: Path, *documents: Document, **more: str) -> Path:
    save_with(path, documents, WriteOptions(scores=True, more=more), format="spacy")
    return path


def theirs(path: Path, lang: str = "xx") -> list[Any]:
    vocab = spacy.blank(lang).vocab
    return list(DocBin().from_disk(path).get_docs(vocab))


def bounds(spans: Any) -> list[tuple[int, int, str]]:
    return [(span.start_char, span.end_char, span.label_) for span in spans]


def load(path: Path, *docs: Any, **more: str) -> Corpus:
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return load_with(path, ReadOptions(more=more))


# What is written, as spaCy reads it


def test_entities_without_overlaps_are_ents(tmp_path: Path) -> None:
    tokens = ((0, 4), (5, 8), (10, 12), (13, 17), (17, 18))
    document = Document(TEXT, (PER, ORG), "7", tokens, {"id": 7, "cats": {"good": 1.0}})
    path = save(tmp_path / "a.spacy", document, Document("no entity"), Document(""))
    first, second, third = theirs(path)
    assert (first.text, bounds(first.ents)) == (TEXT, [PER.key, ORG.key])
    assert (first.user_data["id"], first.cats, dict(first.spans)) == (7, {"good": 1.0}, {})
    assert {token.ent_iob_ for token in second} == {"O"}
    assert (second.text, third.text) == ("no entity", "")
    corpus = load_corpus(path)
    assert (corpus.format, corpus.reason) == ("spacy", "its bytes are a DocBin of spaCy")
    assert corpus.documents[0] == document
    assert [d.tokens for d in corpus.documents[1:]] == [None, None]
    assert load_corpus(path, ignore_tags=True).num_entities == 0


def test_overlaps_and_scores_are_a_span_group(tmp_path: Path) -> None:
    scored = Document("Anna", (Entity(0, 4, "PER", 0.25),))
    path = save(tmp_path / "a.spacy", Document(TEXT, (PER, NESTED)), Document("Bo", ()), scored)
    nested, plain, third = theirs(path)
    assert (bounds(nested.spans["sc"]), nested.ents) == ([PER.key, NESTED.key], ())
    assert {token.ent_iob_ for token in nested} == {""}  # missing, not outside
    assert (list(plain.spans["sc"]), [token.ent_iob_ for token in plain]) == ([], ["O"])
    assert third.spans["sc"].attrs["scores"].tolist() == [0.25]
    corpus = load_corpus(path)
    assert [d.entities for d in corpus.documents] == [(PER, NESTED), (), scored.entities]
    assert corpus.notices == ()
    other = save(tmp_path / "b.spacy", Document(TEXT, (PER, NESTED)), spans_key="layers")
    assert list(theirs(other)[0].spans) == ["layers"]
    assert load_corpus(other).num_entities == 0
    assert "1 span groups 'layers', which are not read (see the option spans_key)" in (
        load_corpus(other).notices
    )


def test_words_get_the_norms_of_the_language(tmp_path: Path) -> None:
    document = Document("I can't", tokens=((0, 1), (2, 4), (4, 7)))
    for lang, first in (("xx", "i"), ("hi", "I")):  # Hindi's norms are not in lower case
        path = save(tmp_path / "a.spacy", document, lang=lang)
        assert [token.norm_ for token in theirs(path)[0]] == [first, "ca", "n't"]
    with pytest.raises(ConfigError, match="lang='klingon': spaCy has no such language"):
        save(tmp_path / "a.spacy", document, lang="klingon")
    assert [p.name for p in tmp_path.iterdir()] == ["a.spacy"]


def test_what_msgpack_cannot_hold_is_listed() -> None:
    meta = {"big": 2**64, "half": "\ud800", "nertune": 1, "ok": [1, {"a": None}]}
    fitted = find_format("spacy").fit(Document("a", meta=meta), WriteOptions())
    assert fitted.document is not None
    assert fitted.document.meta == {"ok": [1, {"a": None}]}
    assert [loss.kind for loss in fitted.losses] == ["metadata"] * 3


WORDS = st.sampled_from(
    ["Anna", "PERSON", "王明", "🎉", "e\u0301", "\n", "  ", "\u00a0", "\0", "O"]
)
GAPS = st.sampled_from(["", " ", "  ", "\n", "\t ", " x "])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Words with anything between them, any run of which may be an entity."""
    text, tokens = draw(GAPS), []
    for word in draw(st.lists(WORDS, max_size=8)):
        tokens.append((len(text), len(text) + len(word)))
        text += word + draw(GAPS)
    entities = []
    for _ in range(draw(st.integers(0, 3)) if tokens else 0):
        first = draw(st.integers(0, len(tokens) - 1))
        last = draw(st.integers(first, len(tokens) - 1))
        label = draw(st.sampled_from(["PERSON", "a b", "组织"]))
        entities.append(Entity(tokens[first][0], tokens[last][1], label))
    unique = {entity.key: entity for entity in entities}
    own = tuple(tokens) if draw(st.booleans()) else None
    return Document(text, tuple(unique.values()), tokens=own)


@settings(max_examples=100)
@given(items=st.lists(documents(), min_size=1, max_size=3))
def test_spacy_reads_the_same(
    items: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Text, entities and tokens of every document, by spaCy's reader and by ours."""
    path = save(tmp_path_factory.getbasetemp() / "a.spacy", *items)
    ours = load_corpus(path).documents
    for doc, document, read in zip(theirs(path), items, ours, strict=True):
        assert doc.text == read.text == document.text
        assert (read.entities, read.tokens) == (document.entities, document.tokens)
        found = {*bounds(doc.ents), *bounds(doc.spans.get("sc", []))}
        assert found == {entity.key for entity in document.entities}
        if document.tokens is not None:
            assert {(t.idx, t.idx + len(t)) for t in doc} >= set(document.tokens)


# What spaCy writes


def test_docs_of_spacy(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    doc = nlp("Anna Lee works  at Acme.")
    doc.ents = [Span(doc, 0, 2, "PERSON"), Span(doc, 4, 6, "ORG")]
    doc.spans["sc"] = SpanGroup(
        doc, spans=[Span(doc, 0, 1, "X"), Span(doc, 0, 2, "PERSON")], attrs={"scores": [0.5, 2]}
    )
    doc.spans["other"] = [Span(doc, 0, 1, "Y")]
    Doc.set_extension("page", default=None, force=True)
    Span.set_extension("note", default=None, force=True)
    doc._.page = 3
    doc[0:2]._.note = "n"
    doc.user_data["where"] = ["a", {"b": 1}]
    doc.user_data["bytes"] = b"b"
    doc.cats = {"good": 0.5}
    doc[0].tag_ = "NNP"
    doc[2].is_sent_start = True
    corpus = load(tmp_path / "a.spacy", doc)
    (read,) = corpus.documents
    assert read.text == doc.text
    assert read.tokens == tuple((t.idx, t.idx + len(t)) for t in doc)
    assert read.entities == (Entity(0, 4, "X", 0.5), Entity(0, 8, "PERSON"), Entity(16, 23, "ORG"))
    assert read.meta == {"page": 3, "where": ["a", {"b": 1}], "cats": {"good": 0.5}}
    assert set(corpus.notices) == {
        "1 span groups 'other', which are not read (see the option spans_key)",
        "1 documents whose doc.ents and doc.spans['sc'] differ, read together",
        "2 values of user data that are not kept",
        "attributes of words that are not kept: SENT_START, TAG",
    }
    assert load(tmp_path / "a.spacy", doc, spans_key="other").num_entities == 3


def test_unknown_spaces_blocked_words_and_nothing_said(tmp_path: Path) -> None:
    vocab = spacy.blank("xx").vocab
    unknown = Doc(vocab, words=["a", "b"])
    blocked = Doc(vocab, words=["a", "b"], spaces=[False, False])
    blocked.set_ents([Span(blocked, 1, 2, "X")], blocked=[Span(blocked, 0, 1)])
    corpus = load(tmp_path / "a.spacy", unknown, blocked)
    assert [d.text for d in corpus.documents] == [unknown.text, blocked.text]
    assert corpus.documents[1].entities == (Entity(1, 2, "X"),)
    assert corpus.notices == ("1 documents that say nothing about entities, read as texts without",)


def test_commands(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl")
    to = (tmp_path / "b.spacy", "--to-option", "lang=zh", "--check")
    outcome = run("data", "convert", source, *to)
    assert outcome.code == 0, outcome.stderr
    assert run("data", "convert", tmp_path / "b.spacy", tmp_path / "c.jsonl", "--check").code == 0
    assert load_corpus(tmp_path / "c.jsonl").sha256 == load_corpus(source).sha256


# Damaged bytes


def whole() -> bytes:
    doc = Doc(spacy.blank("xx").vocab, words=["Anna", "Lee"], spaces=[True, False])
    doc.set_ents([Span(doc, 0, 2, "PER")])
    doc.spans["sc"] = [Span(doc, 0, 1, "X")]
    doc.user_data["id"] = "a"
    packed: bytes = DocBin(docs=[doc], store_user_data=True).to_bytes()
    return packed


def changed(**values: Any) -> bytes:
    message = {**srsly.msgpack_loads(zlib.decompress(whole())), **values}
    return zlib.compress(srsly.msgpack_dumps({k: v for k, v in message.items() if v is not None}))


SPANS = srsly.msgpack_dumps({"name": "sc", "attrs": {}, "spans": [b"\0" * 40]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: b"text", "expected a DocBin of spaCy, which is zlib data"),
        (lambda: whole()[:-9], "the zlib data is cut short"),
        (lambda: zlib.compress(b"\x93"), "msgpack cannot be read"),
        (lambda: zlib.compress(b"\x91" * 5000), "msgpack cannot be read"),
        (lambda: zlib.compress(b"\x90"), "it is no map"),
        (lambda: changed(strings=None), '"strings" is missing, or no list'),
        (lambda: changed(strings=[3]), '"strings" are no strings'),
        (lambda: changed(strings=["Lee"]), "is not there"),
        (lambda: changed(attrs=[]), '"attrs" are no integers'),
        (lambda: changed(attrs=[77]), "it holds no words"),
        (lambda: changed(lengths=b"\0\0\0"), '"lengths": buffer size'),
        (lambda: changed(lengths=b"\xff" * 4), "its arrays do not fit each other"),
        (lambda: changed(lengths=b"\xff\xff\xff\x7f"), "its arrays do not fit each other"),
        (lambda: changed(tokens=b"\0" * 8), "its arrays do not fit each other"),
        (lambda: changed(spaces=b"\1"), "its arrays do not fit each other"),
        (lambda: changed(cats=[]), '"cats" is not as long as there are documents'),
        (lambda: changed(user_data=["x"]), "packed data is no bytes"),
        (lambda: changed(user_data=[b"\x90"]), "user data is no map"),
        (lambda: changed(span_groups=[b"\x01"]), "span groups are no map"),
        (lambda: changed(span_groups=[srsly.msgpack_dumps({SPANS: "sc"})]), "has no key"),
        (lambda: changed(span_groups=[srsly.msgpack_dumps({SPANS: ["sc"]})]), "is not in its text"),
        (lambda: changed(span_groups=[srsly.msgpack_dumps([b"\x80"])]), "has no spans"),
    ],
)
def test_what_is_refused(data: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.spacy"
    path.write_bytes(data())
    with pytest.raises(DataError) as caught:
        load_with(path, ReadOptions(), format="spacy")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_older_files_lack_some_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.spacy"
    path.write_bytes(changed(flags=None, span_groups=None, user_data=None, version=None))
    assert load_corpus(path).documents[0].entities == (Entity(0, 8, "PER"),)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """One MiB that would unpack to 1 GiB."""
    packer = zlib.compressobj(9)
    path = tmp_path / "a.spacy"
    with path.open("wb") as stream:
        for _ in range(1024):
            stream.write(packer.compress(bytes(1 << 20)))
        stream.write(packer.flush())
    with pytest.raises(DataError, match=r"unpack to more than \d+: if the file can be trusted"):
        load_with(path, ReadOptions(), format="spacy")
    with pytest.raises(DataError, match=f"unpack to more than {1 << 20}:"):
        load_with(path, ReadOptions(more={"limit": "1"}), format="spacy")
    for wrong in ("0", "x", "-1"):
        with pytest.raises(ConfigError, match="expected a number of MiB"):
            load_with(path, ReadOptions(more={"limit": wrong}), format="spacy")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "from nertune.data.corpus import load_corpus\n"
        "import spacy\n"
        "def refuse(*a, **k): raise SystemExit('unpickled')\n"
        "pickle.loads = pickle.load = pickle.Unpickler = refuse\n"
        "import srsly.cloudpickle as c; c.loads = c.load = refuse\n"
        "print(load_corpus(Path(sys.argv[1])).num_entities)\n"
    )
    path = tmp_path / "a.spacy"
    path.write_bytes(whole())
    command = [sys.executable, "-c", code, str(path)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.stdout.strip() == "2", outcome.stderr


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_an_error_and_no_crash(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(zlib.decompress(whole()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.spacy"
    path.write_bytes(zlib.compress(bytes(content)))
    with suppress(DataError):
        assert load_with(path, ReadOptions(), format="spacy").documents
