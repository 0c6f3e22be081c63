"""Whole runs on encoders of each family, with tokenizers of their own kind: aligned, trained,
saved, loaded, and finding the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from helpers.tiny import tiny_rates, write_jsonl
from nertune.config.run import parse_settings
from nertune.data.corpus import load_corpus
from nertune.experiments.train import train
from nertune.inference.predictor import load_model
from nertune.labels.align import align_entities
from nertune.tokens.tokenizer import encode_document, load_tokenizer
from nertune.types import Document, Entity

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.1,
}
IDS = {
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 1,
}
FAMILIES: dict[str, tuple[str, Callable[[int], Any]]] = {
    # name: (tokenizer, config for so many pieces)
    "bert": ("word-piece", lambda n: BertConfig(vocab_size=n, **SHAPE)),
    "electra": ("word-piece", lambda n: ElectraConfig(vocab_size=n, embedding_size=8, **SHAPE)),
    "distilbert": (
        "word-piece",
        lambda n: DistilBertConfig(
            vocab_size=n, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40
        ),
    ),
    "roberta": (
        "byte-level-roberta",
        lambda n: RobertaConfig(vocab_size=n, pad_token_id=2, **SHAPE),
    ),
    "xlm-roberta": ("unigram", lambda n: XLMRobertaConfig(vocab_size=n, pad_token_id=2, **SHAPE)),
    "deberta": ("unigram", lambda n: DebertaV2Config(vocab_size=n, pad_token_id=2, **SHAPE)),
    "modernbert": ("byte-level-plain", lambda n: ModernBertConfig(vocab_size=n, **SHAPE, **IDS)),
}
DOCUMENTS = [
    Document("the cat sat in Paris", [Entity(4, 7, "ANIMAL"), Entity(15, 20, "PLACE")]),
    Document("a cat, the mat", [Entity(2, 5, "ANIMAL")]),
    Document("Paris , Paris", [Entity(0, 5, "PLACE"), Entity(8, 13, "PLACE")]),
    Document("在1998年的北京", [Entity(1, 6, "TIME"), Entity(7, 9, "PLACE")]),
    Document("the mat"),
]
WAYS: dict[str, dict[str, Any]] = {
    "full": {"model": {"tuning": "full"}},
    "lora": {"model": {"tuning": "lora"}, "lora": {"targets": ["all-linear"]}},
    "ia3": {
        "model": {"tuning": "peft"},
        "peft": {"method": "ia3", "targets": ["value", "output"]},
    },
}


def make_encoder(family: str, make_tokenizer: Callable[..., Path]) -> Path:
    kind, config = FAMILIES[family]
    folder = make_tokenizer(kind)
    torch.manual_seed(1)
    num_pieces = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    AutoModel.from_config(config(num_pieces)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_whole_run(
    family: str, way: str, make_tokenizer: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = make_encoder(family, make_tokenizer)
    data = str(write_jsonl(tmp_path / "data.jsonl", DOCUMENTS))
    values: dict[str, dict[str, Any]] = {
        "run": {"name": "run", "dir": str(tmp_path / "run"), "device": "cpu", "threads": 1},
        "data": {"train": data, "dev": data, "test": data},
        "train": {"epochs": 3, "batch_tokens": 60},
        **WAYS[way],
    }
    values["train"] |= tiny_rates(0.02, values["model"], encoder=0.3)
    values["model"] = {**values["model"], "encoder": str(encoder), "unit": "word"}
    settings = parse_settings(values)
    record = train(settings, score_test=True)
    losses = [epoch["loss"] for epoch in record["epochs"]]
    assert losses[-1] < losses[0]
    loaded = load_model(settings.run.dir, device="cpu")
    merged = load_model(settings.run.dir, device="cpu", merge=True)
    # What was scored while training is what the loaded model finds.
    found = [[e.key for e in d.entities] for d in loaded.tag_documents(DOCUMENTS)]
    written = load_corpus(settings.run.dir / "test.predictions.jsonl", format="jsonl").documents
    assert [[e.key for e in d.entities] for d in written] == found
    encodings, emissions = loaded.emissions(DOCUMENTS)
    _, again = merged.emissions(DOCUMENTS)
    for one, other, encoding in zip(emissions, again, encodings, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert len(one) == len(encoding.units)
    micro = record["test"]["micro"]
    assert sum(map(len, found)) == micro["predicted"]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_entity_is_lost_and_each_piece_knows_its_unit(
    family: str, make_tokenizer: Callable[..., Path]
) -> None:
    tokenizer = load_tokenizer(make_encoder(family, make_tokenizer))
    for document in DOCUMENTS:
        for unit in ("word", "char"):
            encoding = encode_document(document, tokenizer, unit)
            alignment = align_entities(document, encoding.units)
            if unit == "char" or "年" not in document.text:  # 1998年 is one word and a character
                assert not alignment.lost
            assert all(encoding.piece_ids)
            # A unit's pieces depend on it and on whether white space stands before it.
            for (start, end), pieces in zip(encoding.units, encoding.piece_ids, strict=True):
                begins = start == 0 or document.text[start - 1] == " "
                assert tokenizer.encode_units([document.text[start:end]], [begins]) == [pieces]
                names = tokenizer.backend.convert_ids_to_tokens(pieces)
                assert names[0] not in ("▁", "Ġ")
                if unit == "char" and document.text[start].isascii():
                    assert len(names) == 1
