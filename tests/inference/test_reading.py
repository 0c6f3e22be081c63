"""Where the texts to predict on come from."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nertune.errors import ConfigError, DataError
from nertune.inference.reading import read_inputs


def texts_of(path: Path, input_format: str = "auto") -> list[str]:
    return [document.text for document in read_inputs([], path, input_format)]


def test_given_texts() -> None:
    documents = list(read_inputs(["王", "", " a\nb "], None))
    assert [(d.text, d.id) for d in documents] == [
        ("王", "text 1"),
        ("", "text 2"),
        (" a\nb ", "text 3"),
    ]


LINES = "王小明\n\n  在北京 \r\n\tx\u2028y\x0b"
WANTED = ["王小明", "", "  在北京 ", "\tx\u2028y\x0b"]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.txt.gz", "a.TXT", "a.log"])
def test_lines_keep_their_number_and_blanks(name: str, tmp_path: Path) -> None:
    data = LINES.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    assert texts_of(path) == WANTED
    assert [d.id for d in read_inputs([], path)] == [f"{path}:{n}" for n in (1, 2, 3, 4)]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\xe7\x8e\x8b\n\xef\xbb\xbfb\n")
    assert texts_of(tmp_path / "a.txt") == ["王", "\ufeffb"]


def test_no_line_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    assert texts_of(tmp_path / "a.txt") == []


CONLL = "王 B-PER\n在 O\n\n北 B-LOC\n京 I-LOC\n"
JSONL = '{"text": "王在", "entities": []}\n{"text": "北京"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", CONLL),
        ("a.bio", CONLL),
        ("a.BIOES", CONLL),
        ("train", CONLL),
        ("a.txt", CONLL),
        ("a.conll.gz", CONLL),
        ("a.jsonl", JSONL),
        ("a.json", JSONL),
        ("a.ndjson.gz", JSONL),
        ("data", JSONL),
    ],
)
def test_corpora_are_recognised(name: str, content: str, tmp_path: Path) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    assert texts_of(tmp_path / name) == ["王在", "北京"]


def test_the_format_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL, encoding="utf-8")
    assert texts_of(path, "lines") == CONLL.split("\n")[:-1]
    (tmp_path / "a.txt").write_text(JSONL, encoding="utf-8")
    assert texts_of(tmp_path / "a.txt", "jsonl") == ["王在", "北京"]
    with pytest.raises(ConfigError, match="expected auto, lines, conll or jsonl"):
        read_inputs([], path, "csv")


@pytest.mark.parametrize(
    "line", ["我 爱 O", "see the\tO", "{}", '{"a": 1}', "a B-X", "-DOCSTART- O", "百分之 O"]
)
def test_a_single_line_of_text_is_not_taken_for_a_corpus(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(line + "\n", encoding="utf-8")
    assert texts_of(tmp_path / "a.txt") == [line]


def test_the_bundled_sample() -> None:
    assert len(texts_of(Path("sample:test"))) > 50
    with pytest.raises(DataError, match="train, dev, test"):
        read_inputs([], Path("sample:nothing"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", "王\n李".encode("gb18030"), ":1: not UTF-8: byte 0xcd at position 1"),
        ("a.txt", b"ok\nb\xff\n", ":2: not UTF-8: byte 0xff at position 2"),
        ("a.txt", "a\nb\n".encode("utf-16"), "UTF-16 text: convert it"),
        ("a.txt.xz", lzma.compress(b"a"), "xz data: unpack it with xz -d"),
        ("a.txt.bz2", b"BZh91AY&SY\x8b", "bzip2 data: unpack it"),
        ("a.txt", b"a\nb\0c\n", ":2: holds a NUL byte"),
        ("a.txt.gz", b"a\n", "is not a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"a\n" * 9, mtime=0)[:-9], "is not a whole gzip file"),
        ("a.conll", b"a\n", ":1: expected 2 columns"),
        ("a.jsonl", b'{"text": 1}\n', ":1: "),
        ("a.jsonl", b"", "the file is empty"),
    ],
)
def test_what_cannot_be_read(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_inputs([], path))
    assert str(caught.value).startswith(f"{path}{message if message[0] == ':' else ': '}")
    assert message.lstrip(":") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gzip_of_two_members_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(
        gzip.compress(b"a\n", mtime=0) + gzip.compress(b"b\n", mtime=0)
    )
    assert texts_of(tmp_path / "a.txt.gz") == ["a", "b"]


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="cannot be read") as caught:
            list(read_inputs([], path))
        assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_in_an_argument() -> None:
    """How Python hands over an argument that is not UTF-8."""
    with pytest.raises(DataError, match="is not UTF-8 at character 2"):
        read_inputs(["a\udcff"], None)


def test_stdin_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> Iterator[bytes]:
        yield "王\n".encode()
        yield "北京".encode()
        raise AssertionError("read too far")

    class Stdin:
        buffer = lines()

    monkeypatch.setattr(sys, "stdin", Stdin())
    documents = iter(read_inputs([], None))
    assert [next(documents).text, next(documents).text] == ["王", "北京"]


def test_stdin_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n")))
    with pytest.raises(DataError, match=r"^stdin:2: not UTF-8"):
        list(read_inputs([], None))


def test_what_stands_behind_a_token_does_not_matter(tmp_path: Path) -> None:
    """Types without prefixes, mixed schemes: predicting needs the tokens alone."""
    file = tmp_path / "a.conll"
    file.write_text("王 PER\n明 PER\n\n北 E-LOC\n京 U-LOC\n", encoding="utf-8")
    documents = list(read_inputs([], file))
    assert [(d.text, d.tokens, d.entities) for d in documents] == [
        ("王明", ((0, 1), (1, 2)), ()), ("北京", ((0, 1), (1, 2)), ())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('\ufeff{"text": "王明", "entities": []}\n', ["王明"]),
        ("-DOCSTART-\n\n王 B-PER\n明 I-PER\n", ["王明"]),
    ],
    ids=["JSONL with a byte order mark", "DOCSTART"],
)
def test_labelled_files_are_recognised_behind_their_marks(
    content: str, texts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text(content, encoding="utf-8")
    assert [d.text for d in read_inputs([], file)] == texts
