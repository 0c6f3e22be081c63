"""The loop learns, keeps the best epoch, stops in time, and gives the same numbers twice."""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from helpers.fitting import fit
from helpers.tiny import (
    SENTENCES,
    VARIANTS,
    make_predictor,
    make_settings,
    tiny_bert,
    tiny_rates,
    write_jsonl,
)
from nertune.config.run import Settings, TrainSettings
from nertune.errors import TrainingError
from nertune.evaluation.metrics import score
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.labels.align import UNKNOWN, continuation_ids
from nertune.models.heads.softmax import SoftmaxHead
from nertune.tokens.batching import collate
from nertune.tokens.grouping import epoch_batches
from nertune.training.batches import _map_ahead
from nertune.training.examples import Examples, prepare_examples
from nertune.training.observer import Observer, Pause
from nertune.training.optimizer import build_optimizer, rate_factor
from nertune.training.progress import EpochReport, trainable_tensors
from nertune.training.trainer import FitResult
from nertune.types import Document, Entity

PLAIN = {"warmup": 0.0, "schedule": "constant", "weight_decay": 0.0, "clip_norm": 0.0}


class Spy:
    """An observer that keeps what it is told, and the weights of each epoch."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self.weights: list[dict[str, Tensor]] = []
        self.is_best: list[bool] = []
        self.batches: list[tuple[int, int, int]] = []

    def on_resume(self, epoch: int, batch: int) -> None:
        raise AssertionError("nothing was resumed")

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        self.batches.append((epoch, done, total))

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        self.weights.append(weights_of(self.predictor))
        self.is_best.append(is_best)


def weights_of(predictor: Predictor) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in trainable_tensors(predictor.tagger).items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def examples_of(predictor: Predictor, documents: Sequence[Document] = SENTENCES) -> Examples:
    return prepare_examples(documents, predictor.segmenter, predictor.tagger.head)


def fit_tiny(
    predictor: Predictor,
    settings: TrainSettings,
    *,
    f1s: Sequence[float] | None = None,
    observer: Spy | None = None,
    seed: int = 1,
    continuation: Sequence[int] | None = None,
) -> FitResult:
    """`fit` on `SENTENCES`, with scripted dev scores."""
    script: Iterator[float] = iter(f1s or ())
    evaluate: Callable[[], dict[str, float]] | None = None
    if f1s is not None:

        def evaluate() -> dict[str, float]:
            value = next(script)
            return {"precision": value, "recall": value, "f1": value}

    torch.manual_seed(seed)
    return fit(
        predictor.tagger,
        examples_of(predictor),
        settings,
        accelerator=Accelerator(cpu=True),
        seed=seed,
        pad_id=predictor.segmenter.tokenizer.pad_id,
        continuation=continuation,
        evaluate=evaluate,
        observer=observer,
    )


def settings_of(folder: Path, variant: str, **train_values: Any) -> Settings:
    return make_settings(folder, variant, {"train": train_values})


# Learning


@pytest.mark.parametrize("variant", ["lstm", "lstm-crf", "full", "lora", "lora-crf"])
def test_overfits_eight_sentences(variant: str, tmp_path: Path) -> None:
    values = {"epochs": 45, "patience": 0}
    if not variant.startswith("lora"):  # a random base lets an adapter learn more slowly
        values |= {"batch_tokens": 80, **tiny_rates(0.02, VARIANTS[variant])}
    record = train(settings := make_settings(tmp_path, variant, {"train": values}))
    assert record["dev"]["micro"]["f1"] == 1.0
    assert record["epochs"][-1]["loss"] < record["epochs"][0]["loss"] / 4
    # And what was saved finds just these entities again.
    predictor = Predictor.load(settings.run.dir, device="cpu")
    predicted = list(predictor.tag_documents(SENTENCES))
    assert score(SENTENCES, predicted).micro.f1 == 1.0
    assert all(0 < e.score <= 1 for d in predicted for e in d.entities if e.score is not None)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_each_optimizer_learns(optimizer: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "lstm", epochs=8, optimizer=optimizer, learning_rate=0.1)
    result = fit_tiny(make_predictor(settings, noise=0), settings.train)
    losses = [report.loss for report in result.history]
    assert losses[-1] < 0.85 * losses[0]


def test_all_pieces_can_carry_tags(tmp_path: Path) -> None:
    """Words of several pieces, each of which is trained on."""
    overrides = {
        "model": {"unit": "word", "pieces": "all"},
        "train": {"epochs": 6, "learning_rate": 0.02, "head_learning_rate": 0.02},
    }
    predictor = make_predictor(make_settings(tmp_path, "full", overrides), noise=0)
    settings = make_settings(tmp_path, "full", overrides).train
    continuation = continuation_ids(predictor.tagset.tags)
    windows = examples_of(predictor).windows
    assert any(len(w.piece_ids) - 2 > w.num_units for w in windows)  # some units have many
    losses = [
        report.loss for report in fit_tiny(predictor, settings, continuation=continuation).history
    ]
    assert losses[-1] < 0.7 * losses[0]
    record = train(make_settings(tmp_path, "full", overrides | {"data": {"dev": "", "test": ""}}))
    assert record["settings"]["model"]["pieces"] == "all"


@pytest.mark.parametrize("variant", ["frozen", "lora", "lora-crf"])
def test_what_is_frozen_stays_to_the_bit(variant: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, variant, epochs=2)
    predictor = make_predictor(settings, noise=0)
    before = {n: p.detach().clone() for n, p in predictor.tagger.named_parameters()}
    fit_tiny(predictor, settings.train)
    moved = {n for n, p in predictor.tagger.named_parameters() if not torch.equal(p, before[n])}
    trainable = {n for n, p in predictor.tagger.named_parameters() if p.requires_grad}
    # A CRF's scores of forbidden transitions get no gradient, the tensor as a whole does.
    assert moved == trainable
    assert 0 < len(trainable) < len(before)


# Losses


@pytest.mark.parametrize("variant", ["lstm", "full-crf"])
def test_the_loss_is_the_mean_over_units(variant: str, tmp_path: Path) -> None:
    """In nats a unit, however the batches were cut, for softmax and CRF alike."""
    overrides = {"lstm": {"dropout": 0.0, "unknown": 0.0}}
    settings = make_settings(tmp_path, variant, overrides)
    predictor = make_predictor(settings)
    for module in predictor.tagger.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    examples = examples_of(predictor)
    total = 0.0
    with torch.no_grad():
        for window, tags in zip(examples.windows, examples.targets, strict=True):
            total += float(predictor.tagger(collate([window], pad_id=0, tags=[tags]))) * len(tags)
    expected = total / sum(len(d.text) for d in SENTENCES)
    assert examples.num_units == sum(len(d.text) for d in SENTENCES)
    for batch_tokens in (1, 50, 1000):
        frozen = TrainSettings(
            optimizer="sgd",
            learning_rate=1e-12,
            head_learning_rate=1e-12,
            crf_learning_rate=1e-12,
            epochs=1,
            batch_tokens=batch_tokens,
        )
        found = fit_tiny(predictor, frozen).history[0].loss
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2, 3, 100])
def test_accumulated_batches_make_one_step(accumulate: int, tmp_path: Path) -> None:
    """One SGD step a group, along the gradient of its mean over units; a short last group too."""
    values = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.0,
        "epochs": 1,
        "batch_tokens": 30,
    }
    settings = make_settings(
        tmp_path,
        "lstm",
        {
            "lstm": {"dropout": 0.0, "unknown": 0.0},
            "train": PLAIN | values | {"accumulate": accumulate},
        },
    )
    predictor, reference = make_predictor(settings), make_predictor(settings)
    fit_tiny(predictor, settings.train, seed=4)
    examples = examples_of(reference)
    lengths = [len(w.piece_ids) for w in examples.windows]
    batches = epoch_batches(lengths, budget_tokens=30, seed=4, epoch=1)
    assert len(batches) % 3 or len(batches) % 2  # so that some last group is short
    reference.tagger.train()
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        reference.tagger.zero_grad()
        num_units = sum(len(examples.targets[i]) for chosen in group for i in chosen)
        for chosen in group:
            batch = collate(
                [examples.windows[i] for i in chosen],
                pad_id=0,
                tags=[examples.targets[i] for i in chosen],
            )
            (reference.tagger(batch) * batch.num_units / num_units).backward()
        with torch.no_grad():
            for parameter in reference.tagger.parameters():
                parameter -= 0.1 * parameter.grad
    for name, tensor in weights_of(reference).items():
        assert torch.allclose(weights_of(predictor)[name], tensor, atol=1e-6), name


NESTED = (*(Entity(7 * i, 7 * i + 3, "PERSON") for i in range(7)), Entity(1, 4, "TIME"))
UNEQUAL = (Document("王小明在北京。" * 7, NESTED), Document("李华", (Entity(0, 2, "PERSON"),)))
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "softmax": {"model": {"emitter": "lstm"}},
    "crf": {"model": {"emitter": "lstm", "decoder": "crf"}},
    "pieces": {"model": {"pieces": "all", "unit": "word"}},
    "frozen": {"model": {"tuning": "frozen"}},
    "adalora": {"model": {"tuning": "peft"}, "peft": {"method": "adalora", "targets": ["query"]}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_accumulated_step_is_that_of_one_batch(kind: str, tmp_path: Path) -> None:
    """However unequal the batches are, and where units have no tag; AdaLoRA's penalty once."""
    encoder = shutil.copytree(tiny_bert(), tmp_path / "encoder")
    config = json.loads((encoder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config))
    documents = UNEQUAL
    if kind == "pieces":  # words of six pieces and of one
        text = "abcdef " * 8
        documents = (Document(text, (Entity(0, 6, "PERSON"), Entity(7, 11, "TIME"))), UNEQUAL[1])
    steps, losses = [], []
    for accumulate, batch_tokens in ((1, 10_000), (2, 1)):
        values = {"optimizer": "sgd", "momentum": 0.0, "epochs": 1, "accumulate": accumulate}
        overrides: dict[str, dict[str, Any]] = {
            **KINDS[kind],
            "lstm": {"dropout": 0.0, "unknown": 0.0},
            "train": PLAIN
            | values
            | {"batch_tokens": batch_tokens, **tiny_rates(0.5, KINDS[kind]["model"])},
        }
        overrides["model"] = {"encoder": str(encoder), **KINDS[kind]["model"]}
        predictor = make_predictor(make_settings(tmp_path, "full", overrides))
        before = weights_of(predictor)
        examples = examples_of(predictor, documents)
        assert (len(examples.windows), len(examples.coverage.lost)) == (2, 1)
        spy = Spy(predictor)
        result = fit(
            predictor.tagger,
            examples,
            make_settings(tmp_path, "full", overrides).train,
            accelerator=Accelerator(cpu=True),
            seed=1,
            pad_id=0,
            continuation=continuation_ids(predictor.tagset.tags) if kind == "pieces" else None,
            observer=spy,
        )
        assert spy.batches[-1][1] == accumulate  # batches of the one step
        after = weights_of(predictor)
        steps.append(torch.cat([(after[n] - before[n]).double().flatten() for n in before]))
        losses.append(result.history[0].loss)
    assert torch.cosine_similarity(steps[0], steps[1], dim=0) > 0.999999
    assert float(steps[1].norm()) == pytest.approx(float(steps[0].norm()), rel=1e-4)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_an_epoch_in_which_nothing_is_known_changes_nothing(tmp_path: Path) -> None:
    predictor = make_predictor(make_settings(tmp_path, "lstm-crf"))
    unknown = examples_of(predictor, [Document("北京大学", (Entity(0, 4, "TIME"),))])
    unknown.targets[0][:] = [UNKNOWN] * 4
    before = weights_of(predictor)
    result = fit(
        predictor.tagger,
        unknown,
        settings_of(tmp_path, "lstm-crf", epochs=1, optimizer="sgd", **PLAIN).train,
        accelerator=Accelerator(cpu=True),
        seed=1,
        pad_id=0,
    )
    assert result.history[0].loss == 0
    assert equal(weights_of(predictor), before)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_each_step_has_the_rate_of_its_middle_and_a_clipped_gradient(
    schedule: Any, accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(
        tmp_path, "full-crf", epochs=2, warmup=0.3, schedule=schedule, clip_norm=0.01,
        accumulate=accumulate, batch_tokens=30,
    )  # fmt: skip
    seen: list[tuple[list[float], float]] = []

    def build(*arguments: Any) -> Any:
        optimizer, names = build_optimizer(*arguments)

        def note(stepping: Any, *_: Any) -> None:
            groups = stepping.param_groups
            gradients = [p.grad for g in groups for p in g["params"] if p.grad is not None]
            norm = torch.stack([g.norm() for g in gradients]).norm()
            seen.append(([g["lr"] / g["peak"] for g in groups], float(norm)))

        optimizer.register_step_pre_hook(note)
        return optimizer, names

    monkeypatch.setattr("nertune.training.trainer.build_optimizer", build)
    predictor = make_predictor(settings)
    fit_tiny(predictor, settings.train)
    lengths = [len(w.piece_ids) for w in examples_of(predictor).windows]
    expected = []
    for epoch in (1, 2):
        count = len(epoch_batches(lengths, budget_tokens=30, seed=1, epoch=epoch))
        assert count % 3  # so that the last group of three is short
        for start in range(0, count, accumulate):
            middle = start + min(accumulate, count - start) / 2
            done = (epoch - 1 + middle / count) / 2
            expected.append(rate_factor(done, warmup=0.3, schedule=schedule))
    assert len(seen) == len(expected)
    for (factors, norm), factor in zip(seen, expected, strict=True):
        assert factors == pytest.approx([factor] * len(factors))
        assert 0.9e-2 < norm <= 1.001e-2  # all were longer


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "lstm", epochs=3)
    predictor = make_predictor(settings)
    with torch.no_grad():
        predictor.tagger.emitter.classifier.weight[0, 0] = math.inf
    with pytest.raises(TrainingError, match=r"not? longer finite in epoch 1, batch \d+: lower"):
        fit_tiny(predictor, settings.train)


def test_an_encoder_of_nan_leaves_no_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    base.mkdir()
    for path in tiny_bert().iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = math.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    settings = make_settings(tmp_path, "lora", {"model": {"encoder": str(base)}})
    with pytest.raises(TrainingError, match="no longer finite"):
        train(settings)
    assert not settings.run.dir.joinpath("model").exists()
    assert not settings.run.dir.joinpath("record.json").exists()


def test_nothing_to_train_on(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "full")
    predictor = make_predictor(settings)
    with pytest.raises(TrainingError, match="nothing to train on"):
        fit(
            predictor.tagger,
            prepare_examples([Document("")], predictor.segmenter, predictor.tagger.head),
            settings.train,
            accelerator=Accelerator(cpu=True),
            seed=0,
            pad_id=0,
        )


# The best epoch


def fit_script(
    f1s: Sequence[float], folder: Path, **values: Any
) -> tuple[FitResult, Predictor, Spy]:
    values = {"epochs": len(f1s), "patience_steps": 0} | values
    settings = settings_of(folder, "lstm", **values)
    predictor = make_predictor(settings)
    spy = Spy(predictor)
    return fit_tiny(predictor, settings.train, f1s=f1s, observer=spy), predictor, spy


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    result, predictor, spy = fit_script([0.1, 0.5, 0.3, 0.5, 0.4], tmp_path, patience=0)
    assert result.best_epoch == 2  # of equals the first
    assert spy.is_best == [True, True, False, False, False]
    assert equal(weights_of(predictor), spy.weights[1])
    assert not equal(spy.weights[1], spy.weights[4])
    assert not result.stopped_early
    assert [report.epoch for report in result.history] == [1, 2, 3, 4, 5]
    assert [report.dev["f1"] for report in result.history if report.dev] == [
        0.1, 0.5, 0.3, 0.5, 0.4,
    ]  # fmt: skip


def test_training_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    result, predictor, spy = fit_script([0.2, 0.4, 0.4, 0.3, 0.9], tmp_path, patience=2)
    assert (result.best_epoch, len(result.history), result.stopped_early) == (2, 4, True)
    assert equal(weights_of(predictor), spy.weights[1])


def test_patience_begins_with_each_better_epoch(tmp_path: Path) -> None:
    result, _, _ = fit_script([0.2, 0.1, 0.3, 0.2, 0.4, 0.1, 0.1], tmp_path, patience=2)
    assert (result.best_epoch, len(result.history)) == (5, 7)


def test_patience_does_not_count_while_nothing_is_found(tmp_path: Path) -> None:
    result, _, _ = fit_script([0, 0, 0, 0, 0.1, 0, 0, 0.9], tmp_path, patience=2)
    assert (result.best_epoch, len(result.history), result.stopped_early) == (5, 7, True)
    result, _, _ = fit_script([0.0] * 6, tmp_path, patience=2)
    assert (len(result.history), result.stopped_early) == (6, False)


def test_patience_is_some_steps_as_well(tmp_path: Path) -> None:
    f1s = [0.2, 0.4, 0.4, 0.3, 0.3, 0.3, 0.9]
    whole, _, _ = fit_script(f1s, tmp_path, patience=0, patience_steps=1)
    assert len(whole.history) == 7
    epoch_steps = whole.steps // 7
    result, _, _ = fit_script(f1s, tmp_path, patience=2, patience_steps=4 * epoch_steps)
    assert (result.best_epoch, len(result.history), result.stopped_early) == (2, 6, True)
    result, _, _ = fit_script(f1s, tmp_path, patience=2, patience_steps=4 * epoch_steps + 1)
    assert (result.best_epoch, len(result.history), result.stopped_early) == (7, 7, False)


def test_without_patience_every_epoch_runs(tmp_path: Path) -> None:
    result, _, _ = fit_script([0.9] + [0.1] * 7, tmp_path, patience=0)
    assert (result.best_epoch, len(result.history)) == (1, 8)


def test_without_dev_the_last_epoch_is_kept(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "lstm", epochs=3, patience=1)
    predictor = make_predictor(settings)
    spy = Spy(predictor)
    result = fit_tiny(predictor, settings.train, observer=spy)
    assert (result.best_epoch, result.stopped_early) == (3, False)
    assert equal(weights_of(predictor), spy.weights[2])
    assert all(report.dev is None for report in result.history)


def test_the_observer_sees_every_epoch_to_its_end(tmp_path: Path) -> None:
    _, predictor, spy = fit_script([0.1, 0.2], tmp_path, batch_tokens=30)
    lengths = [len(w.piece_ids) for w in examples_of(predictor).windows]
    totals = [
        len(epoch_batches(lengths, budget_tokens=30, seed=1, epoch=epoch)) for epoch in (1, 2)
    ]
    assert spy.batches == [(1, totals[0], totals[0]), (2, totals[1], totals[1])]


# Seeds


def outcome(folder: Path, variant: str, seed: int) -> tuple[list[float], dict[str, Tensor]]:
    settings = make_settings(folder, variant, {"run": {"seed": seed}})
    predictor = make_predictor(settings, noise=0)
    result = fit_tiny(predictor, settings.train, seed=seed)
    return [report.loss for report in result.history], weights_of(predictor)


@pytest.mark.parametrize("variant", ["lstm-crf", "lora", "full"])
def test_the_seed_decides_the_numbers(variant: str, tmp_path: Path) -> None:
    losses, weights = outcome(tmp_path, variant, seed=3)
    losses_again, weights_again = outcome(tmp_path, variant, seed=3)
    assert losses == losses_again
    assert equal(weights, weights_again)
    other_losses, other_weights = outcome(tmp_path, variant, seed=4)
    assert losses != other_losses
    assert not equal(weights, other_weights)


def test_the_same_seed_gives_the_same_record(tmp_path: Path) -> None:
    """Through the whole run, although the second one comes later in the same process."""
    records = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.rand(7)  # what was drawn before must not matter
        records.append(train(settings_of(tmp_path / name, "lora", epochs=2), score_test=True))
    one, other = ([(e["loss"], e["dev"]) for e in r["epochs"]] for r in records)
    assert one == other
    assert records[0]["test"] == records[1]["test"]


def test_more_epochs_of_windows_than_documents(tmp_path: Path) -> None:
    """A text of several windows: each unit is trained on once an epoch."""
    long = Document("王小明在北京。" * 30, tuple(Entity(7 * i, 7 * i + 3, "X") for i in range(30)))
    write_jsonl(tmp_path / "data.jsonl", [long])
    settings = make_settings(tmp_path, "full", {"train": {"epochs": 1}})
    predictor = make_predictor(settings)
    tagset = predictor.tagset.from_labels(["X"])
    examples = prepare_examples([long], predictor.segmenter, SoftmaxHead(tagset))
    assert len(examples.windows) > 3
    assert examples.num_units == len(long.text)
    assert sum(tags.count(tagset.encode(["B-X"])[0]) for tags in examples.targets) == 30
    assert examples.coverage.lost == []
    assert train(settings)["epochs"][0]["loss"] > 0


def test_a_paused_run_lets_its_weights_go(tmp_path: Path) -> None:
    """At once: many follow each other in one process, on one GPU."""

    class Pausing(Spy):
        def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
            raise Pause

    settings = settings_of(tmp_path, "lstm", epochs=2)
    predictor = make_predictor(settings)
    tagger = weakref.ref(predictor.tagger)
    gc.collect()
    gc.disable()
    try:
        try:
            fit_tiny(predictor, settings.train, observer=Pausing(predictor))
        except Pause:
            del predictor
        assert tagger() is None
    finally:
        gc.enable()


# What is fast must change nothing


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["full", "lora-crf"])
def test_a_compiled_model_learns_the_same(variant: str, tmp_path: Path) -> None:
    results = []
    for compiled in (False, True):
        # Not Adam, which blows rounding of tiny gradients up to whole steps.
        settings = settings_of(
            tmp_path,
            variant,
            epochs=2,
            compile=compiled,
            optimizer="sgd",
            **tiny_rates(0.05, VARIANTS[variant]),
        )
        predictor = make_predictor(settings)
        for module in predictor.tagger.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # their masks differ
        results.append((fit_tiny(predictor, settings.train), trainable_tensors(predictor.tagger)))
        parts = predictor.tagger.modules()
        assert any(part._compiled_call_impl is not None for part in parts) == compiled
    (plain, weights), (fast, others) = results
    assert [r.loss for r in fast.history] == pytest.approx([r.loss for r in plain.history], 1e-3)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-2, atol=1e-3)


def test_what_is_prepared_ahead_keeps_its_order_and_its_errors() -> None:
    assert list(_map_ahead(str, range(5))) == list("01234")
    assert list(_map_ahead(str, [7])) == ["7"]
    assert list(_map_ahead(str, [])) == []
    ahead = _map_ahead(lambda n: 1 / n, [1, 0, 1])
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)


class PauseAfter(Observer):
    """An observer that wants to leave after so many epochs."""

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.resumed: list[tuple[int, int]] = []

    def on_resume(self, epoch: int, batch: int) -> None:
        self.resumed.append((epoch, batch))

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        pass

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        if report.epoch >= self.epochs:
            raise Pause


def test_a_paused_run_goes_on_as_if_it_had_not_paused(tmp_path: Path) -> None:
    def settings(name: str) -> Settings:
        overrides = {"run": {"dir": str(tmp_path / name)}, "train": {"epochs": 4}}
        return make_settings(tmp_path, "full", overrides)

    whole = train(settings("whole"))
    paused = settings("paused")
    for epochs in (1, 3):
        observer = PauseAfter(epochs)
        with pytest.raises(Pause):
            train(paused, resume=epochs > 1, observers=[observer])
    assert observer.resumed == [(2, 0)]  # the first epoch was not done again
    assert not (tmp_path / "paused" / "record.json").exists()
    # In the last epoch there is nothing to go on with: it ends as any run.
    (saved,) = (tmp_path / "paused" / "checkpoints").glob("step-*")
    before = json.loads((saved / "state.json").read_text())["state"]["progress"]["elapsed"]
    began = time.perf_counter()
    record = train(paused, resume=True, observers=[PauseAfter(4)])
    assert before > 0
    # The seconds of all lives: this one's cannot be more than what it took.
    assert before < record["seconds"] <= before + time.perf_counter() - began
    assert [e["loss"] for e in record["epochs"]] == [e["loss"] for e in whole["epochs"]]
    models = [sorted((tmp_path / name).rglob("*.safetensors")) for name in ("whole", "paused")]
    assert [f.name for f in models[0]] == [f.name for f in models[1]] != []
    for one, other in zip(*models, strict=True):
        assert one.read_bytes() == other.read_bytes()
