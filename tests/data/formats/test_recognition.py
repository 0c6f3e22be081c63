"""Which format a file has: by content with a reason, then by name, never by a guess."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.toy_format import Csv
from nertune.data import formats
from nertune.data.corpus import load_corpus
from nertune.data.formats.base import Glimpse, Source
from nertune.data.formats.recognition import format_of_name, recognise, recognise_glimpse
from nertune.data.formats.source import HEAD_BYTES
from nertune.errors import DataError

COLUMNS = b"a B-X\nb O\n"
RECORD = b'{"text": "a", "entities": []}\n'


@pytest.fixture
def csv() -> Iterator[Csv]:
    format = Csv()
    formats.register(format)
    yield format
    formats.unregister("csv")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.conll", "conll"), ("A.BIO", "conll"), ("a.jsonl.gz", "jsonl"), ("a.txt", "lines"),
        ("a", None), ("a.gz", None), (".conll", None), ("conll", None), ("a.conll.txt", "lines"),
    ],
)  # fmt: skip
def test_by_name(name: str, format: str | None) -> None:
    found = format_of_name(Path("x") / name)
    assert (None if found is None else found.name) == format


@pytest.mark.parametrize(
    ("name", "data", "format", "reason"),
    [
        ("a", COLUMNS, "conll", "its lines are a token and a tag each"),
        ("a.txt", b"a/O b/B-X\n", "conll", "its lines are token/TAG items"),
        ("a.conll", RECORD, "jsonl", "its first line is a JSON object with a text"),
        ("a", b'["a", {"entities": []}]', "jsonl", "its first line is a JSON array of a text"),
        ("a.jsonl", b"[\n", "jsonl", "its name ends in .jsonl"),
        ("a.conll", b"", "conll", "its name ends in .conll"),
        ("a.txt", b"text\n", "lines", "its name ends in .txt"),
    ],
)
def test_by_content_then_by_name(
    name: str, data: bytes, format: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = recognise(Source(path))
    assert found is not None
    assert (found.format.name, found.reason[: len(reason)]) == (format, reason)
    assert found.against_name == (name == "a.conll" and format == "jsonl")


def test_nothing_says_anything(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo\n")
    assert recognise(Source(tmp_path / "a")) is None
    assert recognise(Source(tmp_path / "absent")) is None
    assert recognise(Source(tmp_path)) is None
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    assert recognise(Source(tmp_path / "a.txt"), entities=True) is None


def test_two_formats_are_an_error_that_names_both(
    csv: Csv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv, "recognise", lambda seen: "it looks so", raising=False)
    (tmp_path / "a").write_bytes(COLUMNS)
    with pytest.raises(DataError, match="a token and a tag each; as csv, since it looks so; say"):
        load_corpus(tmp_path / "a")
    with pytest.raises(DataError, match="say format conll or csv"):
        recognise(Source(tmp_path / "a"))
    # The suffix decides between the two, not against them.
    for name, format in (("a.conll", "conll"), ("a.csv", "csv")):
        found = recognise_glimpse(Glimpse(name, COLUMNS), Path(name))
        assert found is not None
        assert found.format.name == format
    with pytest.raises(DataError, match="two ways"):
        recognise_glimpse(Glimpse("a.jsonl", COLUMNS), Path("a.jsonl"))


def test_content_against_the_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes(RECORD)
    corpus = load_corpus(tmp_path / "a.conll")
    assert corpus.format == "jsonl"
    assert "read as jsonl: its first line is a JSON object with a text" in corpus.notices


def test_a_long_first_line_and_a_cut_last_one() -> None:
    long = b'{"text": "' + b"a" * HEAD_BYTES
    cut = Glimpse("a", long[:HEAD_BYTES], is_whole=False)
    assert cut.is_first_cut
    assert cut.lines == []
    found = recognise_glimpse(cut, Path("a"))
    assert found is not None
    assert found.format.name == "jsonl"
    assert recognise_glimpse(Glimpse("a", long), Path("a")) is None  # whole, and no object
    half = Glimpse("a", "王 O\n明 O\n北".encode()[:-1], is_whole=False)
    assert half.lines == ["王 O", "明 O"]


def test_what_is_packed_and_marked(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + COLUMNS))
    seen = Source(tmp_path / "a.gz").glimpse()
    assert seen.lines == ["a B-X", "b O"]
    (tmp_path / "b.gz").write_bytes(COLUMNS)
    assert Source(tmp_path / "b.gz").glimpse().head == b""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.ann").touch()
    (tmp_path / "folder" / ".hidden").touch()
    assert Source(tmp_path / "folder").glimpse().files == ("b.ann",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(COLUMNS,))
    writer.start()
    assert load_corpus(pipe).documents[0].text == "ab"
    writer.join()
