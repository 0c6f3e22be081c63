"""When checkpoints are written, what an interrupt leaves, and that what diverged is never kept."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from helpers import shown
from helpers.fitting import fit
from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings
from nertune.errors import ModelError, TrainingError
from nertune.inference.predictor import Predictor
from nertune.models.tagger import Tagger
from nertune.training.checkpoint import Checkpoint, CheckpointStore
from nertune.training.examples import prepare_examples
from nertune.training.trainer import FitResult


def settings_of(folder: Path, variant: str = "full", **train_values: Any) -> Settings:
    values = {"epochs": 4, "patience": 0, "batch_tokens": 30} | train_values
    return make_settings(folder, variant, {"run": {"dir": str(folder / "run")}, "train": values})


class CountingStore(CheckpointStore):
    """Notes the steps of what is saved."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.steps: list[int] = []

    def save(self, checkpoint: Checkpoint) -> None:
        self.steps.append(checkpoint.step)
        super().save(checkpoint)


def fit_with(
    settings: Settings,
    predictor: Predictor,
    store: CheckpointStore,
    clock: Callable[[], float],
    **options: Any,
) -> FitResult:
    torch.manual_seed(1)
    return fit(
        predictor.tagger,
        prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head),
        settings.train,
        accelerator=Accelerator(cpu=True),
        seed=1,
        pad_id=predictor.segmenter.tokenizer.pad_id,
        checkpoints=store,
        clock=clock,
        **options,
    )


class Steps:
    """A clock that goes on by a minute with every optimizer step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.minutes = 0
        plain = torch.optim.AdamW.step

        def step(*args: Any, **kwargs: Any) -> Any:
            self.minutes += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", step)

    def __call__(self) -> float:
        return 60.0 * self.minutes


@pytest.mark.parametrize(
    ("values", "period"),
    [
        ({"checkpoint_minutes": 3}, 3),
        ({"checkpoint_minutes": 3, "checkpoint_steps": 2}, 2),
        ({"checkpoint_minutes": 1000}, None),
        ({}, 5),  # the default
    ],
)
def test_checkpoints_come_by_the_clock(
    values: dict[str, Any], period: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, **values)
    store = CountingStore(tmp_path / "checkpoints")
    clock = Steps(monkeypatch)
    fit_with(settings, make_predictor(settings), store, clock)
    assert clock.minutes >= 12
    expected = range(period, clock.minutes + 1, period) if period else []
    assert store.steps == list(expected)


def test_no_minutes_mean_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, checkpoint_minutes=0)
    store = CountingStore(tmp_path / "checkpoints")
    clock = Steps(monkeypatch)
    fit_with(settings, make_predictor(settings), store, clock)
    assert len(store.steps) == 4
    assert store.steps[-1] == clock.minutes


def test_the_best_weights_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each checkpoint: they change only when an epoch is the best so far."""
    import nertune.training.checkpoint as module

    written: list[str] = []
    plain = module.save_file

    def save_file(tensors: Any, path: Path) -> None:
        written.append(Path(path).stem)
        plain(tensors, path)

    monkeypatch.setattr(module, "save_file", save_file)
    settings = settings_of(tmp_path, epochs=5, checkpoint_minutes=0)
    script = iter([0.5, 0.4, 0.6, 0.5, 0.5])
    fit_with(
        settings,
        make_predictor(settings),
        CheckpointStore(tmp_path / "checkpoints"),
        lambda: 0.0,
        evaluate=lambda: dict.fromkeys(("precision", "recall", "f1"), next(script)),
    )
    assert written.count("weights") == 5
    assert written.count("best") == 2


# Interrupts


def quiet(settings: Settings, **options: Any) -> str:
    stream = io.StringIO()
    shown.train(settings, console=Console(file=stream, width=200), **options)
    return stream.getvalue()


def interrupt(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, *, after: bool
) -> None:
    """Ctrl-C at the n-th call of a function, before or after its work."""
    plain = getattr(owner, name)
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KeyboardInterrupt
        result = plain(*args, **kwargs)
        if calls == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


PLACES = {
    "forward": (Tagger, "forward", 9, True),
    "loss seen": ("nertune.experiments.progress.RunLog", "on_batch", 2, True),
    "evaluation": ("nertune.experiments.fitting", "_scores", 2, False),
    "epoch told": ("nertune.experiments.progress.RunLog", "on_epoch", 2, True),
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_leaves_a_checkpoint_to_go_on_from(
    place: str, accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the clock asks for none; and the weights end the same to the bit."""
    values = {"accumulate": accumulate, "checkpoint_minutes": 1000}
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = settings_of(tmp_path / "whole", "lora-crf", **values)
    quiet(whole)
    cut = settings_of(tmp_path / "cut", "lora-crf", **values)
    owner, name, call, after = PLACES[place]
    with monkeypatch.context() as patch:
        if isinstance(owner, str):
            module, _, attribute = owner.rpartition(".")
            imported = __import__(module, fromlist=[attribute])
            owner = getattr(imported, attribute)
        interrupt(patch, owner, name, call, after=after)
        with pytest.raises(KeyboardInterrupt):
            quiet(cut)
    saved = CheckpointStore(cut.run.dir / "checkpoints").latest()
    assert saved is not None
    assert saved.step > 0
    assert "resumed: epoch" in quiet(cut, resume=True)
    hashes = [read_manifest(s.run.dir / "model").files for s in (whole, cut)]
    for name in ("adapter_model.safetensors", "crf.safetensors"):
        assert hashes[0][name] == hashes[1][name]


def test_an_interrupt_within_a_step_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, checkpoint_minutes=0)
    with monkeypatch.context() as patch:
        interrupt(patch, torch.optim.AdamW, "step", 8, after=True)
        with pytest.raises(KeyboardInterrupt):
            quiet(settings)
    saved = CheckpointStore(settings.run.dir / "checkpoints").latest()
    assert saved is not None
    assert saved.state["progress"]["batch"] == 0  # that of the epoch before


# Divergence


RATES = ("learning_rate", "head_learning_rate", "crf_learning_rate")


def diverging(folder: Path, variant: str = "full-crf", **values: Any) -> Settings:
    given = {"optimizer": "sgd", "clip_norm": 0, **dict.fromkeys(RATES, 10)}
    return settings_of(folder, variant, **given | values)


def test_a_rate_that_is_much_too_high_is_named(tmp_path: Path) -> None:
    settings = diverging(tmp_path, epochs=40)
    told = (
        r"training diverged: the .* no longer finite in epoch \d+, batch \d+: "
        r"lower train\.learning_rate \(now 10\)"
    )
    with pytest.raises(TrainingError, match=told) as caught:
        quiet(settings)
    message = str(caught.value)
    assert all(f"train.{key} (now 10)" in message for key in RATES)
    assert "train.clip_norm" in message
    assert "broken" not in message
    assert "\n" not in message


def poison(monkeypatch: pytest.MonkeyPatch, at_step: int) -> None:
    """Weights that turn to NaN in a step whose loss is finite."""
    plain = torch.optim.AdamW.step
    calls = 0

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = plain(self, *args, **kwargs)
        if calls == at_step:
            with torch.no_grad():
                self.param_groups[-1]["params"][0].view(-1)[0] = math.nan
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)


def test_nan_weights_behind_a_finite_loss_are_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last step of an epoch no loss tells of them, and without dev nothing else does."""
    settings = settings_of(tmp_path, checkpoint_minutes=0)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"dev": ""})})
    store = CountingStore(tmp_path / "checkpoints")
    clock = Steps(monkeypatch)
    fit_with(settings, make_predictor(settings), store, clock)
    last = store.steps[1]  # of the second epoch
    poison(monkeypatch, at_step=last)
    with pytest.raises(
        TrainingError, match="diverged: the weights are no longer finite in epoch 2"
    ):
        quiet(settings)
    saved = CheckpointStore(settings.run.dir / "checkpoints").latest()
    assert saved is not None
    assert saved.state["progress"]["epoch"] == 2
    assert saved.state["progress"]["batch"] == 0
    for tensors in (saved.weights, saved.best):
        assert all(bool(t.isfinite().all()) for t in tensors.values())
    assert not (settings.run.dir / "model").exists()


def test_nan_weights_are_in_no_checkpoint_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, checkpoint_steps=1)
    poison(monkeypatch, at_step=3)
    with pytest.raises(TrainingError, match="diverged: the weights"):
        quiet(settings)
    saved = CheckpointStore(settings.run.dir / "checkpoints").latest()
    assert saved is not None
    assert saved.step == 2


def test_an_interrupt_of_a_run_that_diverged_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, checkpoint_minutes=0)
    poison(monkeypatch, at_step=6)
    interrupt(monkeypatch, Tagger, "forward", 7, after=False)
    with pytest.raises(KeyboardInterrupt):
        quiet(settings)
    saved = CheckpointStore(settings.run.dir / "checkpoints").latest()
    assert saved is not None
    assert saved.state["progress"]["epoch"] == 2
    assert saved.state["progress"]["batch"] == 0


def test_logits_on_dev_that_are_not_finite_are_divergence_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite weights whose products overflow; a saved model's own message stays another."""
    settings = settings_of(tmp_path, "lstm-crf")
    plain = Tagger.emit

    def overflowing(self: Tagger, batch: Any) -> Any:
        return [math.inf * scores for scores in plain(self, batch)]

    monkeypatch.setattr(Tagger, "emit", overflowing)
    with pytest.raises(TrainingError, match="diverged: the logits on dev are no longer finite"):
        quiet(settings)
    with pytest.raises(ModelError, match="weights are not finite, or too large"):
        make_predictor(settings).tag(SENTENCES[0].text)
