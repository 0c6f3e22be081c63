"""Training on a teacher's probabilities, beside gold and without any."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.soft import FixedTeacher
from helpers.tiny import SENTENCES, make_settings
from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings
from nertune.data.corpus import Corpus
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import HEAD_NAMES, SequenceHead, register_head
from nertune.models.heads.decoding import Chain
from nertune.models.heads.marginals import Marginals
from nertune.training.batches import order_of_epoch
from nertune.training.observer import Observer
from nertune.types import Document, Entity

PLAIN = tuple(Document(d.text) for d in SENTENCES)
LABELS = ("LOCATION", "ORGANIZATION", "PERSON", "TIME")
NOTHING = Corpus(
    Path("<none>"), (), "jsonl", Corpus.from_documents(PLAIN).reading, None, (), (), ""
)


def certain(tagset: TagSet, length: int, number: int) -> Marginals:
    """A teacher that knows the gold of `SENTENCES`."""
    document = SENTENCES[number % len(SENTENCES)]
    tags = ["O"] * length
    for entity in document.entities:
        tags[entity.start : entity.end] = [
            f"{'I' if i else 'B'}-{entity.label}" for i in range(entity.end - entity.start)
        ]
    ids = tagset.encode(tags)
    tags_UK = np.eye(len(tagset))[ids]
    pairs_UKK = np.zeros((length, len(tagset), len(tagset)))
    pairs_UKK[np.arange(1, length), ids[:-1], ids[1:]] = 1
    return Marginals(tags_UK, pairs_UKK)


def soft_settings(folder: Path, variant: str = "full", **train_values: Any) -> Settings:
    changes = {"epochs": 4, "patience": 0, **train_values}
    return make_settings(folder, variant, {"train": changes})


class Stop(Observer):
    """Kills the run at a moment."""

    def __init__(self, batches: int):
        self.left = batches

    def on_batch(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def weights(folder: Path) -> dict[str, str]:
    files = read_manifest(folder / "model").files
    return {name: found for name, found in files.items() if name.endswith(".safetensors")}


@pytest.mark.parametrize("variant", ["full", "full-crf", "lstm", "lstm-crf", "frozen", "lora"])
def test_a_certain_teacher_teaches_as_gold_does(variant: str, tmp_path: Path) -> None:
    """The same text, once with gold, once with a teacher that is sure of it: the same weights."""
    found = []
    for name in ("gold", "soft"):
        settings = soft_settings(tmp_path, variant)
        settings = settings.model_copy(
            update={"run": settings.run.model_copy(update={"dir": tmp_path / name})}
        )
        if name == "gold":
            train(settings)
        else:
            teacher = FixedTeacher(PLAIN, certain, labels=LABELS)
            record = train(settings, corpora={"train": NOTHING}, soft=teacher)
            assert record["soft"] == {"key": teacher.key, "documents": len(PLAIN)}
            assert not (tmp_path / name / "soft").exists()
        predictor = Predictor.load(tmp_path / name / "model")
        found.append(np.concatenate(predictor.emissions(PLAIN)[1]))
    np.testing.assert_allclose(found[0], found[1], atol=2e-2)


@pytest.mark.parametrize("variant", ["full-crf", "lstm", "frozen", "lora-crf"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_killed_run_resumes_to_the_same_weights(
    variant: str, accumulate: int, tmp_path: Path
) -> None:
    teacher = FixedTeacher(PLAIN, weight=0.5, temperature=2.0)
    results = []
    for name, kills in (("whole", []), ("killed", [0, 3])):
        folder = tmp_path / name
        folder.mkdir()
        settings = soft_settings(
            folder, variant, accumulate=accumulate, checkpoint_steps=1, batch_tokens=20
        )
        for number, batches in enumerate(kills):
            with pytest.raises(KeyboardInterrupt):
                train(settings, soft=teacher, resume=number > 0, observers=[Stop(batches)])
            assert (settings.run.dir / "soft" / "store.json").is_file()
        train(settings, soft=teacher, resume=bool(kills))
        results.append(weights(settings.run.dir))
    assert results[0] == results[1]


def test_frozen_layers_and_teacher(tmp_path: Path) -> None:
    """What frozen layers give may be kept or not: without dropout in them all is the same."""
    teacher = FixedTeacher(PLAIN)
    losses = []
    for cache in (0, 1):
        folder = tmp_path / str(cache)
        folder.mkdir()
        settings = soft_settings(folder, "frozen", cache_gib=cache, epochs=1)
        record = train(settings, soft=teacher)
        assert record["frozen_layers"]["run_once"] == bool(cache)
        losses.append(record["epochs"][0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_accumulated_batches_weigh_as_one(tmp_path: Path) -> None:
    """The gradient of a mixed step does not depend on how it is cut into batches."""
    found = []
    for accumulate, tokens in ((1, 1000), (4, 60)):
        folder = tmp_path / str(tokens)
        folder.mkdir()
        settings = make_settings(
            folder, "lstm-crf",
            {"train": {"epochs": 2, "batch_tokens": tokens, "accumulate": accumulate,
                       "optimizer": "sgd", "learning_rate": 0.1},
             "lstm": {"dropout": 0.0, "unknown": 0.0, "embedding_size": 8, "hidden_size": 8,
                      "layers": 1}},
        )  # fmt: skip
        train(settings, soft=FixedTeacher(PLAIN[:3], weight=0.3))
        predictor = Predictor.load(settings.run.dir / "model")
        found.append(np.concatenate(predictor.emissions(PLAIN)[1]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_all_pieces_learn_from_a_teacher(tmp_path: Path) -> None:
    """A certain teacher gives the loss that gold gives, on later tokens, too."""
    losses = []
    for name in ("gold", "soft"):
        folder = tmp_path / name
        folder.mkdir()
        settings = make_settings(
            folder, "full",
            {"model": {"pieces": "all", "unit": "word"},
             "train": {"epochs": 1, "learning_rate": 1e-9, "head_learning_rate": 1e-9}},
        )  # fmt: skip
        documents = tuple(Document("newing Tom", (), id=str(i)) for i in range(4))
        entity = Entity(0, 6, "PERSON")
        gold = [document.with_entities([entity]) for document in documents]

        def answer(tagset: TagSet, length: int, number: int) -> Marginals:
            ids = tagset.encode(["B-PERSON", "O"])
            return Marginals(np.eye(len(tagset))[ids])

        torch.manual_seed(0)
        corpora = {"train": Corpus.from_documents(gold), "dev": Corpus.from_documents(gold)}
        if name == "soft":
            corpora["train"] = NOTHING
            teacher = FixedTeacher(documents, answer, labels=["PERSON"])
            losses.append(train(settings, corpora=corpora, soft=teacher)["epochs"][0]["loss"])
        else:
            losses.append(train(settings, corpora=corpora)["epochs"][0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_no_weight_teaches_nothing(tmp_path: Path) -> None:
    settings = soft_settings(tmp_path, "lstm", epochs=1)
    teacher = FixedTeacher(PLAIN, weight=0.0, labels=LABELS)
    record = train(settings, soft=teacher, corpora={"train": NOTHING})
    assert record["epochs"][0]["loss"] == 0


def test_another_teacher_is_not_resumed(tmp_path: Path) -> None:
    settings = soft_settings(tmp_path, "lstm", checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(settings, soft=FixedTeacher(PLAIN), observers=[Stop(1)])
    with pytest.raises(CheckpointError, match="soft was"):
        train(settings, soft=FixedTeacher(PLAIN, name="other"), resume=True)
    train(settings, soft=FixedTeacher(PLAIN), overwrite=True)
    assert train(settings, soft=FixedTeacher(PLAIN), resume=True)["soft"]["documents"] == len(PLAIN)
    with pytest.raises(CheckpointError, match="other unlabelled text"):
        train(settings, soft=FixedTeacher(PLAIN, name="other"), resume=True)
    with pytest.raises(CheckpointError, match="other unlabelled text"):
        train(settings, resume=True)


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    settings = soft_settings(tmp_path, "lstm")
    with pytest.raises(DataError, match="holds no entity"):
        train(settings, corpora={"train": NOTHING})


def test_a_registered_head_without_soft_loss_is_refused(tmp_path: Path) -> None:
    class Plain(torch.nn.Module, SequenceHead):
        def __init__(self, tagset: TagSet):
            super().__init__()
            self.tagset = tagset

        def loss(self, logits_BUK: Any, *_: Any) -> Any:
            return logits_BUK.sum()

        def scores(self, logits_BUK: Any) -> Any:
            return logits_BUK

        def chain(self) -> Chain:
            return Chain.of(self.tagset)

    if "plain-soft" not in HEAD_NAMES:
        register_head("plain-soft", Plain)
    settings = make_settings(tmp_path, "full", {"model": {"decoder": "plain-soft"}})
    with pytest.raises(ConfigError, match="Plain has no soft_loss"):
        train(settings, soft=FixedTeacher(PLAIN))
    assert not (settings.run.dir / "soft").exists()


def test_an_epoch_of_so_many_batches(tmp_path: Path) -> None:
    """Passes follow each other; every epoch has as many batches, and none is left out."""
    lengths = [5, 6, 7, 8, 9]
    one_pass = order_of_epoch(lengths, budget_tokens=10, seed=1, epoch=1)
    epochs = [
        order_of_epoch(lengths, budget_tokens=10, seed=1, epoch=e, num_batches=3)
        for e in range(1, 6)
    ]
    assert [len(order) for order in epochs] == [3] * 5
    assert list(chain.from_iterable(epochs))[: len(one_pass)] == one_pass
    sizes: list[int] = []
    remembered = [
        order_of_epoch(lengths, budget_tokens=10, seed=1, epoch=e, num_batches=3, sizes=sizes)
        for e in (1, 4, 5, 2)
    ]
    assert remembered == [epochs[e - 1] for e in (1, 4, 5, 2)]
    settings = soft_settings(tmp_path, "lstm", epoch_batches=7, epochs=2, checkpoint_steps=100)
    seen = []

    class Count(Observer):
        def on_batch(self, epoch: int, batch: int, num_batches: int, *_: float) -> None:
            seen.append((epoch, batch, num_batches))

    train(settings, observers=[Count()])
    assert seen == [(1, 7, 7), (2, 7, 7)]
