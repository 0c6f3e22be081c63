"""Bytes to text and back."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.errors import DataError
from nertune.storage.files import open_for_writing, read_text, shorten, split_lines


def test_a_bom_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff在\r\n\x0c\u2028\n".encode())
    assert read_text(path) == "在\r\n\x0c\u2028\n"
    assert split_lines(read_text(path)) == ["在", "\x0c\u2028"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_lines_joined_are_split_again(lines: list[str]) -> None:
    assert split_lines("".join(f"{line}\n" for line in lines)) == lines
    assert split_lines("".join(f"{line}\r\n" for line in lines)) == lines


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"ok\nb\xff", ":2: byte 2 of this line (0xFF) is not UTF-8"),
        (b"ok\n\na\0b", ":3: byte 2 of this line is NUL"),
        (b"\xff\xfea\0", "UTF-16 text"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b\x08", "give it a name that ends in .gz"),
        (lzma.compress(b"a O"), "xz data: give it a name that ends in .xz"),
        (bz2.compress(b"a O"), "bzip2 data"),
        (b"\x28\xb5\x2f\xfd\x04", "Zstandard data: give it a name that ends in .zst"),
    ],
    ids=["empty", "not UTF-8", "NUL", "UTF-16", "ZIP", "gzip", "xz", "bzip2", "zstd"],
)
def test_what_is_no_text_is_located(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("x")
    with pytest.raises(DataError, match=r"no such file: did you mean .*train\.conll"):
        read_text(tmp_path / "trian.conll")


def test_packed_files_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.txt.gz", "b.txt.gz"):
        with open_for_writing(tmp_path / name) as stream:
            stream.write("王\r\n")
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == "王\r\n".encode()


def _write_and_fail(stream: TextIO) -> None:
    stream.write("new")
    raise ZeroDivisionError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), open_for_writing(path) as stream:
        _write_and_fail(stream)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    with open_for_writing(path) as stream:
        stream.write("new")
    assert path.read_text() == "new"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="cannot be written"),
        open_for_writing(tmp_path / "no" / "a.txt") as stream,
    ):
        stream.write("x")


def test_text_in_messages_is_short_and_escaped() -> None:
    assert shorten("a\nb") == r"'a\nb'"
    assert shorten("x" * 41) == f"{'x' * 40!r}…"
