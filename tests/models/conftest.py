"""Random encoders of a few thousand weights, and settings for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
)

from nertune.config.run import Settings, parse_settings
from nertune.labels.tagset import TagSet

NUM_POSITIONS = 24
NUM_LAYERS = 3
_SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": NUM_POSITIONS,
}
_FAMILIES: dict[str, Callable[..., Any]] = {
    "bert": lambda: BertConfig(**_SHAPE),
    "roberta": lambda: RobertaConfig(**_SHAPE),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=40,
        dim=16,
        n_layers=NUM_LAYERS,
        n_heads=2,
        hidden_dim=20,
        max_position_embeddings=NUM_POSITIONS,
    ),
    "electra": lambda: ElectraConfig(embedding_size=8, **_SHAPE),
    "modernbert": lambda: ModernBertConfig(
        **_SHAPE, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2
    ),
    "albert": lambda: AlbertConfig(embedding_size=8, **_SHAPE),
    "mpnet": lambda: MPNetConfig(**_SHAPE),
    "deberta": lambda: DebertaV2Config(**_SHAPE),
}


@pytest.fixture(scope="session")
def tagset() -> TagSet:
    return TagSet.from_labels(["LOC", "PER"])


@pytest.fixture
def make_model() -> Callable[..., Any]:
    """`make_model(family, **changes)` gives a random token-classification model."""

    def make(family: str, **changes: Any) -> Any:
        torch.manual_seed(7)
        config = _FAMILIES[family]()
        for name, value in {"num_labels": 5, **changes}.items():
            setattr(config, name, value)
        return AutoModelForTokenClassification.from_config(config).eval()

    return make


@pytest.fixture
def save_encoder(tmp_path: Path) -> Callable[..., Path]:
    """`save_encoder(family, **changes)` gives the folder of a random encoder without a head."""

    def save(family: str, **changes: Any) -> Path:
        torch.manual_seed(7)
        config = _FAMILIES[family]()
        for name, value in changes.items():
            setattr(config, name, value)
        folder = tmp_path / family
        AutoModel.from_config(config).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def settings_of() -> Callable[..., Settings]:
    """`settings_of(model={…}, lora={…})` gives a run's settings."""

    def make(**sections: dict[str, Any]) -> Settings:
        return parse_settings({"data": {"train": "sample:train"}, **sections})

    return make
