"""What is trained on where gold cannot be said by tags: nothing, and never its opposite."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from helpers import shown
from helpers.tiny import VARIANTS, make_settings, tiny_rates, write_jsonl
from nertune.types import Document, Entity

NAMES = ("Elena", "Hugo", "Boris", "Farid")
PLACES = ("Oslo", "Bergen", "Turin")


def sentences(blanks: int, blank: str = " ") -> list[Document]:
    """People and places; the first so many people end one blank too far."""
    random_ = random.Random(3)
    documents = []
    for number in range(24):
        name, place = random_.choice(NAMES), random_.choice(PLACES)
        text = f"we met {name}{blank}in {place} today"
        end = 7 + len(name)
        person = Entity(7, end + (number < blanks), "PER")
        start = end + 4
        documents.append(Document(text, (person, Entity(start, start + len(place), "LOC"))))
    return documents


def without_people(documents: Sequence[Document], first: int) -> list[Document]:
    return [
        d.with_entities(e for e in d.entities if e.label != "PER") if i < first else d
        for i, d in enumerate(documents)
    ]


def trained(
    folder: Path, documents: Sequence[Document], model: Mapping[str, Any], epochs: int = 6
) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """All weights of a run, its record, and what it said."""
    folder.mkdir()
    data = str(write_jsonl(folder / "data.jsonl", documents))
    test = str(write_jsonl(folder.parent / "test.jsonl", sentences(0)))
    variant = "lstm-crf" if model["decoder"] == "crf" else "lstm"
    rates = tiny_rates(0.02, {**VARIANTS[variant], **model})
    overrides = {
        "data": {"train": data, "dev": test, "test": ""},
        "model": dict(model),
        "train": {"epochs": epochs, "patience": 0, "batch_tokens": 120, **rates},
    }
    settings = make_settings(folder, variant, overrides)
    console = Console(record=True, width=400, file=(folder / "said").open("w"))
    record = shown.train(settings, console=console)
    weights: dict[str, Tensor] = {}
    for file in sorted((folder / "run" / "model").glob("*.safetensors")):
        weights |= {f"{file.name}:{key}": value for key, value in load_file(file).items()}
    return weights, record, console.export_text()


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("unit", ["word", "char"])
@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_a_blank_too_many_trains_as_none(decoder: str, unit: str, tmp_path: Path) -> None:
    model = {"decoder": decoder, "unit": unit, "emitter": "lstm"}
    blank, blank_record, said = trained(tmp_path / "blank", sentences(16), model)
    trim, trim_record, _ = trained(tmp_path / "trim", sentences(0), model)
    gone, *_ = trained(tmp_path / "gone", without_people(sentences(0), 16), model)
    assert equal(blank, trim)
    assert not equal(gone, trim)
    assert blank_record["dev"]["micro"] == trim_record["dev"]["micro"]
    assert "train: 16 of 48 entities (33.3 %) begin or end in white space" in said
    assert "data.jsonl:1: PER" in said
    assert "it ends in white space (U+0020)" in said


@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_what_is_lost_is_not_trained_as_outside(decoder: str, tmp_path: Path) -> None:
    """Two thirds of the people end inside a word; the others are enough to learn from."""
    model = {"decoder": decoder, "unit": "word", "emitter": "lstm"}
    inside = [
        d.with_entities(
            Entity(e.start, e.end - 2, e.label) if e.label == "PER" and i < 16 else e
            for e in d.entities
        )
        for i, d in enumerate(sentences(0))
    ]
    lost, record, said = trained(tmp_path / "lost", inside, model, epochs=40)
    gone, gone_record, _ = trained(tmp_path / "gone", without_people(inside, 16), model, epochs=40)
    assert "train: 16 of 48 entities (33.3 %) cannot be expressed" in said
    assert not equal(lost, gone)
    people = [r["dev"]["types"]["PER"]["recall"] for r in (record, gone_record)]
    assert people[0] > people[1] + 0.2
