"""Tables of the Hugging Face hub, JSON and parquet, with the `datasets` library as oracle."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nertune.data.corpus import Corpus, load_corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.errors import ConfigError, DataError, MissingDependencyError
from nertune.types import Document, Entity

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS = [
    {
        "id": "0",
        "tokens": ["Li", "Ming", "met", "🎉", "in", "Oslo"],
        "ner_tags": [1, 2, 0, 0, 0, 3],
    },
    {"id": "1", "tokens": ["No", "one"], "ner_tags": [0, 0]},
    {"id": "2", "tokens": ["Oslo", "Bergen"], "ner_tags": [3, 3]},
]
NAMED = [{**row, "ner_tags": [NAMES[tag] for tag in row["ner_tags"]]} for row in ROWS]
FOUND = [["Li Ming/PER", "Oslo/LOC"], [], ["Oslo/LOC", "Bergen/LOC"]]
FEATURES = {"ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "List"}}


def surfaces(corpus: Corpus) -> list[list[str]]:
    return [[f"{d.surface(e)}/{e.label}" for e in d.entities] for d in corpus.documents]


def put(path: Path, value: Any) -> Path:
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("text", [lines(NAMED), json.dumps(NAMED), json.dumps(NAMED, indent=1)])
def test_rows_of_names(text: str, tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.json", text))
    assert (corpus.format, corpus.scheme, corpus.joined) == ("huggingface", "BIO", "space")
    assert surfaces(corpus) == FOUND
    assert corpus.documents[0].text == "Li Ming met 🎉 in Oslo"
    assert [(d.id, d.meta) for d in corpus.documents[:2]] == [
        ("0", {"id": "0"}),
        ("1", {"id": "1"}),
    ]
    assert "scheme BIO recognised" in corpus.notices


def test_characters_are_joined_without_a_space(tmp_path: Path) -> None:
    rows = [{"tokens": list("王明在京"), "ner_tags": ["B-PER", "E-PER", "O", "S-LOC"]}]
    corpus = load_corpus(put(tmp_path / "a", lines(rows)))
    assert (corpus.documents[0].text, corpus.scheme) == ("王明在京", "BIOES")
    assert surfaces(corpus) == [["王明/PER", "京/LOC"]]
    assert corpus.documents[0].id == "a:1"
    asked = load_corpus(put(tmp_path / "a", lines(rows)), join="space")
    assert asked.documents[0].text == "王 明 在 京"


def test_integers_get_their_names(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines(ROWS))
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*integers without names: give .* tags=O,B-"):
        load_corpus(path)
    for given in (",".join(NAMES), json.dumps(NAMES)):
        assert surfaces(load_with(path, ReadOptions(more={"tags": given}))) == FOUND
    with pytest.raises(DataError, match=r":1: tag 3 in 'ner_tags': there are 3 names"):
        load_with(path, ReadOptions(more={"tags": "O,B-PER,I-PER"}))
    with pytest.raises(ConfigError, match="different names"):
        load_with(path, ReadOptions(more={"tags": "O,,O"}))
    assert load_corpus(path, ignore_tags=True).documents[2].text == "Oslo Bergen"
    answer = {
        "features": [{"name": "ner_tags", "type": FEATURES["ner_tags"]}],
        "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)],
    }
    corpus = load_corpus(put(tmp_path / "rows.json", answer))
    assert (corpus.format, surfaces(corpus)) == ("huggingface", FOUND)
    put(tmp_path / "dataset_info.json", {"features": FEATURES})
    corpus = load_corpus(path)
    assert surfaces(corpus) == FOUND
    assert any("those of dataset_info.json" in notice for notice in corpus.notices)
    put(tmp_path / "dataset_info.json", {"a": {"features": FEATURES}, "b": {"features": {}}})
    assert surfaces(load_corpus(path)) == FOUND


def test_schemes_are_settled_and_repaired_over_the_whole_file(tmp_path: Path) -> None:
    tags = [["O", "b-per"], ["I-per", "O"], ["O", "O"]]
    rows = [{"tokens": ["a", "bb"], "ner_tags": row} for row in tags]
    corpus = load_corpus(put(tmp_path / "a", lines(rows)))
    assert surfaces(corpus) == [["bb/per"], ["a/per"], []]
    assert any("b-per as B-per" in notice for notice in corpus.notices)
    assert [(r.line, r.tag) for r in corpus.repairs] == [(2, "I-per")]
    with pytest.raises(DataError, match=r"a:2: tag 'I-per': nothing opened"):
        load_corpus(tmp_path / "a", strict=True)
    mixed = [*rows, {"tokens": ["a"], "ner_tags": ["U-x"]}, {"tokens": ["a"], "ner_tags": ["S-x"]}]
    with pytest.raises(DataError, match=r"a:5: tag 'S-x' mixes schemes"):
        load_corpus(put(tmp_path / "a", lines(mixed)))


def test_empty_tokens_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["", "Li", "", "Ming", ""], "ner_tags": ["O", "B-PER", "I-PER", "I-PER", "B-X"]},
        {"tokens": [], "ner_tags": []},
    ]
    corpus = load_corpus(put(tmp_path / "a", lines(rows)))
    assert (corpus.documents[0].text, surfaces(corpus)) == ("Li Ming", [["Li Ming/PER"], []])
    assert {"3 empty tokens left out", "1 entities of empty tokens alone dropped"} <= set(
        corpus.notices
    )


def test_other_columns(tmp_path: Path) -> None:
    rows = [{"w": ["a"], "t": ["B-X"], "pos": ["NN"]}]
    path = put(tmp_path / "a", lines(rows))
    with pytest.raises(DataError, match=r"no column of tokens \(its columns: 'w', 't', 'pos'\)"):
        load_corpus(path, format="huggingface")
    more = {"columns": "w,t"}
    corpus = load_with(path, ReadOptions(more=more), format="huggingface")
    assert (surfaces(corpus), corpus.documents[0].meta) == ([["a/X"]], {"pos": ["NN"]})
    with pytest.raises(ConfigError, match="expected two names"):
        load_with(path, ReadOptions(more={"columns": "w"}), format="huggingface")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"], "ner_tags": ["O", "O"]}, "1 tokens, but 2 tags"),
        ({"tokens": "a", "ner_tags": ["O"]}, "'tokens' is not a list of strings"),
        ({"tokens": ["a"], "ner_tags": "O"}, "'ner_tags' is not a list"),
        ({"tokens": ["a"], "ner_tags": [None]}, "neither all strings nor all integers"),
        ({"tokens": ["a"], "ner_tags": [True]}, "neither all strings nor all integers"),
        ({"tokens": ["a"], "ner_tags": [""]}, "is empty"),
        ({"tokens": ["\ud800"], "ner_tags": ["O"]}, "half a surrogate pair"),
        ({"tokens": ["a"]}, "the row has no 'ner_tags'"),
    ],
)
def test_rows_that_cannot_be_read(row: Any, message: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines([NAMED[0], row]))
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_scheme_io_keeps_what_it_can(tmp_path: Path) -> None:
    entities = (Entity(0, 1, "X"), Entity(1, 2, "X"), Entity(3, 4, "O"), Entity(4, 5, "Y"))
    document = Document("ab cd", entities, tokens=((0, 1), (1, 2), (3, 4), (4, 5)))
    options = WriteOptions(scheme="IO")
    with pytest.raises(DataError, match="scheme IO"):
        save_with(tmp_path / "a", [document], options, format="huggingface")
    for name in ("huggingface", "parquet"):
        fitted = find_format(name).fit(document, options)
        assert fitted.document is not None
        assert [e.key for e in fitted.document.entities] == [(0, 1, "X"), (4, 5, "Y")]
        assert [loss.kind for loss in fitted.losses] == ["text", "entity", "entity"]


# parquet


def table(path: Path, rows: list[dict[str, Any]], schema: Any = None, **how: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema), path, **how)
    return path


def test_parquet_has_the_names_in_its_schema(tmp_path: Path) -> None:
    plain = pa.Table.from_pylist(ROWS).schema
    with pytest.raises(DataError, match=r"a\.parquet:1: .*integers without names"):
        load_corpus(table(tmp_path / "a.parquet", ROWS))
    described = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    path = table(tmp_path / "a", ROWS, plain.with_metadata(described), row_group_size=2)
    corpus = load_corpus(path)
    assert (corpus.format, surfaces(corpus)) == ("parquet", FOUND)
    assert [d.id for d in corpus.documents] == ["0", "1", "2"]
    assert load_corpus(path, ignore_tags=True).num_entities == 0
    more = {"tags": "O,B-A,I-A,B-B,I-B"}
    assert surfaces(load_with(path, ReadOptions(more=more)))[0] == ["Li Ming/A", "Oslo/B"]


def test_parquet_columns_that_are_no_json_are_said(tmp_path: Path) -> None:
    rows = [
        {
            "tokens": ["a"],
            "ner_tags": ["B-X"],
            "raw": b"1",
            "page": 3,
            "none": None,
            "x": float("nan"),
        }
    ]
    corpus = load_corpus(table(tmp_path / "a", rows))
    assert corpus.documents == (Document("a", (Entity(0, 1, "X"),), "a:1", ((0, 1),), {"page": 3}),)
    assert "1 columns left out, whose values are not those of JSON: 'raw'" in corpus.notices


METAS: list[dict[str, Any]] = [
    {}, {"id": "d"}, {"id": 7, "page": [3]}, {"id": ""}, {"id": None}, {"id": "\ud800"},
    {"tokens": 1, "metadata_json": {"a": "\ud800"}, "王": "明"},
]  # fmt: skip


def test_parquet_keeps_metadata(tmp_path: Path) -> None:
    documents = [Document("a", tokens=((0, 1),), meta=meta) for meta in METAS]
    save_with(tmp_path / "a.parquet", documents, WriteOptions(), format=None)
    found = load_corpus(tmp_path / "a.parquet", scheme="BIO").documents
    assert [d.meta for d in found] == METAS
    assert [d.id for d in found[:4]] == ["a.parquet:1", "d", "7", "a.parquet:4"]
    columns = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert columns["id"][:3] == [None, "d", "7"]
    save_with(tmp_path / "a.parquet.gz", documents, WriteOptions(), format=None)
    assert load_corpus(tmp_path / "a.parquet.gz").documents[2].meta == METAS[2]


def test_parquet_with_given_names(tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.jsonl", lines(NAMED)))
    options = WriteOptions(more={"tags": ",".join(NAMES)})
    save_with(tmp_path / "a.parquet", corpus.documents, options, format=None)
    assert pq.read_table(tmp_path / "a.parquet").to_pydict()["ner_tags"][0] == [1, 2, 0, 0, 0, 3]
    assert load_corpus(tmp_path / "a.parquet").sha256 == corpus.sha256
    few = WriteOptions(more={"tags": "O,B-LOC"})
    with pytest.raises(DataError, match="the names of tags lack B-PER, I-PER"):
        save_with(tmp_path / "b.parquet", corpus.documents, few, format=None)
    fitted = [find_format("parquet").fit(d, few) for d in corpus.documents]
    save_with(tmp_path / "b.parquet", [f.document for f in fitted if f.document], few, format=None)
    assert surfaces(load_corpus(tmp_path / "b.parquet")) == [["Oslo/LOC"], [], FOUND[2]]
    assert [loss.reason for loss in fitted[0].losses] == [
        "its tags are not among the names of tags"
    ]
    lost = find_format("parquet").fit(corpus.documents[0], WriteOptions(more={"tags": "B-LOC"}))
    assert lost.document is None


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 9, b'{"tokens": []}'])
def test_what_is_no_parquet(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet: this parquet file cannot be read: "):
        load_corpus(tmp_path / "a.parquet", format="parquet")


def test_damaged_parquet_is_refused_or_read(tmp_path: Path) -> None:
    data = bytearray(table(tmp_path / "a", NAMED * 3).read_bytes())
    path = tmp_path / "b.parquet"
    for place in range(4, len(data) - 4, 29):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(DataError):
            assert load_corpus(path).documents


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "a.parquet", NAMED)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"nertune\[parquet\]"):
        load_corpus(path)


# The `datasets` library, in both directions


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = pytest.importorskip("datasets", reason="the extra oracles is not installed")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    library.disable_progress_bars()
    return library


def test_datasets_reads_what_is_written(library: Any, tmp_path: Path) -> None:
    corpus = load_corpus(put(tmp_path / "a.jsonl", lines(NAMED)))
    named = WriteOptions(more={"tags": ",".join(NAMES)})
    for kind, name, options in (
        ("json", "b.jsonl", WriteOptions()), ("parquet", "b.parquet", WriteOptions()),
        ("parquet", "c.parquet", named),
    ):  # fmt: skip
        format = "huggingface" if kind == "json" else "parquet"
        save_with(tmp_path / name, corpus.documents, options, format=format)
        rows = library.load_dataset(
            kind, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert rows["tokens"][:] == [row["tokens"] for row in ROWS]
        assert rows["id"][:] == ["0", "1", "2"]
        tags = rows["ner_tags"][:]
        if options is named:
            assert rows.features["ner_tags"].feature.names == NAMES
            tags = [[NAMES[tag] for tag in row] for row in tags]
        assert tags == [row["ner_tags"] for row in NAMED]


def test_what_datasets_writes_is_read(library: Any, tmp_path: Path) -> None:
    label = library.ClassLabel(names=NAMES)
    text = library.Value("string")
    features = library.Features(
        {"id": text, "tokens": library.List(text), "ner_tags": library.List(label)}
    )
    rows = library.Dataset.from_list(ROWS, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    corpus = load_corpus(tmp_path / "a.parquet")
    assert (surfaces(corpus), [d.id for d in corpus.documents]) == (FOUND, ["0", "1", "2"])
    rows.save_to_disk(tmp_path / "disk")  # writes dataset_info.json
    rows.to_json(tmp_path / "disk" / "a.jsonl")
    corpus = load_corpus(tmp_path / "disk" / "a.jsonl")
    assert (corpus.format, surfaces(corpus)) == ("huggingface", FOUND)
