"""One run from data to record: what it leaves, what it says aloud, what it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from helpers import shown
from helpers.tiny import SENTENCES, VARIANTS, make_settings, tiny_rates, write_jsonl
from nertune.errors import ConfigError, DataError, ModelError, NertuneError, TrainingError
from nertune.evaluation.metrics import score
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.types import Document, Entity

FAST = {"train": {"epochs": 1}}


def run(
    folder: Path, variant: str = "lstm", overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Any], str]:
    """The record, and what was said on the way."""
    stream = io.StringIO()
    settings = make_settings(folder, variant, overrides or FAST)
    record = shown.train(
        settings, console=Console(file=stream, width=80), score_test=bool(settings.data.test)
    )
    return record, stream.getvalue()


def merged(*sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for overrides in sections:
        for name, values in overrides.items():
            result.setdefault(name, {}).update(values)
    return result


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_run_leaves(variant: str, tmp_path: Path) -> None:
    record, said = run(tmp_path, variant, {"train": {"epochs": 2}})
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        "model",
        "record.json",
        "log.jsonl",
        "dev.predictions.jsonl",
        "test.predictions.jsonl",
    }
    assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(record)
    )
    assert record["status"] == "finished"
    assert record["name"] == variant
    assert [e["epoch"] for e in record["epochs"]] == [1, 2]
    assert record["best_epoch"] in (1, 2)
    for epoch in record["epochs"]:
        assert epoch["loss"] > 0
        assert epoch["seconds"] > 0
        assert epoch["tokens_per_second"] > 0
        assert epoch["dev"].keys() == {"precision", "recall", "f1"}
    parameters = record["parameters"]
    if variant.startswith(("lora", "frozen")):
        assert 0 < parameters["trainable"] < parameters["total"]
    else:
        assert parameters["trainable"] == parameters["total"]
    assert record["peak_memory_bytes"] > 2**20
    assert ("encoder_sha256" in record) == (not variant.startswith("lstm"))
    assert record["seconds"] > sum(e["seconds"] for e in record["epochs"])
    assert record["data"]["train"]["documents"] == len(SENTENCES)
    assert record["data"]["train"]["sha256"] == record["data"]["dev"]["sha256"]
    assert record["device"] == "cpu"
    assert "epoch 1/2" in said
    # The model folder and the predictions are those of the scores in the record.
    predictor = Predictor.load(folder, device="cpu")
    predicted = list(predictor.tag_documents(SENTENCES))
    scores = score(SENTENCES, predicted, types=predictor.tagset.labels).to_dict()
    assert scores == record["test"] == record["dev"]
    lines = (folder / "test.predictions.jsonl").read_text(encoding="utf-8").splitlines()
    for line, document in zip(lines, predicted, strict=True):
        found = [
            (e["start"], e["end"], e["label"], e["score"]) for e in json.loads(line)["entities"]
        ]
        assert found == [(e.start, e.end, e.label, e.score) for e in document.entities]
    assert predictor.manifest is not None
    assert predictor.manifest.metrics["test"] == record["test"]
    assert predictor.manifest.data == record["data"]
    low, high = record["test"]["micro"]["f1_ci95"]
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert card.count(f"95 % interval [{low:.4f}, {high:.4f}] over 8 documents") == 2  # dev, test


def test_the_best_epoch_is_the_one_in_the_model(tmp_path: Path) -> None:
    record, _ = run(
        tmp_path, "full", {"train": {"epochs": 8, "patience": 0, **tiny_rates(0.05, {})}}
    )
    f1s = [e["dev"]["f1"] for e in record["epochs"]]
    assert f1s[record["best_epoch"] - 1] == max(f1s) == record["dev"]["micro"]["f1"]
    assert max(f1s) > 0


def test_without_dev_and_test(tmp_path: Path) -> None:
    record, said = run(tmp_path, "lstm", merged(FAST, {"data": {"dev": "", "test": ""}}))
    assert record["dev"] is record["test"] is record["data"]["dev"] is None
    assert "no data.dev: nothing chooses an epoch" in said
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"model", "record.json", "log.jsonl"}


def test_test_data_that_were_trained_on_are_said_aloud(tmp_path: Path) -> None:
    _, said = run(tmp_path)
    assert "8 of 8 test texts stand in train too" in said


def test_labels_that_training_never_saw(tmp_path: Path) -> None:
    """They are no index error: they are said aloud, and scored as missed."""
    strange = Document("猫在北京", (Entity(0, 1, "ANIMAL"), Entity(2, 4, "LOCATION")))
    test = write_jsonl(tmp_path / "test.jsonl", [strange])
    record, said = run(tmp_path, "lstm", merged(FAST, {"data": {"test": str(test)}}))
    assert "test: ANIMAL never occurs in training: will be missed" in said
    assert record["test"]["types"]["ANIMAL"]["support"] == 1
    assert record["test"]["types"]["ANIMAL"]["recall"] == 0
    assert record["test"]["micro"]["support"] == 2


def test_gold_that_units_cannot_express_is_listed_and_scored(tmp_path: Path) -> None:
    inside = Document("Tomas 在北京", (Entity(0, 3, "PERSON"), Entity(7, 9, "LOCATION")))
    data = write_jsonl(tmp_path / "data.jsonl", [*SENTENCES, inside])
    record, said = run(tmp_path, "full", merged(FAST, {"model": {"unit": "word"}}))
    assert f"{data.name}:9: PERSON 'Tom': it ends inside the unit 'Tomas'" in said
    for split in ("train", "dev", "test"):  # which are one file
        assert f"{split}: 1 of 19 entities (5.3 %) cannot be expressed by the model's units" in said
    assert said.index("dev: 1 of 19") < said.index("epoch ")
    assert record["test"]["micro"]["support"] == sum(len(d.entities) for d in [*SENTENCES, inside])


def test_texts_longer_than_the_window_are_not_cut_off(tmp_path: Path) -> None:
    """An entity at the end of 300 characters, with a window of 62."""
    long = Document("好" * 290 + "北京。", (Entity(290, 292, "LOCATION"),))
    write_jsonl(tmp_path / "data.jsonl", [long, *SENTENCES[:3]])
    overrides = {
        "train": {"epochs": 25, "patience": 0, "batch_tokens": 200, **tiny_rates(0.02, {})}
    }
    record, said = run(tmp_path, "full", overrides)
    assert "cannot be expressed" not in said
    assert record["dev"]["micro"]["f1"] == 1.0
    lines = (tmp_path / "run" / "dev.predictions.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(lines[0])["entities"]
    assert [(e["start"], e["end"], e["text"]) for e in found] == [(290, 292, "北京")]


def test_data_with_awkward_texts_train_and_score(tmp_path: Path) -> None:
    texts = ["", " ", "\u200b", "🙂👨‍👩‍👧", "e\u0301\u0302", "\ufeff北京", "\t王", "a" * 500]
    documents = [*map(Document, texts), *SENTENCES, *SENTENCES]
    for variant in ("lstm-crf", "lora"):
        (tmp_path / variant).mkdir()
        write_jsonl(tmp_path / variant / "data.jsonl", documents)
        record, _ = run(tmp_path / variant, variant)
        assert record["test"]["documents"] == len(documents)


def test_one_sentence_of_one_character(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data.jsonl", [Document("王", (Entity(0, 1, "PERSON"),))])
    record, _ = run(tmp_path, "lstm-crf", {"train": {"epochs": 30, "learning_rate": 0.1}})
    assert record["test"]["micro"]["f1"] == 1.0


def test_tensorboard_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record, _ = run(tmp_path, "lstm", {"train": {"epochs": 3, "tensorboard": True}})
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    found = EventAccumulator(str(events.parent))
    found.Reload()
    assert {"train/loss", "epoch/loss", "dev/f1", "dev/precision"} <= set(found.Tags()["scalars"])
    losses = [event.value for event in found.Scalars("epoch/loss")]
    assert losses == pytest.approx([e["loss"] for e in record["epochs"]], rel=1e-6)
    assert events.is_relative_to(tmp_path / "run" / "tensorboard")


def test_another_encoder_as_the_start_of_new_labels(tmp_path: Path) -> None:
    """A tagger of other labels serves as an encoder: its head is replaced, not reused."""
    run(tmp_path, "full")
    new = tmp_path / "new"
    new.mkdir()
    write_jsonl(new / "data.jsonl", [Document("猫在家", (Entity(0, 1, "ANIMAL"),))])
    encoder = str(tmp_path / "run" / "model")
    for variant in ("full", "lora"):
        overrides = {"model": {"encoder": encoder}, "run": {"dir": str(new / variant)}}
        run(new, variant, merged(FAST, overrides))
        assert Predictor.load(new / variant, device="cpu").tagset.tags == (
            "O",
            "B-ANIMAL",
            "I-ANIMAL",
        )


# What is refused


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"data": {"train": "absent.jsonl"}}, DataError, "absent.jsonl: no such file"),
        ({"data": {"dev": "absent.jsonl"}}, DataError, "absent.jsonl: no such file"),
        ({"data": {"train": "sample:tset"}}, DataError, "the sample corpus has train, dev, test"),
        ({"data": {"scheme": "BMES", "format": "conll"}}, DataError, "data.jsonl:1: "),
        ({"model": {"encoder": "./absent"}}, ModelError, "./absent: no such folder"),
        ({"model": {"max_pieces": 65}}, ConfigError, "65, but the encoder has 64 positions"),
        ({"model": {"max_pieces": 2}}, ConfigError, "leaves no room"),
        ({"model": {"max_pieces": 10, "stride": 8}}, ConfigError, "leaves no room"),
        ({"model": {"tuning": "lora"}, "lora": {"targets": ["qqq"]}}, ConfigError, "'qqq' matches"),
        ({"model": {"tuning": "lora"}, "lora": {"layers": [2]}}, ConfigError, "has layers 0 to 1"),
        ({"train": {"precision": "fp16"}}, ConfigError, '"fp16" needs a CUDA device'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refused_before_training(
    overrides: dict[str, dict[str, Any]],
    error: type[NertuneError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=None) as caught:
        run(tmp_path, "full", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").glob("*")) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="device 'cuda' is not available here") as caught:
        run(tmp_path, "lstm", merged(FAST, {"run": {"device": "cuda"}}))
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data.jsonl", [Document("没有")])
    with pytest.raises(DataError, match=r"data\.jsonl: holds no entity to learn from"):
        run(tmp_path)
    assert list((tmp_path / "run").iterdir()) == []


def test_entities_most_of_which_no_unit_can_express(tmp_path: Path) -> None:
    """Refused before training, with the setting that keeps them."""
    texts = ["Tomas在北京", "Tomas在", "北京"]
    entities = [[(0, 3), (6, 8)], [(0, 3)], [(0, 2)]]
    documents = [
        Document(text, tuple(Entity(a, b, "X") for a, b in spans))
        for text, spans in zip(texts, entities, strict=True)
    ]
    data = write_jsonl(tmp_path / "data.jsonl", documents)
    words = merged(FAST, {"model": {"unit": "word"}})
    _, said = run(tmp_path, "full", words)  # half of them are not most
    assert "train: 2 of 4 entities (50.0 %) cannot be expressed" in said
    write_jsonl(data, documents[:2])
    with pytest.raises(DataError) as caught:
        run(tmp_path, "full", merged(words, {"run": {"dir": str(tmp_path / "most")}}))
    message = str(caught.value)
    assert "2 of 3 entities (66.7 %) cannot be expressed by units of words" in message
    assert "data.jsonl:1: X 'Tom': it ends inside the unit 'Tomas'" in message
    assert 'set model.unit = "char", which expresses 3 of them' in message
    record, said = run(tmp_path, "full", merged(FAST, {"run": {"dir": str(tmp_path / "char")}}))
    assert record["test"]["micro"]["support"] == 3
    assert "cannot be expressed" not in said


def test_entities_that_no_unit_at_all_can_express(tmp_path: Path) -> None:
    nested = Document("北京大学", (Entity(0, 4, "A"), Entity(0, 2, "B"), Entity(2, 4, "C")))
    write_jsonl(tmp_path / "data.jsonl", [nested])
    for unit in ("char", "word"):
        with pytest.raises(DataError, match=r"2 of 3 .*; check that .* do not overlap") as caught:
            run(
                tmp_path,
                "full",
                merged(FAST, {"model": {"unit": unit}, "run": {"dir": str(tmp_path / unit)}}),
            )
        assert "model.unit" not in str(caught.value)


def test_no_model_is_left_if_scoring_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nertune.experiments.train._score_split", fail)
    fast = {"train": {"epochs": 1, "checkpoint_minutes": 0}}
    with pytest.raises(OSError, match="No space"):
        run(tmp_path, "lstm", fast)
    left = {p.name for p in (tmp_path / "run").iterdir()}
    assert left == {"log.jsonl", "checkpoints"}
    monkeypatch.undo()
    settings = make_settings(tmp_path, "lstm", fast)
    assert train(settings, resume=True)["status"] == "finished"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_said_and_the_memory_let_go(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tensors:
        """Stands for a model's."""

    held: list[weakref.ref[Tensors]] = []

    def fail(*args: Any, **options: Any) -> Any:
        tensors = Tensors()
        held.append(weakref.ref(tensors))
        raise type(error)(*error.args)

    monkeypatch.setattr("nertune.experiments.train.fit", fail)
    with pytest.raises(TrainingError, match=r"out of memory: lower train\.batch_tokens") as caught:
        run(tmp_path)
    assert held[0]() is None
    assert caught.value.__context__ is None


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("nertune.experiments.train.fit", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(tmp_path)


@pytest.mark.parametrize(
    "change", [{"data": {"train": "absent.jsonl"}}, {"model": {"encoder": "./absent"}}]
)
def test_a_run_that_is_refused_replaces_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    """`--overwrite` with a name that is spelled wrong is not to cost the run that is there."""
    run(tmp_path, "full", FAST)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    wrong = make_settings(tmp_path, "full", merged(FAST, change))
    with pytest.raises(NertuneError, match="absent"):
        train(wrong, overwrite=True)
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert after == before


def test_checkpoints_go_when_all_else_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses its power just after has the model and the record, whole."""
    flushed: set[tuple[int, int]] = set()
    seen: list[set[str]] = []
    plain_fsync, plain_rmtree = os.fsync, shutil.rmtree

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        flushed.add((status.st_ino, status.st_size))
        plain_fsync(descriptor)

    def rmtree(path: Path, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "checkpoints":
            files = [
                p
                for p in (tmp_path / "run").rglob("*")
                if p.is_file() and not p.is_symlink() and path not in p.parents
            ]
            status = {p: p.stat() for p in files if p.name != ".lock"}
            seen.append({p.name for p, s in status.items() if (s.st_ino, s.st_size) not in flushed})
        plain_rmtree(path, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    run(tmp_path, "lora-crf", merged(FAST, {"train": {"checkpoint_minutes": 0}}))
    assert seen == [set()]


def test_a_finished_run_needs_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been trained on another machine."""
    record = train(make_settings(tmp_path, "lstm", {"train": {"epochs": 1}}))

    def refuse(*_: object) -> None:
        raise AssertionError("the device is opened")

    monkeypatch.setattr("nertune.experiments.fitting.choose_device", refuse)
    again = train(make_settings(tmp_path, "lstm", {"train": {"epochs": 1}}), resume=True)
    assert again == json.loads(json.dumps(record))
