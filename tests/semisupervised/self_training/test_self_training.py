"""Self-training as a whole: rounds, baseline, resumption, leaks, and what the report says."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.commands import run
from helpers.tiny import SENTENCES, make_predictor, make_settings, session_folder, write_jsonl
from nertune.artifacts.manifest import read_manifest
from nertune.config.run import Settings
from nertune.data.corpus import Corpus, save_documents
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.evaluation.significance import Difference, Verdict
from nertune.inference.predictor import Predictor
from nertune.models.heads.calibration import Calibration
from nertune.models.heads.marginals import tag_marginals
from nertune.reports.markdown import to_markdown
from nertune.reports.semisupervised.self_training import self_training_page
from nertune.semisupervised.self_training import course, training
from nertune.semisupervised.self_training.labelling import judge
from nertune.semisupervised.self_training.options import Options
from nertune.semisupervised.self_training.results import (
    Comparison,
    Round,
    SelfTrainingResult,
)
from nertune.semisupervised.self_training.source import TeacherSource
from nertune.semisupervised.self_training.teachers import say_together
from nertune.semisupervised.self_training.training import Request, self_train
from nertune.training.observer import Observer
from nertune.types import Document, Scope

SURFACES = "北京上海中国李华张三新闻大学工作开会昨天今天"


def unlabelled_texts() -> list[str]:
    """Sentences of the same characters as the labelled ones."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(SURFACES), 12)) + "。" for _ in range(30)]


def recipe(folder: Path, variant: str = "lstm") -> Settings:
    """Four sentences to learn from, all eight as dev and test."""
    write_jsonl(folder / "train.jsonl", SENTENCES[:4])
    data = {"train": str(folder / "train.jsonl")}
    changes = {"data": data, "train": {"epochs": 12, "patience": 0, "batch_tokens": 30}}
    return make_settings(folder, variant, changes)


def make_request(folder: Path, output: str = "out", **values: Any) -> Request:
    """Two rounds on 30 texts."""
    path = folder / "texts.txt"
    lines = [*unlabelled_texts(), SENTENCES[0].text, SENTENCES[7].text]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    variant = values.pop("variant", "lstm")
    seeds, score_test = values.pop("seeds", (1,)), values.pop("score_test", False)
    if values.get("labels") == "hard":  # so few steps make no teacher that is sure
        values = {"precision": 0.01, "outside": 0.1, "most_unknown": 1.0, **values}
    options = Options(**{"epochs": 2, "noise": 0.2, **values})
    return Request(recipe(folder, variant), (path,), folder / output, options, seeds, score_test)


@cache
def finished(labels: str, variant: str) -> tuple[Request, SelfTrainingResult]:
    """Self-training that nothing disturbed."""
    folder = session_folder() / f"self-training-{labels}-{variant}"
    folder.mkdir()
    request = make_request(folder, labels=labels, variant=variant, score_test=True)
    return request, self_train(request)


KINDS = [("soft", "lstm"), ("soft", "full-crf"), ("hard", "full")]


def weights(folder: Path) -> dict[str, Any]:
    return {
        f"{path.name}:{name}": value
        for path in sorted(folder.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.mark.parametrize(("labels", "variant"), KINDS)
def test_students_learn_from_both_and_the_best_is_kept(labels: str, variant: str) -> None:
    request, result = finished(labels, variant)

    [seed] = result.seeds
    assert [one.number for one in seed.rounds] == [0, 1, 2]
    assert seed.pool["known"] == 1  # the sentence of train
    assert seed.pool["leaked"] == 1  # and that of dev
    assert seed.pool["drawn"] == 30
    assert not seed.rounds[0].pseudo
    assert all(0 < one.pseudo["documents"] <= 30 for one in seed.rounds[1:])
    assert all(bool(one.thresholds) == (labels == "hard") for one in seed.rounds[1:])
    assert seed.best.trained.f1 == max(one.trained.f1 for one in seed.rounds)
    kept, best = weights(result.output / "model"), weights(seed.best.trained.folder / "model")
    assert kept
    assert all(np.array_equal(kept[name], best[name]) for name in best)
    assert Predictor.load(result.output / "model").labels == (
        "LOCATION", "ORGANIZATION", "PERSON", "TIME",
    )  # fmt: skip
    assert json.loads((request.output / "report.json").read_text()) == json.loads(
        json.dumps(result.to_dict())
    )


@pytest.mark.parametrize(("labels", "variant"), KINDS)
def test_the_baseline_has_the_same_budget_and_the_labelled_data_alone(
    labels: str, variant: str
) -> None:
    _, result = finished(labels, variant)

    [seed] = result.seeds
    epochs = sum(one.trained.epochs for one in seed.rounds)
    assert seed.baseline.epochs == epochs
    assert seed.steps <= seed.baseline.steps < seed.steps + epochs
    record = json.loads((seed.baseline.folder / "record.json").read_text(encoding="utf-8"))
    assert record["data"]["train"]["documents"] == 4
    assert record["seed"] == seed.seed
    assert {(one.split, one.against) for one in result.comparisons} == {
        (split, against) for split in ("dev", "test") for against in ("baseline", "teacher")
    }


class Interrupted(Exception):
    """Stands for a kill: nothing handles it."""


class KillAt(Observer):
    """Leaves at the n-th epoch of all runs."""

    def __init__(self, epoch: int):
        self._left = epoch

    def on_epoch(self, report: Any, *, is_best: bool) -> None:
        self._left -= 1
        if not self._left:
            raise Interrupted


def without_times(value: Any) -> Any:
    clocks = {"seconds", "folder", "model", "path"}
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in clocks}
    return [without_times(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("labels", "variant"), KINDS)
def test_killed_again_and_again_it_ends_the_same(
    tmp_path: Path, labels: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(tmp_path, labels=labels, variant=variant, score_test=True)
    for epoch in (5, 8, 1, 3):  # in the teacher's run, in both students', in the baseline's
        with pytest.raises(Interrupted):
            self_train(request, resume=True, observers=[KillAt(epoch)])
        assert not (request.output / "report.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(course.Course, "_baseline", _interrupt)
        with pytest.raises(Interrupted):
            self_train(request, resume=True)

    result = self_train(request, resume=True)

    _, expected = finished(labels, variant)
    assert without_times(result.to_dict()) == without_times(expected.to_dict())
    one, other = weights(result.output / "model"), weights(expected.output / "model")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def _interrupt(*_: object) -> None:
    raise Interrupted


def test_a_finished_one_is_not_replaced_unasked(tmp_path: Path) -> None:
    request, result = finished("soft", "lstm")
    request = replace(request, output=Path(shutil.copytree(result.output, tmp_path / "out")))
    other = replace(request, options=replace(request.options, rounds=1))

    with pytest.raises(ConfigError, match="--resume to continue it, --overwrite"):
        self_train(request)
    with pytest.raises(CheckpointError, match=r"options\.rounds was 2, is 1"):
        self_train(other, resume=True)
    assert len(self_train(request, resume=True).seeds[0].rounds) == 3
    assert len(self_train(other, overwrite=True).seeds[0].rounds) == 2
    assert not (tmp_path / "out" / "seed-1" / "round-2").exists()


def test_a_foreign_model_is_not_replaced(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    (request.output / "model").mkdir(parents=True)

    with pytest.raises(ConfigError, match="was not written by self-train"):
        self_train(request, overwrite=True)


def test_what_another_left_is_neither_removed_nor_learned_from(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    mine = request.output / "seed-1" / "pool.jsonl.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")

    for values in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ConfigError, match="seed-1 was not written by self-train"):
            self_train(request, **values)
    assert mine.read_bytes() == b"mine"


def test_a_head_without_tag_probabilities_is_refused_before_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Chainless:
        """Stands for a head of a plugin."""

    monkeypatch.setattr(training, "build_head", lambda *_: Chainless())
    request = make_request(tmp_path)

    with pytest.raises(ConfigError, match="this one is a Chainless"):
        self_train(request)
    assert not request.output.exists()


@pytest.mark.parametrize("variant", ["lstm", "full-crf"])
def test_doubts_are_calibrated_and_soft_targets_are_not(tmp_path: Path, variant: str) -> None:
    """Flatter targets teach less; a threshold of doubt has to mean what it says."""
    predictor = make_predictor(make_settings(tmp_path, variant))
    predictor.calibration = Calibration(temperature=3.0)
    _, result = finished("soft", variant)
    manifest = read_manifest(result.output / "model")
    source = TeacherSource([predictor], [manifest], SENTENCES)
    head = predictor.tagger.head

    targets = source.prepare(predictor.segmenter, head, tmp_path / "soft")
    doubts = [judged.outside_U for judged in judge(predictor, SENTENCES)]

    _, emissions = predictor.emissions(SENTENCES)
    plain, calibrated = (
        tag_marginals(emissions, head.chain(), temperature=temperature)
        for temperature in (1.0, 3.0)
    )
    found = np.concatenate([targets.store.tags(i) for i in range(len(targets.windows))])
    np.testing.assert_allclose(found, np.concatenate(plain), atol=2e-3)
    assert np.abs(found - np.concatenate(calibrated)).max() > 0.01
    outside = predictor.tagset.find("O", "")
    for ours, theirs in zip(doubts, calibrated, strict=True):
        np.testing.assert_allclose(ours, theirs[:, outside], atol=1e-6)


@pytest.mark.parametrize("variant", ["lstm", "full-crf"])
def test_several_teachers_are_heard_together(tmp_path: Path, variant: str) -> None:
    request = make_request(tmp_path, variant=variant, teachers=3, rounds=1)
    with pytest.raises(Interrupted):
        self_train(request, observers=[KillAt(14)])  # in the second teacher's run

    [seed] = self_train(request, resume=True).seeds

    first, student = seed.rounds
    teachers = [first.trained, *first.others]
    assert (
        len({tuple(sorted(read_manifest(t.folder / "model").files.items())) for t in teachers}) == 3
    )
    assert first.trained.f1 == max(one.f1 for one in teachers)
    epochs = sum(one.epochs for one in (*teachers, student.trained))
    steps = sum(one.steps for one in (*teachers, student.trained))
    assert seed.baseline.epochs == epochs
    assert steps <= seed.baseline.steps < steps + epochs

    predictors = [Predictor.load(one.folder / "model") for one in teachers]
    said = say_together(predictors, SENTENCES, with_pairs=True)
    for number, (_, marginals) in enumerate(said):
        own = [
            tag_marginals(predictor.emissions([SENTENCES[number]])[1], predictor.head.chain())[0]
            for predictor in predictors
        ]
        np.testing.assert_allclose(marginals.tags_UK, np.mean(own, axis=0), atol=1e-6)
    with pytest.raises(ConfigError, match="several teachers give soft labels only"):
        Options(teachers=2, labels="hard")


def test_students_that_were_not_done_are_reported() -> None:
    """Only where none of them is better than the teacher."""
    _, result = finished("soft", "lstm")
    [seed] = result.seeds
    teacher = replace(seed.rounds[0], trained=replace(seed.rounds[0].trained, f1=1.0))
    best_epochs = (2, 1)  # of two
    students = [
        replace(one, trained=replace(one.trained, f1=0.5, epochs=2, best_epoch=best))
        for one, best in zip(seed.rounds[1:], best_epochs, strict=True)
    ]

    def notices(*rounds: Round) -> str:
        corpus = Corpus.from_documents(SENTENCES)
        return " ".join(training._notices(corpus, [replace(seed, rounds=rounds)], "test"))

    assert "1 of 2 such students were best in their last epoch" in notices(teacher, *students)
    better = replace(teacher, trained=replace(teacher.trained, f1=0.1))
    assert "last epoch" not in notices(better, *students)


def _difference(verdict: Verdict, points: float) -> Difference:
    return Difference(points / 100, (-0.01, 0.03), 0.4, verdict, 3)


@pytest.fixture
def results() -> Iterator[Any]:
    def make(verdict: Verdict, points: float, best: Sequence[int] = (1,)) -> SelfTrainingResult:
        _, result = finished("soft", "lstm")
        comparison = Comparison("test", "baseline", (0.5,), (0.4,), _difference(verdict, points))
        seed = result.seeds[0]
        rounds = {
            number: tuple(
                replace(one, trained=replace(one.trained, f1=float(one.number == number)))
                for one in seed.rounds
            )
            for number in best
        }
        seeds = tuple(replace(seed, rounds=rounds[number]) for number in best)
        return SelfTrainingResult(result.output, {}, {}, seeds, 1, (comparison,), ())

    return make


def test_the_verdict_says_when_nothing_is_gained(results: Any) -> None:
    assert results("not distinguishable", 1.0).verdict.startswith("Nothing is gained for certain")
    assert results("better", 4.0).verdict.startswith("Self-training is better")
    assert results("worse", -4.0).verdict.startswith("Self-training is worse")
    assert "says nothing about the method" in results("models differ", 4.0).verdict
    assert results("models cannot be told apart", 4.0).verdict.startswith("Nothing is gained")
    assert not results("not distinguishable", 1.0).comparisons[0].is_gain
    assert not results("models differ", -1.0).comparisons[0].is_gain
    assert results("better", 4.0).comparisons[0].is_gain


def test_the_verdict_says_when_the_best_are_teachers(results: Any) -> None:
    assert results("better", 4.0, [0, 1, 1]).verdict.startswith("Self-training is better")
    told = results("better", 4.0, [0, 1, 0]).verdict
    assert "with 2 of 3 seeds the best round is a teacher" in told
    assert "Self-training is better" not in told
    assert results("models differ", 4.0, [0]).verdict.startswith("The teacher, which is the best")
    assert results("models differ", 4.0, [1]).verdict.startswith("The model of self-training")


def write_recipe(folder: Path) -> Path:
    values = recipe(folder).to_dict()
    lines = []
    for section in ("data", "model", "lstm", "train"):
        lines.append(f"[{section}]")
        for key, value in values[section].items():
            if isinstance(value, str | int | float | bool):
                lines.append(f"{key} = {json.dumps(value)}")
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_command(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    path = write_recipe(tmp_path)
    command = ["self-train", path, "-u", request.unlabelled[0], "-o", tmp_path / "cli",
               "--epochs", 2, "--rounds", 1, "--set", "run.device=cpu"]  # fmt: skip

    done = run(*command)

    assert done.code == 0, done.stderr
    for told in ("teacher", "baseline", "model:", "Note: One seed (1)"):
        assert told in done.stdout
    assert "30 of 32 texts drawn" in done.stderr
    assert (tmp_path / "cli" / "report.md").is_file()
    assert run(*command).error.startswith("error: --output:")
    again = run(*command, "--resume", "--json", "--seeds", "1,2")
    report = json.loads(again.stdout)
    assert [one["seed"] for one in report["seeds"]] == [1, 2]
    assert report["verdict"]


def test_mistakes_are_told(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    path, texts = write_recipe(tmp_path), request.unlabelled[0]

    def error(*arguments: object) -> str:
        done = run("self-train", path, "-o", tmp_path / "x", *arguments)
        assert done.code == 2
        return done.error

    assert "needs data.dev" in error("-u", texts, "--set", "data.dev=")
    assert "expected soft or hard" in error("-u", texts, "--labels", "firm")
    assert "expected numbers" in error("-u", texts, "--seeds", "a")
    assert "expected numbers from 0" in error("-u", texts, "--seeds", "-1")
    assert "gone.txt" in error("-u", tmp_path / "gone.txt")
    assert not (tmp_path / "x").exists()
    assert "no text is left" in error("-u", tmp_path / "train.jsonl")
    # What failed before anything was made is no obstacle.
    assert "no text is left" in error("-u", tmp_path / "train.jsonl", "--most", "3")


@pytest.mark.parametrize("is_folder", [False, True])
def test_other_text_of_the_same_size_is_not_mixed_in(tmp_path: Path, is_folder: bool) -> None:
    request = make_request(tmp_path, rounds=1)
    [texts] = request.unlabelled
    if is_folder:
        (tmp_path / "texts").mkdir()
        texts = texts.rename(tmp_path / "texts" / "a.txt")
        request = replace(request, unlabelled=(texts.parent,))
    self_train(request)
    more = replace(request, seeds=(1, 2))
    size = texts.stat().st_size
    texts.write_text(texts.read_text(encoding="utf-8").replace("。", "！"), encoding="utf-8")
    assert texts.stat().st_size == size
    with pytest.raises(CheckpointError, match=r"unlabelled.*(texts|a)\.txt"):
        self_train(more, resume=True)


def test_a_folder_that_is_one_corpus_is_text(tmp_path: Path) -> None:
    """Its files decide whether a killed one goes on."""
    request = make_request(tmp_path, rounds=1)
    texts = [Document(text, id=f"t{i}") for i, text in enumerate(unlabelled_texts())]
    save_documents(tmp_path / "corpus", texts, format="brat")
    request = replace(request, unlabelled=(tmp_path / "corpus",))
    [seed] = self_train(request).seeds
    assert seed.pool["drawn"] == len(texts)
    path = next((tmp_path / "corpus").rglob("*.txt"))
    path.write_text(path.read_text(encoding="utf-8").replace("。", "！"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="unlabelled"):
        self_train(request, resume=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_cannot_be_read_for_each_seed(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe or device"):
        self_train(replace(request, unlabelled=(tmp_path / "pipe",)))


def test_labels_are_balanced_against_completed_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(tmp_path, rounds=1)
    partial = [replace(d, entities=d.entities[:1], scope=Scope(complete=False)) for d in SENTENCES]
    save_documents(tmp_path / "train.jsonl", [*SENTENCES[:4], *partial], format="jsonl")
    seen: list[Sequence[Document]] = []
    real = course.label_pool

    def spy(teachers: Any, pool: Any, labelled: Sequence[Document], *more: Any) -> Any:
        seen.append(labelled)
        return real(teachers, pool, labelled, *more)

    monkeypatch.setattr(course, "label_pool", spy)
    self_train(request)
    assert [len(labelled) for labelled in seen] == [12]
    assert all(document.scope.is_full for document in seen[0])


def test_what_a_person_left_open_is_filled_in(tmp_path: Path) -> None:
    """Partially labelled documents are text to learn from, too; no other is needed."""
    changes = {"train.epochs": 60, "train.learning_rate": 0.02}  # a teacher that finds something
    settings = course.change_settings(recipe(tmp_path), changes)
    partial = [
        replace(d, entities=d.entities[:1], scope=Scope(complete=False)) for d in SENTENCES[:4]
    ]
    save_documents(tmp_path / "train.jsonl", [*SENTENCES[:4], *partial], format="jsonl")
    options = Options(epochs=2, rounds=1)
    request = Request(settings, (), tmp_path / "out", options)
    result = self_train(request)

    [seed] = result.seeds
    filled_in = seed.rounds[1].num_filled_in
    assert filled_in is not None
    assert filled_in > 0
    assert seed.rounds[0].num_filled_in is None
    path = request.output / "seed-1" / "round-1" / "completed.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        documents = [Document.from_dict(json.loads(line)) for line in list(stream)[1:]]
    assert all(document.scope.is_full for document in documents)
    assert [d.entities for d in documents[:4]] == [d.entities for d in SENTENCES[:4]]
    added = sum(len(d.entities) for d in documents[4:]) - sum(len(d.entities) for d in partial)
    assert added == filled_in
    record = json.loads((seed.rounds[1].trained.folder / "record.json").read_text())
    assert record["data"]["train"]["entities"] == sum(len(d.entities) for d in documents)
    again = json.loads((seed.baseline.folder / "record.json").read_text())
    assert again["data"]["train"]["entities"] == record["data"]["train"]["entities"] - filled_in
    page = to_markdown(self_training_page(result))
    assert "entities filled in" in page
    assert "pseudo-labelled" not in page
    assert self_train(request, resume=True).to_dict() == result.to_dict()


def test_text_is_asked_for_where_all_is_labelled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="left out only where training documents are labelled"):
        self_train(Request(recipe(tmp_path), (), tmp_path / "out"))
