"""Files packed by their suffix, and what is wrong with damaged ones."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from nertune.data.corpus import load_corpus, save_documents
from nertune.errors import DataError, MissingDependencyError
from nertune.storage import compression
from nertune.storage.compression import PACKINGS, open_unpacked, unpacked_name
from nertune.storage.files import open_for_writing, read_text
from nertune.types import Document, Entity

zstd = pytest.importorskip("backports.zstd", reason="the extra `zstd` is not installed")

PACK = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}
TEXT = "王小明在北京。\n李红去上海。\n" * 500


@pytest.mark.parametrize("suffix", sorted(PACKINGS))
def test_what_other_programs_pack_is_read(suffix: str, tmp_path: Path) -> None:
    for number, name in enumerate((f"a.txt{suffix}", f"b.TXT{suffix.upper()}")):
        path = tmp_path / name
        members = PACK[suffix](TEXT.encode()) + PACK[suffix](b"end") * number
        path.write_bytes(members)
        assert read_text(path) == TEXT + "end" * number
        with open_unpacked(path) as stream:
            assert len(list(stream)) == 1000 + number


@pytest.mark.parametrize("suffix", sorted(PACKINGS))
def test_what_is_written_is_packed_alike_each_time(suffix: str, tmp_path: Path) -> None:
    data = []
    for name in ("a", "b"):
        with open_for_writing(tmp_path / f"{name}.txt{suffix}") as stream:
            stream.write(TEXT)
        data.append((tmp_path / f"{name}.txt{suffix}").read_bytes())
    assert data[0] == data[1]
    assert len(data[0]) < len(TEXT)
    assert read_text(tmp_path / f"a.txt{suffix}") == TEXT


@pytest.mark.parametrize("suffix", sorted(PACKINGS))
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](TEXT.encode())[:-9])
    with pytest.raises(DataError, match=f"the {PACKINGS[suffix]} data is cut short or damaged"):
        read_text(path)
    path.write_bytes(TEXT.encode())
    with pytest.raises(DataError, match=f"ends in {suffix}, but it is not {PACKINGS[suffix]} data"):
        read_text(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_text(path)


@pytest.mark.parametrize("suffix", sorted(PACKINGS))
@pytest.mark.parametrize("format", ["jsonl", "conll", "gliner", "cmeee"])
def test_a_format_is_recognised_in_a_packed_file(suffix: str, format: str, tmp_path: Path) -> None:
    document = Document("王明在京", (Entity(0, 2, "PER"),), tokens=((0, 1), (1, 2), (2, 3), (3, 4)))
    path = tmp_path / f"a.{format}{suffix}"
    save_documents(path, [document], format=format)
    corpus = load_corpus(path)
    assert corpus.format == format
    assert [(d.text, d.entities) for d in corpus.documents] == [(document.text, document.entities)]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="cut short or damaged"):
        load_corpus(path, format=format)


def test_names() -> None:
    assert unpacked_name("a.jsonl.gz") == unpacked_name("a.jsonl.ZST") == "a.jsonl"
    assert unpacked_name("a.jsonl") == "a.jsonl"
    assert unpacked_name("gz") == "gz"


def test_without_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstd.compress(b"a"))
    monkeypatch.setattr(compression, "_find_zstd", lambda: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "nertune\[zstd\]"'):
        read_text(path)
    with (
        pytest.raises(MissingDependencyError, match="zst file needs"),
        open_for_writing(tmp_path / "b.txt.zst"),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt.zst"]
    packed = tmp_path / "a.txt.xz"
    packed.write_bytes(lzma.compress(b"a")[:-3])
    with pytest.raises(DataError, match="the xz data is cut short"):
        read_text(packed)
