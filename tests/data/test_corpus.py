"""Loading, hashing and saving corpora."""

from __future__ import annotations

import gzip
from io import StringIO
from pathlib import Path

import pytest

from nertune.data.corpus import load_corpus, save_corpus, save_documents, write_documents
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

CONLL = "王\tB-PER\n明\tI-PER\n在\tO\n京\tB-LOC\n\n好\tO\n\n"


@pytest.fixture
def conll(tmp_path: Path) -> Path:
    path = tmp_path / "a.conll"
    path.write_text(CONLL, encoding="utf-8")
    return path


def test_a_corpus_says_what_it_holds(conll: Path) -> None:
    corpus = load_corpus(str(conll))
    assert corpus.path == conll
    assert (corpus.format, corpus.scheme, corpus.join) == ("conll", "BIO", "")
    assert (len(corpus.documents), corpus.num_entities) == (2, 2)
    assert corpus.labels == ("LOC", "PER")
    assert corpus.documents[0] == Document(
        "王明在京",
        (Entity(0, 2, "PER"), Entity(3, 4, "LOC")),
        "a.conll:1",
        ((0, 1), (1, 2), (2, 3), (3, 4)),
    )


@pytest.mark.parametrize("name", ["b.conll", "b.conll.gz", "b.jsonl", "b.jsonl.gz", "b.json"])
def test_the_hash_depends_on_content_alone(conll: Path, name: str) -> None:
    corpus = load_corpus(conll)
    other = conll.with_name(name)
    save_corpus(other, corpus)
    again = load_corpus(other)
    assert again.sha256 == corpus.sha256
    assert len(corpus.sha256) == 64
    assert again.format == ("conll" if "conll" in name else "jsonl")
    assert other.read_bytes()[:2] == (
        b"\x1f\x8b" if name.endswith(".gz") else other.read_bytes()[:2]
    )


@pytest.mark.parametrize(
    "changed",
    [
        CONLL.replace("LOC", "GPE"),
        CONLL.replace("好", "坏"),
        CONLL.replace("京\tB-LOC", "京\tO"),
        CONLL + "王\tO\n",
        CONLL.replace("\n\n好", "\n好"),
    ],
)
def test_the_hash_changes_with_any_change(conll: Path, changed: str) -> None:
    before = load_corpus(conll).sha256
    conll.write_text(changed, encoding="utf-8")
    assert load_corpus(conll).sha256 != before


def test_packed_files_are_the_same_bytes_each_time(conll: Path) -> None:
    corpus = load_corpus(conll)
    one, two = conll.with_name("1.conll.gz"), conll.with_name("2.conll.gz")
    save_corpus(one, corpus)
    save_corpus(two, corpus)
    assert one.read_bytes() == two.read_bytes()
    assert gzip.decompress(one.read_bytes()).decode() == CONLL


def test_a_failed_write_leaves_the_old_file(conll: Path) -> None:
    before = sorted(conll.parent.iterdir())
    bad = [Document("ab", tokens=((0, 2),)), Document("no tokens")]
    with pytest.raises(DataError, match="it has no tokens"):
        save_documents(conll, bad)
    assert conll.read_text(encoding="utf-8") == CONLL
    assert sorted(conll.parent.iterdir()) == before


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "a.jsonl"):
        with pytest.raises(DataError, match="cannot be written"):
            save_documents(path, [Document("a", tokens=((0, 1),))])


def test_written_formats(conll: Path) -> None:
    document = Document("ab c", (Entity(0, 2, "X", 0.5),), tokens=((0, 2), (3, 4)))
    expected = {
        "conll": "ab B-X\nc O\n\n",
        "jsonl": '{"text": "ab c", "entities": [[0, 2, "X"]], "tokens": [[0, 2], [3, 4]]}\n',
        "predictions": '{"text": "ab c", "entities": [{"start": 0, "end": 2, "label": "X", '
        '"text": "ab", "score": 0.5}], "tokens": [[0, 2], [3, 4]]}\n',
    }
    for format, text in expected.items():
        stream = StringIO()
        write_documents(stream, [document], format=format, separator=" ")  # type: ignore[arg-type]
        assert stream.getvalue() == text


def test_unknown_formats_are_refused(conll: Path) -> None:
    with pytest.raises(ConfigError, match="format='xml' is unknown, expected auto, conll, jsonl, "):
        load_corpus(conll, format="xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="format='xml' is unknown"):
        write_documents(StringIO(), [], format="xml")  # type: ignore[arg-type]


def test_documents_can_be_written_to_a_device() -> None:
    save_documents("/dev/null", [Document("a", tokens=((0, 1),))], format="conll")
    assert not Path("/dev/null").is_file()


def test_a_share_of_the_documents_is_part_of_a_larger_one(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    save_documents(path, [Document(f"text {number}") for number in range(40)])
    corpus = load_corpus(path)
    half, tenth = corpus.take_share(0.5, seed=3), corpus.take_share(0.1, seed=3)
    assert (len(half.documents), len(tenth.documents)) == (20, 4)
    assert set(tenth.documents) < set(half.documents) < set(corpus.documents)
    for part in (half, tenth):  # in the file's order
        places = [corpus.documents.index(document) for document in part.documents]
        assert places == sorted(places)
    assert len({corpus.sha256, half.sha256, tenth.sha256}) == 3
    assert corpus.take_share(0.5, seed=3) == half
    assert corpus.take_share(0.5, seed=4).sha256 != half.sha256
    assert corpus.take_share(1.0, seed=3) is corpus
    assert len(corpus.take_share(0.001, seed=3).documents) == 1
