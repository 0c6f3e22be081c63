"""Tiny taggers and data, so that a test of the whole way takes milliseconds."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nertune.artifacts.manifest import Manifest
from nertune.artifacts.save import Description, Provenance, save_model
from nertune.config.run import Settings, parse_settings
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.types import Document, Entity

__all__ = [
    "SENTENCES",
    "VARIANTS",
    "make_predictor",
    "make_settings",
    "save_predictor",
    "tiny_bert",
    "tiny_rates",
    "write_jsonl",
]

_MARKED = (
    "[王小明|PERSON][昨天|TIME]到了[北京|LOCATION]。",
    "[李华|PERSON]在[新华社|ORGANIZATION]工作。",
    "[1998年|TIME][中国|LOCATION]有大水。",
    "[上海|LOCATION]的[张三|PERSON]很好。",
    "今天没有新闻。",
    "[外交部|ORGANIZATION]说[3月|TIME]开会,OK。",
    "[陈|PERSON]先生去[香港|LOCATION][大学|ORGANIZATION]了。",
    "[Tom|PERSON]和[李华|PERSON]在[上海|LOCATION]。",
)


def _unmark(marked: str) -> Document:
    """`[text|LABEL]` to a document."""
    text, entities = "", []
    for part in marked.replace("[", "]").split("]"):
        surface, bar, label = part.partition("|")
        if bar:
            entities.append(Entity(len(text), len(text) + len(surface), label))
        text += surface
    return Document(text, tuple(entities))


SENTENCES: tuple[Document, ...] = tuple(map(_unmark, _MARKED))
"""Eight sentences with four entity types, digits, Latin letters and touching entities."""

VARIANTS: dict[str, dict[str, str]] = {
    "lstm": {"emitter": "lstm"},
    "lstm-crf": {"emitter": "lstm", "decoder": "crf"},
    "full": {},
    "full-crf": {"decoder": "crf"},
    "frozen": {"tuning": "frozen"},
    "lora": {"tuning": "lora"},
    "lora-crf": {"tuning": "lora", "decoder": "crf"},
}
"""`[model]` of each kind of tagger."""


@cache
def session_folder() -> Path:
    """A folder that goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="nertune-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def tiny_bert(seed: int = 0, name: str = "tiny-bert") -> Path:
    """A BERT with random weights and a vocabulary of characters and a few Latin pieces."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = session_folder() / f"{name}-{seed}"
    characters = sorted({c for document in SENTENCES for c in document.text.lower()})
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    latin = [*letters, *(f"##{letter}" for letter in letters), ".", ",", "-", "new", "##ing"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys([*special, *characters, *latin, *"中国大学人民日报，！？１Ａ"]))
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_jsonl(path: Path, documents: Iterable[Document] = SENTENCES) -> Path:
    """Gold as JSONL."""
    lines = [
        json.dumps({"text": d.text, "entities": [list(e.key) for e in d.entities]})
        for d in documents
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_settings(
    folder: Path, variant: str, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """A run in `folder/run` that trains, chooses and tests on `SENTENCES`.

    Args:
        folder: an existing folder; gets `data.jsonl` if it has none.
        variant: a key of `VARIANTS`.
        overrides: sections with values that replace those below.
    """
    data = folder / "data.jsonl"
    if not data.exists():
        write_jsonl(data)
    values: dict[str, dict[str, Any]] = {
        "run": {"name": variant, "dir": str(folder / "run"), "device": "cpu", "threads": 1},
        "data": {"train": str(data), "dev": str(data), "test": str(data)},
        "model": {"encoder": str(tiny_bert()), "unit": "char", **VARIANTS[variant]},
        "lstm": {"embedding_size": 16, "hidden_size": 16, "layers": 1, "dropout": 0.1},
        "lora": {"targets": ["query", "key", "value", "intermediate", "output"]},
        "train": {"epochs": 3, "batch_tokens": 40, "precision": "fp32"},
    }
    for section, changes in (overrides or {}).items():
        values[section] = {**values.get(section, {}), **changes}
    values["train"] = tiny_rates(1e-2, values["model"]) | values["train"]
    return parse_settings(values)


def tiny_rates(rate: float, model: Mapping[str, Any], *, encoder: float = 0.2) -> dict[str, float]:
    """Learning rates at which the tiny taggers learn: everything has `rate` but the encoder.

    Args:
        rate: of the head, and of what is tuned.
        model: `[model]`, or a value of `VARIANTS`.
        encoder: the encoder's share of it where its own weights train.
    """
    tuning = model.get("tuning", "full")
    if model.get("emitter") == "lstm" or tuning == "frozen":
        return {"learning_rate": rate}
    if tuning not in ("lora", "peft"):
        return {"learning_rate": rate * encoder, "head_learning_rate": rate}
    return {"learning_rate": rate, "head_learning_rate": rate}


def make_predictor(settings: Settings, *, noise: float = 0.5) -> Predictor:
    """A tagger as `runs.experiment` builds it, not trained; its weights are shaken instead.

    The noise makes a new head predict many entities, and an adapter have an effect.
    """
    torch.manual_seed(settings.run.seed)
    unit = "char" if settings.model.unit == "auto" else settings.model.unit
    tokenizer = build_tokenizer(settings, SENTENCES, unit)
    tagset = TagSet.from_labels(e.label for d in SENTENCES for e in d.entities)
    tagger = build_tagger(settings, tagset, tokenizer)
    with torch.no_grad():
        for parameter in tagger.parameters():
            if parameter.requires_grad:
                parameter.add_(noise * torch.randn_like(parameter))
    segmenter = build_segmenter(
        tagger,
        tokenizer,
        unit,
        max_pieces=settings.model.max_pieces,
        stride=settings.model.stride,
    )
    tagger.eval()
    return Predictor(tagger, segmenter, tagset)


def save_predictor(folder: Path, predictor: Predictor, settings: Settings) -> Manifest:
    """`save_model` with what the settings say about the tagger."""
    description = Description.from_settings(settings, settings.model.encoder)
    return save_model(folder, predictor, description, Provenance(settings=settings.to_dict()))
