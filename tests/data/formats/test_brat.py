"""brat: pairs of .txt and .ann, on samples written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import run
from helpers.tiny import write_jsonl
from nertune.data.corpus import load_corpus, save_documents
from nertune.data.inputs import expand_files, read_files
from nertune.errors import DataError
from nertune.types import Document, Entity

TEXT = "🎉王明在\n北京。"
ANN = """\
T1\tPER 1 3\t王明
T2\tLOC 5 7\t北京
T3\tLOC 4 6\t 北
R1\tLives Arg1:T1 Arg2:T2
#1\tAnnotatorNotes T1\ta note
T4\tX 1 2;3 4\t王 在
T5\tX 3 4;5 6\t在 北
T6\tPER 1 3\t王明
"""


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        (path / f"{stem}.{suffix}").write_text(content, encoding="utf-8", newline="")
    return path


def test_a_folder_of_pairs(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", b_txt=TEXT, b_ann=ANN, a_txt="", a_ann="", readme_txt="x")
    folder(data / "inner", c_txt="a", c_ann="T1\tX 0 1\ta\n")
    corpus = load_corpus(data)
    assert (corpus.format, corpus.reason) == ("brat", "the folder has pairs of .txt and .ann files")
    assert [d.id for d in corpus.documents] == ["a", "b", "inner/c"]
    document = corpus.documents[1]
    assert [(document.surface(e), e.label) for e in document.entities] == [
        ("王明", "PER"), ("王 … 在", "X"), ("在\n北", "X"), ("\n北", "LOC"), ("北京", "LOC")
    ]  # fmt: skip
    assert [e.fragments for e in document.entities] == [(), ((1, 2), (3, 4)), (), (), ()]
    assert set(corpus.notices) == {
        "2 annotations that are no entities, which are not read",
        "1 identical entities dropped",
        "1 .txt files without an .ann file, which are not read",
    }
    assert [d.id for d in load_corpus(data / "b.ann").documents] == ["b"]
    assert expand_files([data]) == ([data], [])
    assert [d.text for d in read_files([data])] == ["", TEXT, "a"]


def test_what_is_written(tmp_path: Path) -> None:
    text = "ab\ncd\n"
    document = Document(text, (Entity(0, 4, "X"), Entity(3, 6, "Y"), Entity(1, 2, "X")), "p/1")
    save_documents(tmp_path / "out", [document, Document("")], format="brat")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["000001-p-1.ann", "000001-p-1.txt", "000002.ann", "000002.txt"]
    written = (tmp_path / "out" / "000001-p-1.ann").read_text(encoding="utf-8")
    assert written == "T1\tX 0 2;3 4\tab c\nT2\tX 1 2\tb\nT3\tY 3 6\tcd \n"
    again = load_corpus(tmp_path / "out")
    assert again.documents[0].entities == document.entities
    assert again.notices == ()
    with pytest.raises(DataError, match="needs a new or empty folder"):
        save_documents(tmp_path / "out", [document], format="brat")
    with pytest.raises(DataError, match="this is a file"):
        save_documents(write_jsonl(tmp_path / "a.jsonl"), [document], format="brat")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("T1\tPER 1 3\t王", "says its text is '王', but there stands '王明'"),
        ("T1\tPER 1 99\tx", "beyond the text of 8 characters"),
        ("T1\tPER 3 1\tx", "is empty or"),
        ("T1\tPER 1,3\tx", "expected T1, a TAB, 'LABEL START END'"),
        ("T1\t1 3\t王明", "expected T1"),
    ],
)
def test_what_is_refused(line: str, message: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", a_txt=TEXT, a_ann=f"T9\tPER 1 3\t王明\n{line}\n")
    with pytest.raises(DataError) as caught:
        load_corpus(data)
    assert str(caught.value).startswith(f"{data / 'a.ann'}:2: ")
    assert message in str(caught.value)


def test_an_annotation_without_its_text(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", a_ann="", b_ann="", b_txt="")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read: No such file"):
        load_corpus(data)


def test_commands(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", a_txt=TEXT, a_ann="T1\tPER 1 3\t王明\n")
    assert run("data", "inspect", data).code == 0
    assert run("data", "convert", data, tmp_path / "b.jsonl", "--check").code == 0
    back = run("data", "convert", tmp_path / "b.jsonl", tmp_path / "c", "--to", "brat", "--check")
    assert back.code == 1
    assert "cannot hold 1 id" in back.stderr
    again = ("data", "convert", tmp_path / "b.jsonl", tmp_path / "c", "--to", "brat", "--check")
    assert run(*again, "--allow-loss").code == 0
    assert load_corpus(tmp_path / "c").sha256 == load_corpus(data).sha256
    outcome = run("predict", "nowhere", "x", "--format", "brat")
    assert "format brat is no stream of text: name a file with --output" in outcome.error
