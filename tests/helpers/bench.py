"""Comparisons without training: a double that invents what a run leaves behind."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import nertune
from helpers.shown import logged
from nertune.artifacts.manifest import hash_encoder
from nertune.comparison.compare import RunOptions, compare
from nertune.comparison.results import Comparison
from nertune.config.run import Settings, load_settings
from nertune.data.corpus import save_documents
from nertune.data.splits import load_splits
from nertune.evaluation.metrics import score
from nertune.experiments.processes.subprocess import RunRequest
from nertune.experiments.record import describe_data
from nertune.types import Document, Entity

__all__ = ["Bench", "FakeTrainer", "documents"]

# Chance that the double finds an entity, by the recipe's learning rate.
SKILL = {0.001: 0.55, 0.002: 0.9, 0.003: 0.56, 0.5: 0.0}


def documents(seed: int, number: int = 80) -> list[Document]:
    rng = random.Random(seed)
    made = []
    for index in range(number):
        starts = sorted(rng.sample(range(0, 40, 4), 3))
        entities = [Entity(s, s + 2, rng.choice(["PER", "LOC"])) for s in starts]
        made.append(Document(f"{seed:04d}-{index:03d}" + "x" * 40, tuple(entities)))
    return made


class FakeTrainer:
    """Test double for a training process; remembers what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[RunRequest] = []

    def __call__(self, request: RunRequest) -> None:
        self.requests.append(request)
        settings = load_settings(
            request.recipe,
            [*request.overrides, f"run.seed={request.seed}", f'run.dir="{request.folder}"'],
        )
        request.folder.mkdir(parents=True, exist_ok=True)
        skill = SKILL[settings.train.learning_rate]
        rng = random.Random(f"{request.name} {request.seed}")
        scores: dict[str, Any] = {"dev": None, "test": None}
        corpora = load_splits(settings.data, ("train", "dev", *["test"] * request.score_test))
        for split in ("dev", "test"):
            if split in corpora:
                gold = corpora[split].documents
                predicted = [
                    d.with_entities(
                        e if rng.random() < 0.9 else Entity(e.start, e.end, "MISC")
                        for e in d.entities
                        if rng.random() < skill
                    )
                    for d in gold
                ]
                path = request.folder / f"{split}.predictions.jsonl"
                save_documents(path, predicted, format="predictions")
                scores[split] = score(gold, predicted, num_resamples=0).to_dict()
        record = self.record(settings, scores)
        (request.folder / "record.json").write_text(json.dumps(record))

    def record(self, settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        corpora = load_splits(settings.data)
        share, seed = settings.data.train_share, settings.run.seed
        corpora["train"] = corpora["train"].take_share(share, seed)
        return {
            "nertune": nertune.__version__,
            "status": "finished",
            "encoder_sha256": hash_encoder(settings.model.encoder),
            "settings": settings.to_dict(),
            "device": "cpu",
            "threads": 1,
            "data": {split: describe_data(corpus) for split, corpus in corpora.items()},
            "parameters": {"trainable": 250, "total": 1000},
            "epochs": [
                {"epoch": n + 1, "loss": 1 / (n + settings.run.seed), "seconds": 2.0 + n,
                 "dev": {"precision": 0.5, "recall": 0.5, "f1": 0.4 + 0.1 * n}}
                for n in range(1 + settings.run.seed)
            ],
            "best_epoch": settings.run.seed,
            "seconds": 9.0,
            "peak_memory_bytes": 2**20 * (100 + settings.run.seed),
            **scores,
        }  # fmt: skip


class Bench:
    """Recipes and data in a folder, and a comparison that needs few words."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.trainer = FakeTrainer()
        self.messages: list[str] = []
        for number, split in enumerate(("train", "dev", "test")):
            save_documents(folder / f"{split}.jsonl", documents(number))

    def recipe(self, name: str, rate: float = 0.001, **data: str) -> Path:
        files = {s: str(self.folder / f"{s}.jsonl") for s in ("train", "dev", "test")} | data
        lines = [f'{split} = "{file}"' for split, file in files.items()]
        path = self.folder / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["[data]", *lines, "[train]", f"learning_rate = {rate}"]))
        return path

    def compare(self, *recipes: Path, **options: Any) -> Comparison:
        self.trainer.requests.clear()
        self.messages.clear()
        plain = {k: options.pop(k) for k in ("seeds", "baseline", "output") if k in options}
        with logged() as lines:
            try:
                return compare(
                    recipes,
                    **{"seeds": 2, "output": self.folder / "out"} | plain,
                    options=RunOptions(run=self.trainer, **options),
                )
            finally:
                self.messages += lines

    @property
    def starts(self) -> list[tuple[str, int, str]]:
        return [(r.name, r.seed, r.start) for r in self.trainer.requests]
