"""A checkpoint holds everything, or is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nertune.errors import CheckpointError
from nertune.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    CheckpointTimer,
    optimizer_tensors,
    restore_optimizer,
)


def checkpoint(step: int, **changes: Any) -> Checkpoint:
    content = {
        "state": {"loss": 0.1 + 0.2, "text": "王", "none": None},
        "weights": {"a.b": torch.randn(3, 4).t(), "half": torch.ones(2, dtype=torch.bfloat16)},
        "best": {},
        "optimizer": {"step/a.b": torch.tensor(7.0), "exp_avg/a.b": torch.randn(4, 3)},
        "rng": {"cpu": torch.get_rng_state()},
    }
    return Checkpoint(step=step, **(content | changes))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "deep" / "checkpoints")
    assert store.latest() is None
    before = checkpoint(12)
    store.save(before)
    after = store.latest()
    assert after is not None
    assert (after.step, after.state, after.best) == (12, before.state, {})
    for part in ("weights", "optimizer", "rng"):
        one, other = getattr(before, part), getattr(after, part)
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name])
            assert tensor.dtype == other[name].dtype


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (9, 10, 999, 1_000_000_000):  # the last has a digit more than the name reserves
        store.save(checkpoint(step))
        found = store.latest()
        assert found is not None
        assert found.step == step
        assert len(names_in(tmp_path)) == 1
    store.save(checkpoint(1_000_000_000, state={"again": True}))
    found = store.latest()
    assert found is not None
    assert found.state == {"again": True}
    store.clear()
    assert not tmp_path.exists()
    store.clear()


def test_drafts_of_killed_runs_go_with_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (tmp_path / ".draft-1").mkdir()
    (tmp_path / ".draft-1" / "weights.safetensors").write_bytes(b"half")
    assert store.latest() is None
    store.save(checkpoint(1))
    assert names_in(tmp_path) == ["step-000000001"]


def test_a_failed_save_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))
    monkeypatch.setattr("nertune.training.checkpoint.flush", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save(checkpoint(2))
    monkeypatch.undo()
    found = store.latest()
    assert found is not None
    assert found.step == 1


def test_the_newest_is_read_even_if_an_older_one_is_damaged(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (tmp_path / "step-000000001").mkdir()
    with pytest.raises(CheckpointError, match="damaged"):
        store.latest()
    store.save(checkpoint(2))
    assert names_in(tmp_path) == ["step-000000002"]
    (tmp_path / "step-000000001").mkdir()
    found = store.latest()
    assert found is not None
    assert found.step == 2


def test_a_state_that_was_edited(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))
    path = tmp_path / "step-000000001" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 2}))
    with pytest.raises(CheckpointError, match=r"state\.json: is not what was saved"):
        store.latest()


OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.1),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "plain sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    def build() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        # Groups in another order than the model's parameters.
        groups = [{"params": [model.bias]}, {"params": [model.weight]}]
        return model, OPTIMIZERS[name](groups)

    def step(model: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(3)).pow(2).sum().backward()
        optimizer.step()

    names = ["bias", "weight"]
    model, optimizer = build()
    for _ in range(3):
        step(model, optimizer)
    store = CheckpointStore(tmp_path)
    weights = {n: p.detach() for n, p in model.named_parameters()}
    tensors = optimizer_tensors(optimizer, names)
    store.save(checkpoint(3, weights=weights, optimizer=tensors))
    saved = store.latest()
    assert saved is not None
    other, resumed = build()
    other.load_state_dict(saved.weights)
    restore_optimizer(resumed, names, saved.optimizer)
    for _ in range(3):
        step(model, optimizer)
        step(other, resumed)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)


def test_an_optimizer_of_other_parameters() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(CheckpointError, match="of another model: it has 'b'"):
        restore_optimizer(optimizer, ["a"], {"momentum_buffer/b": torch.ones(1)})


def test_the_same_step_again_never_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run comes by the step that it was resumed from: the old one goes last."""
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(7, state={"life": 1}))

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(checkpoint(7, state={"life": 2}))
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert found.state == {"life": 1}
    store.save(checkpoint(7, state={"life": 3}))
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert found.state == {"life": 3}
    assert len(names_in(tmp_path)) == 1


def test_a_damaged_newest_one_gives_way_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill between the new one's coming and the old one's going leaves both."""
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(9, state={"number": 9}))
    monkeypatch.setattr("nertune.training.checkpoint.shutil.rmtree", lambda path: None)
    store.save(checkpoint(10, state={"number": 10}))
    monkeypatch.undo()
    assert len(names_in(tmp_path)) == 2
    (tmp_path / "step-000000010" / "weights.safetensors").write_bytes(b"half")
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert found.state == {"number": 9}
    assert "step-000000010" in caplog.text
    (tmp_path / "step-000000009" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="step-000000010"):
        store.latest()


@pytest.mark.parametrize("has_links", [True, False])
def test_best_weights_that_stayed_are_taken_over(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:

        def refuse(*_: Any) -> None:
            raise OSError(95, "not supported")

        monkeypatch.setattr("nertune.training.checkpoint.os.link", refuse)
    best = {"a": torch.randn(3)}
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save(checkpoint(step, best=best))
    resumed = CheckpointStore(tmp_path)
    found = resumed.latest()
    assert found is not None
    resumed.save(checkpoint(3, best=found.best))
    resumed.save(checkpoint(4, best={"a": torch.zeros(3)}))
    last = CheckpointStore(tmp_path).latest()
    assert last is not None
    assert torch.equal(found.best["a"], best["a"])
    assert not last.best["a"].any()


@pytest.mark.parametrize(
    ("steps", "minutes", "due"),
    [
        (0, 0.0, []),
        (3, 0.0, [3, 6, 9, 12]),
        (0, 1.0, [5, 10]),  # a step takes 12 seconds
        (4, 1.0, [4, 8, 12]),  # each restarts the clock
        (7, 1.0, [5, 7, 12]),
    ],
)
def test_when_a_checkpoint_is_due(steps: int, minutes: float, due: list[int]) -> None:
    seconds = [0.0]
    timer = CheckpointTimer(steps, minutes, lambda: seconds[0])
    found = []
    for step in range(1, 13):
        seconds[0] += 12
        if timer.is_due(step):
            found.append(step)
            timer.restart()
    assert found == due


def test_names_of_an_older_version(tmp_path: Path) -> None:
    """Version 0.1.0 called the head a decoder; that of a language model is something else."""
    weights = {"decoder.start_K": torch.ones(3), "decoder.weight": torch.ones(2)}
    optimizer = {"exp_avg/decoder.transition_KK": torch.ones(3, 3)}
    CheckpointStore(tmp_path).save(checkpoint(1, weights=weights, optimizer=optimizer))
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert found.weights.keys() == {"head.start_K", "decoder.weight"}
    assert found.optimizer.keys() == {"exp_avg/head.transition_KK"}
