"""From teachers and text to a student, on tiny models, by the command and by the function."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.commands import run
from helpers.tiny import (
    SENTENCES,
    make_predictor,
    make_settings,
    session_folder,
    tiny_bert,
    write_jsonl,
)
from nertune.artifacts.manifest import read_manifest
from nertune.errors import ConfigError, DataError
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.heads.marginals import find_marginals
from nertune.semisupervised.distillation.teachers import Teacher, Teachers, load_teachers
from nertune.semisupervised.distillation.text import UnlabelledText
from nertune.types import Document

RECIPE = """
[run]
device = "cpu"
threads = 1
[data]
train = "{train}"
dev = "{dev}"
test = "{dev}"
[model]
{model}
unit = "char"
[lstm]
embedding_size = 16
hidden_size = 16
layers = 1
[train]
epochs = 12
batch_tokens = 60
patience = 0
learning_rate = 0.02
"""


@cache
def trained(variant: str, seed: int = 1) -> Path:
    """A teacher that knows `SENTENCES`."""
    folder = session_folder() / f"distill-{variant}-{seed}"
    folder.mkdir()
    changes = {"run": {"seed": seed}, "train": {"epochs": 25, "patience": 0}}
    settings = make_settings(folder, variant, changes)
    train(settings)
    return settings.run.dir / "model"


def write_recipe(folder: Path, model: str = 'emitter = "lstm"', few: int = 2) -> Path:
    train_file = write_jsonl(folder / "few.jsonl", SENTENCES[:few])
    dev = write_jsonl(folder / "dev.jsonl")
    path = folder / "student.toml"
    name = json.dumps(str(train_file))[1:-1] if few else ""
    path.write_text(RECIPE.format(train=name, dev=str(dev), model=model), encoding="utf-8")
    return path


def write_text(folder: Path) -> Path:
    path = folder / "text.txt"
    lines = [d.text for d in SENTENCES] * 3 + ["", "王小明在上海 大学。", "李华去中国。"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(folder: Path, *more: object, teachers: tuple[Path, ...] = ()) -> Any:
    named = [part for one in teachers or (trained("full"),) for part in ("--teacher", one)]
    return run(
        "distill", folder / "student.toml", *named, "--unlabelled", folder / "text.txt",
        "-o", folder / "out", *more,
    )  # fmt: skip


@pytest.mark.parametrize("model", ['emitter = "lstm"', 'emitter = "lstm"\ndecoder = "crf"'])
def test_a_student_learns_what_its_labels_do_not_show(model: str, tmp_path: Path) -> None:
    """Two labelled sentences lack two labels; the teachers' text has them."""
    write_recipe(tmp_path, model, few=3)
    write_text(tmp_path)
    outcome = command(tmp_path, "--json", "--test", teachers=(trained("full"), trained("full-crf")))
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert [one["role"] for one in found["taggers"]] == [
        "teacher", "teacher", "ensemble", "baseline", "student",
    ]  # fmt: skip
    f1 = {one["role"]: one["f1"]["dev"] for one in found["taggers"]}
    assert f1["ensemble"] > f1["student"] - 0.01
    assert f1["student"] > f1["baseline"] + 0.1
    share = (f1["student"] - f1["baseline"]) / (f1["ensemble"] - f1["baseline"])
    assert found["share_closed"]["dev"] == pytest.approx(share)
    assert found["unlabelled"]["documents"] == 26
    assert "stand in dev or test" in outcome.stderr
    steps = {one["role"]: one["steps"] for one in found["taggers"]}
    assert 0 <= steps["baseline"] - steps["student"] < 12
    out = tmp_path / "out"
    assert read_manifest(out / "model").emitter == "lstm"
    assert json.loads((out / "distillation.json").read_text(encoding="utf-8")) == found
    assert not (out / "soft").exists()
    again = command(tmp_path, "--resume", "--test", teachers=(trained("full"), trained("full-crf")))
    assert again.code == 0, again.stderr
    assert "gap to the teachers closed on dev" in again.stdout
    refused = command(tmp_path)
    assert refused.code == 2
    assert "finished run" in refused.error


def test_a_student_without_labelled_data(tmp_path: Path) -> None:
    write_recipe(tmp_path, f'encoder = "{tiny_bert()}"', few=0)
    write_text(tmp_path)
    outcome = command(tmp_path, "--json", "--most", "9", "--set", "train.epochs=2")
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert [one["role"] for one in found["taggers"]] == ["teacher", "student"]
    assert found["share_closed"]["dev"] is None
    assert (found["unlabelled"]["documents"], found["unlabelled"]["of_documents"]) == (9, 26)
    student = Predictor.load(tmp_path / "out" / "model")
    assert student.labels == ("LOCATION", "ORGANIZATION", "PERSON", "TIME")


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_recipe(tmp_path, few=1)  # PERSON, TIME and LOCATION
    write_text(tmp_path)
    outcome = command(tmp_path)
    assert outcome.code == 2
    assert "knows ORGANIZATION, which the student's training data do not have" in outcome.error
    assert "--map ORGANIZATION= drops it" in outcome.error
    assert not (tmp_path / "out" / "model").exists()
    for table, message in (
        (["ORGANIZATION=", "PERSON="], "does not know PERSON"),
        (["ORGANISATION="], "did you mean ORGANIZATION"),
        (["ORGANIZATION"], "expected TEACHERLABEL=LABEL"),
        (["ORGANIZATION=", "ORGANIZATION=X"], "given twice"),
    ):
        maps = [part for one in table for part in ("--map", one)]
        assert message in command(tmp_path, *maps).error
    dropped = command(
        tmp_path, "--map", "ORGANIZATION=", "--no-baseline", "--json", "--set", "train.epochs=1"
    )
    assert dropped.code == 0, dropped.stderr
    assert Predictor.load(tmp_path / "out" / "model").labels == ("LOCATION", "PERSON", "TIME")
    kept = command(
        tmp_path, "--map", "ORGANIZATION=ORGANIZATION", "--no-baseline", "--overwrite",
        "--set", "train.epochs=1",
    )  # fmt: skip
    assert kept.code == 0, kept.stderr
    assert "ORGANIZATION" in Predictor.load(tmp_path / "out" / "model").labels


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--temperature", "0"], "--temperature 0"),
        (["--set", 'model.decoder="other"'], "decoder"),
        (["--test", "--set", 'data.test=""'], "--test: data.test is empty"),
        (["--resume", "--overwrite"], "exclude each other"),
        (["--unlabelled", "missing.txt"], "missing.txt"),
        (["--teacher", "missing-teacher"], "missing-teacher"),
    ],
)
def test_errors(more: list[str], message: str, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    write_text(tmp_path)
    outcome = command(tmp_path, *more)
    assert outcome.code == 2
    assert message in outcome.error
    assert not (tmp_path / "out" / "record.json").exists()


def test_a_student_that_stops_early_has_a_baseline_of_as_many_steps(tmp_path: Path) -> None:
    write_recipe(tmp_path, few=3)
    write_text(tmp_path)
    outcome = command(
        tmp_path, "--json", "--set", "train.patience=1", "--set", "train.patience_steps=0",
        "--set", "train.epochs=60",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    student, baseline = (
        json.loads((tmp_path / "out" / place / "record.json").read_text(encoding="utf-8"))
        for place in ("", "baseline")
    )
    assert student["stopped_early"]
    assert len(baseline["epochs"]) == len(student["epochs"]) < 60
    assert student["steps"] <= baseline["steps"] < student["steps"] + len(student["epochs"])


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """It can be read once, and the text is read several times."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no file but a pipe"):
        UnlabelledText([tmp_path / "pipe"])


def test_another_calibration_makes_another_teacher(tmp_path: Path) -> None:
    """Its probabilities are others, so what it said before is not resumed."""
    copy = Path(shutil.copytree(trained("full"), tmp_path / "copy"))
    path = copy / "nertune.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["calibration"] = {"temperature": 3.0}
    path.write_text(json.dumps(values), encoding="utf-8")
    tagset = TagSet.from_labels(("LOCATION", "ORGANIZATION", "PERSON", "TIME"))
    units = [(i, i + 1) for i in range(len(SENTENCES[0].text))]
    sure, unsure = load_teachers([str(trained("full")), str(copy)], {}).each
    assert sure.sha256 != unsure.sha256
    first, second = (
        Teachers((one,)).say([SENTENCES[0]], [units], [one.conversion(tagset, 1.0)])[0]
        for one in (sure, unsure)
    )
    assert second.tags_UK.max(axis=1).mean() < first.tags_UK.max(axis=1).mean() - 0.01


def test_the_same_teacher_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="is the same model as"):
        load_teachers([str(trained("full")), str(trained("full").parent)], {})
    with pytest.raises(ConfigError, match="needs a teacher"):
        load_teachers([], {})


def test_teachers_say_the_mean(tmp_path: Path) -> None:
    teachers = load_teachers([str(trained("full")), str(trained("full-crf"))], {})
    tagset = TagSet.from_labels(teachers.labels)
    document = SENTENCES[0]
    units = [(i, i + 1) for i in range(len(document.text))]
    conversions = [one.conversion(tagset, 2.0) for one in teachers.each]
    [said] = teachers.say([document], [units], conversions)
    expected = []
    for one in teachers.each:
        _, emissions = one.predictor.emissions([document])
        expected += find_marginals(emissions, one.predictor.tagger.head.chain(), temperature=2.0)
    np.testing.assert_allclose(
        said.tags_UK, np.mean([found.tags_UK for found in expected], axis=0), atol=1e-9
    )
    np.testing.assert_allclose(
        said.pairs_UKK, np.mean([found.pairs_UKK for found in expected], axis=0), atol=1e-9
    )
    [tagged] = teachers.tag([document.with_entities(())], tagset)
    assert {e.key for e in tagged.entities} == {e.key for e in document.entities}


@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_one_teacher_answers_as_it_does_by_itself(decoder: str, tmp_path: Path) -> None:
    """Also where it is unsure, so that its score in the report is its own."""
    settings = make_settings(tmp_path, "full", {"model": {"decoder": decoder}})
    unsure = make_predictor(settings)
    teacher = Teacher("unsure", unsure, "", {"TIME": ""})
    tagset = TagSet.from_labels(["LOCATION", "ORGANIZATION", "PERSON"])
    tagged = list(Teachers((teacher,)).tag(SENTENCES, tagset))
    own = [
        {e.key for e in document.entities if e.label != "TIME"}
        for document in unsure.tag_documents(SENTENCES)
    ]
    assert any(own)
    assert [{e.key for e in document.entities} for document in tagged] == own
    # Two that say the same answer as each of them does, by way of their probabilities.
    full = TagSet.from_labels(unsure.labels)
    twice = Teachers((Teacher("a", unsure, "", {}), Teacher("b", unsure, "", {}))).tag(
        SENTENCES, full
    )
    alone = unsure.tag_documents(SENTENCES)
    for one, other in zip(twice, alone, strict=True):
        assert {e.key for e in one.entities} == {e.key for e in other.entities}


def test_a_student_labels_white_space_that_its_teacher_does_not_see(tmp_path: Path) -> None:
    """A BiLSTM has a unit for a space, an encoder has none."""
    teachers = load_teachers([str(trained("full"))], {})
    tagset = TagSet.from_labels(teachers.labels)
    student = make_predictor(make_settings(tmp_path, "lstm"))
    document = Document(" 李华 在上海。")
    encoding, _ = student.segmenter.segment(document)
    assert len(encoding.units) == len(document.text)
    [said] = teachers.say([document], [encoding.units], [teachers.each[0].conversion(tagset, 1.0)])
    np.testing.assert_allclose(said.tags_UK.sum(axis=1), 1)
    np.testing.assert_allclose(said.pairs_UKK[1:].sum(axis=(1, 2)), 1)
    np.testing.assert_allclose(said.pairs_UKK[1:].sum(axis=1), said.tags_UK[1:], atol=1e-9)
    assert said.tags_UK[0, 0] == 1


def test_text_is_chosen_with_a_seed_and_never_held(tmp_path: Path) -> None:
    path = write_text(tmp_path)
    known = {SENTENCES[0].text}
    whole = UnlabelledText([path], known=known)
    assert (len(whole), whole.num_documents, whole.num_known) == (26, 26, 3)
    some = [UnlabelledText([path], most=5, seed=seed) for seed in (1, 1, 2)]
    assert [len(list(text)) for text in some] == [5, 5, 5]
    assert some[0].sha256 == some[1].sha256 != some[2].sha256
    labelled = UnlabelledText([write_jsonl(tmp_path / "labelled.jsonl")])
    assert all(not document.entities for document in labelled)


def test_a_killed_student_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the teachers read, and while the student trains: the same weights."""
    write_text(tmp_path)
    write_recipe(tmp_path, few=3)
    whole = command(tmp_path, "--no-baseline", "--set", "train.epochs=3")
    assert whole.code == 0, whole.stderr
    expected = read_manifest(tmp_path / "out" / "model").files
    (tmp_path / "out").rename(tmp_path / "whole")

    from nertune.semisupervised.distillation import text as module
    from nertune.training.stores.soft_store import SoftStoreWriter

    add, calls = SoftStoreWriter.add, []

    def die(self: SoftStoreWriter, *arguments: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        add(self, *arguments, **named)

    monkeypatch.setattr(module, "_CHUNK_DOCUMENTS", 4)
    monkeypatch.setattr(module, "_COMMIT_CHUNKS", 1)
    monkeypatch.setattr(SoftStoreWriter, "add", die)
    assert command(tmp_path, "--no-baseline", "--set", "train.epochs=3").code == 130
    assert not (tmp_path / "out" / "record.json").exists()
    again = command(tmp_path, "--no-baseline", "--set", "train.epochs=3", "--resume")
    assert again.code == 0, again.stderr
    assert len(calls) == 15 + 26 - 12  # what was committed is not read again
    found = read_manifest(tmp_path / "out" / "model").files
    assert found["model.safetensors"] == expected["model.safetensors"]


def test_a_foreign_teacher_of_another_scheme(tmp_path: Path) -> None:
    """Plain transformers, BIOES and other names: mapped by a table."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tags = ["O", *(f"{p}-{x}" for x in ("PER", "LOC") for p in "BIES")]
    model = AutoModelForTokenClassification.from_pretrained(tiny_bert(), num_labels=len(tags))
    model.config.id2label = dict(enumerate(tags))
    model.config.label2id = {tag: i for i, tag in enumerate(tags)}
    model.save_pretrained(tmp_path / "foreign")
    AutoTokenizer.from_pretrained(tiny_bert()).save_pretrained(tmp_path / "foreign")
    teachers = load_teachers([str(tmp_path / "foreign")], {"PER": "PERSON", "LOC": ""})
    assert teachers.labels == ("PERSON",)
    teachers.check(["PERSON"])
    tagset = TagSet.from_labels(["PERSON"])
    units = [(i, i + 1) for i in range(len(SENTENCES[0].text))]
    [said] = teachers.say([SENTENCES[0]], [units], [teachers.each[0].conversion(tagset, 1.0)])
    assert said.tags_UK.shape == (len(units), 3)
    np.testing.assert_allclose(said.pairs_UKK[1:].sum(axis=1), said.tags_UK[1:], atol=1e-9)
