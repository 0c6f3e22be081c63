"""Files that are read in parts: the same documents as from a whole, in flat memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nertune.data.convert import convert
from nertune.data.formats.base import Findings, ReadOptions, Source, WriteOptions
from nertune.data.formats.registry import find_format
from nertune.data.reading import CorpusReader
from nertune.errors import DataError
from nertune.types import Document

NAMES = {"conll": "x.conll", "jsonl": "x.jsonl", "doccano": "x.jsonl", "label-studio": "x.json"}


def read(format: str, data: bytes, size: int | None, **options: Any) -> tuple[Any, ...]:
    """All that is known of a file that is read in parts of this size; the error if there is one."""
    source = Source(Path(NAMES[format]), data)
    if size is not None:
        source.part_bytes = size
    findings = Findings()
    try:
        documents = tuple(find_format(format).read(source, ReadOptions(**options), findings))
    except DataError as error:
        return (str(error),)
    meta = [dict(document.meta) for document in documents]
    return documents, meta, vars_of(findings)


def vars_of(findings: Findings) -> tuple[Any, ...]:
    return findings.reading, findings.style, findings.repairs, findings.notices


LINES = st.sampled_from(
    [
        "王 B-PER", "明 I-PER", "在 O", "京 B-LOC", "城 I-LOC", "x I-LOC", "🎉 O", "", "", "", " ",
        "-DOCSTART- O", "# a comment", "# B-PER", "# O", "a O ", "王 B-PER\r", "\r", "b", "c o",
        "d E-PER", "e PER",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=30), st.integers(1, 60), st.booleans())
@example(["王 B-PER", "", "明 I-PER", "", "# O", "", "在 O"], 8, False)
@example(["王 B-PER\r", "\r", "明 O\r", "\r"] * 3, 1, False)
def test_columns_in_parts_are_as_the_whole(lines: list[str], size: int, strict: bool) -> None:
    data = "\n".join([*lines, ""]).encode()
    assert read("conll", data, size, strict=strict) == read("conll", data, None, strict=strict)


@given(st.lists(st.sampled_from(["王/B-PER 明/I-PER", "在/O 京/B-LOC", "", "x/O y/I-LOC", "z/"])),
       st.integers(1, 30))  # fmt: skip
def test_items_in_parts_are_as_the_whole(lines: list[str], size: int) -> None:
    data = "\n".join(["a/O b/O", *lines]).encode()
    assert read("conll", data, size) == read("conll", data, None)


RECORDS = st.sampled_from(
    [
        {"text": "王明在京", "entities": [[0, 2, "PER"], [3, 4, "LOC"]]},
        {"text": "🎉王明", "entities": [[2, 4, "PER"]]},  # UTF-16 units, else out of range
        {"text": "🎉王明在京", "entities": [[2, 4, "PER"]]},  # either
        {"text": "🎉王明在京", "entities": [[1, 3, "PER"]], "id": "a"},
        {"text": "a", "entities": []},
        {"text": "b"},
        {"text": "c", "entities": [], "rows": [[0, 1]]},
        {"text": "d", "entities": [[0, 1, "X"], [0, 1, "X"]], "tokens": [[0, 1]]},
        {"text": "e", "entities": [], "answer": "reject"},
        {"text": "王", "entities": [[0, 3, "X"]]},  # bytes
        {"text": "f", "entities": [[0, 1, ""]]},  # refused
    ]
)


@given(
    st.lists(RECORDS, max_size=12),
    st.integers(1, 200),
    st.sampled_from(["jsonl", "doccano"]),
    st.booleans(),
)
def test_lines_of_json_in_parts_are_as_the_whole(
    records: list[dict[str, Any]], size: int, format: str, escaped: bool
) -> None:
    data = "".join(json.dumps(r, ensure_ascii=escaped) + "\n" for r in records).encode()
    assert read(format, data, size) == read(format, data, None)


@pytest.mark.parametrize("escaped", [False, True])
def test_characters_beyond_the_basic_plane_are_seen_wherever_a_part_ends(escaped: bool) -> None:
    data = json.dumps({"text": "ab🎉c"}, ensure_ascii=escaped).encode()
    source = Source(Path("x.jsonl"), data)
    for source.part_bytes in range(1, len(data) + 1):
        assert source.may_hold_astral()
    source = Source(Path("x.jsonl"), json.dumps({"text": "ab王c"}, ensure_ascii=escaped).encode())
    assert not source.may_hold_astral()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a O\n\n" * 50 + b"\xff O\n", 101),
        (b"a O\n\n" * 50 + b"b\0 O\n", 101),
        (b"a O\n\n" * 50 + b"b\n", 101),
        (b"a O\n\n" * 50 + b"b B-X\n\nc X\n", 103),
    ],
)
def test_errors_name_the_line_of_the_file(data: bytes, line: int) -> None:
    (told,) = read("conll", data, 16)
    assert told.startswith(f"x.conll:{line}: ")
    assert (told,) == read("conll", data, None)


def test_packed_files_are_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress(b"a O\n\nb B-X\n\n" * 90))
    source = Source(path)
    source.part_bytes = 64
    assert len([*source.text_parts()]) > 10
    assert len([*find_format("conll").read(source, ReadOptions(), Findings())]) == 180
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cut short or damaged"):
        [*source.text_parts()]


# Memory


def columns(count: int) -> Iterator[str]:
    return (f"王 B-PER\n明 I-PER\n在 O\n{i} O\n京 B-LOC\n\n" for i in range(count))


def lines(count: int) -> Iterator[str]:
    for i in range(count):
        yield json.dumps({"text": f"🎉王明在{i}京", "entities": [[1, 3, "PER"]], "n": i}) + "\n"


def tasks(count: int) -> Iterator[str]:
    spans = [{"type": "labels", "value": {"start": 1, "end": 3, "text": "王明", "labels": ["PER"]}}]
    for i in range(count):
        task = {"id": i, "data": {"text": f"🎉王明在{i}京"}, "annotations": [{"result": spans}]}
        yield ("[" if i == 0 else ",\n") + json.dumps(task)
    yield "]"


MAKERS: dict[str, Callable[[int], Iterator[str]]] = {
    "conll": columns, "jsonl": lines, "doccano": lines, "label-studio": tasks,
}  # fmt: skip


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("format", MAKERS)
def test_a_larger_file_needs_no_more_memory(format: str, tmp_path: Path) -> None:
    peaks = []
    for count in (1_500, 6_000):
        path = tmp_path / f"{count}-{NAMES[format]}"
        path.write_text("".join(MAKERS[format](count)), encoding="utf-8")
        source = Source(path)
        source.part_bytes = 1 << 13

        def work(source: Source = source, count: int = count) -> None:
            read = find_format(format).read(source, ReadOptions(), Findings())
            assert sum(1 for _ in read) == count

        peaks.append(peak(work))
    assert peaks[1] < 1.2 * peaks[0] + 50_000


def test_converting_a_larger_file_needs_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (1_500, 6_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text("".join(lines(count)), encoding="utf-8")

        def work(path: Path = path, count: int = count) -> None:
            corpus = CorpusReader(path, ReadOptions())
            found = convert(corpus, path.with_suffix(".out"), WriteOptions(scores=True),
                            to="label-studio", check=True)  # fmt: skip
            assert (found.documents, found.entities, found.differences) == (count, count, ())

        Source.part_bytes, before = 1 << 13, Source.part_bytes
        try:
            peaks.append(peak(work))
        finally:
            Source.part_bytes = before
    assert peaks[1] < 1.2 * peaks[0] + 50_000


def test_a_reader_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(columns(3)), encoding="utf-8")
    reader = CorpusReader(path, ReadOptions())
    assert reader.format == "conll"
    first = [*reader]
    assert [d.text for d in first] == ["王明在0京", "王明在1京", "王明在2京"]
    assert (first, reader.reading.scheme) == ([*reader], "BIO")
    assert isinstance(first[0], Document)
    assert "scheme BIO recognised" in reader.notices
