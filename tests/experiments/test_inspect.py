"""`nertune data inspect`, without and with a model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nertune.data.corpus import Corpus, load_corpus
from nertune.errors import DataError
from nertune.experiments.inspect import Inspection, inspect_corpora
from nertune.reports.corpora.inspection import print_inspection

TRAIN = "王\tB-PER\n明\tI-PER\n在\tO\n京\tB-LOC\n\n你\tO\n[\tI-PER\n1\tO\n"
TEST = "你\tO\n[\tO\n1\tO\n\n好\tB-TIME\n"


def load(folder: Path, name: str, text: str) -> Corpus:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_corpus(path)


def shown(inspection: Inspection, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_inspection(inspection, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def corpora(tmp_path: Path) -> list[Corpus]:
    return [load(tmp_path, "train.conll", TRAIN), load(tmp_path, "test.conll", TEST)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT tokenizer that knows a few characters, for windows of 8 pieces."""
    from transformers import BertConfig, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"王明在京你好[1abc", "##a", "##b"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    BertConfig(vocab_size=len(words), max_position_embeddings=8).save_pretrained(folder)
    return str(folder)


def test_inspection(corpora: list[Corpus]) -> None:
    found = inspect_corpora(corpora)
    train, test = found.files
    assert (train.name, train.format, train.scheme, train.join) == (
        "train.conll",
        "conll",
        "BIO",
        "",
    )
    assert train.statistics.entities == {"PER": 2, "LOC": 1}
    assert [(repair.line, repair.tag) for repair in train.repairs] == [(7, "I-PER")]
    assert test.fit is None
    (leak,) = found.leakage
    assert (leak.source, leak.target) == ("train.conll", "test.conll")
    assert (leak.documents, leak.target_documents, leak.conflicting) == (1, 2, 1)
    assert found.warnings == ("test.conll has labels that train.conll has not: TIME",)


def test_to_dict_is_json(corpora: list[Corpus], encoder: str) -> None:
    content = json.loads(json.dumps(inspect_corpora(corpora, model=encoder).to_dict()))
    assert content["files"][0]["statistics"]["documents"] == 2
    assert content["files"][0]["path"] == str(corpora[0].path)
    assert content["files"][0]["repairs"][0]["line"] == 7
    assert content["files"][0]["fit"]["lost"] == []
    assert content["leakage"][0]["examples"][0]["ids"] == ["test.conll:1", "train.conll:6"]


def test_rendering_shows_markup_as_it_is(corpora: list[Corpus]) -> None:
    text = shown(inspect_corpora(corpora))
    assert "train.conll: scheme BIO recognised" in text
    assert "  train.conll:7: I-PER: nothing opened this entity" in text
    assert (
        "1 of 2 documents of test.conll stand in train.conll, 1 of them with different labels"
        in text
    )
    assert "  '你[1': test.conll:1, train.conll:6 (labels differ)" in text
    assert "warning: test.conll has labels that train.conll has not: TIME" in text
    assert "expressed" not in text


def test_every_entity_can_be_expressed(corpora: list[Corpus], encoder: str) -> None:
    found = inspect_corpora(corpora, model=encoder)
    fit = found.files[0].fit
    assert fit is not None
    assert (fit.unit, fit.window_pieces, fit.longer_than_window, fit.lost) == ("char", 6, 0, ())
    assert (fit.pieces.mean, fit.pieces.longest) == (3.5, 4)
    assert "every entity can be expressed" in shown(found)
    short = inspect_corpora(corpora, model=encoder, max_pieces=5).files[0].fit
    assert short is not None
    assert (short.window_pieces, short.longer_than_window) == (3, 1)


def test_three_files_fit_into_80_columns(
    corpora: list[Corpus], encoder: str, tmp_path: Path
) -> None:
    dev = load(tmp_path, "dev.conll", TEST)
    inspection = inspect_corpora([*corpora, dev], model=encoder)
    assert shown(inspection, width=80) == shown(inspection, width=120)
    assert "│ longer than the window (6) " in shown(inspection, width=80)


def test_every_lost_entity_is_listed(tmp_path: Path, encoder: str) -> None:
    spans = '[[0, 1, "X"], [0, 6, "Y"], [4, 5, "W"]]'
    text = '{"text": "ab ba\\u0000c", "entities": ' + spans + "}\n"
    found = inspect_corpora([load(tmp_path, "a.jsonl", text)], model=encoder, unit="word")
    fit = found.files[0].fit
    assert fit is not None
    assert [lost.text for lost in fit.lost] == ["a", "ab ba\0", "a"]
    assert fit.lost[0].document_id == "a.jsonl:1"
    shown_text = shown(found)
    assert "3 of 3 entities cannot be expressed; they are scored as missed" in shown_text
    assert "  a.jsonl:1: X 'a' at [0, 1): it ends inside the unit 'ab'" in shown_text
    assert "'ab ba\\x00'" in shown_text


def test_files_that_do_not_fit_each_other_are_warned_of(tmp_path: Path) -> None:
    one = load(tmp_path / "one", "a.conll", "王\tO\n")
    same = load(tmp_path / "two", "a.conll", "王\tO\n")
    words = load(tmp_path, "b.conll", "王明\tO\n")
    found = inspect_corpora([one, same, words])
    assert [file.name for file in found.files] == [str(c.path) for c in (one, same, words)]
    assert "tokens are joined in two ways" in found.warnings[0]
    assert found.warnings[1] == f"{same.path} has the same content as {one.path}"


def test_nothing_to_inspect() -> None:
    with pytest.raises(DataError, match="expected at least one file"):
        inspect_corpora([])


@pytest.mark.parametrize("folder", ["model", "."])
def test_a_trained_tagger_knows_its_unit_and_window(
    corpora: list[Corpus], tmp_path: Path, folder: str
) -> None:
    """Also when the run's folder, which holds `model/`, is named."""
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "chars.txt").write_text("[PAD]\n[UNK]\n王\n明\n", encoding="utf-8")
    manifest = {
        "format": 1,
        "nertune": "0.1.0",
        "emitter": "lstm",
        "tuning": "full",
        "decoder": "crf",
        "unit": "word",
        "max_pieces": 3,
        "stride": 0,
        "tags": ["O"],
        "lstm": {},
        "tokenizer_sha256": "",
        "files": {},
    }
    (model / "nertune.json").write_text(json.dumps(manifest))
    fit = inspect_corpora(corpora, model=str(tmp_path / "run" / folder)).files[0].fit
    assert fit is not None
    assert (fit.unit, fit.window_pieces, fit.longer_than_window) == ("word", 3, 1)
