"""Public data sets and real files of annotation tools, read where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.data.convert import convert
from nertune.data.corpus import load_corpus, load_with, save_corpus
from nertune.data.duplicates import find_leakage
from nertune.data.formats import ReadOptions, WriteOptions
from nertune.data.statistics import describe
from nertune.errors import DataError
from nertune.labels.align import align_entities
from nertune.tokens.units import choose_unit, cut_units

# file: documents, entities
SETS = {
    "peoples/train": (1412, 2529),
    "peoples/dev": (209, 264),
    "peoples/test": (408, 722),
    "weibo/train.conll": (1350, 1895),
    "weibo/dev.conll": (270, 389),
    "weibo/test.conll": (270, 418),
    "resume/train.conll": (3821, 13440),
    "resume/dev.conll": (463, 1497),
    "resume/test.conll": (477, 1630),
    "resume/orig/dev.char.bmes": (463, 1497),
    "cluener/train.conll": (10748, 23969),
    "cluener/dev.conll": (1343, 3072),
    "wnut17/train.conll": (3394, 1975),
    "wnut17/dev.conll": (1009, 836),
    "wnut17/test.conll": (1287, 1079),
    "formats/bioes_flair/trivial_bioes/train.txt": (16, 16),
}


@pytest.mark.parametrize("name", SETS)
def test_two_columns_come_back_byte_for_byte(name: str, real_data: Path, tmp_path: Path) -> None:
    corpus = load_corpus(real_data / name, strict=True)
    assert (len(corpus.documents), corpus.num_entities) == SETS[name]
    save_corpus(tmp_path / "again", corpus)
    assert (tmp_path / "again").read_bytes() == (real_data / name).read_bytes()


def test_peoples_counts(real_data: Path) -> None:
    corpus = load_corpus(real_data / "peoples" / "test")
    assert describe(corpus.documents).entities == {
        "LOCATION": 245,
        "PERSON": 202,
        "TIME": 179,
        "ORGANIZATION": 96,
    }
    assert (corpus.scheme, corpus.join) == ("BIO", "")
    assert sum(len(document.text) > 100 for document in corpus.documents) == 32
    behind = [e for document in corpus.documents for e in document.entities if e.start >= 100]
    assert len(behind) == 10


def test_peoples_does_not_leak(real_data: Path) -> None:
    train, dev, test = (load_corpus(real_data / "peoples" / n) for n in ("train", "dev", "test"))
    for split in (dev, test):
        found = find_leakage(train.documents, split.documents, source_name="a", target_name="b")
        assert found.documents == 0


def test_weibo_leaks_40_of_270(real_data: Path) -> None:
    train, test = (load_corpus(real_data / "weibo" / f"{n}.conll") for n in ("train", "test"))
    found = find_leakage(train.documents, test.documents, source_name="train", target_name="test")
    assert (found.documents, found.target_documents, found.conflicting) == (40, 270, 11)


def test_bmes_and_bio_of_one_corpus_have_one_hash(real_data: Path) -> None:
    bmes = load_corpus(real_data / "resume" / "orig" / "dev.char.bmes")
    bio = load_corpus(real_data / "resume" / "dev.conll")
    assert (bmes.scheme, bio.scheme) == ("BMES", "BIO")
    assert bmes.sha256 == bio.sha256


@pytest.mark.parametrize(
    ("name", "num_documents", "num_entities", "num_skipped"),
    [("devel_ner.txt", 3250, 5942, 216), ("test_ner.txt", 3453, 5648, 231)],
)
def test_crlf_and_tab_only_blank_lines(
    real_data: Path, name: str, num_documents: int, num_entities: int, num_skipped: int
) -> None:
    corpus = load_corpus(real_data / "formats" / "conll_crlf_tabblank" / name, strict=True)
    assert (len(corpus.documents), corpus.num_entities) == (num_documents, num_entities)
    assert corpus.documents[0].id == f"{name}:3"
    assert corpus.notices[0] == f"{num_skipped} -DOCSTART- lines skipped"
    assert corpus.join == " "


def test_docstart_alone_in_a_line(real_data: Path) -> None:
    folder = real_data / "formats" / "bioes_flair" / "trivial_bioes_with_boundaries"
    corpus = load_corpus(folder / "train.txt")
    assert (len(corpus.documents), corpus.num_entities) == (12, 12)
    assert corpus.notices[0] == "2 -DOCSTART- lines skipped"


def test_prefix_less_tags(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "formats" / "gum_io" / "GUM_news_nasa.tsv"
    corpus = load_corpus(path)
    assert (corpus.scheme, len(corpus.documents), corpus.num_entities) == ("IO", 49, 203)
    save_corpus(tmp_path / "again", corpus)
    assert (tmp_path / "again").read_bytes().strip() == path.read_bytes().strip()


def test_doccano(real_data: Path, tmp_path: Path) -> None:
    corpus = load_corpus(real_data / "formats" / "doccano" / "union_400.jsonl")
    found = describe(corpus.documents)
    assert (found.documents, found.num_entities, found.documents_with_overlaps) == (400, 506, 77)
    save_corpus(tmp_path / "again.jsonl", corpus)
    assert load_corpus(tmp_path / "again.jsonl").sha256 == corpus.sha256


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("webanno_tsv/test_input_v3.3.tsv", "several layers have values: say option layer="),
    ],
)
def test_other_formats_are_refused_with_advice(real_data: Path, name: str, fragment: str) -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(real_data / "formats" / name)
    assert fragment in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_rule_for_words_loses_no_entity_of_wnut17(split: str, real_data: Path) -> None:
    """Its tokens (`U.S.`, `@name`, `:)`) are unions of nertune's words."""
    documents = load_corpus(real_data / "wnut17" / f"{split}.conll").documents
    assert choose_unit(documents) == "word"
    assert not [lost for d in documents for lost in align_entities(d, cut_units(d, "word")).lost]


@pytest.mark.parametrize(
    ("name", "format", "documents", "entities"),
    [
        ("cluener/orig/dev.json", "cluener", 1343, 3072),
        ("cmeee/v1/dev.json", "cmeee", 500, 2021),
        ("cmeee/v2/test.json", "cmeee", 1000, 5086),
        ("formats/label_studio/NER_DEV_PREAMBLE.json", "label-studio", 125, 1385),
        ("formats/brat/ncbi_disease", "brat", 6, 89),
        ("formats/gliner_json/sample_data.json", "gliner", 64, 236),
        ("genia/dev.jsonl", "genia", 265, 716),
        ("formats/brat/conll2002_es", "brat", 4, 175),
    ],
)
def test_formats_of_other_tools_are_read_whole(
    name: str, format: str, documents: int, entities: int, real_data: Path, tmp_path: Path
) -> None:
    """Their texts and entities come back through their own format, and through JSONL."""
    corpus = load_corpus(real_data / name)
    assert (corpus.format, len(corpus.documents), corpus.num_entities) == (
        format, documents, entities
    )  # fmt: skip
    for target, to in ((tmp_path / "again", format), (tmp_path / "b.jsonl", "jsonl")):
        found = convert(corpus, target, WriteOptions(), to=to, check=True, allow_loss=True)
        assert found.differences == ()
        assert not {loss.kind for loss in found.losses} & {"document", "entity", "text"}
        assert load_corpus(target).sha256 == corpus.sha256


@pytest.mark.parametrize(
    ("name", "columns", "documents", "entities"),
    [
        ("seqeval_fixture/ground_truth.txt", "1 (token) and 4 (tag) of 4", 40, 539),
        (
            "germeval_original_header/NER-de-train.tsv",
            "2 (token) and 3 (tag) and 4 (tag) of 4",
            2,
            5,
        ),
        ("germeval_original_header/NER-de-dev.tsv", "2 (token) and 3 (tag) and 4 (tag) of 4", 1, 3),
    ],
)
def test_more_columns_are_read_and_said(
    name: str, columns: str, documents: int, entities: int, real_data: Path
) -> None:
    corpus = load_corpus(real_data / "formats" / name)
    assert f"columns {columns} are read" in corpus.notices
    assert (len(corpus.documents), corpus.num_entities) == (documents, entities)


def test_the_outer_layer_of_germeval_is_an_option(real_data: Path) -> None:
    path = real_data / "formats" / "germeval_original_header" / "NER-de-train.tsv"
    corpus = load_with(path, ReadOptions(more={"columns": "1,2"}))
    assert [d.surface(e) for d in corpus.documents for e in d.entities][:2] == [
        "Schartau", "Tagesspiegel"
    ]  # fmt: skip


def test_both_forms_of_cluener_are_the_same(real_data: Path) -> None:
    columns = load_corpus(real_data / "cluener" / "dev.conll")
    spans = load_corpus(real_data / "cluener" / "orig" / "dev.json")
    assert spans.num_entities == columns.num_entities
