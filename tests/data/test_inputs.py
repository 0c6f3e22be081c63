"""Where the texts to predict on come from."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest

from nertune.data.corpus import load_corpus
from nertune.data.inputs import expand_files, read_files, read_inputs, read_stdin
from nertune.errors import ConfigError, DataError


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
    with pytest.raises(ConfigError, match=r"expected auto, conll, jsonl, .* or lines"):
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
        ("a.txt", lzma.compress(b"a"), "xz data: give it a name that ends in .xz"),
        ("a.txt.bz2", b"BZh91AY&SY\x8b", "bzip2 data: unpack it"),
        ("a.txt", b"a\nb\0c\n", ":2: holds a NUL byte"),
        ("a.txt.gz", b"a\n", "its name ends in .gz, but it is not gzip data"),
        (
            "a.txt.gz",
            gzip.compress(b"a\n" * 9, mtime=0)[:-9],
            "the gzip data is cut short or damaged",
        ),
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
    for path, told in (
        (tmp_path / "absent.txt", "no such file"),
        (tmp_path, "this is a directory: expected a file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(DataError, match=told) as caught:
            list(read_inputs([], path))
        assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_in_an_argument() -> None:
    """How Python hands over an argument that is not UTF-8."""
    with pytest.raises(DataError, match="is not UTF-8 at character 2"):
        read_inputs(["a\udcff"], None)


class Pipe(io.RawIOBase):
    """Gives what was written bit by bit, as a pipe does."""

    def __init__(self, *parts: bytes):
        self.parts = list(parts)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.parts.pop(0) if self.parts else b""
        buffer[: len(data)] = data
        return len(data)


def pipe(monkeypatch: pytest.MonkeyPatch, *parts: bytes) -> Pipe:
    raw = Pipe(*parts)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(raw)))
    return raw


def test_stdin_is_answered_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ("\ufeff王\n".encode(), "北".encode()[:2], "北".encode()[2:] + b"\n\na\r\n", b"b")
    raw = pipe(monkeypatch, *parts)
    batches = read_stdin()
    assert [(d.text, d.id) for d in next(batches)] == [("王", "stdin:1")]
    assert len(raw.parts) == 3  # nothing is waited for
    assert [[(d.text, d.id) for d in batch] for batch in batches] == [
        [("北", "stdin:2"), ("", "stdin:3"), ("a", "stdin:4")], [("b", "stdin:5")]
    ]  # fmt: skip


def test_much_on_stdin_is_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"a\n" * 700)
    assert [len(batch) for batch in read_stdin()] == [512, 188]
    pipe(monkeypatch)
    assert list(read_stdin()) == []


def test_stdin_as_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"a\nb", b"c\n")
    ((document,),) = read_stdin(whole=True)
    assert (document.text, document.id) == ("a\nbc\n", "stdin")


def test_stdin_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"a\nb\n\xff\nc\n")
    batches = read_stdin()
    assert [d.text for d in next(batches)] == ["a", "b"]  # what came before is answered
    with pytest.raises(DataError, match=r"^stdin:3: not UTF-8"):
        next(batches)


def test_several_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt.gz", "b/.hidden/x.txt", "b/c/3.conll", "b/x.png", "d.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a O\n")
    (tmp_path / "b/1.txt.gz").write_bytes(gzip.compress("王\n明\n".encode()))
    (tmp_path / "d.jsonl").write_text('{"text": "x", "id": 7}\n{"text": "y"}\n')
    files, left_out = expand_files([tmp_path / "d.jsonl", tmp_path / "b"])
    assert [str(p.relative_to(tmp_path)) for p in files] == [
        "d.jsonl", "b/1.txt.gz", "b/2.txt", "b/c/3.conll"
    ]  # fmt: skip
    assert [p.name for p in left_out] == ["x.png"]
    documents = list(read_files(files))
    assert [d.text for d in documents] == ["x", "y", "王", "明", "a O", "a"]
    assert [d.meta["id"] for d in documents] == [
        7, f"{tmp_path}/d.jsonl:2", f"{tmp_path}/b/1.txt.gz:1", f"{tmp_path}/b/1.txt.gz:2",
        f"{tmp_path}/b/2.txt:1", f"{tmp_path}/b/c/3.conll:1",
    ]  # fmt: skip
    assert expand_files([tmp_path / "b" / "*.txt"])[0] == [tmp_path / "b" / "2.txt"]
    assert [p.name for p in expand_files([tmp_path / "**" / "*.conll"])[0]] == ["3.conll"]
    with pytest.raises(DataError, match="no file is named so"):
        expand_files([tmp_path / "*.tsv"])
    with pytest.raises(DataError, match="no such file"):
        list(read_files(expand_files([tmp_path / "absent.txt"])[0]))


def test_a_whole_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("王\r\n\n明\n".encode())
    (document,) = read_files([tmp_path / "a.txt"], whole=True)
    assert (document.text, document.id) == ("王\r\n\n明\n", str(tmp_path / "a.txt"))
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(ConfigError, match="read as conll: --whole is for text files"):
        list(read_files([tmp_path / "a.conll"], whole=True))


@pytest.mark.parametrize(
    "content",
    [
        "王\tPER\n明\tPER\n在\tO\n\n北\tLOC\n京\tLOC\n",
        "王 PER\n明 PER\n在 O\n来 O\n\n北 LOC\n京 LOC\n",
        "王 B\n明 I\n在 O\n来 O\n",
        "王 b-per\n明 i-per\n在 o\n来 o\n",
        "王\tPER-B\n明\tPER-I\n在\tO\n",
        "# newdoc id = 1\n王 B-PER\n明 I-PER\n",
        "王/B-PER 明/I-PER 在/O\n北/B-LOC 京/I-LOC\n",
        "王 B-PER \r\r\n明 I-PER\r\r\n",
    ],
)
def test_columns_in_any_spelling_are_recognised(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    documents = list(read_inputs([], tmp_path / "a.txt"))
    assert documents[0].tokens is not None
    assert documents[0].text.startswith("王明")
    texts = [d.text for d in load_corpus(tmp_path / "a.txt").documents]
    assert [d.text for d in documents] == texts


@pytest.mark.parametrize(
    "content",
    ["Big O\nnice day\n", "go on\nI O\n", "and/or yes/no\na/b\n", "a\tb\nc\td\n", "# O\n# B\n"],
)
def test_text_is_not_taken_for_columns(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert texts_of(tmp_path / "a.txt") == content.split("\n")[:-1]


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
