"""Adapters of one tiny encoder that differ in all that may differ, and models that cannot mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.tiny import SENTENCES, make_settings, save_predictor
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer

__all__ = ["MIXED", "OWN", "PEOPLE", "make_model"]

PEOPLE = ("PERSON", "LOCATION")
ALL_LINEAR = ["all-linear"]
MANY = tuple(f"TYPE{i:02}" for i in range(20))

MIXED: dict[str, tuple[Sequence[str], Mapping[str, Mapping[str, Any]]]] = {
    "plain": (PEOPLE, {"model": {"tuning": "lora"}}),
    "crf": (
        ("LAW", "COURT", "TIME"),
        {
            "model": {"tuning": "lora", "decoder": "crf"},
            "lora": {"rank": 2, "alpha": 3, "targets": ALL_LINEAR},
        },
    ),
    "io": (("DRUG",), {"model": {"tuning": "lora"}, "lora": {"rank": 16, "targets": ["output"]}}),
    "many": (
        MANY,
        {
            "model": {"tuning": "lora", "unit": "word"},
            "lora": {"rank": 4, "ranks": {"1": 7}, "alphas": {"0": 9}, "targets": ["qkv"]},
        },
    ),
    "rslora": (
        ("A", "B"),
        {
            "model": {"tuning": "lora", "max_pieces": 24},
            "lora": {"rank": 5, "rslora": True, "targets": ["ffn"], "layers": [1]},
        },
    ),
    "adalora": (
        ("X", "Y", "Z"),
        {"model": {"tuning": "peft"}, "peft": {"method": "adalora", "targets": ALL_LINEAR}},
    ),
    "frozen": (("PLACE",), {"model": {"tuning": "frozen"}}),
}
"""Name -> labels and settings of models that share batches."""

OWN: dict[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "dora": ("has use_dora = True", {"model": {"tuning": "lora"}, "lora": {"dora": True}}),
    "pissa": (
        "began as pissa, which changes the encoder's own weights",
        {"model": {"tuning": "lora"}, "lora": {"init": "pissa"}},
    ),
    "ia3": (
        "ia3, is no sum of low-rank products",
        {"model": {"tuning": "peft"}, "peft": {"method": "ia3", "targets": ["key", "value"]}},
    ),
    "full": ("its encoder is not", {}),
    "lstm": ("it is an LSTM", {"model": {"emitter": "lstm"}}),
    "prompt": (
        "prompt_tuning, is no sum",
        {
            "model": {"tuning": "peft"},
            "peft": {"method": "prompt_tuning", "options": {"num_virtual_tokens": 4}},
        },
    ),
}
"""Name -> why it does not mix, and settings."""


def make_model(
    folder: Path,
    labels: Sequence[str],
    sections: Mapping[str, Mapping[str, Any]],
    *,
    seed: int = 0,
    scheme: str = "BIO",
) -> Path:
    """The folder of a tagger whose weights are shaken."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = make_settings(folder, "full", sections)
    torch.manual_seed(seed)
    unit = "word" if settings.model.unit == "word" else "char"
    tokenizer = build_tokenizer(settings, SENTENCES, unit)
    tagset = TagSet(("O", *labels), "IO") if scheme == "IO" else TagSet.from_labels(labels)
    tagger = build_tagger(settings, tagset, tokenizer)
    with torch.no_grad():
        for parameter in tagger.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model = settings.model
    segmenter = build_segmenter(
        tagger, tokenizer, unit, max_pieces=model.max_pieces, stride=model.stride
    )
    save_predictor(folder / "model", Predictor(tagger.eval(), segmenter, tagset), settings)
    return folder / "model"
