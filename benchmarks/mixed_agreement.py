"""Served = scored: five trained adapters mixed at random against each one's own evaluation.

    python benchmarks/mixed_agreement.py [--sentences 600] [--epochs 4] [--dev 200]

Trains adapters of the bundled encoder on parts of peoples (CRF), weibo, resume (rsLoRA), cluener
(20 types: the ten, by whether the entity is short) and resume again (its tags as IO), with other
ranks, targets and layers. Then every dev document goes through `MultiPredictor` in random order,
under each backend, and is held against `Predictor.tag_documents`, which is what `evaluate` scores.
Writes benchmarks/results/mixed_agreement.json. NERTUNE_DATA names the data's folder.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine, write_result

import nertune
from nertune.artifacts.load import load_tagger
from nertune.artifacts.save import Description, save_model
from nertune.evaluation.metrics import score
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.graphs.onnx import Backend
from nertune.models.heads.base import build_head
from nertune.models.tagger import Tagger
from nertune.types import Document, Entity

ENCODER = "mini-zh"
BACKENDS: tuple[Backend, ...] = ("torch", "onnx", "onnx-int8")
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "peoples-crf": ("peoples", {"model": {"decoder": "crf"}, "lora": {"targets": ["all-linear"]}}),
    "weibo": ("weibo", {"lora": {"rank": 4, "targets": ["ffn"], "layers": "top-3"}}),
    "resume-rslora": ("resume", {"lora": {"rank": 16, "rslora": True, "targets": ["attention"]}}),
    "cluener-20": ("cluener", {"lora": {"rank": 2, "targets": ["qkv", "ffn"]}}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--dev", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, gold = train_all(Path(folder), arguments)
        result = compare(models, gold)
    result = {"sentences": arguments.sentences, "epochs": arguments.epochs,
              "machine": describe_machine(), **result}  # fmt: skip
    write_result("mixed_agreement", result)


def read(name: str, split: str, count: int) -> list[Document]:
    folder = Path(os.environ["NERTUNE_DATA"]) / name
    path = folder / split if (folder / split).is_file() else folder / f"{split}.conll"
    documents = list(nertune.load_corpus(path).documents[:count])
    return [by_length(d) for d in documents] if name == "cluener" else documents


def by_length(document: Document) -> Document:
    """Two types of each: entities of up to three characters, and longer ones."""
    return document.with_entities(
        Entity(e.start, e.end, f"{e.label}-{'short' if e.end - e.start <= 3 else 'long'}")
        for e in document.entities
    )


def train_all(
    folder: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Path], dict[str, list[Document]]]:
    """The folders of the models, and the documents that each is scored on."""
    models: dict[str, Path] = {}
    gold: dict[str, list[Document]] = {}
    for name, (data, sections) in RECIPES.items():
        settings: dict[str, Any] = {
            "run": {"name": name, "dir": str(folder / name), "device": "cpu"},
            "data": {"train": "memory", "dev": "memory"},
            "model": {"encoder": ENCODER, "tuning": "lora", "unit": "char"},
            "train": {"epochs": arguments.epochs},
        }
        for section, values in sections.items():
            settings[section] = {**settings.get(section, {}), **values}
        gold[name] = read(data, "dev", arguments.dev)
        train = read(data, "train", arguments.sentences)
        nertune.train(settings, train=train, dev=gold[name])
        models[name] = folder / name / "model"
    models["resume-io"] = without_b(models["resume-rslora"], folder / "resume-io")
    gold["resume-io"] = gold["resume-rslora"]
    return models, gold


def without_b(source: Path, target: Path) -> Path:
    """The same adapter with a classifier of IO tags: the rows of O and of the I- tags."""
    loaded = load_tagger(source, device="cpu")
    tags = loaded.tagset.tags
    kept = [i for i, tag in enumerate(tags) if not tag.startswith("B-")]
    tagset = TagSet(tuple(tags[i].removeprefix("I-") for i in kept), "IO")
    model: Any = loaded.tagger.emitter.model
    wrapper = model.get_base_model().classifier
    for old in (wrapper.original_module, wrapper.modules_to_save["default"]):
        old.weight = torch.nn.Parameter(old.weight[kept].detach().clone())
        old.bias = torch.nn.Parameter(old.bias[kept].detach().clone())
        old.out_features = len(kept)
    config = model.get_base_model().config
    config.id2label = dict(enumerate(tagset.tags))
    config.label2id = {tag: i for i, tag in enumerate(tagset.tags)}
    manifest = loaded.manifest
    assert manifest is not None
    tagger = Tagger(loaded.tagger.emitter, build_head("softmax", tagset))
    predictor = Predictor(tagger, loaded.segmenter, tagset)
    description = Description(
        emitter="encoder", tuning="lora", decoder="softmax", encoder=manifest.encoder
    )
    save_model(target, predictor, description)
    return target


def compare(models: dict[str, Path], gold: dict[str, list[Document]]) -> dict[str, Any]:
    jobs = [(name, i) for name, documents in gold.items() for i in range(len(documents))]
    random.Random(0).shuffle(jobs)
    alone = {
        name: list(Predictor.load(folder, device="cpu").tag_documents(gold[name]))
        for name, folder in models.items()
    }
    found: dict[str, Any] = {}
    for backend in BACKENDS:
        served = MultiPredictor.load(ENCODER, models, device="cpu", backend=backend)
        assert all(served.describe(name).mixes for name in models)
        texts = [replace(gold[name][i], entities=()) for name, i in jobs]
        answers = served.tag(texts, [name for name, _ in jobs])
        by_job = dict(zip(jobs, answers, strict=True))
        single = {job: served.tag([text], job[0])[0] for job, text in zip(jobs, texts, strict=True)}
        rows = {}
        for name in models:
            mine = [by_job[name, i] for i in range(len(gold[name]))]
            lonely = [single[name, i] for i in range(len(gold[name]))]
            rows[name] = agreement(alone[name], mine, gold[name]) | {
                "alone_differ": agreement(mine, lonely, gold[name])["differ"]
            }
        found[backend] = rows
    return {"labels": {n: len(Predictor.load(f).tagset.labels) for n, f in models.items()},
            "backends": found}  # fmt: skip


def agreement(
    wanted: Sequence[Any], found: Sequence[Any], gold: Sequence[Document]
) -> dict[str, Any]:
    """Entities that only one of both found, the largest difference of scores, and F1."""
    same = differ = 0
    apart = 0.0
    for one, other in zip(wanted, found, strict=True):
        a, b = ({e.key: e.score for e in document.entities} for document in (one, other))
        same += len(a.keys() & b.keys())
        differ += len(a.keys() ^ b.keys())
        apart = max([apart, *(abs(a[key] - b[key]) for key in a.keys() & b.keys())])
    f1 = [score(gold, list(d), num_resamples=0).micro.f1 or 0.0 for d in (wanted, found)]
    return {"same": same, "differ": differ, "largest_difference": float(f"{apart:.2e}"),
            "f1_evaluate": round(f1[0], 4), "f1_served": round(f1[1], 4)}  # fmt: skip


if __name__ == "__main__":
    main()
