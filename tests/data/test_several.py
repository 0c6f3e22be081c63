"""A folder, a pattern and a ZIP archive in the place of a file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from nertune.data.corpus import load_corpus
from nertune.data.inputs import read_files
from nertune.errors import DataError

ONE = "王\tB-PER\n明\tI-PER\n\n来\tO\n"
TWO = "北\tB-LOC\n京\tI-LOC\n"
BORDERS = f"-DOCSTART-\tO\n\n{ONE}\n-DOCSTART-\tO\n\n{TWO}"


def folder(path: Path) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "a.conll").write_text(ONE, encoding="utf-8")
    (path / "inner" / "a.conll").write_text(TWO, encoding="utf-8")
    (path / "figure.png").write_bytes(b"\x89PNG")
    (path / ".hidden.conll").write_text("x", encoding="utf-8")
    return path


def archive(path: Path, source: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(source.rglob("*")):
            packed.write(file, file.relative_to(source).as_posix())
    return path


@pytest.mark.parametrize("kind", ["folder", "pattern", "zip"])
def test_files_are_one_corpus(tmp_path: Path, kind: str) -> None:
    path = folder(tmp_path / "data")
    if kind == "pattern":
        path = path / "**" / "*.conll"
    elif kind == "zip":
        path = archive(tmp_path / "data.zip", path)
    corpus = load_corpus(path)
    assert corpus.path == path
    assert [d.text for d in corpus.documents] == ["王明", "来", "北京"]
    assert (corpus.labels, corpus.format, corpus.scheme) == (("LOC", "PER"), "conll", "BIO")
    assert [d.id.rpartition("data/")[2] for d in corpus.documents] == [
        "a.conll:1", "a.conll:4", "inner/a.conll:1"
    ]  # fmt: skip
    assert corpus.notices[0] == "2 files are read as one corpus"
    assert any("1 files left out" in n for n in corpus.notices) == (kind != "pattern")
    assert sum("scheme BIO" in notice for notice in corpus.notices) == 2
    assert [d.text for d in read_files([path])] == ["王明", "来", "北京"]


def test_documents_of_files_stay_apart(tmp_path: Path) -> None:
    for name in ("a.conll", "b.conll"):
        (tmp_path / name).write_text(BORDERS, encoding="utf-8")
    corpus = load_corpus(tmp_path)
    borders = [document.meta["document"] for document in corpus.documents]
    assert borders == ["a.conll:1", "a.conll:1", "a.conll:2", "b.conll:1", "b.conll:1", "b.conll:2"]


def test_a_line_of_a_member_is_named(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "inner" / "a.conll").write_text("北\tB-LOC\n京\n", encoding="utf-8")
    for path in (data, archive(tmp_path / "data.zip", data)):
        with pytest.raises(DataError, match="expected 2 columns") as caught:
            load_corpus(path)
        assert str(caught.value).startswith(f"{path / 'inner' / 'a.conll'}:2")


def test_what_is_no_corpus(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "b.jsonl").write_text('{"text": "a", "entities": []}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"is read as jsonl, .*a.conll as conll: convert one"):
        load_corpus(data)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="this folder holds no text"):
        load_corpus(tmp_path / "empty")
    with pytest.raises(DataError, match="no file is named so"):
        load_corpus(tmp_path / "*.nothing")
    (tmp_path / "cut.zip").write_bytes(archive(tmp_path / "d.zip", data).read_bytes()[:-30])
    with pytest.raises(DataError, match="not a whole ZIP archive"):
        load_corpus(tmp_path / "cut.zip")
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    (pairs / "a.txt").write_text("a", encoding="utf-8")
    (pairs / "a.ann").write_text("T1\tX 0 1\ta\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds a brat folder: unpack it, e.g. unzip pairs.zip"):
        load_corpus(archive(tmp_path / "pairs.zip", pairs))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("packed", [False, True])
def test_files_without_a_known_suffix_count_by_their_content(tmp_path: Path, packed: bool) -> None:
    data = tmp_path / "data"
    write(data / "train.tsv", ONE)
    write(data / "dev.tsv", TWO)
    write(data / "figures.csv", "a,b\n")
    path = archive(tmp_path / "data.zip", data) if packed else data
    corpus = load_corpus(path)
    assert [d.text for d in corpus.documents] == ["北京", "王明", "来"]
    assert "1 files left out, which are of no format" in corpus.notices[1]


@pytest.mark.parametrize("name", ["README", "README.md", "metadata", "LICENSE.txt"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_stands_beside_the_data_is_left_out(tmp_path: Path, name: str, packed: bool) -> None:
    data = tmp_path / "data"
    write(data / "train.conll", ONE)
    write(data / name, "--- \nformat: SequenceTagging\nA corpus of names.\n")
    corpus = load_corpus(archive(tmp_path / "data.zip", data) if packed else data)
    assert [d.text for d in corpus.documents] == ["王明", "来"]
    told = next(n for n in corpus.notices if "left out" in n)
    assert told.startswith("1 files left out, which are of no format")
    assert name in told


def test_a_damaged_file_among_data_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", ONE)
    write(tmp_path / "b.tsv", "no tags stand here\n")
    write(tmp_path / "README.tsv", "about\n")
    with pytest.raises(DataError, match=r"b\.tsv:1"):
        load_corpus(tmp_path)


def test_a_file_of_no_format_says_so(tmp_path: Path) -> None:
    write(tmp_path / "metadata", "--- \nformat: SequenceTagging\n")
    told = "metadata:1: .*; neither content nor name says a format, so it was read as conll"
    with pytest.raises(DataError, match=told):
        load_corpus(tmp_path / "metadata")


def test_the_names_of_tags_beside_a_table_are_no_data(tmp_path: Path) -> None:
    write(tmp_path / "train.json", '{"tokens": ["Li", "came"], "ner_tags": [1, 0]}\n')
    kind = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}
    names = json.dumps({"features": {"ner_tags": kind}})
    write(tmp_path / "dataset_info.json", names)
    corpus = load_corpus(tmp_path)
    assert (corpus.format, corpus.labels) == ("huggingface", ("PER",))
    assert not any("left out" in notice for notice in corpus.notices)


def test_brat_in_folders_inside(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "a.txt", "Li came")
        write(tmp_path / name / "a.ann", "T1\tPER 0 2\tLi\n")
        write(tmp_path / name / "._a.ann", "\0")
    write(tmp_path / "names" / "list.txt", "1\tLi\n")
    write(tmp_path / "README", "about")
    write(tmp_path / "annotation.conf", "[entities]\nPER\n")
    corpus = load_corpus(tmp_path)
    assert (corpus.format, [d.id for d in corpus.documents]) == ("brat", ["one/a", "two/a"])
    assert corpus.notices == ("1 .txt files without an .ann file, which are not read",)
    write(tmp_path / "more.jsonl", '{"text": "a", "entities": []}\n')
    with pytest.raises(DataError, match="convert one"):
        load_corpus(tmp_path)


def test_a_readme_does_not_hide_what_a_folder_is(tmp_path: Path) -> None:
    write(tmp_path / "README", "about")
    write(tmp_path / "README.md", "about")
    header = "#FORMAT=WebAnno TSV 3.3\n#T_SP=custom.Span|label\n\n\n"
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.tsv", f"{header}#Text=Li\n1-1\t0-2\tLi\tPER\t\n")
    corpus = load_corpus(tmp_path)
    assert (corpus.format, corpus.num_entities) == ("webanno", 3)


def test_damaged_and_exploding_members_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "data.zip", folder(tmp_path / "data"))
    data = bytearray(path.read_bytes())
    at = data.index(b"a.conll") + len("a.conll") + 4
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged in the archive|cannot be unpacked"):
        load_corpus(path)
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.conll", "a\tO\n" * 400_000)
    monkeypatch.setattr("nertune.data.several._MOST_BYTES", 1 << 20)
    monkeypatch.setattr("nertune.data.several._MOST_RATIO", 10)
    with pytest.raises(DataError, match="would unpack to 1,600,000 bytes"):
        load_corpus(tmp_path / "big.zip")
