"""Frozen layers that run once: the same training, to rounding, as when they run in every epoch."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from torch import Tensor

import nertune.experiments.fitting as experiment
from helpers import shown as show
from helpers.children import KILLED, Bomb, train_in_child
from helpers.fitting import fit
from helpers.tiny import SENTENCES, VARIANTS, make_predictor, make_settings, tiny_rates
from nertune.config.run import Settings
from nertune.inference.predictor import Predictor
from nertune.models.encoder import EncoderEmitter
from nertune.models.frozen_layers import FrozenPrefix
from nertune.training.examples import prepare_examples
from nertune.training.progress import trainable_tensors
from nertune.training.stores.hidden_state_cache import StateStore, count_state_bytes, store_states

TOP = {"layers": "top-1", "dropout": 0.2, "targets": ["query", "value"]}


def settings_of(folder: Path, variant: str = "lora", **train_values: Any) -> Settings:
    sections = {"train": {"patience": 0, **train_values}}
    if variant.startswith("lora"):
        sections["lora"] = TOP
    return make_settings(folder, variant, sections)


def states_of(predictor: Predictor, folder: Path, precision: str = "no") -> StateStore:
    examples = prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    return store_states(
        predictor.tagger, examples.windows, pad_id=0, folder=folder,
        accelerator=Accelerator(cpu=True, mixed_precision=precision),
    )  # fmt: skip


def trained(folder: Path, settings: Settings, *, stored: bool) -> dict[str, Tensor]:
    """The weights after some epochs, the frozen layers without dropout either way."""
    predictor = make_predictor(settings)
    emitter = predictor.tagger.emitter
    assert isinstance(emitter, EncoderEmitter)
    if not stored:  # the plain way, but for the dropout below
        whole = emitter.forward

        def without_dropout_below(ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
            prefix = FrozenPrefix.of(emitter.model)
            if not emitter.training:
                return whole(ids_BL, attention_BL)
            assert prefix is not None
            below = [prefix._backbone.embeddings, *prefix._lower]
            for module in below:
                module.eval()
            try:
                return whole(ids_BL, attention_BL)
            finally:
                for module in below:
                    module.train()

        emitter.forward = without_dropout_below  # type: ignore[method-assign, assignment]
    torch.manual_seed(7)
    fit(
        predictor.tagger,
        prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head),
        settings.train,
        accelerator=Accelerator(cpu=True),
        seed=7,
        pad_id=0,
        states=states_of(predictor, folder) if stored else None,
    )
    return trainable_tensors(predictor.tagger)


@pytest.mark.parametrize("variant", ["lora", "lora-crf", "frozen"])
def test_the_same_training_to_rounding(variant: str, tmp_path: Path) -> None:
    """With dropout above the frozen layers drawn alike."""
    settings = settings_of(
        tmp_path, variant, epochs=4, optimizer="sgd", **tiny_rates(0.05, VARIANTS[variant])
    )
    start = {n: t.clone() for n, t in trainable_tensors(make_predictor(settings).tagger).items()}
    plain = trained(tmp_path, settings, stored=False)
    stored = trained(tmp_path, settings, stored=True)
    assert plain.keys() == stored.keys()
    moved = max(float((plain[name] - start[name]).abs().max()) for name in plain)
    assert moved > 0.01
    for name, expected in plain.items():
        torch.testing.assert_close(stored[name], expected, rtol=1e-4, atol=1e-5)


def test_a_run_uses_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    states = FrozenPrefix.states

    def counted(self: FrozenPrefix, ids_BL: Tensor, attention_BL: Tensor) -> Tensor:
        calls.append(len(ids_BL))
        return states(self, ids_BL, attention_BL)

    monkeypatch.setattr(FrozenPrefix, "states", counted)
    said = io.StringIO()
    record = show.train(
        settings_of(tmp_path, epochs=30, **tiny_rates(0.03, VARIANTS["lora"])),
        console=Console(file=said, width=200),
    )
    assert sum(calls) == len(SENTENCES)  # once, whatever the epochs
    assert "the frozen layers ran once" in said.getvalue()
    assert "there is no dropout in them" in said.getvalue()
    assert record["frozen_layers"]["run_once"]
    assert record["frozen_layers"]["bytes"] > 1000
    assert record["epochs"][-1]["loss"] < record["epochs"][0]["loss"] / 2
    assert not [p for p in (tmp_path / "run").iterdir() if "states" in p.name]


@pytest.mark.parametrize(
    ("variant", "gib", "said"),
    [
        ("lora", 0.0, ""),  # switched off
        ("lora", 1e-9, "the frozen layers run in every epoch: what they give takes"),
        ("full", 16.0, ""),
        ("lstm", 16.0, ""),
    ],
)
def test_where_it_is_not_used(
    variant: str, gib: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "store_states", lambda *_, **__: pytest.fail("stored"))
    shown = io.StringIO()
    settings = settings_of(tmp_path, variant, cache_gib=gib, epochs=1)
    record = show.train(settings, console=Console(file=shown, width=200))
    assert record["frozen_layers"] == {"run_once": False, "seconds": 0.0, "bytes": 0}
    assert said in shown.getvalue()
    assert ("frozen layers" in shown.getvalue()) == bool(said)


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiment, "store_states", full)
    shown = io.StringIO()
    record = show.train(settings_of(tmp_path, epochs=1), console=Console(file=shown, width=200))
    assert "run in every epoch: no room for what they give" in shown.getvalue()
    assert not record["frozen_layers"]["run_once"]


def test_killed_and_resumed(tmp_path: Path) -> None:
    values = {"epochs": 4, "checkpoint_steps": 2, "batch_tokens": 30}
    whole, killed = (
        make_settings(
            tmp_path, "lora",
            {"run": {"dir": str(tmp_path / name)}, "lora": TOP, "train": {"patience": 0, **values}},
        )
        for name in ("whole", "killed")
    )  # fmt: skip
    assert train_in_child(whole) == 0
    bomb = Bomb("nertune.training.trainer:rate_factor", call=7)
    assert train_in_child(killed, bomb=bomb) == KILLED
    assert train_in_child(killed, resume=True) == 0
    one, other = (
        (settings.run.dir / "model" / "adapter_model.safetensors").read_bytes()
        for settings in (whole, killed)
    )
    assert one == other


def open_files(folder: Path) -> int:
    """Of this process, in a folder, those without a name too."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith(f"{folder}/") for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted on Linux")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_store(on_disk: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    lengths, width = [3, 1, 5], 4
    store = StateStore(
        lengths, width, folder=tmp_path / "run", dtype=dtype,
        in_memory_bytes=0 if on_disk else 10_000,
    )  # fmt: skip
    assert store.is_on_disk is on_disk
    rows = [torch.full((n, width), i + 1.0) for i, n in enumerate(lengths)]
    for i in (2, 0, 1):
        store.put(i, rows[i])
    states_BLD = store.batch([2, 1])
    assert states_BLD.shape == (2, 5, width)
    assert states_BLD.dtype == torch.float32
    assert states_BLD[0].eq(3).all()
    assert states_BLD[1, :1].eq(2).all()
    assert states_BLD[1, 1:].eq(0).all()
    assert bool(open_files(tmp_path / "run")) == on_disk
    store.close()
    assert open_files(tmp_path / "run") == 0
    assert not on_disk or list((tmp_path / "run").iterdir()) == []
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def size_of(folder: Path, variant: str, precision: str = "no") -> int:
    predictor = make_predictor(settings_of(folder, variant))
    examples = prepare_examples(SENTENCES, predictor.segmenter, predictor.tagger.head)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    return count_state_bytes(predictor.tagger, examples.lengths, accelerator)


def test_how_much_it_takes(tmp_path: Path) -> None:
    pieces = sum(len(d.text) + 2 for d in SENTENCES)
    assert size_of(tmp_path, "lora") == size_of(tmp_path, "frozen") == pieces * 32 * 4
    assert size_of(tmp_path, "lora", "bf16") == pieces * 32 * 2
    assert size_of(tmp_path, "full") == size_of(tmp_path, "lstm") == 0


def test_states_of_bfloat16_are_those_of_float32_rounded(tmp_path: Path) -> None:
    predictor = make_predictor(settings_of(tmp_path))
    AcceleratorState._reset_state(reset_partial_state=True)
    exact = states_of(predictor, tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    rounded = states_of(predictor, tmp_path, "bf16")
    windows = range(len(SENTENCES))
    exact_BLD, rounded_BLD = exact.batch(windows), rounded.batch(windows)
    assert torch.equal(rounded_BLD, rounded_BLD.bfloat16().float())
    torch.testing.assert_close(rounded_BLD, exact_BLD, rtol=0.05, atol=0.05)
    assert not torch.equal(rounded_BLD, exact_BLD)
