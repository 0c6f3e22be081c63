"""Examples on the disk train the same weights as those in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.tiny import SENTENCES, make_predictor, make_settings, write_jsonl
from nertune.data.corpus import load_corpus, save_documents
from nertune.errors import DataError
from nertune.experiments.train import train
from nertune.training import example_store
from nertune.training.example_store import store_examples
from nertune.training.examples import Examples, prepare_examples
from nertune.types import Document, Entity, Scope


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


LONG = Document("".join(d.text for d in SENTENCES) * 2, (Entity(0, 2, "PERSON"),), "long")
WIDE = Document("王 小", (Entity(0, 2, "PERSON"),), "wide")
ODD = Document("王 小", (Entity(0, 2, "PERSON"), Entity(0, 1, "LOCATION")), "odd")


@pytest.mark.parametrize("variant", ["full", "lstm-crf"])
def test_they_are_the_same(variant: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    save_documents(path, (*SENTENCES, LONG, ODD, WIDE, Document("x")))
    predictor = make_predictor(make_settings(tmp_path, variant))
    corpus = load_corpus(path)
    how = (predictor.segmenter, predictor.tagger.head)
    held = prepare_examples(corpus.documents, *how)
    for _ in range(2):  # made, and found
        found = store_examples(corpus, *how)
        assert isinstance(found, Examples)
        assert list(found.windows) == list(held.windows)
        assert [list(tags) for tags in found.targets] == [list(tags) for tags in held.targets]
        assert found.windows[-1] == held.windows[-1]
        assert found.windows[1:3] == held.windows[1:3]
        assert found.coverage == held.coverage
        assert found.coverage.lost
        assert found.coverage.trimmed
        assert (found.lengths, found.count_units()) == (held.lengths, held.count_units())
        for all_pieces in (False, True):
            assert found.count_targets(all_pieces=all_pieces) == held.count_targets(
                all_pieces=all_pieces
            )


def test_tags_that_are_open_stay_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    partial = Document("王小明在北京", (Entity(0, 3, "PERSON"),), scope=Scope(("PERSON",)))
    save_documents(path, (*SENTENCES, partial))
    predictor = make_predictor(make_settings(tmp_path, "full"))
    corpus = load_corpus(path)
    assert store_examples(corpus, predictor.segmenter, predictor.tagger.head) is None
    settings = {"data": {"train": str(path), "storage": "disk"}}
    record = train(make_settings(tmp_path, "full", {**settings, "train": {"epochs": 1}}))
    assert record["data"]["train"]["documents"] == len(SENTENCES) + 1


@pytest.mark.parametrize(
    ("variant", "more"),
    [
        ("full", {}),
        ("lora-crf", {"model": {"pieces": "first"}}),
        ("lstm-crf", {"data": {"train_share": 0.7}}),
        ("full", {"model": {"tuning": "top", "top_layers": 1}}),
    ],
)
def test_the_same_weights(variant: str, more: dict[str, Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data.jsonl")
    found = {}
    for storage in ("memory", "disk"):
        overrides = {
            "run": {"dir": str(tmp_path / storage)},
            "train": {"epochs": 2, "batch_tokens": 40, "patience": 0},
            **more,
            "data": {**more.get("data", {}), "storage": storage},
        }
        record = train(make_settings(tmp_path, variant, overrides))
        files = sorted((tmp_path / storage / "model").rglob("*.safetensors"))
        weights = {f"{f.name}/{k}": v for f in files for k, v in load_file(f).items()}
        found[storage] = weights, [epoch["loss"] for epoch in record["epochs"]], record["dev"]
    assert found["memory"][1:] == found["disk"][1:]
    assert found["memory"][0].keys() == found["disk"][0].keys()
    for name, tensor in found["memory"][0].items():
        assert tensor.equal(found["disk"][0][name]), name


def test_a_damaged_store_is_told(tmp_path: Path, own_cache: Path) -> None:
    corpus = load_corpus(write_jsonl(tmp_path / "data.jsonl"))
    predictor = make_predictor(make_settings(tmp_path, "full"))
    how = (corpus, predictor.segmenter, predictor.tagger.head)
    assert store_examples(*how) is not None
    (folder,) = (own_cache / "examples").glob("[!.]*")
    (folder / "pieces.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"is damaged .*: remove the folder"):
        store_examples(*how)


def test_counts_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read some rows at a time."""
    corpus = load_corpus(write_jsonl(tmp_path / "data.jsonl"))
    predictor = make_predictor(make_settings(tmp_path, "full"))
    monkeypatch.setattr(example_store, "_CHUNK", 3)
    held = prepare_examples(corpus.documents, predictor.segmenter, predictor.tagger.head)
    found = store_examples(corpus, predictor.segmenter, predictor.tagger.head)
    assert found is not None
    assert found.lengths == held.lengths
    assert found.count_units() == held.count_units()
