"""The commands that messages advise, run on files that are refused: what comes out is right."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nertune.data.corpus import load_corpus
from nertune.errors import DataError


def advised(path: Path) -> str:
    """The command in the message that refuses a file."""
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    found = re.search(
        r"\b((?:awk|sed|tr|iconv|bzip2|jq|gzip) ['-].*> (?:'.+'|\S+))", str(caught.value)
    )
    assert found is not None, str(caught.value)
    return found[1]


def follow(path: Path, command: str) -> Path:
    """Run it beside the file; gives the file that it makes."""
    program = re.split(r" \| ", command)[-1].split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    before = path.read_bytes()
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(command, shell=True, check=True, cwd=path.parent, env=environment)
    assert path.read_bytes() == before
    return path.parent / shlex.split(command.rsplit("> ", 1)[1])[0]


@pytest.mark.parametrize(
    ("name", "content", "tokens", "surfaces"),
    [
        ("a.tsv", "EU   O\nx O\n  O\nAnn B-PER\n", ["EU x   Ann"], ["Ann"]),
        ("a.conll", "王 O\r明 B-X\r\r京 O\r", ["王明", "京"], ["明"]),
        ("a.conll", "王 B-X\n京 O\n".encode("gb18030"), ["王京"], ["王"]),
        ("a.conll", "王 B-X\n京 O\n".encode("utf-16"), ["王京"], ["王"]),
        ("a.conll", "ab B-X\ncd O\n".encode("utf-16-be"), ["ab cd"], ["ab"]),
        ("a.conll", "ab B-X\ncd O\n".encode("utf-16-le"), ["ab cd"], ["ab"]),
        ("a.conll", bz2.compress("王 B-X\n".encode()), ["王"], ["王"]),
    ],
)  # fmt: skip
def test_a_command_makes_a_file_that_is_read(
    name: str, content: str | bytes, tokens: list[str], surfaces: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    made = follow(path, advised(path))
    corpus = load_corpus(made, join="none" if len(tokens[0]) < 3 else "space")
    assert [document.text for document in corpus.documents] == tokens
    assert [d.surface(e) for d in corpus.documents for e in d.entities] == surfaces


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "ab", "entities": [[0, 1, "X"]]}, {"text": "c", "label": []}]\n',
        '[\n{"text": "ab",\n "entities": [[0, 1, "X"]]},\n{"text": "c", "label": []}]\n',
        '{\n"text": "ab",\n "entities": [[0, 1, "X"]]}\n{\n"text": "c", "label": []\n}\n',
        '[["ab", {"entities": [[0, 1, "X"]]}], ["c", {"entities": []}]]\n',
    ],
)
def test_json_over_several_lines_or_in_one_array(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    command = advised(path).replace("FILE > FILE.jsonl", "a.jsonl > made.jsonl")
    corpus = load_corpus(follow(path, command))
    assert [(d.text, len(d.entities)) for d in corpus.documents] == [("ab", 1), ("c", 0)]


def test_no_command_where_it_would_damage_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes(b"a O\r\nb\r c O\r\n")
    with pytest.raises(DataError, match=r":2: a carriage return stands inside .*; remove it$"):
        load_corpus(path)
    path.write_bytes("caf\xe9 O\n".encode("latin-1"))
    with pytest.raises(DataError, match="iconv -f ENCODING"):
        load_corpus(path)
