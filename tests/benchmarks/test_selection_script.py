"""`benchmarks/selection.py` on a tiny corpus: curves, their summary, and a second run for free."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from helpers.tiny import SENTENCES, write_jsonl
from nertune.types import Document, Entity

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("selection_script", FOLDER / "selection.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(module, "RECIPE", {
        "model": {"emitter": "lstm", "unit": "char"},
        "lstm": {"embedding_size": 16, "hidden_size": 16, "layers": 1},
        "train": {"batch_tokens": 80, "learning_rate": 2e-2},
    })  # fmt: skip
    return module


def corpus(path: Path, repeats: int) -> Path:
    """The sentences, each with a prefix of its own, so that no two are equal."""
    documents = []
    for number in range(repeats):
        prefix = "一二三四五六七八九十甲乙丙丁"[number % 14] * (number + 2)
        for d in SENTENCES[:4]:
            moved = [
                Entity(e.start + len(prefix), e.end + len(prefix), e.label) for e in d.entities
            ]
            documents.append(Document(prefix + d.text, tuple(moved)))
    return write_jsonl(path, documents)


def test_a_replay(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train, dev = corpus(tmp_path / "train.jsonl", 10), corpus(tmp_path / "dev.jsonl", 2)
    arguments = ["selection.py", "--train", train, "--dev", dev, "--name", "toy", "--seeds", 2,
                 "--strategies", "mnlp", "--start", 60, "--growth", 2, "--presented", 16_000,
                 "--epochs", 20, "--output", tmp_path / "runs"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*map(str, arguments)])
    script.main()
    result = json.loads((tmp_path / "results" / "selection-toy.json").read_text("utf-8"))
    assert set(result["table"]) == {"random", "mnlp"}
    for seed in result["seeds"].values():
        for curve in seed["curves"].values():
            units = [point["units"] for point in curve]
            assert units == sorted(units)
            assert units[0] <= 60
            assert all(after <= 2 * before for before, after in pairwise(units))
            assert all(point["f1"] < seed["target"] for point in curve[:-1])
        assert len({tuple(curve[0].items()) for curve in seed["curves"].values()}) == 1
    shown = capsys.readouterr()
    assert shown.err.count("units, dev F1") >= 6
    script.main()  # all is there
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == shown.out


def test_units_to_reach_a_score(script: ModuleType) -> None:
    points = [{"units": 100, "f1": 0.2}, {"units": 200, "f1": 0.6}, {"units": 400, "f1": 0.5}]
    assert script.units_to_reach(points, 0.1) == 100
    assert script.units_to_reach(points, 0.4) == pytest.approx(150)
    assert script.units_to_reach(points, 0.6) == pytest.approx(200)
    assert script.units_to_reach(points, 0.7) is None


def test_the_summary(script: ModuleType) -> None:
    def curve(last: int) -> list[dict[str, float]]:
        return [{"units": 100, "f1": 0.0}, {"units": last, "f1": 0.8}]

    curves = {
        seed: {"target": 0.8, "curves": {"random": curve(1000), "mnlp": curve(units)}}
        for seed, units in {"1": 400, "2": 500, "3": 625}.items()
    }
    curves["3"]["curves"]["random"] = [{"units": 100, "f1": 0.0}]
    table = script.summarise(curves, ["random", "mnlp"])
    assert table["random"]["not_reached"] == 1
    assert table["mnlp"]["mean_units"] == pytest.approx(508.33, abs=0.01)
    ratio = table["mnlp"]["ratio_to_random"]
    assert ratio["pairs"] == 2
    assert ratio["mean"] == pytest.approx((0.4 * 0.5) ** 0.5)
    assert ratio["low"] < ratio["mean"] < ratio["high"]
    assert table["random"]["ratio_to_random"]["mean"] == pytest.approx(1)
