"""Scores from training to answer: fitted on dev, stored, and the same wherever they are shown."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from helpers.artifacts import edit_json
from helpers.commands import run
from helpers.tiny import SENTENCES, make_settings, session_folder, tiny_rates, write_jsonl
from nertune.artifacts.manifest import MANIFEST, read_manifest
from nertune.artifacts.save import save_calibration
from nertune.data.corpus import load_corpus
from nertune.evaluation.reliability import measure_reliability
from nertune.experiments.train import train
from nertune.export.onnx import export
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.models.heads.calibration import Calibration
from nertune.types import Document


def spoilt() -> list[Document]:
    """Sentences of which every third lacks its first entity: a tagger is right on the others."""
    documents = []
    for i, document in enumerate(SENTENCES * 4):
        kept = document.entities[1:] if i % 3 == 0 else document.entities
        documents.append(Document(document.text, kept, id=str(i)))
    return documents


@cache
def trained(decoder: str) -> Path:
    """A run that has learned `SENTENCES`, its scores calibrated on spoilt ones."""
    folder = session_folder() / f"calibrated-{decoder}"
    folder.mkdir()
    values = {"epochs": 40, "patience": 0, "batch_tokens": 80, **tiny_rates(0.02, {})}
    dev = write_jsonl(folder / "spoilt.jsonl", spoilt())
    sections = {
        "train": values, "data": {"dev": str(dev)}, "model": {"decoder": decoder},
    }  # fmt: skip
    record = train(make_settings(folder, "full", sections))
    assert record["calibration"]["num_entities"] > 30
    assert record["calibration"]["steps"], record["calibration"]
    return folder


@pytest.fixture(params=["softmax", "crf"])
def folder(request: pytest.FixtureRequest) -> Path:
    return trained(request.param)


@pytest.fixture
def model(folder: Path) -> Path:
    return next(folder.rglob(MANIFEST)).parent


def test_training_stores_what_dev_says(model: Path) -> None:
    predictor = Predictor.load(model)
    assert predictor.calibration == read_manifest(model).calibration != Calibration()
    documents = spoilt()
    found = measure_reliability(documents, list(predictor.tag_documents(documents)))
    predictor.calibration = Calibration()
    raw = measure_reliability(documents, list(predictor.tag_documents(documents)))
    assert found is not None
    assert raw is not None
    assert found.log_loss < raw.log_loss
    assert found.ece < raw.ece
    assert found.thresholds[0] == raw.thresholds[0]  # the same entities


def test_served_exported_and_evaluated_scores_are_the_same(model: Path, folder: Path) -> None:
    documents = list(SENTENCES)
    expected = list(Predictor.load(model).tag_documents(documents))
    served = MultiPredictor.load(None, {"own": model}).tag(documents, "own")
    export(str(model), dev=str(folder / "spoilt.jsonl"))
    exported = list(Predictor.load(model, backend="onnx").tag_documents(documents))
    assert any(document.entities for document in expected)
    for other in (served, exported):
        for a, b in zip(expected, other, strict=True):
            assert isinstance(b, Document)
            assert [e.key for e in a.entities] == [e.key for e in b.entities]
            assert [e.score for e in a.entities] == pytest.approx(
                [e.score for e in b.entities], abs=1e-4
            )


def test_evaluate_says_how_far_scores_can_be_relied_on(folder: Path, model: Path) -> None:
    file = folder / "spoilt.jsonl"
    done = run("evaluate", model, file)
    assert "calibrated scores: expected calibration error 0." in done.stdout
    assert "--min-score" in done.stdout
    told = json.loads(run("evaluate", model, file, "--json").stdout)
    assert told["calibrated"] is True
    gold = load_corpus(file).documents
    found = measure_reliability(gold, list(Predictor.load(model).tag_documents(gold)))
    assert found is not None
    assert told["reliability"]["ece"] == pytest.approx(found.ece)
    assert told["reliability"]["thresholds"][0]["precision"] == told["micro"]["precision"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_reliability_figure(model: Path, folder: Path, tmp_path: Path, suffix: str) -> None:
    figure = tmp_path / f"scores.{suffix}"
    done = run("evaluate", model, folder / "spoilt.jsonl", "--figure", figure)
    assert f"figure: {figure}" in done.stderr.replace("\n", "")
    assert figure.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_figure_of_another_kind(model: Path, folder: Path, tmp_path: Path) -> None:
    done = run("evaluate", model, folder / "spoilt.jsonl", "--figure", tmp_path / "scores.gif")
    assert done.code == 2
    assert "ends with .png or .svg" in done.stderr
    assert not (tmp_path / "scores.gif").exists()


def test_no_answer_for_what_is_not_sure(model: Path, tmp_path: Path) -> None:
    texts = [document.text for document in SENTENCES]
    sure = {
        record["text"]: record["confidence"]
        for record in records(
            run("predict", model, *texts, "--format", "jsonl", "--abstain", "1e-9")
        )
    }
    assert len(sure) == len(texts)
    threshold = sorted(sure.values())[len(sure) // 2]
    answered = records(
        run("predict", model, *texts, "--format", "jsonl", "--abstain", str(threshold))
    )
    for record in answered:
        is_sure = record["confidence"] >= threshold
        assert record.get("abstained", False) is not is_sure
        assert bool(record["entities"]) <= is_sure
    assert any(record.get("abstained") for record in answered)
    shown = run("predict", model, *texts, "--abstain", str(threshold)).stdout
    assert "(no answer: confidence 0." in shown


def test_an_answer_is_not_taken_for_an_earlier_one(model: Path, tmp_path: Path) -> None:
    """Of a file in which another model abstained."""
    earlier = tmp_path / "earlier.jsonl"
    marks = {"entities": [], "abstained": True, "confidence": 0.01, "scope": {"complete": False}}
    earlier.write_text(json.dumps({"text": SENTENCES[0].text, **marks}), encoding="utf-8")
    for options in ((), ("--abstain", "1e-9")):
        (again,) = records(run("predict", model, "--file", earlier, "--format", "jsonl", *options))
        assert again["entities"]
        assert "abstained" not in again
        assert "scope" not in again
        assert again.get("confidence") != 0.01
        shown = run("predict", model, "--file", earlier, *options)
        assert shown.code == 0
        assert "no answer" not in shown.stdout


def test_formats_that_cannot_say_that_there_is_no_answer(model: Path) -> None:
    done = run("predict", model, "王小明", "--format", "conll", "--abstain", "0.5")
    assert done.code == 2
    assert "conll cannot say that a text has no answer; use --format jsonl" in done.stderr
    done = run("predict", model, "王小明", "--sentences", "--abstain", "0.5")
    assert done.code == 2
    assert "does not go with --sentences" in done.stderr


def test_calibrate_again(model: Path, folder: Path, tmp_path: Path) -> None:
    """On other documents; too few are refused, and the folder stays as it was."""
    before = (model / MANIFEST).read_bytes()
    few = write_jsonl(tmp_path / "few.jsonl", SENTENCES[:2])
    done = run("calibrate", model, few)
    assert done.code == 2
    assert "needs 30 entities found in fully labelled documents" in done.stderr
    assert (model / MANIFEST).read_bytes() == before
    done = run("calibrate", model, folder / "spoilt.jsonl", "--json")
    assert json.loads(done.stdout)["calibration"] == json.loads(before)["calibration"]
    assert (model / MANIFEST).read_bytes() == before


def test_a_model_is_not_calibrated_on_what_it_was_trained_on(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    before = (model / MANIFEST).read_bytes()
    trained_on = json.loads(next(folder.rglob("record.json")).read_text())["settings"]["data"][
        "train"
    ]
    done = run("calibrate", model, shutil.copy(trained_on, tmp_path / "copy.jsonl"))
    assert done.code == 2
    assert "the tagger was trained on it" in done.stderr
    assert (model / MANIFEST).read_bytes() == before


def test_a_model_in_the_cache_of_the_hub_is_not_changed(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--somebody--tagger"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    snapshot = Path(shutil.copytree(model, repo / "snapshots" / revision))
    edit_json(snapshot / MANIFEST, lambda values: values.pop("calibration"))
    before = (snapshot / MANIFEST).read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = run("calibrate", "somebody/tagger", folder / "spoilt.jsonl")
    assert done.code == 2
    assert "is a model on the hub" in done.stderr.replace("\n", " ")
    assert (snapshot / MANIFEST).read_bytes() == before


def test_an_export_says_that_transformers_does_not_calibrate(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("export", model, "--to", "transformers", "--output", out)
    assert "no place for the calibration" in done.stderr.replace("\n", " ")
    assert (
        "transformers alone shows them as the model gives them" in (out / "README.md").read_text()
    )
    assert Predictor.load(out).calibration == Predictor.load(model).calibration
    edit_json(model / MANIFEST, lambda values: values.pop("calibration"))
    try:
        done = run("export", model, "--to", "transformers", "--output", out, "--overwrite")
    finally:
        save_calibration(model, Predictor.load(out).calibration)
    assert "calibration" not in done.stderr


def test_no_calibration_is_asked_for(tmp_path: Path) -> None:
    values = {"epochs": 5, "batch_tokens": 80, "calibrate": False, **tiny_rates(0.02, {})}
    dev = write_jsonl(tmp_path / "spoilt.jsonl", spoilt())
    record = train(make_settings(tmp_path, "full", {"train": values, "data": {"dev": str(dev)}}))
    assert record["calibration"] is None
    assert read_manifest(next(tmp_path.rglob(MANIFEST)).parent).calibration is None


def records(done: object) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]  # type: ignore[attr-defined]
