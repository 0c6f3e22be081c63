"""Raw text line by line: packed or not, from any line on, and what is wrong with it."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.raw_text import made_up_lines
from nertune.errors import DataError
from nertune.pretraining.text import Line, read_lines

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".txt": bytes,
    ".txt.gz": gzip.compress,
    ".txt.xz": lzma.compress,
}


def write(folder: Path, name: str, data: bytes) -> Path:
    """`data`, packed as the name says."""
    path = folder / name
    path.write_bytes(PACK[name[name.index(".") :]](data))
    return path


def texts(path: Path) -> list[str]:
    return [line.text for line in read_lines([path])]


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_give_the_same_lines(suffix: str, tmp_path: Path) -> None:
    lines = made_up_lines(50)
    path = write(tmp_path, f"a{suffix}", "\n".join(lines).encode())
    assert list(read_lines([path])) == [Line(0, i, line) for i, line in enumerate(lines, 1)]


@pytest.mark.parametrize("suffix", PACK)
def test_blank_lines_are_left_out_and_counted(suffix: str, tmp_path: Path) -> None:
    data = "\n  一 \r\n\u3000\t\n\n二\n \n"
    path = write(tmp_path, f"a{suffix}", data.encode())
    assert list(read_lines([path])) == [Line(0, 2, "一", before=2, after=1), Line(0, 5, "二")]


def test_what_a_line_is(tmp_path: Path) -> None:
    """Only a line feed ends one; a byte-order mark at the start is no text."""
    path = write(tmp_path, "a.txt", "\ufeff一\u2028二\x0b三\r\n四".encode())
    assert texts(path) == ["一\u2028二\x0b三", "四"]
    assert texts(write(tmp_path, "empty.txt", b"")) == []


def three_files(folder: Path) -> list[Path]:
    return [
        write(folder, "a.txt", b"a1\n\na3\n"),
        write(folder, "b.txt.gz", b"\n\n"),
        write(folder, "c.txt.xz", b"c1\nc2\nc3"),
    ]


ALL = [
    Line(0, 1, "a1"), Line(0, 3, "a3"), Line(2, 1, "c1"), Line(2, 2, "c2"), Line(2, 3, "c3"),
]  # fmt: skip


def test_files_follow_each_other(tmp_path: Path) -> None:
    assert list(read_lines(three_files(tmp_path))) == ALL


@pytest.mark.parametrize(
    "skip", [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (2, 0), (2, 1), (2, 3), (3, 0)]
)
def test_going_on_behind_a_line(skip: tuple[int, int], tmp_path: Path) -> None:
    found = list(read_lines(three_files(tmp_path), skip=skip))
    assert found == [line for line in ALL if line[:2] > skip]


@settings(deadline=None, max_examples=40)
@given(
    files=st.lists(st.lists(st.sampled_from(["", "  ", "一", "二三"]), max_size=5), max_size=3),
    data=st.data(),
)
def test_going_on_is_going_through(
    files: list[list[str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    paths = [
        write(folder, f"{i}.txt", "".join(f"{line}\n" for line in lines).encode())
        for i, lines in enumerate(files)
    ]
    everything = list(read_lines(paths))
    done = data.draw(st.integers(0, len(everything)))
    skip = everything[done - 1][:2] if done else (0, 0)
    assert list(read_lines(paths, skip=skip)) == everything[done:]


def test_labelled_files_give_their_documents(tmp_path: Path) -> None:
    conll = "王 B-PER\n明 I-PER\n在 O\n\n北 B-LOC\n京 I-LOC\n"
    for name in ("a.conll", "a.txt", "a.txt.gz"):  # by the suffix, or by what stands there
        assert texts(write_any(tmp_path, name, conll)) == ["王明在", "北京"]
    jsonl = '{"text": "王明 在\\n京", "entities": [[0, 2, "PER"]]}\n{"text": "北京"}\n'
    for name in ("b.jsonl", "b.txt", "b.jsonl.gz"):
        found = list(read_lines([write_any(tmp_path, name, jsonl)]))
        assert found == [Line(0, 1, "王明 在 京"), Line(0, 2, "北京")]
        assert list(read_lines([tmp_path / name], skip=(0, 1))) == [Line(0, 2, "北京")]


def write_any(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_lines([path]))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", PACK)
def test_another_encoding(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"a{suffix}", "一\n二\n".encode() + "天气".encode("gb18030") + b"\n")
    error = refusal(path)
    assert (error.path, error.line) == (path, 3)
    assert "not UTF-8" in str(error)
    assert "iconv" in str(error)


def test_packed_in_a_way_that_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.bz2"
    path.write_bytes(bz2.compress(b"a"))
    assert "bzip2 data: unpack it with bzip2 -dc" in str(refusal(path))


@pytest.mark.parametrize("suffix", PACK)
def test_a_binary_file(suffix: str, tmp_path: Path) -> None:
    error = refusal(write(tmp_path, f"a{suffix}", "一\n二\0\n".encode()))
    assert error.line == 2
    assert "NUL byte" in str(error)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.7, 0.99])
@pytest.mark.parametrize("suffix", [".txt.gz", ".txt.xz"])
def test_a_packed_file_that_is_cut_short(suffix: str, kept: float, tmp_path: Path) -> None:
    """Longer than what is looked at to tell labelled files from text."""
    path = write(tmp_path, f"a{suffix}", "\n".join(made_up_lines(2500)).encode())
    data = path.read_bytes()
    path.write_bytes(data[: max(20, int(kept * len(data)))])
    refusal(path)


@pytest.mark.parametrize("suffix", [".txt.gz", ".txt.xz"])
def test_a_cut_names_the_line_before(suffix: str, tmp_path: Path) -> None:
    lines = made_up_lines(2500)
    path = write(tmp_path, f"a{suffix}", "\n".join(lines).encode())
    path.write_bytes(path.read_bytes()[:-9])
    found: list[Line] = []
    with pytest.raises(DataError) as caught:
        found.extend(read_lines([path]))  # those before the damage are there all the same
    assert f"behind line {found[-1][1]} " in str(caught.value)
    assert [line.text for line in found] == list(lines[: len(found)])


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_what_is_not_packed_as_its_name_says(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("一\n" * 50, encoding="utf-8")
    refusal(path)


def test_damage_inside_a_packed_file(tmp_path: Path) -> None:
    for suffix in (".txt.gz", ".txt.xz"):
        path = write(tmp_path, f"a{suffix}", "\n".join(made_up_lines(2500)).encode())
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
        path.write_bytes(data)
        refusal(path)


def test_labels_packed_with_xz_are_no_raw_text(tmp_path: Path) -> None:
    path = tmp_path / "a.conll.xz"
    path.write_bytes(lzma.compress("王\tB-PER\n明\tO\n".encode()))
    assert [line.text for line in read_lines([path])] == ["王明"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.txt", "a.gz", "a.xz", "a.jsonl"):
        assert "no such file" in str(refusal(tmp_path / name)).lower(), name
    assert "directory" in str(refusal(tmp_path)).lower()


def test_a_labelled_file_that_is_wrong(tmp_path: Path) -> None:
    path = write_any(tmp_path, "a.jsonl", '{"text": "一"}\n{"text": 1}\n')
    assert refusal(path).line == 2
