"""The loop: it learns, it spends its budget, and it resumes exactly where it was stopped."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.pretraining import Killed, Run, Watcher, make_model, pretrainer, run, weights
from helpers.raw_text import made_up_lines, prepare_text, tiny_tokenizer
from nertune.config.run import LoraSettings
from nertune.errors import CheckpointError, DataError, TrainingError
from nertune.pretraining.masking import choose_masked
from nertune.pretraining.model import PretrainingModel
from nertune.pretraining.optimizers import build_optimizers
from nertune.pretraining.schedule import Schedule
from nertune.training.checkpoint import Checkpoints


def assert_same(one: PretrainingModel, other: PretrainingModel) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def differ(one: PretrainingModel, other: PretrainingModel) -> bool:
    first, second = weights(one), weights(other)
    return any(not torch.equal(first[name], second[name]) for name in first)


# Learning


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_losses_go_down(optimizer: str, tmp_path: Path) -> None:
    """Below what the frequencies of the tokens give, so what stands around them is used."""
    it = run(
        tmp_path / "run",
        optimizer=optimizer,
        rate=1e-2,
        words="jieba",
        masking="piece",
        tokens=20_000,
        checkpoint_steps=20,
    )
    words = ["北京学校", "上海新闻", "广州火车", "电影音乐", "王明", "李华"]
    draw = random.Random(0)
    it.lines = tuple("".join(draw.choices(words, k=8)) for _ in range(200))
    held_out = it.text().held_out()
    model, watcher = make_model(it.settings), Watcher()
    before = pretrainer(model, it.settings).measure(held_out)
    model, progress = it.go(watcher)
    after = pretrainer(model, it.settings).measure(held_out)
    assert before["loss"] == pytest.approx(math.log(tiny_tokenizer().vocabulary_size), abs=0.3)
    counts = np.bincount(held_out.ids)
    shares = counts[counts > 0] / len(held_out)
    assert after["loss"] < -(shares * np.log(shares)).sum() - 0.3
    assert after["tag_loss"] < 0.3 * before["tag_loss"]
    assert watcher.losses[-1] < watcher.losses[0] - 1
    assert progress.history[-1]["tag_loss"] < 0.5 * progress.history[0]["tag_loss"]


def test_the_budget_is_spent(tmp_path: Path) -> None:
    watcher = Watcher()
    it = run(tmp_path / "run", tokens=2000, checkpoint_steps=1)
    _, progress = it.go(watcher)
    assert progress.step == 8  # of 256 tokens: the first with which 2000 are reached
    assert progress.tokens == 2048
    assert progress.text_tokens == 8 * 8 * 30  # rows of 32, of which two are special
    assert watcher.told == [(i, 256 * i, 2000) for i in range(1, 9)]
    assert [line["step"] for line in progress.history] == list(range(1, 9))
    assert progress.seconds > 0
    found = it.checkpoints.latest()
    assert found is not None
    assert found.step == 8


def test_short_rows_and_a_growing_batch(tmp_path: Path) -> None:
    watcher = Watcher()
    it = run(
        tmp_path / "run",
        tokens=3000,
        short_length=16,
        short_share=0.5,
        ramp=0.4,
        checkpoint_steps=1,
    )
    _, progress = it.go(watcher)
    steps = [b[1] - a[1] for a, b in zip([(0, 0, 0), *watcher.told], watcher.told, strict=False)]
    assert steps[0] == 64
    assert steps[:6] == sorted(steps[:6])
    assert steps[-1] == 256
    assert progress.cursor.length == 30


def test_long_rows_at_the_end(tmp_path: Path) -> None:
    """The last steps have as many tokens in fewer rows; a kill on either side changes nothing."""
    watcher = Watcher()
    it = run(tmp_path / "run", tokens=4000, long_length=64, long_share=0.25, checkpoint_steps=1)
    _, progress = it.go(watcher)
    assert [tokens for _, tokens, _ in watcher.told] == [256 * i for i in range(1, 17)]
    assert progress.cursor.length == 62
    # Of 32 tokens two are special, of 64 too: 12 steps of 8 rows of 30, 4 steps of 4 rows of 62.
    assert progress.text_tokens == 12 * 8 * 30 + 4 * 4 * 62


def test_what_is_seen_of_the_text(tmp_path: Path) -> None:
    """Over several epochs and blocks, each row of each epoch once."""
    it = run(tmp_path / "run", tokens=20_000, block_tokens=1500)
    _, progress = it.go()
    per_epoch, number = 0, 0
    while (block := it.text().block(number)) is not None:
        per_epoch += len(block) // 30
        number += 1
    assert number > 3
    rows = progress.text_tokens // 30
    assert progress.cursor.epoch == rows // per_epoch > 2


@pytest.mark.parametrize("masking", ["word", "span", "piece"])
def test_ways_of_masking(masking: str, tmp_path: Path) -> None:
    model, progress = run(tmp_path / "run", masking=masking).go()
    assert math.isfinite(progress.history[-1]["loss"])
    assert all(p.isfinite().all() for p in model.parameters())


def test_ways_of_masking_differ(tmp_path: Path) -> None:
    models = [
        run(tmp_path / masking, masking=masking, tokens=500).go()[0]
        for masking in ("word", "span", "piece")
    ]
    assert differ(models[0], models[1])
    assert differ(models[1], models[2])
    assert differ(models[0], models[2])


def test_a_batch_in_parts_is_about_the_same_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tokens are masked, but as many, of the same rows, with as large a gradient."""
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def clip_and_tell(*args: Any) -> Tensor:
        norms.append(float(clip(*args)))
        return torch.tensor(norms[-1])

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_and_tell)
    values = {"tokens": 8000, "batch_tokens": 1024, "rate": 3e-3}
    whole = run(tmp_path / "whole", **values)
    parts = run(tmp_path / "parts", micro_tokens=300, **values)
    (one, first), (other, second) = whole.go(), parts.go()
    assert (first.step, first.tokens, first.cursor) == (second.step, second.tokens, second.cursor)
    assert first.history[-1]["loss"] == pytest.approx(second.history[-1]["loss"], abs=0.05)
    assert len(norms) == 16
    assert sum(norms[:8]) == pytest.approx(sum(norms[8:]), rel=0.2)
    assert differ(one, other)


def test_the_rate_follows_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = run(tmp_path / "run", checkpoint_steps=1, warmup=0.3, optimizer="muon")
    built: list[Any] = []

    def build(*args: Any) -> Any:
        built.extend(build_optimizers(*args))
        return built

    rates: list[list[float]] = []

    class Reader(Watcher):
        def on_steps(self, *args: Any) -> None:
            rates.append([g["lr"] / g["peak"] for o, _ in built for g in o.param_groups])

    monkeypatch.setattr("nertune.pretraining.loop.build_optimizers", build)
    it.go(Reader())
    schedule = Schedule(it.settings, 2000)
    assert len(rates) == 8
    for step, found in enumerate(rates):
        expected = schedule.rate(256 * step + 128)  # in the middle of the step
        assert found == pytest.approx([expected] * 4)


def test_no_dropout(tmp_path: Path) -> None:
    it = run(tmp_path / "run", tokens=500)
    model, _ = it.go()
    assert not any(module.training for module in model.modules())


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    it = run(tmp_path / "run", rate=10.0, muon_rate=10.0, optimizer="muon", clip_norm=0,
             weight_decay=1e6, warmup=0, checkpoint_steps=3)  # fmt: skip
    with pytest.raises(TrainingError, match=r"no longer finite at step \d+: lower rate"):
        it.go()
    saved = it.checkpoints.latest()
    assert saved is None or all(t.isfinite().all() for t in saved.weights.values())


def test_a_text_that_is_shorter_than_a_row(tmp_path: Path) -> None:
    it = run(tmp_path / "run")
    text = prepare_text(tmp_path / "short", made_up_lines()[:1], held_out=0.0)
    with pytest.raises(DataError, match="shorter than one row of 30 tokens"):
        pretrainer(make_model(it.settings), it.settings).train(
            text, 1000, checkpoints=Checkpoints(it.checkpoints), observer=Watcher()
        )


# Seeds and resuming


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    one, again, other = (
        run(tmp_path / name, seed=seed).go()
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert_same(one[0], again[0])
    assert one[1].history[-1]["loss"] == again[1].history[-1]["loss"]
    assert differ(one[0], other[0])


def test_other_tokens_are_masked_in_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []

    def choose_and_tell(*args: Any, **kwargs: Any) -> Any:
        masked = choose_masked(*args, **kwargs)
        drawn.append(masked.tobytes())
        return masked

    monkeypatch.setattr("nertune.pretraining.batches.choose_masked", choose_and_tell)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(tmp_path / name, seed=seed, masking="piece").go()
    one, again, other = drawn[:8], drawn[8:16], drawn[16:]
    assert one == again
    assert len({*one, *other}) == 16


# Each with another optimizer, masking, rows and model, so that all state counts.
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "muon": {"optimizer": "muon", "masking": "span", "micro_tokens": 100, "block_tokens": 1000},
    "tags": {"words": "jieba", "masking": "piece", "clip_norm": 0},
    "growing": {"short_length": 16, "ramp": 0.5, "block_tokens": 1000, "tokens": 2500},
    "entities": {"words": "jieba", "entity_mask_share": 0.5, "entity_weight": 3.0},
    "long": {"long_length": 64, "long_share": 0.4, "block_tokens": 1000, "tokens": 3000},
    "long, bert": {"short_length": 16, "short_share": 0.4, "long_length": 48, "long_share": 0.4},
    "lora": {"lora": True, "adapter": LoraSettings(dropout=0.0, rank=2, targets=("query",))},
    "modernbert": {"architecture": "modernbert", "optimizer": "muon"},
}


def resumable(folder: Path, name: str) -> Run:
    values = {"checkpoint_steps": 2, "warmup": 0.3, **RUNS[name]}
    lora = values.pop("lora", False)
    return run(folder, lora=lora, **values)


@pytest.mark.parametrize("name", RUNS)
def test_resumed_is_uninterrupted(name: str, tmp_path: Path) -> None:
    """Killed before the first checkpoint, behind it, and at the last step."""
    expected, progress = resumable(tmp_path / "whole", name).go()
    assert progress.step >= 8
    it = resumable(tmp_path / "killed", name)
    for number, step in enumerate((2, 4, 6, progress.step)):
        with pytest.raises(Killed):
            it.go(Watcher(dies_at=step), resume=number > 0)
        saved = it.checkpoints.latest()
        assert (saved.step if saved else 0) == ((step - 1) // 2) * 2
    found, resumed = it.go(resume=True)
    assert_same(found, expected)
    assert (resumed.step, resumed.tokens, resumed.text_tokens, resumed.cursor) == (
        progress.step,
        progress.tokens,
        progress.text_tokens,
        progress.cursor,
    )
    without_times = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in p.history]
        for p in (resumed, progress)
    ]
    assert without_times[0] == without_times[1]


def test_a_finished_run_has_nothing_to_do(tmp_path: Path) -> None:
    it = run(tmp_path / "run")
    expected, progress = it.go()
    watcher = Watcher()
    found, again = it.go(watcher, resume=True)
    assert_same(found, expected)
    assert watcher.told == []
    assert again == progress


def test_resuming_without_a_checkpoint(tmp_path: Path) -> None:
    expected, _ = run(tmp_path / "one").go()
    found, _ = run(tmp_path / "other").go(resume=True)
    assert_same(found, expected)


def test_the_time_of_both_halves_counts(tmp_path: Path) -> None:
    it = run(tmp_path / "run", checkpoint_steps=2)
    with pytest.raises(Killed):
        it.go(Watcher(dies_at=6))
    saved = it.checkpoints.latest()
    assert saved is not None
    _, progress = it.go(resume=True)
    assert progress.seconds > saved.state["progress"]["seconds"] > 0


@pytest.mark.parametrize(
    "changed", [{"rate": 2, "text": "a"}, {"rate": 1, "text": "b"}, {"rate": 1}, {"new": 1}]
)
def test_a_run_of_other_settings(changed: dict[str, Any], tmp_path: Path) -> None:
    it = run(tmp_path / "run", checkpoint_steps=2)
    with pytest.raises(Killed):
        it.go(Watcher(dies_at=4))
    it.fingerprint = changed
    with pytest.raises(CheckpointError, match=r"cannot resume: (rate|text|new) was .*--overwrite"):
        it.go(resume=True)


def test_a_run_of_another_model(tmp_path: Path) -> None:
    it = run(tmp_path / "run", checkpoint_steps=2)
    with pytest.raises(Killed):
        it.go(Watcher(dies_at=4))
    it.settings = it.settings.model_copy(update={"words": "jieba"})
    with pytest.raises(CheckpointError, match="of another model"):
        it.go(resume=True)


# Measuring


def test_measuring_is_repeatable_and_changes_nothing(tmp_path: Path) -> None:
    it = run(tmp_path / "run")
    model, held_out = make_model(it.settings).train(), it.text().held_out()
    before = weights(model)
    torch.manual_seed(0)
    first = pretrainer(model, it.settings).measure(held_out)
    torch.manual_seed(1)
    assert first == pretrainer(model, it.settings).measure(held_out)
    assert first.keys() == {"loss", "perplexity", "pieces"}
    assert first["perplexity"] == pytest.approx(math.exp(first["loss"]))
    share = first["pieces"] / (len(held_out) // 30 * 30)
    assert abs(share - 0.2) < 0.06
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_measuring_a_part(tmp_path: Path) -> None:
    it = run(tmp_path / "run", words="jieba")
    model, held_out = make_model(it.settings), it.text().held_out()
    whole, part, none = (
        pretrainer(model, it.settings).measure(held_out, max_rows=max_rows)
        for max_rows in (512, 3, 0)
    )
    assert 0 < part["pieces"] < whole["pieces"]
    assert part["tag_loss"] == pytest.approx(math.log(4), abs=0.3)
    assert none == {}


def test_nothing_held_out(tmp_path: Path) -> None:
    it = run(tmp_path / "run")
    text = prepare_text(tmp_path / "all", held_out=0.0)
    found = pretrainer(make_model(it.settings), it.settings).measure(text.held_out())
    assert found == {}


def test_timing_trains_nothing(tmp_path: Path) -> None:
    it = run(tmp_path / "run", words="jieba", short_length=16)
    model = make_model(it.settings)
    before = weights(model)
    speed = pretrainer(model, it.settings).time_steps(it.text(), steps=2)
    assert 100 < speed < 10**8
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
