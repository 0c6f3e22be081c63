"""JSON records as a stream: what is read does not depend on where its parts end."""

from __future__ import annotations

import gzip
import json
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus
from nertune.data.formats.base import Glimpse, Source
from nertune.data.formats.json_files import records
from nertune.data.formats.json_files.records import stream_records
from nertune.data.formats.json_files.values import first_record, seen_array, seen_keys
from nertune.errors import DataError

NAME = Path("x.json")
VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


def stream(text: str | bytes) -> list[tuple[int, Any]]:
    data = text.encode() if isinstance(text, str) else text
    return list(stream_records(Source(NAME, data)))


@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES), max_size=4),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_parts_of_any_size_give_the_same(
    values: list[Any], size: int, indent: int | None, is_array: bool
) -> None:
    values = json.loads(json.dumps(values, ensure_ascii=True).replace("\\ud", "\\u0"))
    lines = [json.dumps(v, ensure_ascii=False, indent=indent) for v in values]
    text = "[" + ",\n".join(lines) + "]" if is_array else "\n".join(lines) + "\n"
    before = records._CHUNK
    records._CHUNK = size
    try:
        found = stream(text)
    finally:
        records._CHUNK = before
    assert [value for _, value in found] == values
    starts = [1]
    for line in lines[:-1]:
        starts.append(starts[-1] + line.count("\n") + 1)
    assert [line for line, _ in found] == starts[: len(values)]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}\n{"a": tru}', ":2: not JSON: Expecting value at character 7"),
        (b'[{"a": 1}, {"a": "b]', ":1: not JSON: Unterminated string starting at at character 18"),
        (b'{"a": 1}\n{"a": "\xff"}', ":2: byte 8 of this line (0xFF) is not UTF-8"),
        (b'{"a": 1}\n\0', ":2: byte 1 of this line is NUL"),
        (b"", ": the file is empty"),
        (b"\xff\xfe{", ": expected UTF-8 text, got UTF-16"),
        (b'{"a": 1}\n3', ":2: expected an object, got '3'"),
    ],
)
def test_errors_name_the_line(
    size: int, data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_CHUNK", max(size, 2))  # of a mark both bytes
    with pytest.raises(DataError) as caught:
        stream(data)
    assert str(caught.value).startswith(f"{NAME}{message}")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "' + "a" * 200 + '"}\n', encoding="utf-8")
    path.write_bytes(path.read_bytes() * 40_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in stream_records(Source(path))) == 40_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_read_twice_where_that_is_needed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    row = json.dumps({"tokens": ["a", "bc"], "ner_tags": ["O", "B-X"]}).encode()
    writer = threading.Thread(target=pipe.write_bytes, args=(row,))
    writer.start()
    assert load_corpus(pipe, format="huggingface").documents[0].text == "a bc"
    writer.join()


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}'))
    assert list(stream_records(Source(path))) == [(1, {"a": 1})]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cut short or damaged"):
        list(stream_records(Source(path)))


def test_what_is_seen_of_a_first_record() -> None:
    def seen(text: str, *, is_whole: bool = True) -> Glimpse:
        return Glimpse("a", text.encode(), is_whole)

    assert first_record(seen(' [\n {"a": 1}, {"b"')) == {"a": 1}
    assert first_record(seen('{"a": 1} x')) == {"a": 1}
    assert first_record(seen("[1]")) is None
    assert first_record(seen('{"a": ' + "[" * 60_000)) is None
    assert seen_keys(seen('{"a": 1, "b": 2}'), "a", "b")
    assert not seen_keys(seen('{"a": {"b": 2}}'), "a", "b")
    assert seen_keys(seen('{"a": {"b": 2', is_whole=False), "a", "b")
    assert not seen_keys(seen('{"a": {"b": 2'), "a", "b")
    assert not seen_array(seen('[{"a": ["b", "\\"c\\": 1"]}]'), "a", "b")
    assert not seen_array(seen('[{"a": ["b", "\\"c\\": 1"]}]'), "a", "c")
