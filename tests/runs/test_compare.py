"""Orchestration is tested with `FakeTrainer`, a test double: it trains nothing, it invents figures
and predictions and leaves them where a run does."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import nertune
from nertune.artifact import hash_encoder
from nertune.config import Settings, load_settings
from nertune.data.corpus import load_corpus, save_documents
from nertune.errors import ConfigError, DataError, TrainingError
from nertune.evaluation.metrics import score
from nertune.runs import child as module
from nertune.runs.child import RunRequest, run_in_subprocess
from nertune.runs.compare import (
    Comparison,
    Estimate,
    arm_names,
    compare,
)
from nertune.runs.record import describe_data
from nertune.runs.report import render_terminal, to_markdown
from nertune.runs.sizes import compare_sizes
from nertune.types import Document, Entity

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
        skill = SKILL[settings.train.rate]
        rng = random.Random(f"{request.arm} {request.seed}")
        scores: dict[str, Any] = {"dev": None, "test": None}
        for split in ("dev", "test"):
            if getattr(settings.data, split):
                gold = load_corpus(getattr(settings.data, split)).documents
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
        corpora = {
            split: load_corpus(name)
            for split in ("train", "dev", "test")
            if (name := getattr(settings.data, split))
        }
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
        path.write_text("\n".join(["[data]", *lines, "[train]", f"rate = {rate}"]))
        return path

    def compare(self, *recipes: Path, **options: Any) -> Comparison:
        self.trainer.requests.clear()
        self.messages.clear()
        return compare(
            recipes,
            **{"seeds": 2, "output": self.folder / "out"} | options,
            on_progress=self.messages.append,
            run_arm=self.trainer,
        )

    @property
    def starts(self) -> list[tuple[str, int, str]]:
        return [(r.arm, r.seed, r.start) for r in self.trainer.requests]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_trains_each_arm_with_each_seed_and_tells_them_apart(bench: Bench) -> None:
    weak, strong = bench.recipe("weak", 0.001), bench.recipe("strong", 0.002)
    comparison = bench.compare(weak, strong, seeds=3)
    assert bench.starts == [(arm, seed, "new") for seed in (1, 2, 3) for arm in ("weak", "strong")]
    assert bench.trainer.requests[0].folder == bench.folder / "out/runs/weak/seed-1"
    assert (comparison.baseline, comparison.seeds, comparison.split) == ("weak", (1, 2, 3), "test")
    first, second = comparison.arms
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.verdict == "better"
    gained = [
        strong["test"]["micro"]["f1"] - weak["test"]["micro"]["f1"]
        for weak, strong in zip(first.records, second.records, strict=True)
    ]
    assert second.difference.difference == pytest.approx(sum(gained) / 3)
    assert comparison.data["documents"] == 80
    assert comparison.types == ("LOC", "MISC", "PER")
    assert comparison.support("MISC") == 0
    assert comparison.notices == ()


def test_other_baseline_turns_the_verdict(bench: Bench) -> None:
    recipes = bench.recipe("weak", 0.001), bench.recipe("strong", 0.002)
    turned = bench.compare(*recipes, baseline="strong").arms[0].difference
    plain = bench.compare(*recipes).arms[1].difference
    assert turned is not None
    assert plain is not None
    assert turned.verdict == "worse"
    assert turned.difference == -plain.difference


def test_like_arms_are_not_told_apart(bench: Bench) -> None:
    comparison = bench.compare(bench.recipe("a", 0.001), bench.recipe("b", 0.003), seeds=3)
    difference = comparison.arms[1].difference
    assert difference is not None
    assert difference.verdict == "not distinguishable"


def test_figures_over_seeds(bench: Bench) -> None:
    arm = bench.compare(bench.recipe("a")).arms[0]
    assert (arm.trainable_parameters, arm.total_parameters, arm.trainable_share) == (
        250,
        1000,
        0.25,
    )
    # Seed 1 has epochs of 2 and 3 seconds, seed 2 one more of 4.
    assert arm.seconds_per_epoch == Estimate(2.75, pytest.approx(0.5**0.5 / 2), (2.5, 3.0))
    assert arm.peak_memory_bytes.mean == 2**20 * 101.5
    assert arm.best_epochs == (1, 2)
    assert [epoch.loss.values for epoch in arm.epochs] == [
        (1.0, 1 / 2), (1 / 2, 1 / 3), (None, 1 / 4)
    ]  # fmt: skip
    assert arm.epochs[2].loss == Estimate(0.25, None, (None, 0.25))
    written = json.loads(json.dumps(arm.to_dict(), allow_nan=False))
    assert written["scores"]["types"]["PER"]["overlap"]["f1"]["sd"] > 0
    assert written["scores"]["micro"]["support"] == 240


def test_estimate_of_few_values() -> None:
    assert Estimate.of([2.0]) == Estimate(2.0, None, (2.0,))
    assert Estimate.of([1.0, 3.0]).deviation == pytest.approx(2**0.5)
    assert Estimate.of([None, None]) == Estimate(None, None, (None, None))


def test_finished_runs_are_reused_and_said_so(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002)
    first = bench.compare(*recipes)
    again = bench.compare(*recipes)
    assert bench.starts == []
    assert len([line for line in bench.messages if "reused" in line]) == 4
    assert again.to_dict() == first.to_dict()
    bench.compare(*recipes, seeds=3)
    assert bench.starts == [("a", 3, "new"), ("b", 3, "new")]
    bench.compare(*recipes, fresh=True)
    assert [start for _, _, start in bench.starts] == ["overwrite"] * 4


def test_another_encoder_behind_the_same_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe)
    monkeypatch.setattr("nertune.runs.compare.hash_encoder", lambda name: "other weights")
    bench.compare(recipe)
    assert bench.starts == [("a", 1, "overwrite"), ("a", 2, "overwrite")]


def test_changed_settings_or_data_are_trained_again(bench: Bench) -> None:
    recipes = bench.recipe("a"), bench.recipe("b", 0.002)
    bench.compare(*recipes)
    bench.recipe("b", 0.003)
    bench.compare(*recipes)
    assert bench.starts == [("b", 1, "overwrite"), ("b", 2, "overwrite")]
    bench.compare(*recipes, overrides=["train.epochs=3"])
    assert len(bench.starts) == 4
    assert bench.trainer.requests[0].overrides == ("train.epochs=3",)
    save_documents(bench.folder / "train.jsonl", documents(99))
    bench.compare(*recipes, overrides=["train.epochs=3"])
    assert len(bench.starts) == 4
    assert any("settings or data have changed" in line for line in bench.messages)


def test_killed_runs_are_resumed(bench: Bench) -> None:
    recipe = bench.recipe("a")
    kill_after = iter([False, True])

    def killed(request: RunRequest) -> None:
        if next(kill_after):
            (request.folder / "checkpoints").mkdir(parents=True)
            raise KeyboardInterrupt
        bench.trainer(request)

    with pytest.raises(KeyboardInterrupt):
        compare([recipe], seeds=2, output=bench.folder / "out", run_arm=killed)
    bench.compare(recipe)
    assert bench.starts == [("a", 2, "resume")]
    assert any("reused" in line for line in bench.messages)


def test_a_killed_run_with_other_settings_starts_again(bench: Bench) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe, seeds=1)
    folder = bench.folder / "out/runs/a/seed-1"
    (folder / "record.json").unlink()
    bench.compare(recipe, seeds=1, overrides=["train.epochs=4"])
    assert bench.starts == [("a", 1, "overwrite")]


def test_other_test_data_is_refused_before_anything_is_trained(bench: Bench) -> None:
    other = str(bench.folder / "other.jsonl")
    save_documents(Path(other), documents(7))
    with pytest.raises(ConfigError, match=r"different data.*a on test.*b on test"):
        bench.compare(bench.recipe("a"), bench.recipe("b", test=other))
    with pytest.raises(ConfigError, match=r"b on dev.*names no data.test"):
        bench.compare(bench.recipe("a"), bench.recipe("b", test=""))
    assert bench.starts == []


def test_other_training_data_is_refused_unless_it_is_what_is_compared(bench: Bench) -> None:
    other = bench.folder / "other.jsonl"
    save_documents(other, documents(7))
    recipes = bench.recipe("a"), bench.recipe("b", train=str(other))
    hashes = [load_corpus(bench.folder / f"{n}.jsonl").sha256[:12] for n in ("train", "other")]
    with pytest.raises(ConfigError, match=f"a on .*{hashes[0]}.*b on .*{hashes[1]}.*--other"):
        bench.compare(*recipes)
    assert bench.starts == []
    assert len(bench.compare(*recipes, other_training_data=True).arms) == 2


def test_sizes_train_each_arm_on_nested_parts_of_the_data(bench: Bench) -> None:
    recipes = [bench.recipe("a"), bench.recipe("b", 0.002)]
    shown = compare_sizes(
        recipes, [0.5, 0.25, 1.0], output=bench.folder / "out", seeds=2, run_arm=bench.trainer
    )
    assert [point.share for point in shown.sizes] == [0.25, 0.5, 1.0]
    assert [point.documents for point in shown.sizes] == [20, 40, 80]
    assert shown.sizes[-1].f1["b"] == shown.arms[1].score("micro").f1
    assert all(point.differences.keys() == {"b"} for point in shown.sizes)
    asked = {
        tuple(o for o in request.overrides if o.startswith(("train.epochs", "data.train_share")))
        for request in bench.trainer.requests
    }
    # 20 epochs by default; a quarter of the data 2.52 times as many, half 1.59 times.
    quarter = ("data.train_share=0.25", "train.epochs=50")
    assert asked == {(), ("data.train_share=0.5", "train.epochs=32"), quarter}
    taken = {
        (request.folder.parts[-4], request.arm, request.seed): json.loads(
            (request.folder / "record.json").read_text()
        )["data"]["train"]["sha256"]
        for request in bench.trainer.requests
    }
    assert taken["share-0.25", "a", 1] == taken["share-0.25", "b", 1]  # the same for all arms
    assert taken["share-0.25", "a", 1] != taken["share-0.25", "a", 2]  # others for another seed
    assert len(set(taken.values())) == 5
    bench.trainer.requests.clear()
    again = compare_sizes(
        recipes, [0.25, 0.5], output=bench.folder / "out", seeds=2, run_arm=bench.trainer
    )
    assert bench.starts == []  # all is reused
    assert again.sizes == shown.sizes


def test_sizes_are_shown(bench: Bench) -> None:
    recipes = [bench.recipe("a"), bench.recipe("b", 0.002)]
    shown = compare_sizes(
        recipes, [0.5], output=bench.folder / "out", seeds=2, run_arm=bench.trainer
    )
    console = Console(width=100, record=True, file=io.StringIO())
    render_terminal(shown, console)
    text, markdown = console.export_text(), to_markdown(shown)
    assert "40 (50%)" in text
    assert "80 (100%)" in text
    rows = [line for line in markdown.splitlines() if line.startswith("| 40 (50%)")]
    assert len(rows) == 1
    assert f"{shown.sizes[0].f1['a'].mean:.3f}" in rows[0]
    assert "better" in rows[0]
    assert shown.to_dict()["sizes"][0]["documents"] == 40
    assert "By amount" not in to_markdown(bench.compare(*recipes))


@pytest.mark.parametrize(
    ("shares", "overrides", "message"),
    [
        ([0.0], [], "above 0"),
        ([1.5], [], "up to 1"),
        ([0.5], ["data.train_share=0.2"], "data.train_share"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    bench: Bench, shares: list[float], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_sizes(
            [bench.recipe("a")], shares, output=bench.folder / "out", overrides=overrides,
            run_arm=bench.trainer,
        )  # fmt: skip
    assert bench.starts == []


def test_the_same_test_data_may_lie_in_two_files(bench: Bench) -> None:
    copy = bench.folder / "copy.jsonl.gz"
    save_documents(copy, documents(2))
    assert bench.compare(bench.recipe("a"), bench.recipe("b", test=str(copy))).split == "test"


def test_without_test_data_dev_is_scored_and_that_is_said(bench: Bench) -> None:
    comparison = bench.compare(bench.recipe("a", test=""), bench.recipe("b", 0.002, test=""))
    assert comparison.split == "dev"
    assert "optimistic" in comparison.notices[0]
    with pytest.raises(ConfigError, match=r"neither data.test nor data.dev"):
        bench.compare(bench.recipe("a", test="", dev=""))


def test_what_spoils_a_comparison_is_said(bench: Bench) -> None:
    dev = str(bench.folder / "dev.jsonl")
    recipes = [bench.recipe(name, test=dev) for name in "abc"]
    notices = "\n".join(bench.compare(*recipes, seeds=1).notices)
    assert "Development and test data are the same" in notices
    assert "One seed" in notices
    assert "corrected for their number (Holm" in notices


def test_an_arm_that_was_not_trained_well_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reference study concluded from came of two epochs at a rate for another way."""
    record = bench.trainer.record

    def changed(settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        found = record(settings, scores)
        if settings.run.name in ("weak", "strong"):
            found["best_epoch"] = len(found["epochs"])
        return found

    monkeypatch.setattr(bench.trainer, "record", changed)
    recipes = [bench.recipe("strong", 0.002), bench.recipe("weak"), bench.recipe("silent", 0.5)]
    _, silent, weak = bench.compare(recipes[0], recipes[2], recipes[1]).notices
    assert silent.startswith("silent predicted no entity with 2 of 2 seeds")
    assert weak.startswith("weak was best on dev in its last epoch with every seed")


def test_an_arm_whose_best_epoch_was_earlier_with_one_seed_is_not_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.trainer.record

    def changed(settings: Settings, scores: dict[str, Any]) -> dict[str, Any]:
        found = record(settings, scores)
        return found | ({"best_epoch": len(found["epochs"])} if settings.run.seed == 1 else {})

    monkeypatch.setattr(bench.trainer, "record", changed)
    assert bench.compare(bench.recipe("strong", 0.002), bench.recipe("weak")).notices == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "c"}, "baseline 'c' is no arm; expected one of a, b"),
        ({"seeds": 0}, "seeds = 0"),
        ({"overrides": ["run.seed=3"]}, "compare sets run.seed"),
        ({"overrides": ["train.epoch=3"]}, "did you mean epochs"),
    ],
)
def test_wrong_arguments_are_refused(bench: Bench, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench.compare(bench.recipe("a"), bench.recipe("b"), **options)
    assert bench.starts == []


def test_arm_names_are_unique() -> None:
    def names(*paths: str) -> tuple[str, ...]:
        return arm_names([Path(path) for path in paths])

    assert names("x/bert.toml", "x/lora.toml") == ("bert", "lora")
    assert names("x/bert.toml", "y/bert.toml", "y/lora.toml") == ("x-bert", "y-bert", "lora")
    assert names("p/x/bert.toml", "q/x/bert.toml") == ("p-x-bert", "q-x-bert")
    assert len(set(names("/x/b.toml", "/x-b.toml", "/b.toml"))) == 3
    with pytest.raises(ConfigError, match="given twice"):
        names("x/bert.toml", "x/../x/bert.toml")
    with pytest.raises(ConfigError, match="at least one"):
        names()


def test_predictions_that_do_not_fit_their_record_are_refused(bench: Bench) -> None:
    recipe = bench.recipe("a")
    bench.compare(recipe)
    path = bench.folder / "out/runs/a/seed-2/test.predictions.jsonl"
    predicted = list(load_corpus(path).documents)
    save_documents(path, [d.with_entities(()) for d in predicted], format="predictions")
    with pytest.raises(DataError, match=r"seed-2.*record.json beside it says"):
        bench.compare(recipe)
    save_documents(path, predicted[:-1], format="predictions")
    with pytest.raises(DataError, match=r"seed-2.*80 gold documents but 79"):
        bench.compare(recipe)


def test_a_run_without_a_record_is_an_error(bench: Bench) -> None:
    with pytest.raises(TrainingError, match=r"a, seed 1: .*no finished record"):
        compare([bench.recipe("a")], output=bench.folder / "out", run_arm=lambda _: None)


def request_for(folder: Path, **changes: Any) -> RunRequest:
    values = {"arm": "a", "recipe": Path("a.toml"), "seed": 3, "folder": folder / "r un"}
    values |= {"overrides": ("train.epochs=2",), "start": "new"}
    return RunRequest(**values | changes)


@pytest.fixture
def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Test double for the interpreter: a shell script."""

    def install(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


def test_subprocess_gets_the_command_and_its_messages_are_passed_on(
    tmp_path: Path, fake_python: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_python(f'printf "%s\\n" "$@" > {tmp_path}/args; echo out; echo "第 1 epoch" >&2')
    run_in_subprocess(request_for(tmp_path, start="resume"))
    assert (tmp_path / "args").read_text().splitlines() == [
        "-m", "nertune", "train", "a.toml", "--set", "train.epochs=2", "--set", "run.seed=3",
        "--set", f'run.dir="{tmp_path}/r un"', "--json", "--resume",
    ]  # fmt: skip
    captured = capsys.readouterr()
    assert captured.err == "第 1 epoch\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo progress >&2; echo 'error: x.conll:3: bad tag' >&2; exit 2",
         "a, seed 3: x.conll:3: bad tag"),
        ("echo 'ValueError: oops' >&2; exit 1", "run ended with code 1: ValueError: oops"),
        ("kill -9 $$", r"a, seed 3: the run was ended by SIGKILL \(often: out of memory\)"),
        ("exit 5", "ended with code 5$"),
    ],
)  # fmt: skip
def test_a_failing_run_ends_with_its_own_message(
    tmp_path: Path, fake_python: Any, script: str, message: str
) -> None:
    fake_python(script)
    with pytest.raises(TrainingError, match=message):
        run_in_subprocess(request_for(tmp_path))


def test_interrupting_ends_the_child(
    tmp_path: Path, fake_python: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.2)
    fake_python(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_in_subprocess(request_for(tmp_path))
    timer.join()
    assert time.monotonic() - started < 30  # not by waiting for its end
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_real_command_reports_a_users_mistake_in_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.toml"
    recipe.write_text("[data]\ntrain = 'x'\n[trian]\nepochs = 2\n")
    with pytest.raises(
        TrainingError, match=r"a, seed 3: .*unknown section \[trian\]; did you mean"
    ):
        run_in_subprocess(request_for(tmp_path, recipe=recipe))
